//! Whether a port takes connections, and how a web server answers: what a health check asks. It speaks over whatever connection it is given, so
//! that a question can also be put from another host, through a tunnel.
//!
//! Only the first line of an answer is read, no redirect is followed, and no proxy is asked.

use super::shell::printable;
use super::tls::Trust;
use crate::model::{Asker, Fault, HealthChecks, HttpCheck};
use std::net::Ipv6Addr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// The longest first line of an answer, in bytes.
const MAX_LINE: usize = 8 * 1024;

/// Bytes both ways.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A name or an address; an IPv6 address without its brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl std::fmt::Display for HostPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl HostPort {
    /// `host:port`, `address:port` or `[IPv6 address]:port`.
    ///
    /// # Errors
    /// What belongs there instead, in a few words.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        Self::with_port(text, None)
    }

    fn with_port(text: &str, usual: Option<u16>) -> Result<Self, &'static str> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or("the bracket is not closed")?;
                host.parse::<Ipv6Addr>().map_err(|_| "an IPv6 address belongs between the brackets")?;
                (host, after.strip_prefix(':').or(after.is_empty().then_some("")))
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, Some("")),
            },
        };
        let port = match (port, usual) {
            (Some(""), Some(usual)) => usual,
            (Some(port), _) if port.chars().all(|c| c.is_ascii_digit()) => {
                port.parse().ok().filter(|port| *port != 0).ok_or("`host:port`, the port from 1 to 65535")?
            }
            _ => return Err("`host:port`; an IPv6 address in brackets"),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':');
        if host.is_empty() || host.starts_with('-') || !host.chars().all(plain) {
            return Err("a host's name or address, and a port");
        }
        Ok(Self { host: host.to_string(), port })
    }
}

/// What is asked for: `http://host[:port][/path][?query]`, or `https`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Whether it is `https`.
    pub tls: bool,
    /// Who is asked.
    pub at: HostPort,
    /// As the configuration writes it, between the slashes and the path.
    authority: String,
    /// The path and the query.
    target: String,
}

impl Url {
    /// Reads one.
    ///
    /// # Errors
    /// What belongs there instead, in a few words.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (tls, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err("begins with `http://` or `https://`"),
        };
        if !rest.chars().all(|c| c.is_ascii_graphic()) || rest.contains('#') {
            return Err("no blanks, no `#`; what is not ASCII percent-encoded");
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.contains('@') {
            return Err("no user name and no password: they would stand in this file");
        }
        let at = HostPort::with_port(authority, Some(if tls { 443 } else { 80 }))?;
        let target = if target.starts_with('/') { target.to_string() } else { format!("/{target}") };
        Ok(Self { tls, at, authority: authority.to_string(), target })
    }
}

/// A question to a port, of a program's health.
pub struct Question<'a> {
    /// From where it is asked, if that is said.
    pub by: Option<Asker>,
    /// Who is asked.
    pub at: HostPort,
    http: Option<(&'a HttpCheck, Url)>,
}

/// What `checks` ask of ports: whether one takes connections, and how a web server answers.
///
/// # Errors
/// What is wrong with an address, a few words.
pub fn questions(checks: &HealthChecks) -> Result<Vec<Question<'_>>, &'static str> {
    let tcp =
        checks.tcp.as_ref().map(|check| Ok(Question { by: check.by, at: HostPort::parse(&check.to)?, http: None }));
    let http = checks.http.as_ref().map(|check| {
        let url = Url::parse(&check.url)?;
        Ok(Question { by: check.by, at: url.at.clone(), http: Some((check, url)) })
    });
    tcp.into_iter().chain(http).collect()
}

impl Question<'_> {
    /// Asks over a connection that was made, or was not; says why the answer is no good, if it is not.
    ///
    /// # Errors
    /// A CA that cannot be read.
    pub async fn put(&self, made: Result<impl Stream, String>, limit: Duration) -> Result<Option<String>, Fault> {
        let Some((check, url)) = &self.http else {
            return Ok(made.err().map(|why| format!("got no connection to {}: {}", self.at, printable(&why, 400))));
        };
        let trust = check.ca.as_deref().map(Trust::from_file).transpose()?;
        let asked = match made {
            Ok(stream) => status(stream, url, trust.as_ref(), limit).await,
            Err(why) => Err(why),
        };
        let (wanted, shown) = (check.status, printable(&check.url, 200));
        Ok(match asked {
            Ok(status) if status == wanted => None,
            Ok(status) => Some(format!("of {shown} was answered with {status} instead of {wanted}")),
            Err(why) => Some(format!("of {shown} failed: {}", printable(&why, 400))),
        })
    }
}

/// Connects from here.
///
/// # Errors
/// Why there is no connection, a few words.
pub async fn dial(at: &HostPort, limit: Duration) -> Result<TcpStream, String> {
    let connecting = TcpStream::connect((at.host.as_str(), at.port));
    timeout(limit, connecting).await.map_err(|_| late(limit))?.map_err(|e| e.to_string())
}

/// The status code of the answer to a GET; or why there is none, a few words: no TLS, no answer in time, or no HTTP.
async fn status(stream: impl Stream, url: &Url, trust: Option<&Trust>, limit: Duration) -> Result<u16, String> {
    timeout(limit, ask(stream, url, trust)).await.map_err(|_| late(limit))?
}

fn late(limit: Duration) -> String {
    format!("no answer within {} s", limit.as_secs())
}

async fn ask(stream: impl Stream, url: &Url, trust: Option<&Trust>) -> Result<u16, String> {
    if !url.tls {
        return exchange(stream, url).await;
    }
    let trust = trust.ok_or("no CA is named for its certificate")?;
    let handshake = trust.connect(&url.at.host).map_err(|fault| fault.to_string())?;
    let connector = TlsConnector::from(handshake.config.clone());
    match connector.connect(handshake.server.clone(), stream).await {
        Ok(stream) => exchange(stream, url).await,
        Err(error) => Err(match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(tls) => handshake.fault(&url.at.to_string(), tls).to_string(),
            None => error.to_string(),
        }),
    }
}

/// HTTP/1.1 (RFC 9112): one request, and as much of the answer as its status line. Interim answers (1xx) are passed over.
async fn exchange(mut stream: impl Stream, url: &Url) -> Result<u16, String> {
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: offboard\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        url.target, url.authority
    );
    stream.write_all(request.as_bytes()).await.map_err(|e| e.to_string())?;
    stream.flush().await.map_err(|e| e.to_string())?;
    let mut answer = Vec::new();
    let mut part = [0; 1024];
    loop {
        while let Some(end) = answer.windows(2).position(|two| two == b"\r\n") {
            let status = code(&answer[..end]).ok_or("the answer is no HTTP")?;
            if !(100..200).contains(&status) {
                return Ok(status);
            }
            let Some(over) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { break };
            answer.drain(..over + 4);
        }
        if answer.len() > MAX_LINE {
            return Err("the answer is no HTTP".into());
        }
        match stream.read(&mut part).await.map_err(|e| e.to_string())? {
            0 => return Err("the connection was closed without an answer".into()),
            read => answer.extend_from_slice(&part[..read]),
        }
    }
}

/// `HTTP/1.1 200 OK`: RFC 9112, 4.
fn code(line: &[u8]) -> Option<u16> {
    let mut words = std::str::from_utf8(line.get(..12)?).ok()?.splitn(2, ' ');
    let version = words.next()?.strip_prefix("HTTP/1.")?;
    let status = words.next()?;
    let plain = version.len() == 1 && status.len() == 3 && status.bytes().all(|c| c.is_ascii_digit());
    (plain && line.get(12).is_none_or(|c| *c == b' ')).then(|| status.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let good = |text: &str| HostPort::parse(text).map(|at| at.to_string());
        for text in ["web1.example.test:80", "192.0.2.7:65535", "[::1]:8080"] {
            assert_eq!(good(text), Ok(text.to_string()));
        }
        for text in [
            "",
            ":80",
            "web1",
            "web1:",
            "web1:0",
            "web1:65536",
            "web1:+8",
            "::1:80",
            "[::1]",
            "[::1]80",
            "[web1]:80",
            "[::1:80",
            "a b:1",
            "-o:1",
            "a\n:1",
        ] {
            assert!(good(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn urls_are_read() {
        let read = |text: &str| Url::parse(text).map(|url| (url.tls, url.at.to_string(), url.target));
        assert_eq!(read("http://a"), Ok((false, "a:80".into(), "/".into())));
        assert_eq!(read("https://a:8443/x?y=z"), Ok((true, "a:8443".into(), "/x?y=z".into())));
        assert_eq!(read("https://[::1]?q"), Ok((true, "[::1]:443".into(), "/?q".into())));
        for text in [
            "",
            "a",
            "ftp://a",
            "http://",
            "http:///x",
            "http://u:p@a/",
            "http://a/ b",
            "http://a/\r\nX: y",
            "http://a/#x",
            "http://a:b/",
        ] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }

    async fn answered(parts: &'static [&'static [u8]]) -> Result<u16, String> {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let server = tokio::spawn(async move {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                theirs.read_exact(&mut byte).await.unwrap();
                request.push(byte[0]);
            }
            for part in parts {
                if theirs.write_all(part).await.is_err() {
                    break;
                }
            }
            String::from_utf8(request).unwrap()
        });
        let url = Url::parse("http://a:8080/health").unwrap();
        let status = status(ours, &url, None, Duration::from_secs(20)).await;
        let request = server.await.unwrap();
        assert!(request.starts_with("GET /health HTTP/1.1\r\nHost: a:8080\r\n"), "{request}");
        status
    }

    #[tokio::test]
    async fn the_status_line_is_what_counts() {
        assert_eq!(answered(&[b"HTTP/1.1 200 OK\r\n\r\n"]).await, Ok(200));
        assert_eq!(answered(&[b"HTTP/1.0 50", b"3\r", b"\nRetry-After: 1\r\n\r\n"]).await, Ok(503));
        assert_eq!(answered(&[b"HTTP/1.1 100 Continue\r\nA: b\r", b"\n\r\nHTTP/1.1 204 \r\n"]).await, Ok(204));
        for odd in [
            &[b"SSH-2.0-OpenSSH_9.9\r\n" as &[u8]] as &[&[u8]],
            &[b"HTTP/2 200 OK\r\n"],
            &[b"HTTP/1.1 2000 OK\r\n"],
            &[b"HTTP/1.1 +20 OK\r\n"],
            &[b"\r\n"],
            &[b""],
            &[b"HTTP/1.1 200"],
            &[&[b'x'; 20000]],
        ] {
            assert!(answered(odd).await.is_err());
        }
    }
}
