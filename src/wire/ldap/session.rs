//! One connection: connect, TLS, bind, search, change. Every wait is limited by the session's timeout.

use super::entry::Entry;
use super::policy;
use super::reply::{Code, Reply};
use crate::model::{Fault, FaultKind};
use crate::wire::tls::Trust;
use ldap3::adapters::PagedResults;
use ldap3::controls::MatchedValues;
use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, LdapError, Mod, Scope, SearchEntry, SearchStream, StdStream};
use secrecy::{ExposeSecret, SecretString};
use std::collections::HashSet;
use std::future::Future;
use std::time::Duration;

/// Entries a page (RFC 2696): first as many as this, and fewer where the server allows us no such pages.
const PAGES: [i32; 3] = [1000, 100, 10];

/// Where a server listens, and how TLS begins there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Host name or IP address, without brackets. The certificate must carry it.
    pub host: String,
    /// TCP port: 636 for `ldaps`, 389 for `ldap`, if none is given.
    pub port: u16,
    /// StartTLS on a plain port, instead of TLS from the first byte.
    pub starttls: bool,
}

impl Address {
    /// Reads `ldaps://host[:port]` or `ldap://host[:port]`; an IPv6 address stands in brackets.
    ///
    /// # Errors
    /// `Misconfigured`, with the form that was expected.
    pub fn parse(url: &str) -> Result<Self, Fault> {
        let fault = || {
            Fault::new(FaultKind::Misconfigured, format!("{url:?} is not the address of an LDAP server"))
                .hint("write ldaps://host[:port], or ldap://host[:port] for StartTLS")
        };
        let (starttls, rest) = match url.split_once("://").ok_or_else(fault)? {
            ("ldaps", rest) => (false, rest),
            ("ldap", rest) => (true, rest),
            _ => return Err(fault()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[').map(|r| r.split_once(']').ok_or_else(fault)).transpose()? {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or_else(fault)?)),
            None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        let port = match port {
            Some(port) => port.parse().map_err(|_| fault())?,
            None if starttls => 389,
            None => 636,
        };
        let odd = |c: char| c.is_whitespace() || c.is_control() || "/?#@%[]".contains(c);
        if host.is_empty() || host.contains(odd) || (host.contains(':') && host.parse::<std::net::Ipv6Addr>().is_err())
        {
            return Err(fault());
        }
        Ok(Self { host: host.to_string(), port, starttls })
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// One part of a modification. The parts of one modification happen together or not at all (RFC 4511, section 4.6).
#[derive(Clone)]
pub enum Change {
    /// Adds values; fails if one is there.
    Add(&'static str, Vec<Vec<u8>>),
    /// Deletes these values; fails if one is not there. Without values: the whole attribute.
    Delete(&'static str, Vec<Vec<u8>>),
    /// Puts these in the place of all values; without values the attribute goes, if it was there.
    Replace(&'static str, Vec<Vec<u8>>),
}

/// A connection. Dropping it closes it.
pub struct Session {
    ldap: Ldap,
    peer: String,
    timeout: Duration,
    /// Who is logged in, for grants in errors.
    who: String,
}

impl Session {
    /// Connects and does the TLS handshake; nobody is logged in yet.
    ///
    /// # Errors
    /// `Unreachable` if there is no answer in time; `Misconfigured` for anything about certificates or TLS.
    pub async fn connect(address: &Address, trust: &Trust, timeout: Duration) -> Result<Self, Fault> {
        let peer = address.to_string();
        let unreachable = |why: &dyn std::fmt::Display| {
            Fault::new(FaultKind::Unreachable, format!("{peer}: cannot connect")).because(why)
        };
        let handshake = trust.connect(&address.host)?;
        let tcp = tokio::net::TcpStream::connect((address.host.as_str(), address.port));
        let tcp = within(timeout, tcp).await.map_err(|e| unreachable(&e))?.map_err(|e| unreachable(&e))?;
        let tcp = tcp.into_std().map_err(|e| unreachable(&e))?;
        let settings = LdapConnSettings::new()
            .set_config(handshake.config.clone())
            .set_starttls(address.starttls)
            .set_std_stream(StdStream::Tcp(tcp));
        // ldap3 cannot verify an IPv6 address. Our own verifier checks the configured name whatever stands in this URL.
        let host = if address.host.contains(':') { "ipv6.invalid" } else { address.host.as_str() };
        let url = format!("{}://{host}:{}", if address.starttls { "ldap" } else { "ldaps" }, address.port);
        let opening = within(timeout, LdapConnAsync::with_settings(settings, &url)).await;
        let (connection, ldap) = match opening {
            Ok(Ok(pair)) => pair,
            Err(slow) => return Err(unreachable(&slow)),
            Ok(Err(error)) => return Err(opening_fault(&peer, &handshake, error)),
        };
        tokio::spawn(async move {
            // Why it ended shows at the next operation.
            let _ = connection.drive().await;
        });
        Ok(Self { ldap, peer, timeout, who: String::new() })
    }

    /// Whether the connection has ended.
    pub fn is_closed(&mut self) -> bool {
        self.ldap.is_closed()
    }

    /// A simple bind; asks for the password policy's opinion. A refusal is a reply, not an error.
    ///
    /// # Errors
    /// `Unreachable`. `Misconfigured` for an empty password, which would be an anonymous login (RFC 4513, section 5.1.2).
    pub async fn bind(&mut self, dn: &str, password: &SecretString) -> Result<Reply, Fault> {
        if dn.is_empty() || password.expose_secret().is_empty() {
            return Err(Fault::new(FaultKind::Misconfigured, "a login needs a name and a password"));
        }
        let peer = self.peer.clone();
        self.who = dn.to_string();
        let bind = self.op().with_controls(vec![policy::request()]).simple_bind(dn, password.expose_secret()).await;
        bind.map(|result| Reply::new(&result)).map_err(|e| broken(&peer, e))
    }

    /// One entry by its name; nothing if there is none, or none that we may see.
    ///
    /// # Errors
    /// `Unreachable`, or what the server answered.
    pub async fn read(&mut self, dn: &str, attributes: &[&str]) -> Result<Option<Entry>, Fault> {
        let peer = self.peer.clone();
        let result = self.op().search(dn, Scope::Base, "(objectClass=*)", attributes).await;
        let result = result.map_err(|e| broken(&peer, e))?;
        let reply = Reply::new(&result.1);
        match reply.code {
            Code::Success => Ok(result.0.into_iter().next().map(|e| Entry::from_search(SearchEntry::construct(e)))),
            Code::NoSuchObject => Ok(None),
            _ => Err(reply.fault(format!("{peer}: cannot read {dn:?}"))),
        }
    }

    /// Begins a paged search. With `matched`, a list of simple filters in one pair of parentheses, a server that knows RFC 3876
    /// returns only the values that match.
    ///
    /// # Errors
    /// `Unreachable`.
    pub async fn search(
        &mut self,
        base: &str,
        scope: Scope,
        filter: &str,
        attributes: &[&str],
        matched: Option<&str>,
    ) -> Result<Search, Fault> {
        let mut search = Search {
            ldap: self.ldap.clone(),
            timeout: self.timeout,
            peer: self.peer.clone(),
            who: self.who.clone(),
            base: base.to_string(),
            scope,
            filter: filter.to_string(),
            attributes: attributes.iter().map(ToString::to_string).collect(),
            matched: matched.map(ToString::to_string),
            smaller: PAGES[1..].iter(),
            stream: None,
            any: false,
        };
        search.begin(PAGES[0]).await?;
        Ok(search)
    }

    /// One atomic modification. A refusal is a reply, not an error.
    ///
    /// # Errors
    /// `Unreachable`: whether it was done is not known.
    pub async fn modify(&mut self, dn: &str, changes: Vec<Change>) -> Result<Reply, Fault> {
        let set = |values: Vec<Vec<u8>>| values.into_iter().collect::<HashSet<_>>();
        let mods = changes.into_iter().map(|change| match change {
            Change::Add(attribute, values) => Mod::Add(attribute.as_bytes().to_vec(), set(values)),
            Change::Delete(attribute, values) => Mod::Delete(attribute.as_bytes().to_vec(), set(values)),
            Change::Replace(attribute, values) => Mod::Replace(attribute.as_bytes().to_vec(), set(values)),
        });
        let peer = self.peer.clone();
        let result = self.op().modify(dn, mods.collect()).await.map_err(|e| broken(&peer, e))?;
        Ok(Reply::new(&result))
    }

    /// Asks whether an attribute has a value, which is compared by the server's own rules.
    ///
    /// # Errors
    /// `Unreachable`.
    pub async fn compare(&mut self, dn: &str, attribute: &str, value: &[u8]) -> Result<Reply, Fault> {
        let peer = self.peer.clone();
        let result = self.op().compare(dn, attribute, value).await.map_err(|e| broken(&peer, e))?;
        Ok(Reply::new(&result.0))
    }

    /// Sets a password by the extended operation (RFC 3062), so that the server checks and hashes it by its own rules.
    ///
    /// # Errors
    /// `Unreachable`.
    pub async fn set_password(&mut self, dn: &str, password: &SecretString) -> Result<Reply, Fault> {
        let peer = self.peer.clone();
        let new =
            ldap3::exop::PasswordModify { user_id: Some(dn), old_pass: None, new_pass: Some(password.expose_secret()) };
        let result = self.op().extended(new).await.map_err(|e| broken(&peer, e))?;
        Ok(Reply::new(&result.1))
    }

    fn op(&mut self) -> &mut Ldap {
        let timeout = self.timeout;
        self.ldap.with_timeout(timeout)
    }
}

/// A search under way, fetched page by page as it is read.
pub struct Search {
    ldap: Ldap,
    timeout: Duration,
    peer: String,
    who: String,
    base: String,
    scope: Scope,
    filter: String,
    attributes: Vec<String>,
    matched: Option<String>,
    smaller: std::slice::Iter<'static, i32>,
    stream: Option<SearchStream<'static, String, Vec<String>>>,
    any: bool,
}

/// What a search comes across.
pub enum Found {
    /// An entry.
    Entry(Entry),
    /// The rest lies on another server (RFC 4511, section 4.5.3); it was not followed.
    Elsewhere(Vec<String>),
}

impl Search {
    async fn begin(&mut self, page: i32) -> Result<(), Fault> {
        self.ldap.with_timeout(self.timeout);
        if let Some(matched) = &self.matched {
            self.ldap.with_controls(vec![MatchedValues::new(matched)]);
        }
        let pages = PagedResults::new(page);
        let begun =
            self.ldap.streaming_search_with(pages, &self.base, self.scope, &self.filter, self.attributes.clone()).await;
        self.stream = Some(begun.map_err(|e| broken(&self.peer, e))?);
        Ok(())
    }

    /// The next result; nothing after the last one of the last page.
    ///
    /// # Errors
    /// `Unreachable`, or what the server answered: a cut-off result is never taken for a whole one.
    pub async fn next(&mut self) -> Result<Option<Found>, Fault> {
        while let Some(stream) = &mut self.stream {
            match stream.next().await.map_err(|e| broken(&self.peer, e))? {
                Some(found) if found.is_intermediate() => {}
                Some(found) => {
                    self.any = true;
                    return Ok(Some(if found.is_ref() {
                        Found::Elsewhere(ldap3::parse_refs(found.0))
                    } else {
                        Found::Entry(Entry::from_search(SearchEntry::construct(found)))
                    }));
                }
                None => {
                    let reply = Reply::new(&stream.finish().await);
                    self.stream = None;
                    match (reply.code, self.any) {
                        (Code::Success, _) => return Ok(None),
                        // OpenLDAP's answer to a page larger than `size.pr` of olcLimits.
                        (Code::Other(11), false) if let Some(page) = self.smaller.next() => self.begin(*page).await?,
                        _ => return Err(self.fault(&reply)),
                    }
                }
            }
        }
        Ok(None)
    }

    fn fault(&self, reply: &Reply) -> Fault {
        let what = format!("{}: cannot search in {:?}", self.peer, self.base);
        match reply.code {
            Code::NoSuchObject => Fault::new(FaultKind::Misconfigured, what)
                .because(format!("{}: there is no such entry, or none that we may see", reply.words))
                .hint("correct the base, or let our identity read it"),
            Code::SizeLimitExceeded => reply.fault(what).hint(format!(
                "lift the limit for our identity; OpenLDAP, in the database's entry of cn=config: olcLimits: dn.exact=\"{}\" size.prtotal=unlimited",
                self.who
            )),
            _ => reply.fault(what),
        }
    }
}

async fn within<T>(timeout: Duration, what: impl Future<Output = T>) -> Result<T, String> {
    tokio::time::timeout(timeout, what).await.map_err(|_| format!("no answer within {} s", timeout.as_secs_f32()))
}

/// Why a connection could not be opened. rustls reports through I/O errors.
fn opening_fault(peer: &str, handshake: &crate::wire::tls::Handshake, error: LdapError) -> Fault {
    match &error {
        LdapError::Rustls { source } => handshake.fault(peer, source),
        LdapError::Io { source } => match source.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
            Some(tls) => handshake.fault(peer, tls),
            None => Fault::new(FaultKind::Unreachable, format!("{peer}: the TLS handshake broke off")).because(source),
        },
        LdapError::LdapResult { result } => {
            Fault::new(FaultKind::Misconfigured, format!("{peer}: the server refuses StartTLS"))
                .because(Reply::new(result).words)
                .hint("without TLS no password is sent: configure a certificate on the server, or use ldaps://")
        }
        _ => broken(peer, error),
    }
}

/// A connection that broke, or an answer that did not come. Only the error's own words are used: it may carry the request.
fn broken(peer: &str, error: LdapError) -> Fault {
    match error {
        LdapError::Timeout { .. } => {
            Fault::new(FaultKind::Unreachable, format!("{peer}: the server does not answer")).because("timed out")
        }
        LdapError::Io { source } => {
            Fault::new(FaultKind::Unreachable, format!("{peer}: the connection broke")).because(source)
        }
        LdapError::OpSend { .. }
        | LdapError::ResultRecv { .. }
        | LdapError::IdScrubSend { .. }
        | LdapError::MiscSend { .. }
        | LdapError::EndOfStream => {
            Fault::new(FaultKind::Unreachable, format!("{peer}: the connection broke")).because("the server closed it")
        }
        other => Fault::new(FaultKind::Unexpected, format!("{peer}: the LDAP client failed")).because(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let parse = |url| Address::parse(url).map(|a| (a.to_string(), a.starttls));
        assert_eq!(parse("ldaps://ldap1.sunrise.test"), Ok(("ldap1.sunrise.test:636".into(), false)));
        assert_eq!(parse("ldap://127.0.0.1/"), Ok(("127.0.0.1:389".into(), true)));
        assert_eq!(parse("ldaps://[::1]:1636"), Ok(("[::1]:1636".into(), false)));
        for bad in [
            "",
            "ldap1",
            "ldapi:///",
            "http://x",
            "ldap://",
            "ldap://x:99999",
            "ldap://a/dc=x",
            "ldap://[::1",
            "ldap://u@h",
            "ldap://a:b:1",
        ] {
            assert_eq!(parse(bad).map_err(|f| f.kind), Err(FaultKind::Misconfigured), "{bad}");
        }
    }
}
