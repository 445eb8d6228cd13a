//! HTTP with JSON, to one server: HTTPS with a private authority, or HTTP on loopback.
//!
//! It sends what it is given to the one address that it was made for, and reads the answer, which may be long but not endless. It follows no
//! redirect (the configuration names every server that we talk to) and asks no proxy, whatever the environment says. Segments of a path
//! are escaped here, so no name can become another path.

use super::tls::{Handshake, Trust};
use crate::model::{Fault, FaultKind};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
pub use reqwest::{Method, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use std::error::Error as _;
use std::net::IpAddr;
use std::time::Duration;
use zeroize::Zeroize;

/// The longest answer that is read, in bytes.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// The way to one server.
pub struct Client {
    http: reqwest::Client,
    base: Url,
    handshake: Option<Handshake>,
}

/// What the server answered. It may hold secrets, so it has no `Debug`; they are wiped when it goes.
pub struct Answer {
    /// The status code (RFC 9110, 15).
    pub status: u16,
    /// The body; null if it was empty or is no JSON.
    pub body: Value,
}

/// An address as the configuration writes it: `https://host[:port]`, or `http://` to an address of this machine. Nothing follows the port.
///
/// # Errors
/// What is wrong with it, a sentence without its end.
pub fn address(written: &str) -> Result<Url, String> {
    let url = Url::parse(written).map_err(|e| format!("{written:?} is no URL: {e}"))?;
    let host = url.host_str().ok_or_else(|| format!("{written:?} names no host"))?;
    let loopback = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if !url.username().is_empty() || url.password().is_some() {
        return Err("an address holds no user name and no password".into());
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(format!("{written:?}: nothing may follow the host and its port"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if loopback => Ok(url),
        "http" => Err(format!("{written:?} is not encrypted; http:// is for loopback addresses only")),
        other => Err(format!("{written:?}: {other} is neither https nor http")),
    }
}

impl Client {
    /// A client of the server at `base`. Opens no connection.
    ///
    /// # Errors
    /// `Misconfigured`: a host name that no certificate can carry.
    pub fn new(base: Url, trust: Option<&Trust>, timeout: Duration) -> Result<Self, Fault> {
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(timeout)
            .connect_timeout(timeout)
            .user_agent("offboard");
        let host = base.host_str().unwrap_or_default().trim_matches(['[', ']']).to_string();
        let handshake = match trust {
            Some(trust) if base.scheme() == "https" => Some(trust.connect(&host)?),
            _ => None,
        };
        if let Some(handshake) = &handshake {
            builder = builder.tls_backend_preconfigured((*handshake.config).clone()).https_only(true);
        }
        let http = builder.build().map_err(|e| {
            Fault::new(FaultKind::Misconfigured, format!("{host}: no HTTP client can be made")).because(e)
        })?;
        Ok(Self { http, base, handshake })
    }

    /// `host:port`, for people.
    pub fn peer(&self) -> String {
        let port = self.base.port_or_known_default().unwrap_or_default();
        format!("{}:{port}", self.base.host_str().unwrap_or_default())
    }

    /// One request; every segment of the path is escaped. `headers` are secret.
    ///
    /// # Errors
    /// `Unreachable`, `Misconfigured` (TLS, a segment that is no name); any answer of the server's is no error.
    pub async fn send(
        &self,
        method: Method,
        path: &[&str],
        headers: &[(&'static str, &SecretString)],
        body: Option<&Value>,
    ) -> Result<Answer, Fault> {
        let mut url = self.base.clone();
        if let Some(bad) = path.iter().find(|segment| !is_segment(segment)) {
            return Err(Fault::new(
                FaultKind::Misconfigured,
                format!("{}: {bad:?} cannot be part of a path", self.peer()),
            ));
        }
        url.path_segments_mut()
            .map_err(|()| Fault::new(FaultKind::Misconfigured, format!("{}: the address takes no path", self.peer())))?
            .clear()
            .extend(path);
        let mut request = self.http.request(method, url);
        let mut secret = HeaderMap::new();
        for (name, value) in headers {
            let mut value = HeaderValue::from_str(value.expose_secret()).map_err(|_| {
                Fault::new(
                    FaultKind::Misconfigured,
                    format!("{}: the secret for {name} cannot be sent in a header", self.peer()),
                )
            })?;
            value.set_sensitive(true);
            secret.insert(HeaderName::from_static(name), value);
        }
        request = request.headers(secret);
        if let Some(body) = body {
            request = request.json(body);
        }
        let mut response = request.send().await.map_err(|e| self.fault(e))?;
        let status = response.status().as_u16();
        let mut bytes = Vec::new();
        while let Some(more) = response.chunk().await.map_err(|e| self.fault(e))? {
            if bytes.len() + more.len() > MAX_BYTES {
                return Err(Fault::new(FaultKind::Unexpected, format!("{}: the answer is too long", self.peer()))
                    .because(format!("more than {MAX_BYTES} bytes")));
            }
            bytes.extend_from_slice(&more);
        }
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        bytes.zeroize();
        Ok(Answer { status, body })
    }

    /// Why there was no answer. The URL is left out: what was asked stands in the caller's words.
    fn fault(&self, error: reqwest::Error) -> Fault {
        let error = error.without_url();
        let peer = self.peer();
        let mut source = error.source();
        let mut last = error.to_string();
        while let Some(cause) = source {
            // An error of rustls comes wrapped in one of I/O, which hides it from `source`.
            let inner =
                cause.downcast_ref::<std::io::Error>().and_then(|e| e.get_ref()?.downcast_ref::<rustls::Error>());
            if let (Some(tls), Some(handshake)) = (inner.or_else(|| cause.downcast_ref()), &self.handshake) {
                return handshake.fault(&peer, tls);
            }
            last = cause.to_string();
            source = cause.source();
        }
        let because = if error.is_timeout() { "no answer in time".to_string() } else { last };
        Fault::new(FaultKind::Unreachable, format!("{peer}: no answer"))
            .because(because)
            .hint("check the address and the port, and that the server runs")
    }
}

/// Wipes every text in a value, which is null then.
pub fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(map) => map.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    *value = Value::Null;
}

impl Drop for Answer {
    fn drop(&mut self) {
        wipe(&mut self.body);
    }
}

/// Whether a name can stand between two slashes. Servers decode what was escaped, so a slash inside would part it after all.
pub fn is_segment(name: &str) -> bool {
    !name.is_empty()
        && name != "."
        && name != ".."
        && !name.contains(['/', '\\'])
        && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::{address, is_segment};

    #[test]
    fn addresses_are_encrypted_or_of_this_machine() {
        for good in
            ["https://bao1.example.com:8200", "https://127.66.0.6:8200/", "http://127.0.0.1:8200", "http://[::1]:8200"]
        {
            assert!(address(good).is_ok(), "{good}");
        }
        for bad in [
            "http://bao1.example.com:8200",
            "http://localhost.example.com",
            "http://127.0.0.1.example.com",
            "https://u:p@bao1.example.com",
            "https://bao1.example.com/v1",
            "https://bao1.example.com/?x",
            "ftp://127.0.0.1",
            "bao1.example.com:8200",
            "",
        ] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_name_becomes_another_path() {
        for good in ["jane", "jane.roe@example.com", "a b", "ночь", "..."] {
            assert!(is_segment(good), "{good:?}");
        }
        for bad in ["", ".", "..", "a/b", "../sys/seal", "a\\b", "a\nb", "a\0"] {
            assert!(!is_segment(bad), "{bad:?}");
        }
    }
}
