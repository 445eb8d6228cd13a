//! Whether a host would accept a public key for an account, asked without its private half: a `publickey` request without a
//! signature (RFC 4252, section 7), to which the host answers PK_OK or FAILURE.

use super::Login;
use super::client::Connection;
use russh::client::AuthResult;
use russh::keys::agent::AgentIdentity;
use russh::keys::{HashAlg, PublicKey};
use russh::{MethodKind, SendError, Signer};

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

/// Asks for each of `keys` in turn, for `login.target.user`, over connections of their own. One answer a key, in order.
pub async fn probe(login: &Login, keys: &[PublicKey]) -> Vec<Probe> {
    let mut answers = Vec::with_capacity(keys.len());
    for group in keys.chunks(PER_CONNECTION) {
        match Connection::open(login).await {
            Err(fault) => answers.extend(group.iter().map(|_| Probe::Unknown(fault.to_string()))),
            Ok(mut connection) => {
                for key in group {
                    answers.push(ask(&mut connection, login, key).await);
                }
                let goodbye = connection.handle.disconnect(russh::Disconnect::ByApplication, "", "en");
                // The answers are in; whether the host hears the goodbye does not matter.
                let _ = tokio::time::timeout(login.timeout, goodbye).await;
            }
        }
    }
    answers
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
