//! Connecting and logging in.

use super::{CallError, KnownHosts, Script, Target, printable};
use crate::model::{Fault, FaultKind};
use russh::client::{self, DisconnectReason, Handle};
use russh::keys::{HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{Preferred, kex};
use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What a connection is made with.
#[derive(Clone)]
pub struct Login {
    /// Where, and as whom.
    pub target: Target,
    /// Our own private key.
    pub key: Arc<PrivateKey>,
    /// The host keys that are accepted.
    pub known: Arc<KnownHosts>,
    /// The longest that connecting, and then logging in, may take; and the longest silence within a call.
    pub timeout: Duration,
    /// Seconds since 1970, for the validity of host certificates.
    pub now: u64,
}

/// curve25519 and P-256 cost 0.8 ms, the others 60 ms and more: they come last, for hosts that have nothing else.
const KEX: &[kex::Name] = &[
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::ECDH_SHA2_NISTP256,
    kex::ECDH_SHA2_NISTP384,
    kex::ECDH_SHA2_NISTP521,
    kex::MLKEM768X25519_SHA256,
    kex::DH_G14_SHA256,
    kex::DH_G16_SHA512,
    kex::DH_G18_SHA512,
    kex::DH_GEX_SHA256,
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
];

/// What the connection's own task learns.
#[derive(Default)]
struct Seen {
    /// Why the host key was not accepted.
    host_key: Option<Fault>,
    /// How the connection ended, in the host's own words.
    end: Option<String>,
}

/// Checks the host key and remembers how the connection ends.
pub(super) struct Watch {
    target: Target,
    known: Arc<KnownHosts>,
    now: u64,
    seen: Arc<Mutex<Seen>>,
}

impl client::Handler for Watch {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        match self.known.check(&self.target, key, self.now) {
            Ok(()) => Ok(true),
            Err(fault) => {
                self.seen.lock().unwrap_or_else(PoisonError::into_inner).host_key = Some(fault);
                Ok(false)
            }
        }
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Self::Error>) -> Result<(), Self::Error> {
        let end = match &reason {
            DisconnectReason::ReceivedDisconnect(info) => printable(&info.message, 200),
            DisconnectReason::Error(e) => e.to_string(),
        };
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).end = Some(end);
        match reason {
            DisconnectReason::ReceivedDisconnect(_) => Ok(()),
            DisconnectReason::Error(e) => Err(e),
        }
    }
}

/// A connection on which the key exchange is done and the host key checked.
pub(super) struct Connection {
    pub(super) handle: Handle<Watch>,
    seen: Arc<Mutex<Seen>>,
}

impl Connection {
    /// How the connection ended, in the host's own words.
    pub(super) fn end(&self) -> String {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.end.clone().unwrap_or_else(|| "the host closed the connection".into())
    }

    pub(super) async fn open(login: &Login) -> Result<Self, Fault> {
        let target = &login.target;
        let unreachable = |because: String| {
            Fault::new(FaultKind::Unreachable, format!("ssh {target}: no connection"))
                .because(because)
                .hint(format!("is sshd running there, and port {} open from here?", target.port))
        };
        let (mut keys, certificates) = login.known.algorithms(target);
        if keys.is_empty() {
            keys = Preferred::DEFAULT.key.to_vec();
        }
        let config = client::Config {
            nodelay: true,
            // Bounds what a flooding host can make us hold.
            window_size: 512 * 1024,
            channel_buffer_size: 16,
            preferred: Preferred {
                kex: Cow::Borrowed(KEX),
                key: keys.into(),
                host_key_certificates: certificates.into(),
                compression: Cow::Borrowed(&[russh::compression::NONE]),
                ..Preferred::DEFAULT
            },
            ..client::Config::default()
        };
        let seen = Arc::new(Mutex::new(Seen::default()));
        let watch = Watch { target: target.clone(), known: login.known.clone(), now: login.now, seen: seen.clone() };
        let connecting = client::connect(Arc::new(config), (target.address.as_str(), target.port), watch);
        let handle = match tokio::time::timeout(login.timeout, connecting).await {
            Err(_) => return Err(unreachable(format!("no answer within {} s", login.timeout.as_secs()))),
            Ok(Ok(handle)) => handle,
            Ok(Err(e)) => {
                let refused = seen.lock().unwrap_or_else(PoisonError::into_inner).host_key.take();
                return Err(refused.unwrap_or_else(|| match e {
                    russh::Error::NoCommonAlgo { ours, theirs, .. } => {
                        Fault::new(FaultKind::Misconfigured, format!("ssh {target}: no algorithm in common"))
                            .because(printable(&format!("ours: {}; theirs: {}", ours.join(","), theirs.join(",")), 600))
                            .hint("known_hosts must have a key of a type that the host still offers")
                    }
                    e => unreachable(e.to_string()),
                }));
            }
        };
        Ok(Self { handle, seen })
    }
}

/// A logged-in connection.
pub struct Shell {
    connection: Connection,
    target: Target,
    timeout: Duration,
}

impl Shell {
    /// Connects, checks the host key and logs in by key.
    ///
    /// # Errors
    /// `Unreachable`: no answer in time, or the connection broke. `Misconfigured`: the host key, or our own key is refused.
    pub async fn connect(login: &Login) -> Result<Self, Fault> {
        let target = login.target.clone();
        let mut connection = Connection::open(login).await?;
        let hash = login.key.algorithm().is_rsa().then_some(HashAlg::Sha512);
        let key = PrivateKeyWithHashAlg::new(login.key.clone(), hash);
        let logging_in = connection.handle.authenticate_publickey(target.user.clone(), key);
        let broken = |because: String| {
            Fault::new(FaultKind::Unreachable, format!("ssh {target}: the connection broke while logging in"))
                .because(because)
        };
        let result = tokio::time::timeout(login.timeout, logging_in)
            .await
            .map_err(|_| broken(format!("no answer within {} s", login.timeout.as_secs())))?
            .map_err(|e| broken(e.to_string()))?;
        match result {
            russh::client::AuthResult::Success => Ok(Self { connection, target, timeout: login.timeout }),
            // russh reports a connection that broke as a refusal that offers nothing.
            russh::client::AuthResult::Failure { remaining_methods, .. } if remaining_methods.is_empty() => {
                Err(broken(connection.end()))
            }
            russh::client::AuthResult::Failure { remaining_methods, partial_success } => {
                let methods: Vec<&str> = remaining_methods.iter().map(Into::into).collect();
                let fault = Fault::new(FaultKind::Misconfigured, format!("ssh {target}: our own key is refused"));
                let ours = super::fingerprint(login.key.public_key());
                Err(if partial_success {
                    fault
                        .because(format!("the host asks for more: {}", methods.join(", ")))
                        .hint("offboard logs in by key alone: exempt its account from further AuthenticationMethods")
                } else {
                    fault.because(format!("{ours}; the host accepts: {}", methods.join(", "))).hint(format!(
                        "put the public half of our key into the authorized_keys of {} there",
                        target.user
                    ))
                })
            }
        }
    }

    /// Starts `command` and feeds it `text`, a shell script that defines what [`Script::call`] may call.
    ///
    /// # Errors
    /// `Unreachable`: the connection broke, or no answer in time.
    pub async fn start(self, command: &str, text: &str) -> Result<Script, Fault> {
        let broken = |because: String| {
            Fault::new(FaultKind::Unreachable, format!("ssh {}: no shell", self.target)).because(because)
        };
        let starting = async {
            let channel = self.connection.handle.channel_open_session().await?;
            channel.exec(false, command).await?;
            channel.data_bytes(text.as_bytes().to_vec()).await?;
            Ok::<_, russh::Error>(channel)
        };
        let channel = tokio::time::timeout(self.timeout, starting)
            .await
            .map_err(|_| broken(format!("no answer within {} s", self.timeout.as_secs())))?
            .map_err(|e| broken(e.to_string()))?;
        Ok(Script::new(self.connection, channel, self.target.to_string(), self.timeout))
    }
}

impl From<Fault> for CallError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}
