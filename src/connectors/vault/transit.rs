//! A key of a transit engine, which encrypts and decrypts the sealing key of our journal and never leaves the Vault.
//!
//! Source: the API of the transit secrets engine, and what `bao server` 2.7 answered when it was tried.

use super::api::{Api, join, refused, text, words};
use super::{Vault, http};
use crate::model::{Fault, FaultKind, Keeper};
use crate::wire::http::{Client, Url};
use crate::wire::tls::Trust;
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// One key. A connection and a login are made for each call: there are one or two in the life of a process.
pub struct Transit {
    vault: Vault,
    url: Url,
    namespace: String,
    mount: String,
    key: String,
    name: String,
    timeout: Duration,
}

impl Transit {
    /// See [`crate::connector::Connector::keeper`].
    pub fn new(vault: Vault, address: Option<&str>, mount: &str, key: &str, timeout: Duration) -> Result<Self, Fault> {
        let fault = |what: String| Fault::new(FaultKind::Misconfigured, format!("vault {}: {what}", vault.system));
        let mount = mount.trim_matches('/').to_string();
        if !mount.split('/').all(http::is_segment) {
            return Err(
                fault(format!("{mount:?} is no mount")).hint("write it as bao secrets list does, such as transit")
            );
        }
        if !http::is_segment(key) {
            return Err(fault(format!("{key:?} is no key's name")));
        }
        let known = || vault.places.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let found = match address {
            Some(address) => vault.places.get(address),
            None => vault.places.values().next().filter(|_| vault.places.len() == 1),
        };
        let Some((url, namespace)) = found.cloned() else {
            return Err(fault("which of its places has the key is not said".into())
                .hint(format!("write place: one of {}", known())));
        };
        let name = format!("{mount}/{key} of {}", vault.system);
        Ok(Self { vault, url, namespace, mount, key: key.into(), name, timeout })
    }

    fn cannot(&self, what: &str) -> String {
        format!("vault {}: {}/{} cannot {what} the sealing key", self.vault.system, self.mount, self.key)
    }

    async fn enter(&self, what: &str) -> Result<(Api, bool), Fault> {
        let settings = &self.vault.settings;
        let trust = settings.ca.as_ref().map(|ca| Trust::from_file(&self.vault.base.join(ca))).transpose()?;
        let api = Api::new(Arc::new(Client::new(self.url.clone(), trust.as_ref(), self.timeout)?), &self.namespace);
        let us = self.vault.credentials(&settings.login).await?;
        let entered = api.enter(&us, &self.cannot(what)).await?;
        Ok((api.with(entered.token), settings.login.token.is_none()))
    }

    /// What there is to read in the answer of one call.
    async fn ask(
        &self,
        api: &Api,
        what: &str,
        method: &str,
        below: &[&str],
        body: Option<&mut Value>,
    ) -> Result<Value, Fault> {
        let path = join(&[], &self.mount, below);
        let answer = api.call(method, &path, body.as_deref()).await;
        body.map(http::wipe);
        let mut answer = answer?;
        let cannot = self.cannot(what);
        match answer.status {
            200..=299 => Ok(answer.body["data"].take()),
            403 => Err(refused(&answer, &path, "", &cannot).hint(self.policy())),
            404 => Err(Fault::new(FaultKind::Misconfigured, cannot)
                .because(format!("there is no such key or engine ({})", words(&answer)))
                .hint(format!("bao secrets enable -path={} transit; bao write -f {}/keys/{}", self.mount, self.mount, self.key))),
            _ => Err(Fault::new(FaultKind::Misconfigured, cannot)
                .because(format!("{} ({})", words(&answer), answer.status))
                .hint(
                    "check sealing.transit in offboard.yaml: it must be the key that has wrapped it; else restore the folder keys from its newest \
                     copy, or use the recovery key: offboard seal recover",
                )),
        }
    }

    fn policy(&self) -> String {
        let (mount, key) = (&self.mount, &self.key);
        let line = |path: &str, may: &str| format!("path \"{mount}/{path}/{key}\" {{ capabilities = [\"{may}\"] }}");
        format!(
            "write into a policy of offboard's: {} {} {}",
            line("keys", "read"),
            line("encrypt", "update"),
            line("decrypt", "update")
        )
    }

    async fn encrypt(&self, api: &Api, plain: &Zeroizing<String>) -> Result<String, Fault> {
        // Asked first: whoever may write to `encrypt` of a key that is not there makes one, of which nobody keeps a copy.
        let about = self.ask(api, "encrypt", "GET", &["keys", &self.key], None).await?;
        if about["supports_decryption"] != true || about["derived"] == true || about["convergent_encryption"] == true {
            return Err(Fault::new(FaultKind::Misconfigured, self.cannot("encrypt"))
                .because(format!("it is a key for something else ({})", about["type"].as_str().unwrap_or("of no type")))
                .hint(format!("make one that can: bao write -f {}/keys/offboard", self.mount)));
        }
        let mut body = json!({ "plaintext": plain.as_str() });
        let said = self.ask(api, "encrypt", "POST", &["encrypt", &self.key], Some(&mut body)).await?;
        text(&said["ciphertext"]).ok_or_else(|| {
            Fault::new(FaultKind::Unexpected, self.cannot("encrypt")).because("the answer has no ciphertext")
        })
    }

    async fn decrypt(&self, api: &Api, wrapped: &str) -> Result<Zeroizing<String>, Fault> {
        let mut body = json!({ "ciphertext": wrapped });
        let mut said = self.ask(api, "decrypt", "POST", &["decrypt", &self.key], Some(&mut body)).await?;
        match said["plaintext"].take() {
            Value::String(plain) => Ok(Zeroizing::new(plain)),
            _ => Err(Fault::new(FaultKind::Unexpected, self.cannot("decrypt")).because("the answer has no plaintext")),
        }
    }
}

#[async_trait]
impl Keeper for Transit {
    fn name(&self) -> &str {
        &self.name
    }

    async fn wrap(&self, key: &Zeroizing<String>) -> Result<String, Fault> {
        let (api, made) = self.enter("encrypt").await?;
        let wrapped = self.encrypt(&api, key).await;
        if made {
            api.leave_self().await;
        }
        wrapped
    }

    async fn unwrap(&self, wrapped: &str) -> Result<Zeroizing<String>, Fault> {
        let (api, made) = self.enter("decrypt").await?;
        let key = self.decrypt(&api, wrapped).await;
        if made {
            api.leave_self().await;
        }
        key
    }
}
