//! MariaDB and MySQL over TLS: one connection, opened when it is needed and again after it broke, with a limit on every wait, and failures
//! that carry the server's error number. Also how names and values become SQL text, and how a password becomes what a server stores.
//!
//! What a server says may quote what it was sent, so password hashes are cut out, and of a syntax error only the number is told. No statement is
//! logged by us.

use super::sql::{Tls, presentable};
use crate::model::{Fault, FaultKind};
use secrecy::{ExposeSecret, SecretString};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlSslMode};
use sqlx::{AssertSqlSafe, Column, ConnectOptions, Connection, Row};
use std::collections::BTreeMap;
use std::time::Duration;

/// Where a server is.
#[derive(Clone, Debug)]
pub struct Server {
    /// Host name or address; the certificate is checked against it.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// See [`Tls`].
    pub tls: Tls,
}

/// Why a connection or a statement failed. It holds nothing that we sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What sort.
    pub kind: FaultKind,
    /// The server's error number, if the server answered at all.
    pub number: Option<u16>,
    /// The server's or the client's own words, one line.
    pub words: String,
    /// What to do next, where the failure alone says it.
    pub hint: Option<&'static str>,
}

/// "Access denied, this account is locked": MariaDB, MySQL.
pub const LOCKED: [u16; 2] = [4151, 3118];
/// "Access denied for user": a wrong password, or no row for this name and address.
pub const DENIED: u16 = 1045;
/// There is no such thread.
pub const NO_SUCH_THREAD: u16 = 1094;
/// There is no such user.
pub const NO_SUCH_USER: u16 = 1396;
/// An option of the server forbids the statement: read-only, skip-grant-tables, strict-password-validation.
pub const OPTION_PREVENTS: u16 = 1290;

impl Failure {
    /// One that the server did not raise.
    pub fn new(kind: FaultKind, words: impl AsRef<str>) -> Self {
        Self { kind, number: None, words: presentable(words.as_ref()), hint: None }
    }

    fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }

    /// Whether the server raised `number`.
    pub fn is(&self, number: u16) -> bool {
        self.number == Some(number)
    }

    /// Whether the server says that the account is locked: it does so only after it has accepted the password.
    pub fn is_locked(&self) -> bool {
        LOCKED.iter().any(|number| self.is(*number))
    }

    /// The failure as a fault; `what` says what was tried on what.
    pub fn into_fault(self, what: impl Into<String>) -> Fault {
        let fault = Fault::new(self.kind, what).because(&self);
        match self.hint {
            Some(hint) => fault.hint(hint),
            None => fault,
        }
    }

    fn raised(number: u16, message: &str) -> Self {
        let (kind, hint) = kind_of(number);
        // A syntax error quotes the statement from where it went wrong.
        let words = if number == 1064 { "the server does not understand the statement" } else { message };
        Self { kind, number: Some(number), words: presentable(&without_hashes(words)), hint }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.words)?;
        match &self.number {
            Some(number) => write!(f, " (error {number})"),
            None => Ok(()),
        }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => match error.try_downcast_ref::<MySqlDatabaseError>() {
                Some(error) => Self::raised(error.number(), error.message()),
                None => Self::new(FaultKind::Unexpected, "an error of another kind of server"),
            },
            sqlx::Error::Io(error) => from_io(&error),
            sqlx::Error::Tls(error) => Self::new(FaultKind::Misconfigured, error.to_string())
                .hint("the server must offer TLS (ssl-cert, ssl-key), and ca must be a PEM file of certificates"),
            sqlx::Error::Configuration(error) => Self::new(FaultKind::Misconfigured, error.to_string()),
            // What does not speak the protocol may answer with what it was sent.
            sqlx::Error::Protocol(_) => {
                Self::new(FaultKind::Unexpected, "the answer is not MariaDB's or MySQL's protocol").hint(
                    "check the port, and that the account logs in with mysql_native_password or caching_sha2_password",
                )
            }
            _ => Self::new(FaultKind::Unexpected, "the client could not work with the server's answer"),
        }
    }
}

/// TLS failures arrive as I/O errors that carry rustls's own.
fn from_io(error: &std::io::Error) -> Failure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(why)) => {
            Failure::new(FaultKind::Misconfigured, format!("the server's certificate is not valid: {why}")).hint(
                "check that ca is the authority that signed the server's certificate, and that the host is in its subjectAltName",
            )
        }
        Some(other) => Failure::new(FaultKind::Misconfigured, format!("TLS: {other}"))
            .hint("check that this is MariaDB's or MySQL's port and which TLS versions the server allows"),
        None => Failure::new(FaultKind::Unreachable, error.to_string()),
    }
}

/// What a number means to somebody who waits for a login or a statement (MariaDB manual, "Error Codes").
fn kind_of(number: u16) -> (FaultKind, Option<&'static str>) {
    match number {
        1044 | 1142 | 1143 | 1227 | 1370 | 1961 => (FaultKind::Forbidden, None),
        1045 | 1698 => {
            (FaultKind::Misconfigured, Some("check the user's name and password, and from where the server lets it in"))
        }
        1130 => (FaultKind::Misconfigured, Some("the server has no account that may come from this address")),
        3118 | 4151 => (FaultKind::Misconfigured, Some("the account is locked: ALTER USER … ACCOUNT UNLOCK")),
        3159 => (FaultKind::Misconfigured, Some("the server takes no login without TLS: set ca, and leave tls out")),
        1820 | 1862 => (
            FaultKind::Misconfigured,
            Some("the password has expired: ALTER USER … PASSWORD EXPIRE NEVER, or a new one"),
        ),
        1290 | 1836 => (
            FaultKind::Busy,
            Some("an option of the server prevents it: on a replica (read_only) the change comes from its primary"),
        ),
        // Too many connections, shutting down, lock wait, deadlock, statement timed out.
        1040 | 1203 | 1226 | 1205 | 1213 | 1969 | 3024 => (FaultKind::Busy, None),
        1053 | 1077 | 1079 | 1129 | 1158..=1161 | 1317 | 1927 | 2006 | 2013 => (FaultKind::Unreachable, None),
        _ => (FaultKind::Unexpected, None),
    }
}

/// Without what a server stores of passwords: `*` and 40 hexadecimal digits, or `$A$` and what follows.
fn without_hashes(text: &str) -> String {
    let mut line = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['*', '$']) {
        let (before, from) = rest.split_at(at);
        line.push_str(before);
        let digits = from.chars().skip(1).take_while(char::is_ascii_hexdigit).count();
        if from.starts_with('*') && digits >= 40 {
            line.push('…');
            rest = from.get(1 + digits..).unwrap_or_default();
        } else if from.starts_with("$A$") {
            line.push('…');
            return line;
        } else {
            line.push_str(from.get(..1).unwrap_or_default());
            rest = from.get(1..).unwrap_or_default();
        }
    }
    line.push_str(rest);
    line
}

/// A name as SQL text, in backticks: there only a backtick is special, whatever `sql_mode` says of quotes (`ANSI_QUOTES`) and of backslashes
/// (`NO_BACKSLASH_ESCAPES`). Accounts may be written so, too: `` `user`@`host` ``.
pub fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// An account as SQL text.
pub fn account(user: &str, host: &str) -> String {
    format!("{}@{}", identifier(user), identifier(host))
}

/// A text value as SQL text: in hexadecimal, so that nothing in it means anything.
pub fn text(value: &str) -> String {
    format!("CONVERT(X'{}' USING utf8mb4)", hex(value.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// What `mysql_native_password` stores: `*` and SHA-1 of SHA-1 in hexadecimal. A server that is given it stores it as it is, so the password
/// never reaches a statement or a log.
pub fn native_hash(password: &SecretString) -> String {
    use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY as SHA1, digest};
    let once = digest(&SHA1, password.expose_secret().as_bytes());
    format!("*{}", hex(digest(&SHA1, once.as_ref()).as_ref()))
}

/// One row of an answer: by column, as text.
pub type Record = BTreeMap<String, Option<String>>;

/// One login on one server. It connects when it is first used, and again if the connection has broken since.
pub struct Session {
    server: Server,
    user: String,
    password: SecretString,
    timeout: Duration,
    connection: Option<MySqlConnection>,
    /// Whether the connection has been told how to read our statements.
    ready: bool,
}

impl Session {
    /// A login that has not been tried yet. No single wait takes longer than `timeout`.
    pub fn new(server: Server, user: &str, password: SecretString, timeout: Duration) -> Self {
        Self { server, user: user.to_string(), password, timeout, connection: None, ready: false }
    }

    /// A second session with the same login.
    pub fn another(&self) -> Self {
        self.as_user(&self.user, self.password.clone())
    }

    /// The same place for another user, to see whether it gets in.
    pub fn as_user(&self, user: &str, password: SecretString) -> Self {
        Self::new(self.server.clone(), user, password, self.timeout)
    }

    /// Who logs in.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Logs in, unless that is done.
    ///
    /// # Errors
    /// `Unreachable`: no connection; `Busy`: the server takes none now; `Misconfigured`: certificate, password, locked.
    pub async fn connect(&mut self) -> Result<(), Failure> {
        self.live().await.map(|_| ())
    }

    async fn live(&mut self) -> Result<&mut MySqlConnection, Failure> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                self.ready = false;
                within(self.timeout, MySqlConnection::connect_with(&self.options())).await?
            }
        };
        Ok(self.connection.insert(connection))
    }

    fn options(&self) -> MySqlConnectOptions {
        // Nothing is sent after the login: a login that must change its password first is a login, too.
        let options = MySqlConnectOptions::new()
            .host(&self.server.host)
            .port(self.server.port)
            .username(&self.user)
            .password(self.password.expose_secret())
            .charset("utf8mb4")
            .pipes_as_concat(false)
            .no_engine_substitution(false)
            .timezone(None)
            .set_names(false)
            .statement_cache_capacity(0)
            .disable_statement_logging();
        match &self.server.tls {
            Tls::VerifyFull { ca } => options.ssl_mode(MySqlSslMode::VerifyIdentity).ssl_ca_from_pem(ca.clone()),
            Tls::Off => options.ssl_mode(MySqlSslMode::Disabled),
        }
    }

    /// The rows of a query. Names and values in it must come from [`identifier`] and [`text()`].
    ///
    /// # Errors
    /// What the server or the network says.
    pub async fn rows(&mut self, sql: impl Into<String>) -> Result<Vec<Record>, Failure> {
        let timeout = self.timeout;
        let sql = AssertSqlSafe(sql.into());
        if !self.ready || self.connection.is_none() {
            // Whatever the server's defaults are: UTF-8, strict, quotes as the standard has them.
            let seconds = timeout.as_secs().max(1);
            let ours = format!(
                "SET NAMES utf8mb4, SESSION sql_mode = 'STRICT_ALL_TABLES,NO_BACKSLASH_ESCAPES', SESSION lock_wait_timeout = {seconds}"
            );
            let result = within(timeout, sqlx::raw_sql(AssertSqlSafe(ours)).execute(self.live().await?)).await;
            self.keep_if_usable(result)?;
            self.ready = true;
        }
        let result = within(timeout, sqlx::raw_sql(sql).fetch_all(self.live().await?)).await;
        let rows = self.keep_if_usable(result)?;
        let record = |row: &sqlx::mysql::MySqlRow| {
            let field = |column: &sqlx::mysql::MySqlColumn| {
                let bytes: Option<Vec<u8>> = row.try_get_unchecked(column.ordinal())?;
                let text = bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
                Ok::<_, sqlx::Error>((column.name().to_ascii_lowercase(), text))
            };
            row.columns().iter().map(field).collect::<Result<Record, _>>()
        };
        rows.iter().map(|row| record(row).map_err(Failure::from)).collect()
    }

    /// Runs one statement.
    ///
    /// # Errors
    /// As [`Session::rows`].
    pub async fn execute(&mut self, sql: impl Into<String>) -> Result<(), Failure> {
        self.rows(sql).await.map(|_| ())
    }

    /// A connection that broke or whose answer is still to come is no longer used.
    fn keep_if_usable<T>(&mut self, result: Result<T, Failure>) -> Result<T, Failure> {
        if let Err(failure) = &result
            && (failure.number.is_none() || failure.kind == FaultKind::Unreachable)
        {
            self.connection = None;
        }
        result
    }
}

async fn within<T>(timeout: Duration, work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Failure> {
    match tokio::time::timeout(timeout, work).await {
        Ok(result) => result.map_err(Failure::from),
        Err(_) => Err(Failure::new(FaultKind::Unreachable, format!("no answer within {} ms", timeout.as_millis()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_only_names_and_values() {
        assert_eq!(account("ja`ne", "%"), "`ja``ne`@`%`");
        assert_eq!(identifier("a\\'\"; DROP USER x; -- "), "`a\\'\"; DROP USER x; -- `");
        assert_eq!(text("a'\\"), "CONVERT(X'61275C' USING utf8mb4)");
    }

    /// `SELECT PASSWORD('notagoodpwd')` on MariaDB 10.11.
    #[test]
    fn a_hash_is_what_the_server_would_store() {
        assert_eq!(native_hash(&SecretString::from("notagoodpwd")), "*3A70EE9FC6594F88CE9E959CD51C5A1C002DC937");
    }

    #[test]
    fn words_carry_no_hash() {
        let hash = native_hash(&SecretString::from("x"));
        let told = Failure::raised(1396, &format!("failed for '{hash}' and 2*3 $A$005$abc"));
        assert_eq!(told.words, "failed for '…' and 2*3 …");
        assert!(!Failure::raised(1064, &format!("near '{hash}'")).words.contains('*'));
    }
}
