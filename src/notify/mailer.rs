//! One mail server over SMTP (RFC 5321). Every wait is bounded, every refusal tells which part of the talk it was and what to do next; what
//! is said of a failure is the server's own words, never what was sent.

use super::letter::cut;
use super::message::compose;
use super::settings::{Settings, Tls};
use crate::model::{Fault, FaultKind};
use crate::store::Delivery;
use crate::wire::guarded::{self, Access};
use crate::wire::secret;
use lettre::message::Mailbox;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt, Rset};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use secrecy::ExposeSecret;
use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest that the server may take for one answer. RFC 5321, 4.5.3.2, allows minutes; whoever waits for us does not.
const ANSWER: Duration = Duration::from_secs(15);
/// The longest that it may take for a whole message.
const MESSAGE: Duration = Duration::from_secs(60);
/// How much of a server's words is kept.
const WORDS: usize = 300;

/// A mail server, ready to be connected to.
pub struct Mailer {
    settings: Settings,
    base: PathBuf,
    host: String,
    port: u16,
    sender: Mailbox,
    tls: Option<TlsParameters>,
}

/// Why a delivery was not made.
pub(super) enum Failed {
    /// The server refuses this mail or this recipient for good.
    Refused(Fault),
    /// Not now.
    Later(Fault),
    /// The connection is of no use any more.
    Broken(Fault),
}

/// A connection over which mails can be sent.
pub(super) struct Session<'a> {
    mailer: &'a Mailer,
    connection: AsyncSmtpConnection,
}

impl Mailer {
    /// The server of `settings`; relative files are looked up in `base`, the folder of `offboard.yaml`. Opens no connection.
    ///
    /// # Errors
    /// `Misconfigured`: no name, no sender, or a CA file that cannot be used.
    pub fn new(settings: &Settings, base: &Path) -> Result<Self, Fault> {
        let wrong = |what: &str| Fault::new(FaultKind::Misconfigured, format!("mail in offboard.yaml: {what}"));
        let (host, port) = settings.server().map_err(wrong)?;
        let sender = settings.sender().map_err(wrong)?;
        let tls = match settings.tls {
            Tls::None => None,
            Tls::Starttls | Tls::Tls => Some(trust(settings, base, &host)?),
        };
        Ok(Self { settings: settings.clone(), base: base.to_path_buf(), host, port, sender, tls })
    }

    /// Connects, logs in, and sends nothing. Says what it is connected to.
    ///
    /// # Errors
    /// As [`Mailer::open`].
    pub async fn check(&self) -> Result<String, Fault> {
        let mut session = self.open().await?;
        let name = cut(session.connection.server_info().name(), 100);
        let how = match self.settings.tls {
            Tls::Starttls => "STARTTLS",
            Tls::Tls => "TLS",
            Tls::None => "no TLS",
        };
        let who = match &self.settings.user {
            Some(user) => format!("as {}", cut(user, 100)),
            None => "without a login".into(),
        };
        session.close().await;
        Ok(format!("{name} at {}:{}, {how}, {who}", self.host, self.port))
    }

    /// Connects and logs in.
    ///
    /// # Errors
    /// `Unreachable`: no answer. `Busy`: the server cannot now. `Misconfigured`: certificate, no STARTTLS, our own password.
    pub(super) async fn open(&self) -> Result<Session<'_>, Fault> {
        let us = ClientId::default();
        let wrapped = self.tls.clone().filter(|_| self.settings.tls == Tls::Tls);
        let server = (self.host.as_str(), self.port);
        let connecting = AsyncSmtpConnection::connect_tokio1(server, Some(ANSWER), &us, wrapped, None);
        let mut connection = self.answer("cannot connect", ANSWER, connecting).await?;
        if let (Tls::Starttls, Some(tls)) = (self.settings.tls, self.tls.clone()) {
            if !connection.can_starttls() {
                return Err(self.fault(FaultKind::Misconfigured, "cannot talk in private").because("it does not offer STARTTLS").hint(
                    "nothing is sent in the clear; if the port speaks TLS from the first byte, write tls: tls under mail in offboard.yaml",
                ));
            }
            self.answer("STARTTLS failed", ANSWER, connection.starttls(tls, &us)).await?;
        }
        if let (Some(user), Some(password)) = (&self.settings.user, &self.settings.password) {
            let password = secret::resolve(password, &self.base).await?;
            let credentials = Credentials::new(user.clone(), password.expose_secret().to_string());
            let mechanisms = [Mechanism::Plain, Mechanism::Login];
            let login = connection.auth(&mechanisms, &credentials);
            self.answer("cannot log in", ANSWER, login).await.map_err(|fault| match fault.kind {
                FaultKind::Unexpected | FaultKind::Misconfigured => Fault { kind: FaultKind::Misconfigured, ..fault }
                    .hint("check user and password under mail in offboard.yaml; the mail is kept until it can be sent"),
                _ => fault,
            })?;
        }
        Ok(Session { mailer: self, connection })
    }

    fn fault(&self, kind: FaultKind, what: &str) -> Fault {
        Fault::new(kind, format!("mail server {}:{}: {what}", self.host, self.port))
    }

    /// Waits for one answer. A refusal for good is `Unexpected` here; the caller knows what was refused.
    async fn answer<T>(
        &self,
        what: &str,
        limit: Duration,
        asked: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Fault> {
        let kept = "the mail is kept and sent later; check smtp and tls under mail in offboard.yaml, and whether the server is up";
        match tokio::time::timeout(limit, asked).await {
            Ok(Ok(answer)) => Ok(answer),
            Err(_) => Err(self
                .fault(FaultKind::Unreachable, what)
                .because(format!("no answer within {} s", limit.as_secs()))
                .hint(kept)),
            Ok(Err(error)) => Err(match tls_error(&error) {
                Some(why) => {
                    self.fault(FaultKind::Misconfigured, what).because(cut(&why, WORDS)).hint(self.about_trust())
                }
                None if error.is_permanent() => self.fault(FaultKind::Unexpected, what).because(words(&error)),
                None if error.is_transient() => self.fault(FaultKind::Busy, what).because(words(&error)).hint(kept),
                // No mechanism that both know.
                None if error.is_client() => {
                    self.fault(FaultKind::Misconfigured, what).because(words(&error)).hint(kept)
                }
                None => self.fault(FaultKind::Unreachable, what).because(words(&error)).hint(kept),
            }),
        }
    }

    fn about_trust(&self) -> String {
        let authority = match &self.settings.ca {
            Some(ca) => format!("a CA in {}", self.base.join(ca).display()),
            None => "a CA that this system trusts (name your own with ca:)".into(),
        };
        format!(
            "its certificate must be valid for {} and be signed by {authority}; put the right CA there, or name the server as its certificate does",
            self.host
        )
    }
}

impl Session<'_> {
    /// Gives one delivery to the server. When this returns it has taken it.
    pub(super) async fn send(&mut self, delivery: &Delivery) -> Result<(), Failed> {
        let (envelope, bytes) = compose(delivery, &self.mailer.sender).map_err(Failed::Refused)?;
        let Some(recipient) = envelope.to().first().cloned() else {
            return Err(Failed::Refused(Fault::new(FaultKind::Unexpected, "a mail without a recipient")));
        };
        let mut parameters = Vec::new();
        if !bytes.is_ascii() {
            if !self.connection.server_info().supports_feature(Extension::EightBitMime) {
                return Err(Failed::Refused(self.mailer.fault(FaultKind::Unexpected, "takes no mail of 8 bits")));
            }
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        let mailer = self.mailer;
        // The server that does not take us as a sender takes nothing of what waits.
        let sender = self.connection.command(Mail::new(envelope.from().cloned(), parameters));
        if let Err(fault) = mailer.answer(&format!("refuses the sender {}", mailer.sender.email), ANSWER, sender).await
        {
            let hint = "it must let offboard send from this address: check from, user and password under mail in offboard.yaml";
            return Err(Failed::Broken(if fault.kind == FaultKind::Unexpected { fault.hint(hint) } else { fault }));
        }
        let to = self.connection.command(Rcpt::new(recipient, Vec::new()));
        let asked = mailer.answer(&format!("refuses the recipient {}", delivery.recipient), ANSWER, to).await;
        self.or_again(asked, "check the address where it is written: offboard.yaml, playbook or roster").await?;
        let data = mailer.answer("takes no message", ANSWER, self.connection.command(Data)).await;
        self.or_again(data, "see what the server says").await?;
        let message = mailer.answer("refuses the message", MESSAGE, self.connection.message(&bytes)).await;
        self.or_again(message, "see what the server says; offboard report writes the evidence to a file").await
    }

    /// What a refusal in the middle of a mail means; the server is made ready for the next one.
    async fn or_again<T>(&mut self, answer: Result<T, Fault>, hint: &str) -> Result<(), Failed> {
        let Err(fault) = answer else { return Ok(()) };
        let failed = match fault.kind {
            FaultKind::Unexpected => Failed::Refused(fault.hint(hint)),
            FaultKind::Busy => Failed::Later(fault),
            _ => return Err(Failed::Broken(fault)),
        };
        match self.mailer.answer("does not go on", ANSWER, self.connection.command(Rset)).await {
            Ok(_) => Err(failed),
            // It has hung up after saying no: the answer stands.
            Err(_) if matches!(failed, Failed::Refused(_)) => Err(failed),
            Err(fault) => Err(Failed::Broken(fault)),
        }
    }

    /// Whether the connection can be used for another mail.
    pub(super) fn is_broken(&self) -> bool {
        self.connection.has_broken()
    }

    /// Says goodbye, without waiting long for an answer.
    pub(super) async fn close(&mut self) {
        let _ = tokio::time::timeout(Duration::from_secs(1), self.connection.quit()).await;
    }
}

/// Trusts the CA file of the settings and no other; without one what this system trusts.
fn trust(settings: &Settings, base: &Path, host: &str) -> Result<TlsParameters, Fault> {
    let mut parameters = TlsParameters::builder(host.to_string());
    if let Some(ca) = &settings.ca {
        let path = base.join(ca);
        let fault = |what: &str| Fault::new(FaultKind::Misconfigured, format!("CA file {}: {what}", path.display()));
        let pem = guarded::read(&path, Access::OwnerWrites)?;
        let certificates = Certificate::from_pem(&pem).map_err(|e| fault("cannot be used").because(e))?;
        if !pem.windows(27).any(|part| part == b"-----BEGIN CERTIFICATE-----") {
            return Err(fault("holds no certificate").hint("it should have -----BEGIN CERTIFICATE----- in it"));
        }
        parameters = parameters.certificate_store(CertificateStore::None).add_root_certificate(certificates);
    }
    parameters
        .build_rustls()
        .map_err(|e| Fault::new(FaultKind::Misconfigured, format!("mail server {host}: TLS cannot be used")).because(e))
}

/// What rustls says was wrong, if that is why.
fn tls_error(error: &Error) -> Option<String> {
    if error.is_tls() {
        return Some(words(error));
    }
    let mut source = error.source();
    while let Some(at) = source {
        let inner = at.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let found = at.downcast_ref::<rustls::Error>().or_else(|| inner?.downcast_ref::<rustls::Error>());
        if let Some(found) = found {
            return Some(found.to_string());
        }
        source = at.source();
    }
    None
}

/// The error's words; of an answer, the server's own with its code.
fn words(error: &Error) -> String {
    let said = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    match error.status() {
        Some(code) => cut(&format!("{code} {said}"), WORDS),
        None => cut(&said, WORDS),
    }
}
