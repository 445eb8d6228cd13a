//! Redis and Valkey: one connection, opened when it is needed and again after it broke, with a limit on every wait, and failures that
//! carry the server's own error code.
//!
//! A server may quote in an error what it was sent (`unknown command 'AUTH', with args beginning with: …`), so passwords and their digests
//! are cut out of everything that is passed on. The library's own handshake is not used: it would send more than it is told to.

use super::sql::presentable;
use super::tls::Trust;
use crate::model::{Fault, FaultKind};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError, Value};
use secrecy::{ExposeSecret, SecretString};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

/// Where a server is.
#[derive(Clone, Debug)]
pub struct Server {
    /// Host name or address; the certificate is checked against it.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whom the server's certificate must come from. Nothing: no TLS, for loopback only; the caller sees to that.
    pub tls: Option<Trust>,
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Why a connection or a command failed. It holds nothing that we sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What sort.
    pub kind: FaultKind,
    /// The first word of the server's error, such as `WRONGPASS`, if the server answered at all.
    pub code: Option<String>,
    /// The server's or the client's own words, one line.
    pub words: String,
    /// What to do next, where the failure alone says it.
    pub hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(kind: FaultKind, words: impl AsRef<str>) -> Self {
        Self { kind, code: None, words: without_digests(&presentable(words.as_ref())), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether the server's error begins with `code`.
    pub fn is(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
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
        match &self.code {
            Some(code) => write!(f, "{code} {}", self.words),
            None => f.write_str(&self.words),
        }
    }
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        let Some(code) = error.code() else {
            return match error.is_io_error() || error.is_connection_dropped() {
                true => Self::new(FaultKind::Unreachable, error.to_string()),
                false => Self::new(FaultKind::Unexpected, "the answer is not what Redis says (RESP)")
                    .hint("check that this is Redis's port, and whether it speaks TLS"),
            };
        };
        let words = error.detail().unwrap_or_default();
        let (kind, hint) = kind_of(code, words);
        Self { code: Some(presentable(code)), hint: hint.map(Into::into), ..Self::new(kind, words) }
    }
}

/// Codes whose words quote nothing that was sent with `AUTH` (redis 7.2, `server.c` and `acl.c`).
const OF_A_LOGIN: &[&str] =
    &["WRONGPASS", "NOAUTH", "DENIED", "NOPERM", "BUSY", "LOADING", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN"];

/// What an error means to somebody who waits for a login or a command.
fn kind_of(code: &str, words: &str) -> (FaultKind, Option<&'static str>) {
    match code {
        "NOPERM" => (FaultKind::Forbidden, None),
        "WRONGPASS" => (FaultKind::Misconfigured, Some("check the user's name and password")),
        "NOAUTH" | "DENIED" => (FaultKind::Misconfigured, Some("this server lets nobody do that without a login")),
        "BUSY" => {
            (FaultKind::Busy, Some("a script holds the server: see who runs it, then: SCRIPT KILL or FUNCTION KILL"))
        }
        "LOADING" | "MASTERDOWN" | "TRYAGAIN" | "CLUSTERDOWN" => (FaultKind::Busy, None),
        "ERR" if words.starts_with("max number of clients") => (FaultKind::Busy, None),
        "ERR" if words.starts_with("unknown command") => (
            FaultKind::Misconfigured,
            Some("Redis 6 or later is needed, with this command neither renamed nor disabled"),
        ),
        _ => (FaultKind::Unexpected, None),
    }
}

/// Redis keeps the SHA-256 of a password, in hexadecimal and without a salt, and quotes it where it is told a wrong one.
fn without_digests(text: &str) -> String {
    const DIGITS: usize = 32;
    let mut clean = String::new();
    let mut run = String::new();
    let end_run = |run: &mut String, clean: &mut String| {
        if run.len() < DIGITS {
            clean.push_str(run)
        } else {
            clean.push('…')
        }
        run.clear();
    };
    for c in text.chars() {
        if c.is_ascii_hexdigit() {
            run.push(c);
        } else {
            end_run(&mut run, &mut clean);
            clean.push(c);
        }
    }
    end_run(&mut run, &mut clean);
    clean
}

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Nothing there.
    Nil,
    /// A number.
    Int(i64),
    /// Text, or bytes: names may be any.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<Reply>),
}

impl Reply {
    /// The text, with what is not UTF-8 replaced.
    pub fn text(&self) -> String {
        match self {
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Int(number) => number.to_string(),
            Self::Nil | Self::List(_) => String::new(),
        }
    }

    /// The items of a list; nothing otherwise.
    pub fn items(&self) -> &[Reply] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }
}

impl From<Value> for Reply {
    fn from(value: Value) -> Self {
        match value {
            Value::Int(number) => Self::Int(number),
            Value::BulkString(bytes) => Self::Bytes(bytes),
            Value::SimpleString(text) => Self::Bytes(text.into_bytes()),
            Value::Okay => Self::Bytes(b"OK".to_vec()),
            Value::Array(items) => Self::List(items.into_iter().map(Self::from).collect()),
            // The other kinds belong to RESP3, which is not spoken here.
            _ => Self::Nil,
        }
    }
}

/// A connection, and the task that carries it.
struct Live {
    connection: MultiplexedConnection,
    carrier: JoinHandle<()>,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.carrier.abort();
    }
}

/// One login on one server. It connects when it is first used, and again if the connection has broken since.
pub struct Session {
    server: Server,
    user: String,
    password: SecretString,
    timeout: Duration,
    live: Option<Live>,
}

impl Session {
    /// A login that has not been tried yet. No single wait takes longer than `timeout`.
    pub fn new(server: Server, user: &str, password: SecretString, timeout: Duration) -> Self {
        Self { server, user: user.to_string(), password, timeout, live: None }
    }

    /// A second session with the same login.
    pub fn another(&self) -> Self {
        self.at(self.server.clone())
    }

    /// The same login on another server.
    pub fn at(&self, server: Server) -> Self {
        Self::new(server, &self.user, self.password.clone(), self.timeout)
    }

    /// The same place for another user, to see whether they get in.
    pub fn as_user(&self, user: &str, password: SecretString) -> Self {
        Self::new(self.server.clone(), user, password, self.timeout)
    }

    /// The user that logs in.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Where it logs in.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Logs in, unless that is done.
    ///
    /// # Errors
    /// `Unreachable`: no connection; `Busy`: the server takes none now; `Misconfigured`: certificate, password, no such command.
    pub async fn connect(&mut self) -> Result<(), Failure> {
        if self.live.is_some() {
            return Ok(());
        }
        let timeout = self.timeout;
        let live = match tokio::time::timeout(timeout, self.log_in()).await {
            Ok(live) => live?,
            Err(_) => return Err(no_answer(timeout)),
        };
        self.live = Some(live);
        Ok(())
    }

    async fn log_in(&self) -> Result<Live, Failure> {
        let Server { host, port, tls } = &self.server;
        let unreachable = |e: std::io::Error| Failure::new(FaultKind::Unreachable, e.to_string());
        let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let mut live = match tls {
            None => carry(stream, self.timeout).await?,
            Some(trust) => {
                let of_fault =
                    |fault: Fault| Failure { hint: fault.hint.clone(), ..Failure::new(fault.kind, fault.to_string()) };
                let handshake = trust.connect(host).map_err(of_fault)?;
                let connector = TlsConnector::from(std::sync::Arc::clone(&handshake.config));
                let stream = connector.connect(handshake.server.clone(), stream).await.map_err(|error| match error
                    .get_ref()
                    .and_then(|inner| inner.downcast_ref::<rustls::Error>())
                {
                    Some(why) => of_fault(handshake.fault(&self.server.to_string(), why)),
                    None => unreachable(error),
                })?;
                carry(stream, self.timeout).await?
            }
        };
        let mut command = redis::cmd("AUTH");
        command.arg(&self.user).arg(self.password.expose_secret());
        match live.connection.send_packed_command(&command).await.and_then(Value::extract_error) {
            Ok(_) => Ok(live),
            Err(error) => {
                // Others may quote what they were sent, also a part of it: Redis does in "unknown command", cut at 128 bytes, and a proxy may anywhere.
                let quotes_nothing =
                    error.code().is_none() || matches!(error.code(), Some(code) if OF_A_LOGIN.contains(&code));
                let mut failure = Failure::from(error);
                if !quotes_nothing && failure.kind != FaultKind::Busy {
                    failure.words = "AUTH was refused, in words that may quote the password".into();
                    failure.code = failure.code.filter(|code| code == "ERR");
                }
                failure.words = failure.words.replace(self.password.expose_secret(), "…");
                Err(failure)
            }
        }
    }

    /// Sends one command and waits for its answer.
    ///
    /// # Errors
    /// As [`Session::connect`], and what the server says.
    pub async fn call(&mut self, words: &[&str]) -> Result<Reply, Failure> {
        let mut replies = self.calls(&[words]).await?;
        replies.pop().unwrap_or_else(|| Err(no_answer(self.timeout)))
    }

    /// Sends several commands in one go, and waits for all their answers. The server takes what has come in on a connection together
    /// before it listens to another one, so nobody else's command gets in between, as long as they are few and short.
    ///
    /// # Errors
    /// As [`Session::connect`]; what the server says to each is in its own answer.
    pub async fn calls(&mut self, commands: &[&[&str]]) -> Result<Vec<Result<Reply, Failure>>, Failure> {
        self.connect().await?;
        let mut pipeline = redis::Pipeline::with_capacity(commands.len());
        for words in commands {
            let Some((name, arguments)) = words.split_first() else {
                return Err(Failure::new(FaultKind::Unexpected, "there is no empty command"));
            };
            let command = pipeline.cmd(name);
            for argument in arguments {
                command.arg(argument);
            }
        }
        let timeout = self.timeout;
        let Some(live) = self.live.as_mut() else { return Err(no_answer(timeout)) };
        let answer = live.connection.send_packed_commands(&pipeline, 0, commands.len());
        let results = match tokio::time::timeout(timeout, answer).await {
            // The library hands an error over as a value.
            Ok(Ok(values)) => Ok(values
                .into_iter()
                .map(|value| value.extract_error().map(Reply::from).map_err(Failure::from))
                .collect::<Vec<_>>()),
            Ok(Err(error)) => Err(Failure::from(error)),
            Err(_) => Err(no_answer(timeout)),
        };
        // A connection that broke, or whose answer is still to come, is no longer used.
        let broken = |failure: &Failure| failure.code.is_none();
        if match &results {
            Ok(replies) => replies.iter().any(|reply| reply.as_ref().is_err_and(broken)),
            Err(failure) => broken(failure),
        } {
            self.live = None;
        }
        results
    }
}

fn no_answer(timeout: Duration) -> Failure {
    Failure::new(FaultKind::Unreachable, format!("no answer within {} ms", timeout.as_millis()))
}

async fn carry<S>(stream: S, timeout: Duration) -> Result<Live, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let nothing_sent = RedisConnectionInfo::default().set_skip_set_lib_name();
    // The library's own limit is half a second.
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(timeout));
    let (connection, carrier) = MultiplexedConnection::new_with_config(&nothing_sent, stream, config).await?;
    Ok(Live { connection, carrier: tokio::spawn(carrier) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_carry_no_digest() {
        let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0bd22cd15d6c15b0f00a08";
        let said = format!("Error in ACL SETUSER modifier '#{digest}': Syntax error");
        assert_eq!(without_digests(&said), "Error in ACL SETUSER modifier '#…': Syntax error");
        assert_eq!(without_digests("no such user 'cafe'"), "no such user 'cafe'");
    }
}
