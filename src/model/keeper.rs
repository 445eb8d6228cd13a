//! What somebody else has to do before a key of ours can be used.

use super::fault::Fault;
use async_trait::async_trait;
use zeroize::Zeroizing;

/// Encrypts and decrypts a key of ours with one that never leaves it: what lies on our disk is of no use without its consent, and it
/// keeps a log of who asked. Text in, text out: the plaintext is base64.
#[async_trait]
pub trait Keeper: Send + Sync {
    /// Which it is, for people: `transit/offboard of safe`.
    fn name(&self) -> &str;

    /// The key as it may lie on a disk.
    ///
    /// # Errors
    /// It does not answer, or lets us not.
    async fn wrap(&self, key: &Zeroizing<String>) -> Result<String, Fault>;

    /// The key itself.
    ///
    /// # Errors
    /// It does not answer, lets us not, or has not encrypted this.
    async fn unwrap(&self, wrapped: &str) -> Result<Zeroizing<String>, Fault>;
}
