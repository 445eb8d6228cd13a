//! TLS with a private certificate authority: which roots are trusted, and words for what went wrong.
//!
//! It reads the CA file that the configuration names and nothing else; the system's roots are not consulted, so that a
//! certificate of some public authority does not open an internal directory. Clients use it through [`Trust::connect`].

use super::guarded::{self, Access};
use crate::model::{Digest, Fault, FaultKind};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The certificates that a server's certificate must lead to, and the file that they came from.
#[derive(Clone, Debug)]
pub struct Trust {
    verifier: Arc<WebPkiServerVerifier>,
    file: PathBuf,
}

impl Trust {
    /// Trusts the certificates in a PEM file, and no others.
    ///
    /// # Errors
    /// `Misconfigured`: unreadable, writable by others, not PEM, or without a certificate.
    pub fn from_file(path: &Path) -> Result<Self, Fault> {
        let fault = |what: &str| Fault::new(FaultKind::Misconfigured, format!("CA file {}: {what}", path.display()));
        let pem = guarded::read(path, Access::OwnerWrites)?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|e| fault("is not PEM").because(e))?;
            roots.add(certificate).map_err(|e| fault("holds a certificate that cannot be used").because(e))?;
        }
        if roots.is_empty() {
            return Err(fault("holds no certificate").hint("it should have -----BEGIN CERTIFICATE----- in it"));
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|e| fault("cannot be used").because(e))?;
        Ok(Self { verifier, file: path.to_path_buf() })
    }

    /// A client's TLS settings for one connection to the server called `name`: a DNS name, an IPv4 or an IPv6 address. The
    /// certificate must carry that name whatever name the protocol's library hands to rustls.
    ///
    /// # Errors
    /// `Misconfigured` if `name` is neither a host name nor an address.
    pub fn connect(&self, name: &str) -> Result<Handshake, Fault> {
        let misconfigured = |e: &dyn std::fmt::Display| {
            Fault::new(FaultKind::Misconfigured, format!("{name:?} is neither a host name nor an IP address"))
                .because(e)
        };
        let server = ServerName::try_from(name.to_string()).map_err(|e| misconfigured(&e))?;
        let presented = Arc::new(Mutex::new(None));
        let check =
            Check { trusted: Arc::clone(&self.verifier), server: server.clone(), presented: Arc::clone(&presented) };
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| misconfigured(&e))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(check))
            .with_no_client_auth();
        Ok(Handshake { config: Arc::new(config), server, file: self.file.clone(), presented })
    }
}

/// One connection's TLS settings, and what the server showed on it.
pub struct Handshake {
    /// For the protocol's library.
    pub config: Arc<ClientConfig>,
    /// The name that the certificate must carry.
    pub server: ServerName<'static>,
    file: PathBuf,
    presented: Arc<Mutex<Option<CertificateDer<'static>>>>,
}

impl Handshake {
    /// Why the handshake with `peer` failed: which CA was used, which name was expected and what the server presented.
    pub fn fault(&self, peer: &str, error: &rustls::Error) -> Fault {
        let presented = self.presented.lock().unwrap_or_else(PoisonError::into_inner);
        let what = format!("{peer}: the TLS handshake failed");
        match (error, presented.as_ref()) {
            (rustls::Error::InvalidCertificate(why), Some(certificate)) => Fault::new(FaultKind::Misconfigured, what)
                .because(format!("{why}; the server presented {}", describe(certificate)))
                .hint(format!(
                    "the certificate must be valid for {} and be signed by a CA in {}; put the right CA there, or name the server as its certificate does",
                    self.server.to_str(),
                    self.file.display()
                )),
            _ => Fault::new(FaultKind::Misconfigured, what)
                .because(error)
                .hint("check that this port speaks TLS, and which versions of it the server allows"),
        }
    }
}

/// The ordinary check, against the name that we were configured with; it remembers what it was shown.
#[derive(Debug)]
struct Check {
    trusted: Arc<WebPkiServerVerifier>,
    server: ServerName<'static>,
    presented: Arc<Mutex<Option<CertificateDer<'static>>>>,
}

impl ServerCertVerifier for Check {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _library_says: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.presented.lock().unwrap_or_else(PoisonError::into_inner) = Some(end_entity.clone().into_owned());
        self.trusted.verify_server_cert(end_entity, intermediates, &self.server, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.trusted.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.trusted.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trusted.supported_verify_schemes()
    }
}

/// A certificate in words: `CN=x, issued by CN=y, valid until …, SHA-256 …`.
fn describe(certificate: &CertificateDer<'_>) -> String {
    let fingerprint = Digest::of(certificate);
    match x509_parser::parse_x509_certificate(certificate) {
        Ok((_, parsed)) => format!(
            "a certificate for {:?}, issued by {:?}, valid until {}, SHA-256 {fingerprint}",
            parsed.subject().to_string(),
            parsed.issuer().to_string(),
            parsed.validity().not_after,
        ),
        Err(_) => format!("something that is no X.509 certificate, SHA-256 {fingerprint}"),
    }
}
