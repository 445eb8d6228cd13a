//! PostgreSQL over TLS: one connection, opened when it is needed and again after it broke, with a limit on every wait, and
//! failures that carry the SQLSTATE and the routine that raised them.
//!
//! What a server says may quote what it was sent, so only its primary message is ever passed on, with password verifiers cut
//! out and control characters made visible. No statement is logged by us.

use crate::model::{Fault, FaultKind};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgDatabaseError, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Row};
use std::time::Duration;

/// How the way to the server is protected.
#[derive(Clone, Debug)]
pub enum Tls {
    /// The certificate must be signed by one of these PEM certificates, and carry the host's name or address. There is no way
    /// to weaken it, and the system's own certificate store is not asked.
    VerifyFull {
        /// PEM, one or more certificates.
        ca: Vec<u8>,
    },
    /// No TLS. For loopback only; the caller sees to that.
    Off,
}

/// Where a server is.
#[derive(Clone, Debug)]
pub struct Server {
    /// Host name or address; the certificate is checked against it.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The database to connect to.
    pub database: String,
    /// See [`Tls`].
    pub tls: Tls,
}

/// Why a connection or a statement failed. It holds nothing that we sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What sort.
    pub kind: FaultKind,
    /// The five characters of the server's error code, if the server answered at all
    /// (PostgreSQL manual, appendix A).
    pub sqlstate: Option<String>,
    /// The routine of the server's source that raised it (protocol error field `R`). Unlike the message it is not translated.
    pub routine: Option<String>,
    /// The server's or the client's own words, one line.
    pub words: String,
    /// What to do next, where the failure alone says it.
    pub hint: Option<&'static str>,
}

impl Failure {
    fn new(kind: FaultKind, words: impl AsRef<str>) -> Self {
        Self { kind, sqlstate: None, routine: None, words: presentable(words.as_ref()), hint: None }
    }

    fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }

    /// Whether the server raised `sqlstate`.
    pub fn is(&self, sqlstate: &str) -> bool {
        self.sqlstate.as_deref() == Some(sqlstate)
    }

    /// Whether somebody else changed the same catalogue row at the same moment: trying again helps, waiting does not.
    pub fn lost_a_race(&self) -> bool {
        self.is("XX000") && self.routine.as_deref().is_some_and(|r| r.starts_with("simple_heap_"))
    }

    /// The failure as a fault; `what` says what was tried on what.
    pub fn into_fault(self, what: impl Into<String>) -> Fault {
        let fault = Fault::new(self.kind, what).because(&self);
        match self.hint {
            Some(hint) => fault.hint(hint),
            None => fault,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.words)?;
        match &self.sqlstate {
            Some(code) => write!(f, " (SQLSTATE {code})"),
            None => Ok(()),
        }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => {
                let error = error.downcast_ref::<PgDatabaseError>();
                let (kind, hint) = kind_of(error.code());
                Self {
                    kind,
                    sqlstate: Some(presentable(error.code())),
                    routine: error.routine().map(presentable),
                    words: presentable(error.message()),
                    hint,
                }
            }
            sqlx::Error::Io(error) => from_io(&error),
            sqlx::Error::Tls(error) => Self::new(FaultKind::Misconfigured, error.to_string())
                .hint("the server must offer TLS (ssl = on), and ca must be a PEM file of certificates"),
            sqlx::Error::Configuration(error) => Self::new(FaultKind::Misconfigured, error.to_string()),
            sqlx::Error::Protocol(text) => Self::new(FaultKind::Unexpected, text),
            other => Self::new(FaultKind::Unexpected, other.to_string()),
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
            .hint("check that this is PostgreSQL's port and which TLS versions the server allows"),
        None => Failure::new(FaultKind::Unreachable, error.to_string()),
    }
}

/// What a code means to somebody who waits for a login or a statement (PostgreSQL manual, appendix A).
fn kind_of(sqlstate: &str) -> (FaultKind, Option<&'static str>) {
    match sqlstate {
        "42501" => (FaultKind::Forbidden, None),
        "28P01" => (FaultKind::Misconfigured, Some("check the role's name and password")),
        "28000" => (
            FaultKind::Misconfigured,
            Some("pg_hba.conf must let this role in from here over TLS with a password, and it must have LOGIN"),
        ),
        "3D000" => (FaultKind::Misconfigured, Some("check the database's name")),
        "25006" => (FaultKind::Misconfigured, Some("this server is a read-only standby: name the primary in hosts")),
        "57P01" | "57P02" | "57P05" => (FaultKind::Unreachable, None),
        // Starting up, lock or statement timed out, serialisation, deadlock.
        "57P03" | "57014" | "55P03" | "40001" | "40P01" => (FaultKind::Busy, None),
        code if code.starts_with("53") => (FaultKind::Busy, None),
        code if code.starts_with("08") => (FaultKind::Unreachable, None),
        _ => (FaultKind::Unexpected, None),
    }
}

/// One line without control and direction characters, without password verifiers, and not endless.
pub fn presentable(text: &str) -> String {
    const LONGEST: usize = 400;
    let mut line = String::new();
    for (n, part) in text.split("SCRAM-SHA-256$").enumerate() {
        let part = if n == 0 {
            part
        } else {
            line.push_str("SCRAM-SHA-256$…");
            part.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || "+/=:$".contains(c))
        };
        for c in part.chars() {
            match c {
                '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => {
                    line.extend(c.escape_unicode());
                }
                c if c.is_control() => line.extend(c.escape_default()),
                c => line.push(c),
            }
        }
    }
    if line.chars().count() > LONGEST {
        line = line.chars().take(LONGEST).collect();
        line.push('…');
    }
    line
}

/// A name as SQL text for a person to paste: always in quotes. What we run ourselves is quoted by the server.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", presentable(&name.replace('"', "\"\"")))
}

/// A SCRAM-SHA-256 verifier as PostgreSQL stores it: `SCRAM-SHA-256$4096:SALT$StoredKey:ServerKey` in base64 (RFC 5802, RFC
/// 7677). A server that is given one stores it as it is, so the password never reaches a statement or a log. The password must be
/// ASCII: then SASLprep (RFC 4013) leaves it as it is.
pub fn scram_verifier(password: &SecretString, salt: &[u8]) -> String {
    // What the server itself uses, and RFC 7677's least. The password is random: more rounds would add nothing.
    const ITERATIONS: u32 = 4096;
    scram_verifier_like(password, salt, ITERATIONS)
}

/// The same with as many iterations as somebody else has taken: whether a stored verifier is that of a known password shows when it is made
/// again from its own salt (RFC 5803).
pub fn scram_verifier_like(password: &SecretString, salt: &[u8], iterations: u32) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use hmac::{Hmac, KeyInit, Mac};
    use sha2::{Digest, Sha256};
    let mut salted = zeroize::Zeroizing::new([0u8; 32]);
    pbkdf2::pbkdf2_hmac::<Sha256>(password.expose_secret().as_bytes(), salt, iterations, salted.as_mut());
    let key = |label: &[u8]| {
        let mut mac = Hmac::<Sha256>::new_from_slice(salted.as_ref()).expect("HMAC takes a key of any length");
        mac.update(label);
        mac.finalize().into_bytes()
    };
    let stored_key = Sha256::digest(key(b"Client Key"));
    format!(
        "SCRAM-SHA-256${iterations}:{}${}:{}",
        STANDARD.encode(salt),
        STANDARD.encode(stored_key),
        STANDARD.encode(key(b"Server Key"))
    )
}

/// A value that goes with a statement.
#[derive(Clone, Debug)]
pub enum Value {
    /// `text`
    Text(String),
    /// `text[]`
    Texts(Vec<String>),
    /// `bigint`; cast it to `oid` in the statement.
    Int(i64),
    /// `bigint[]`
    Ints(Vec<i64>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_string())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

/// One login on one server. It connects when it is first used, and again if the connection has broken since.
pub struct Session {
    server: Server,
    user: String,
    password: SecretString,
    timeout: Duration,
    connection: Option<PgConnection>,
}

impl Session {
    /// A login that has not been tried yet. No single wait takes longer than `timeout`.
    pub fn new(server: Server, user: &str, password: SecretString, timeout: Duration) -> Self {
        Self { server, user: user.to_string(), password, timeout, connection: None }
    }

    /// A second session with the same login.
    pub fn another(&self) -> Self {
        Self::new(self.server.clone(), &self.user, self.password.clone(), self.timeout)
    }

    /// The same place for another role, to see whether it gets in.
    pub fn as_role(&self, user: &str, password: SecretString) -> Self {
        Self::new(self.server.clone(), user, password, self.timeout)
    }

    /// The same login to another database of the same server.
    #[must_use]
    pub fn to_database(mut self, database: &str) -> Self {
        self.server.database = database.to_string();
        self
    }

    /// The role that logs in.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Logs in, unless that is done.
    ///
    /// # Errors
    /// `Unreachable`: no connection; `Busy`: the server takes none now; `Misconfigured`: certificate, password, `pg_hba.conf`.
    pub async fn connect(&mut self) -> Result<(), Failure> {
        self.live().await.map(|_| ())
    }

    async fn live(&mut self) -> Result<&mut PgConnection, Failure> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let options = self.options()?;
                within(self.timeout, PgConnection::connect_with(&options)).await?
            }
        };
        Ok(self.connection.insert(connection))
    }

    fn options(&self) -> Result<PgConnectOptions, Failure> {
        // The client reads these by itself and offers no way to unset them. A certificate of the operator's own would open
        // doors that we are to prove shut.
        for name in ["PGSSLCERT", "PGSSLKEY", "PGOPTIONS"] {
            if std::env::var_os(name).is_some() {
                return Err(Failure::new(FaultKind::Misconfigured, format!("the environment variable {name} is set"))
                    .hint("unset it: it would change how every login here is made"));
            }
        }
        let millis = self.timeout.as_millis().max(1);
        let options = PgConnectOptions::new_without_pgpass()
            .host(&self.server.host)
            .port(self.server.port)
            .username(&self.user)
            .password(self.password.expose_secret())
            .database(&self.server.database)
            .application_name("offboard")
            .extra_float_digits(None)
            .statement_cache_capacity(0)
            // Options of the connection win over what ALTER ROLE or ALTER DATABASE has set, so nobody can slip us a schema of
            // theirs or make us read-only.
            .options([
                ("search_path", "pg_catalog,pg_temp".to_string()),
                ("statement_timeout", millis.to_string()),
                ("lock_timeout", (millis * 9 / 10).max(1).to_string()),
                ("idle_in_transaction_session_timeout", millis.to_string()),
                ("default_transaction_read_only", "off".to_string()),
                ("standard_conforming_strings", "on".to_string()),
            ])
            .disable_statement_logging();
        Ok(match &self.server.tls {
            Tls::VerifyFull { ca } => options.ssl_mode(PgSslMode::VerifyFull).ssl_root_cert_from_pem(ca.clone()),
            Tls::Off => options.ssl_mode(PgSslMode::Disable),
        })
    }

    /// The rows of a query whose only column is JSON text.
    ///
    /// # Errors
    /// What the server or the network says; a row that is not as expected is `Unexpected`.
    pub async fn rows<T: DeserializeOwned>(
        &mut self,
        sql: impl Into<String>,
        values: &[Value],
    ) -> Result<Vec<T>, Failure> {
        let mut query = sqlx::query(AssertSqlSafe(sql.into())).persistent(false);
        for value in values {
            query = match value.clone() {
                Value::Text(text) => query.bind(text),
                Value::Texts(texts) => query.bind(texts),
                Value::Int(number) => query.bind(number),
                Value::Ints(numbers) => query.bind(numbers),
            };
        }
        let timeout = self.timeout;
        let result = within(timeout, query.fetch_all(self.live().await?)).await;
        let rows = self.keep_if_usable(result)?;
        rows.iter()
            .map(|row| {
                let text: String = row.try_get(0)?;
                serde_json::from_str(&text).map_err(|e| {
                    Failure::new(FaultKind::Unexpected, format!("the server's answer is not as expected: {e}"))
                })
            })
            .collect()
    }

    /// The only row of such a query.
    ///
    /// # Errors
    /// As [`Session::rows`].
    pub async fn row<T: DeserializeOwned>(&mut self, sql: impl Into<String>, values: &[Value]) -> Result<T, Failure> {
        let row = self.rows(sql, values).await?.pop();
        row.ok_or_else(|| Failure::new(FaultKind::Unexpected, "the server answered with no row"))
    }

    /// Runs one statement. Names and values must have been quoted by the server (`format`).
    ///
    /// # Errors
    /// As [`Session::rows`].
    pub async fn execute(&mut self, sql: String) -> Result<(), Failure> {
        let timeout = self.timeout;
        let result = within(timeout, self.live().await?.execute(sqlx::raw_sql(AssertSqlSafe(sql)))).await;
        self.keep_if_usable(result).map(|_| ())
    }

    /// A connection that broke or whose answer is still to come is no longer used.
    fn keep_if_usable<T>(&mut self, result: Result<T, Failure>) -> Result<T, Failure> {
        if let Err(failure) = &result
            && (failure.sqlstate.is_none() || failure.kind == FaultKind::Unreachable)
        {
            self.connection = None;
        }
        result
    }
}

/// The server's own timeouts come first; this one is for a server or a network that says nothing at all.
async fn within<T>(timeout: Duration, work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Failure> {
    match tokio::time::timeout(timeout + timeout / 10, work).await {
        Ok(result) => result.map_err(Failure::from),
        Err(_) => Err(Failure::new(FaultKind::Unreachable, format!("no answer within {} ms", timeout.as_millis()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The password, salt and keys of RFC 7677's example; PostgreSQL stores the same.
    #[test]
    fn a_verifier_is_what_the_server_would_store() {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        assert_eq!(
            scram_verifier(&SecretString::from("pencil"), &salt),
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
             wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
    }

    #[test]
    fn words_carry_no_verifier_and_no_control_character() {
        let said =
            "syntax error at or near \"'SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk+/=:c2VydmVy=='\" \u{1b}[2J\nnext\u{202e}";
        assert_eq!(presentable(said), "syntax error at or near \"'SCRAM-SHA-256$…'\" \\u{1b}[2J\\nnext\\u{202e}");
        assert!(presentable(&"x".repeat(5000)).len() < 500);
    }

    #[test]
    fn names_for_people_are_quoted() {
        assert_eq!(identifier("\"; DROP ROLE x; --"), "\"\"\"; DROP ROLE x; --\"");
    }
}
