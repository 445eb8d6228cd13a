//! One server's API, in one namespace, with one token: calls, and words for what it answers.
//!
//! Source: the HTTP API of OpenBao 2.x and Vault 1.x, and what `bao server` 2.7 answered when it was tried.

use crate::model::{Fault, FaultKind};
use crate::wire::http::{Answer, Client, Method};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::sync::Arc;

/// The longest part of a server's own words that is shown, in characters.
const MAX_WORDS: usize = 300;

/// Calls in one namespace. Cloning is cheap, and shares the connections.
#[derive(Clone)]
pub struct Api {
    client: Arc<Client>,
    namespace: Option<SecretString>,
    token: Option<SecretString>,
}

/// What a login brought.
pub struct Entered {
    /// The token.
    pub token: SecretString,
    /// The entity that it belongs to; root tokens have none.
    pub entity: Option<String>,
}

/// How a program logs in.
#[derive(Clone)]
pub enum Credentials {
    /// A token that somebody made.
    Token(SecretString),
    /// AppRole: mount, RoleID, SecretID.
    AppRole(String, String, SecretString),
    /// Userpass: mount, user name, password.
    Password(String, String, SecretString),
}

impl Credentials {
    /// Who it is, for people: never the secret.
    pub fn who(&self) -> String {
        match self {
            Self::Token(_) => "the configured token".into(),
            Self::AppRole(mount, role_id, _) => format!("{mount}/{role_id}"),
            Self::Password(mount, user, _) => format!("{mount}/{user}"),
        }
    }
}

impl Api {
    /// Calls without a token.
    pub fn new(client: Arc<Client>, namespace: &str) -> Self {
        let namespace = (namespace != "root").then(|| SecretString::from(namespace));
        Self { client, namespace, token: None }
    }

    /// The same with a token.
    pub fn with(&self, token: SecretString) -> Self {
        Self { token: Some(token), ..self.clone() }
    }

    /// The same without one.
    pub fn nobody(&self) -> Self {
        Self { token: None, ..self.clone() }
    }

    /// One call below `/v1/`. Slashes in `path` part it; what comes from people goes through [`join`].
    ///
    /// # Errors
    /// `Unreachable`; `Busy` if the server is sealed, a standby or overrun. Every other answer is no error.
    pub async fn call(&self, method: &str, path: &[&str], body: Option<&Value>) -> Result<Answer, Fault> {
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|e| Fault::new(FaultKind::Unexpected, format!("{method:?} is no method")).because(e))?;
        let mut headers: Vec<(&'static str, &SecretString)> = Vec::new();
        headers.extend(self.namespace.as_ref().map(|n| ("x-vault-namespace", n)));
        headers.extend(self.token.as_ref().map(|t| ("x-vault-token", t)));
        let segments: Vec<&str> = std::iter::once("v1").chain(path.iter().copied()).collect();
        let answer = self.client.send(method, &segments, &headers, body).await?;
        let what = || format!("{}: cannot be asked now", self.client.peer());
        match answer.status {
            300..=399 => Err(Fault::new(FaultKind::Misconfigured, what())
                .because("it is a standby that sends clients to another node")
                .hint("name the active node, or an address that leads to it; or switch request forwarding on")),
            429 => Err(Fault::new(FaultKind::Busy, what()).because("too many requests (429)")),
            472 | 473 | 502 | 503 | 504 => Err(Fault::new(FaultKind::Busy, what())
                .because(format!("{} ({})", words(&answer), answer.status))
                .hint("is it sealed? bao status; bao operator unseal")),
            _ => Ok(answer),
        }
    }

    /// GET; nothing if there is no such thing.
    ///
    /// # Errors
    /// As [`Api::call`]; `Forbidden` with the policy to write; `Unexpected` with the server's words.
    pub async fn get(&self, path: &[&str], cannot: &str) -> Result<Option<Value>, Fault> {
        let answer = self.call("GET", path, None).await?;
        expect(answer, path, "read", cannot)
    }

    /// LIST: the keys, none if there is no such thing.
    ///
    /// # Errors
    /// As [`Api::get`].
    pub async fn list(&self, path: &[&str], cannot: &str) -> Result<Vec<String>, Fault> {
        let answer = self.call("LIST", path, None).await?;
        let found = expect(answer, path, "list", cannot)?;
        Ok(found.map(|data| texts(&data["keys"])).unwrap_or_default())
    }

    /// POST: what it answers, null if that is nothing; nothing if there is no such thing.
    ///
    /// # Errors
    /// As [`Api::get`].
    pub async fn post(&self, path: &[&str], body: &Value, cannot: &str) -> Result<Option<Value>, Fault> {
        let answer = self.call("POST", path, Some(body)).await?;
        expect(answer, path, "update", cannot)
    }

    /// Logs in.
    ///
    /// # Errors
    /// As [`Api::call`]; `Misconfigured` if the server does not take it.
    pub async fn enter(&self, credentials: &Credentials, cannot: &str) -> Result<Entered, Fault> {
        let refused = |answer: &Answer| {
            Fault::new(FaultKind::Misconfigured, cannot)
                .because(format!("{} ({})", words(answer), answer.status))
                .hint("check the credentials, and that their entity is not disabled")
        };
        match credentials {
            Credentials::Token(token) => {
                let answer = self.with(token.clone()).call("GET", &["auth", "token", "lookup-self"], None).await?;
                if answer.status != 200 {
                    return Err(refused(&answer));
                }
                Ok(Entered { token: token.clone(), entity: text(&answer.body["data"]["entity_id"]) })
            }
            Credentials::AppRole(mount, role_id, secret_id) => {
                let body = json!({ "role_id": role_id, "secret_id": secret_id.expose_secret() });
                let answer = self.nobody().call("POST", &join(&["auth"], mount, &["login"]), Some(&body)).await?;
                entered(&answer).ok_or_else(|| refused(&answer))
            }
            Credentials::Password(mount, user, password) => {
                let answer = self.try_password(mount, user, password).await?;
                entered(&answer).ok_or_else(|| refused(&answer))
            }
        }
    }

    /// One login by user name and password; whatever the server says.
    ///
    /// # Errors
    /// As [`Api::call`].
    pub async fn try_password(&self, mount: &str, user: &str, password: &SecretString) -> Result<Answer, Fault> {
        let body = json!({ "password": password.expose_secret() });
        self.nobody().call("POST", &join(&["auth"], mount, &["login", user]), Some(&body)).await
    }

    /// Gives a token back that was only wanted for a moment.
    pub async fn leave(&self, token: SecretString) {
        self.with(token).leave_self().await;
    }

    /// Gives our own token back.
    pub async fn leave_self(&self) {
        let _ = self.call("POST", &["auth", "token", "revoke-self"], Some(&json!({}))).await;
    }
}

/// What a login's answer holds; nothing if it was refused. One that asks for a second factor let nobody in yet.
pub fn entered(answer: &Answer) -> Option<Entered> {
    let auth = &answer.body["auth"];
    let token = auth["client_token"].as_str().filter(|token| !token.is_empty())?;
    Some(Entered { token: SecretString::from(token), entity: text(&auth["entity_id"]) })
}

/// A path around a mount, which may itself have slashes: `join(&["auth"], "corp/userpass", &["users"])`.
pub fn join<'a>(before: &[&'a str], mount: &'a str, after: &[&'a str]) -> Vec<&'a str> {
    before.iter().copied().chain(mount.split('/').filter(|s| !s.is_empty())).chain(after.iter().copied()).collect()
}

fn expect(answer: Answer, path: &[&str], capability: &str, cannot: &str) -> Result<Option<Value>, Fault> {
    match answer.status {
        200..=299 => Ok(Some(answer.body.get("data").cloned().unwrap_or(Value::Null))),
        404 => Ok(None),
        _ => Err(refused(&answer, path, capability, cannot)),
    }
}

/// Why an answer is no good: `Forbidden` with the policy to write, or `Unexpected` with the server's words.
pub fn refused(answer: &Answer, path: &[&str], capability: &str, cannot: &str) -> Fault {
    let fault = |kind| Fault::new(kind, cannot).because(format!("{} ({})", words(answer), answer.status));
    if answer.status != 403 {
        return fault(FaultKind::Unexpected);
    }
    // The list of all accessors is one of the paths that ask for more (OpenBao, "Root-protected API endpoints").
    let capability = if path.last() == Some(&"accessors") { "list\", \"sudo" } else { capability };
    fault(FaultKind::Forbidden).hint(format!(
        "write into a policy of offboard's: path \"{}\" {{ capabilities = [\"{capability}\"] }}; see docs/connectors/vault.md; then: offboard resume",
        path.join("/")
    ))
}

/// The server's own words, short and on one line.
pub fn words(answer: &Answer) -> String {
    let said = texts(&answer.body["errors"]).join("; ");
    let said = if said.is_empty() { answer.body["data"]["error"].as_str().unwrap_or("no words").to_string() } else { said };
    let plain: String = said.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_WORDS).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A text that is there and not empty.
pub fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(ToString::to_string)
}

/// Every text of a list.
pub fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(ToString::to_string)).collect()
}
