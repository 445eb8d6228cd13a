//! The known_hosts file (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT): plain, hashed and wildcard host names, `[host]:port`,
//! `@cert-authority` and `@revoked`.

use super::{Target, fingerprint, printable};
use crate::model::{Fault, FaultKind};
use crate::wire::guarded::{self, Access};
use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Algorithm, HashAlg, PublicKey, PublicKeyOrCertificate};
use std::path::{Path, PathBuf};

/// What a line says of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// It is the host's own key.
    Host,
    /// It signs host certificates.
    Authority,
    /// It must never be accepted.
    Revoked,
}

#[derive(Debug)]
struct Line {
    /// As [`names`] takes them.
    hosts: String,
    mark: Mark,
    key: PublicKey,
}

/// A known_hosts file, read once.
#[derive(Debug)]
pub struct KnownHosts {
    path: PathBuf,
    lines: Vec<Line>,
}

impl KnownHosts {
    /// Reads a file that nobody else may write. Lines that are not understood are left out, as OpenSSH does.
    ///
    /// # Errors
    /// `Misconfigured`: the file's owner or mode.
    pub fn read(path: &Path) -> Result<Self, Fault> {
        let bytes = guarded::read(path, Access::OwnerWrites)?;
        Ok(Self::parse(path, &String::from_utf8_lossy(&bytes)))
    }

    fn parse(path: &Path, text: &str) -> Self {
        Self { path: path.to_path_buf(), lines: text.lines().filter_map(parse_line).collect() }
    }

    fn lines_of<'a>(&'a self, target: &'a Target) -> impl Iterator<Item = &'a Line> {
        let name = as_written(&target.name, target.port);
        let by_name = self.lines.iter().any(|l| l.mark != Mark::Revoked && names(&l.hosts, &name));
        // The address counts only where the name is not in the file: a host that has taken over another's address is not it.
        let host = if by_name { name } else { as_written(&target.address, target.port) };
        self.lines.iter().filter(move |l| names(&l.hosts, &host))
    }

    /// The algorithms of the host's known keys, so that it is asked for a key that can be checked; and those of certificates,
    /// if an authority is known for it. Empty if the host is not known.
    pub(super) fn algorithms(&self, target: &Target) -> (Vec<Algorithm>, Vec<Algorithm>) {
        let mut keys = Vec::new();
        let mut certificates = Vec::new();
        for line in self.lines_of(target) {
            match line.mark {
                Mark::Revoked => {}
                // The authority's own algorithm says nothing of the host's.
                Mark::Authority => certificates = russh::Preferred::DEFAULT.key.to_vec(),
                Mark::Host if line.key.algorithm().is_rsa() => {
                    keys.push(Algorithm::Rsa { hash: Some(HashAlg::Sha512) });
                    keys.push(Algorithm::Rsa { hash: Some(HashAlg::Sha256) });
                }
                Mark::Host => keys.push(line.key.algorithm()),
            }
        }
        (keys, certificates)
    }

    /// Whether the host is who it says. `now` is in seconds since 1970, for certificates.
    ///
    /// # Errors
    /// `Misconfigured`, with the fingerprint seen, those expected, and what to do.
    pub(super) fn check(&self, target: &Target, offered: &PublicKeyOrCertificate, now: u64) -> Result<(), Fault> {
        let key = offered.public_key();
        let seen = format!("{} {}", key.algorithm(), fingerprint(&key));
        let misconfigured = |what: &str| Fault::new(FaultKind::Misconfigured, format!("ssh {target}: {what}"));
        let lines: Vec<&Line> = self.lines_of(target).collect();
        let authority = offered.certificate().map(|c| PublicKey::from(c.signature_key().clone()));
        for line in lines.iter().filter(|l| l.mark == Mark::Revoked) {
            if same(&line.key, &key) || authority.as_ref().is_some_and(|a| same(&line.key, a)) {
                return Err(misconfigured("the host offers a revoked key")
                    .because(format!("{seen} is marked @revoked in {}", self.path.display()))
                    .hint("do not connect; find out who is using the old key"));
            }
        }
        if let Some(certificate) = offered.certificate() {
            let trusted: Vec<_> = lines
                .iter()
                .filter(|l| l.mark == Mark::Authority)
                .map(|l| l.key.fingerprint(HashAlg::Sha256))
                .collect();
            let principals = certificate.valid_principals();
            let why = if certificate.cert_type() != CertType::Host {
                "it is no host certificate".to_string()
            } else if let Err(e) = certificate.validate_at(now, &trusted) {
                format!("it is not valid now under a known authority ({e})")
            } else if !certificate.critical_options().is_empty() {
                "it has critical options".to_string()
            } else if !principals.iter().any(|p| wildcard(p, &target.name) || *p == target.address) {
                format!("it is for {}", printable(&principals.join(", "), 200))
            } else {
                return Ok(());
            };
            return Err(misconfigured("the host's certificate is not accepted").because(why).hint(format!(
                "have the host certified for {}, or put its key into {}",
                target.name,
                self.path.display()
            )));
        }
        let known: Vec<&&Line> = lines.iter().filter(|l| l.mark == Mark::Host).collect();
        if known.iter().any(|l| same(&l.key, &key)) {
            return Ok(());
        }
        if known.is_empty() {
            return Err(misconfigured("the host's key is not known")
                .because(format!("it offers {seen}; {} has no key for {}", self.path.display(), target.name))
                .hint(format!(
                    "compare with ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub on the host's own console; if it is the same: \
                     ssh-keyscan -p {} {} >> {}",
                    target.port,
                    target.address,
                    self.path.display()
                )));
        }
        let expected: Vec<String> =
            known.iter().map(|l| format!("{} {}", l.key.algorithm(), fingerprint(&l.key))).collect();
        Err(misconfigured("the host's key is wrong: it may be another host")
            .because(format!("it offers {seen}; expected {}", expected.join(" or ")))
            .hint(format!(
                "if the host was installed anew, take its old lines out of {} after comparing on its own console",
                self.path.display()
            )))
    }
}

fn same(a: &PublicKey, b: &PublicKey) -> bool {
    a.key_data() == b.key_data()
}

fn parse_line(line: &str) -> Option<Line> {
    let mut fields = line.split_ascii_whitespace();
    let first = fields.next().filter(|f| !f.starts_with('#'))?;
    let (mark, hosts) = match first {
        "@cert-authority" => (Mark::Authority, fields.next()?),
        "@revoked" => (Mark::Revoked, fields.next()?),
        _ if first.starts_with('@') => return None,
        _ => (Mark::Host, first),
    };
    let key = PublicKey::from_openssh(&format!("{} {}", fields.next()?, fields.next()?)).ok()?;
    let hosts = if hosts.starts_with('|') { hosts.to_string() } else { hosts.to_lowercase() };
    Some(Line { hosts, mark, key })
}

/// A host as the file has it: in lower case, with its port unless that is 22.
fn as_written(host: &str, port: u16) -> String {
    let host = host.to_lowercase();
    if port == 22 { host } else { format!("[{host}]:{port}") }
}

/// Whether the first field of a line, in lower case unless it is hashed, names `host`.
fn names(field: &str, host: &str) -> bool {
    if field.starts_with('|') {
        return hashed(field, host);
    }
    let mut found = false;
    for pattern in field.split(',') {
        match pattern.strip_prefix('!') {
            Some(pattern) if wildcard(pattern, host) => return false,
            Some(_) => {}
            None => found |= wildcard(pattern, host),
        }
    }
    found
}

/// `|1|salt|hash`: HMAC-SHA-1 over the host, as `ssh-keygen -H` writes it.
fn hashed(field: &str, host: &str) -> bool {
    let mut parts = field.split('|').skip(1);
    let (Some("1"), Some(salt), Some(hash), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let (Ok(salt), Ok(hash)) = (STANDARD.decode(salt), STANDARD.decode(hash)) else { return false };
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt);
    hmac::verify(&key, host.as_bytes(), &hash).is_ok()
}

/// `*` and `?` as in ssh_config(5), PATTERNS.
fn wildcard(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == b'?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const TWO: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILIG2T/B0l0gaqj3puu510tu9N1OkQ4znY3LYuEm5zCF";

    fn target(name: &str, address: &str, port: u16) -> Target {
        Target { name: name.into(), address: address.into(), port, user: "offboard".into() }
    }

    fn check(file: &str, target: &Target, key: &str) -> Result<(), Fault> {
        let offered = PublicKeyOrCertificate::from(PublicKey::from_openssh(key).unwrap());
        KnownHosts::parse(Path::new("known_hosts"), file).check(target, &offered, 0)
    }

    #[test]
    fn plain_port_and_wildcard_names() {
        let web = target("web1.sunrise.test", "127.66.0.10", 22);
        for hosts in
            ["web1.sunrise.test", "a,WEB1.sunrise.test,b", "*.sunrise.test", "web?.sunrise.test", "127.66.0.10"]
        {
            assert!(check(&format!("{hosts} {ONE} comment"), &web, ONE).is_ok(), "{hosts}");
        }
        for hosts in ["web1.sunrise.tes", "*.sunrise.test,!web1.*", "[web1.sunrise.test]:2222", "# web1.sunrise.test"] {
            assert!(check(&format!("{hosts} {ONE}"), &web, ONE).is_err(), "{hosts}");
        }
        let other = target("web1.sunrise.test", "127.66.0.10", 2222);
        assert!(check(&format!("[web1.sunrise.test]:2222 {ONE}"), &other, ONE).is_ok());
        assert!(check(&format!("web1.sunrise.test {ONE}"), &other, ONE).is_err());
    }

    #[test]
    fn hashed_names() {
        // From OpenSSH: ssh-keygen -H on a file with example.com.
        let line = format!("|1|O33ESRMWPVkMYIwJ1Uw+n877jTo=|nuuC5vEqXlEZ/8BXQR7m619W6Ak= {TWO}");
        assert!(check(&line, &target("example.com", "192.0.2.1", 22), TWO).is_ok());
        assert!(check(&line, &target("example.org", "192.0.2.1", 22), TWO).is_err());
    }

    #[test]
    fn wrong_unknown_and_revoked_keys_say_what_to_do() {
        let web = target("web1", "127.66.0.10", 22);
        let wrong = check(&format!("web1 {ONE}"), &web, TWO).unwrap_err();
        let because = wrong.because.unwrap();
        assert_eq!(wrong.kind, FaultKind::Misconfigured);
        assert_eq!(because.matches("SHA256:").count(), 2, "{because}");
        let unknown = check("", &web, TWO).unwrap_err();
        assert!(unknown.hint.unwrap().contains("ssh-keyscan -p 22 127.66.0.10 >> known_hosts"));
        let revoked = check(&format!("web1 {ONE}\n@revoked * {ONE}"), &web, ONE).unwrap_err();
        assert!(revoked.what.contains("revoked"));
        // The address's key does not vouch for a host whose name is known by another key.
        assert!(check(&format!("web1 {ONE}\n127.66.0.10 {TWO}"), &web, TWO).is_err());
    }
}
