//! Whether a host would accept a public key for an account, asked without its private half: a `publickey` request without a
//! signature (RFC 4252, section 7), to which the host answers PK_OK or FAILURE.

use super::Login;
use super::client::Connection;
use russh::client::AuthResult;
use russh::keys::agent::AgentIdentity;
use russh::keys::{HashAlg, PublicKey};
use russh::{MethodKind, SendError, Signer};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// What the host said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// PK_OK: the key is installed for that account.
    Accepted,
    /// FAILURE, while public keys are still a way in.
    Refused,
    /// Neither: dropped, penalised, timed out.
    Unknown(String),
}

/// Keys asked for on one connection. sshd counts each failure, and by default drops the connection at the sixth.
const PER_CONNECTION: usize = 4;

/// How long a connection is kept to be asked on again; sshd by default ends one after 120 s on which nobody logs in.
const KEPT: Duration = Duration::from_secs(15);

/// Asks for each of `keys` in turn, for `login.target.user`, over connections of their own. One answer a key, in order.
pub async fn probe(login: &Login, keys: &[PublicKey]) -> Vec<Probe> {
    let mut answers = Vec::with_capacity(keys.len());
    for group in keys.chunks(PER_CONNECTION) {
        let (answered, connection) = ask_for(login, group).await;
        answers.extend(answered);
        if let Some(connection) = connection {
            goodbye(connection, login.timeout).await;
        }
    }
    answers
}

/// As [`probe`]; if that took one connection and the host can be asked the same again on it, keeps it, in `room`.
pub async fn probe_and_keep(
    login: &Login,
    keys: &[PublicKey],
    room: OwnedSemaphorePermit,
) -> (Vec<Probe>, Option<Kept>) {
    if keys.len() * 2 > PER_CONNECTION {
        return (probe(login, keys).await, None);
    }
    let (answers, connection) = ask_for(login, keys).await;
    let Some(connection) = connection else { return (answers, None) };
    let (want, wanted) = oneshot::channel::<oneshot::Sender<Connection>>();
    let timeout = login.timeout;
    tokio::spawn(async move {
        match tokio::time::timeout(KEPT, wanted).await {
            // Whoever wanted it may have gone away since.
            Ok(Ok(give)) => drop(give.send(connection)),
            _ => goodbye(connection, timeout).await,
        }
        drop(room);
    });
    (answers, Some(Kept { keys: keys.len(), want }))
}

/// A connection that keys have been asked for on, and can be once more. It ends by itself after 15 s, or when this is dropped.
pub struct Kept {
    keys: usize,
    want: oneshot::Sender<oneshot::Sender<Connection>>,
}

impl Kept {
    /// Asks for `keys`. Nothing if the connection has ended, or there are more of them than the first time.
    pub async fn ask(self, login: &Login, keys: &[PublicKey]) -> Option<Vec<Probe>> {
        if keys.len() > self.keys {
            return None;
        }
        let (give, given) = oneshot::channel();
        self.want.send(give).ok()?;
        let mut connection = given.await.ok()?;
        let mut answers = Vec::with_capacity(keys.len());
        for key in keys {
            answers.push(ask(&mut connection, login, key).await);
        }
        goodbye(connection, login.timeout).await;
        Some(answers)
    }
}

/// The answers that one connection gives, and the connection.
async fn ask_for(login: &Login, keys: &[PublicKey]) -> (Vec<Probe>, Option<Connection>) {
    match Connection::open(login).await {
        Err(fault) => (keys.iter().map(|_| Probe::Unknown(fault.to_string())).collect(), None),
        Ok(mut connection) => {
            let mut answers = Vec::with_capacity(keys.len());
            for key in keys {
                answers.push(ask(&mut connection, login, key).await);
            }
            (answers, Some(connection))
        }
    }
}

/// The answers are in; whether the host hears this does not matter.
async fn goodbye(connection: Connection, timeout: Duration) {
    let said = connection.handle.disconnect(russh::Disconnect::ByApplication, "", "en");
    let _ = tokio::time::timeout(timeout, said).await;
}

async fn ask(connection: &mut Connection, login: &Login, key: &PublicKey) -> Probe {
    let hash = key.algorithm().is_rsa().then_some(HashAlg::Sha512);
    let (user, mut nobody) = (login.target.user.clone(), NoSigner);
    let asking = connection.handle.authenticate_publickey_with(user, key.clone(), hash, &mut nobody);
    match tokio::time::timeout(login.timeout, asking).await {
        Err(_) => Probe::Unknown(format!("no answer within {} s", login.timeout.as_secs())),
        // russh asks for a signature only after PK_OK.
        Ok(Err(NotSigned::Asked)) | Ok(Ok(AuthResult::Success)) => Probe::Accepted,
        Ok(Err(NotSigned::Gone)) => Probe::Unknown(connection.end()),
        Ok(Ok(AuthResult::Failure { remaining_methods, .. })) => {
            if remaining_methods.contains(&MethodKind::PublicKey) {
                Probe::Refused
            } else if remaining_methods.is_empty() {
                // A connection that broke looks like this too.
                Probe::Unknown(connection.end())
            } else {
                Probe::Unknown("the host takes no public keys for this account".into())
            }
        }
    }
}

/// Has no private key, and says so when asked for a signature.
struct NoSigner;

enum NotSigned {
    /// The host said PK_OK.
    Asked,
    /// The connection is gone.
    Gone,
}

impl From<SendError> for NotSigned {
    fn from(_: SendError) -> Self {
        Self::Gone
    }
}

impl Signer for NoSigner {
    type Error = NotSigned;

    async fn auth_sign(&mut self, _: &AgentIdentity, _: Option<HashAlg>, _: Vec<u8>) -> Result<Vec<u8>, NotSigned> {
        Err(NotSigned::Asked)
    }
}
