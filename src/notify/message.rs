//! A delivery as bytes for a mail server: headers, a text and an HTML part that say the same, attachments (RFC 5322, RFC 2045).

use crate::model::{Digest, Fault, FaultKind};
use crate::store::{Content, Delivery};
use lettre::Message;
use lettre::address::Envelope;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Attachment, Mailbox, MultiPart};

/// The envelope and the message. The same delivery has the same Message-ID and the same date every time: whoever gets it twice sees that.
///
/// # Errors
/// `Misconfigured` if it cannot be written as a mail: an address that is none.
pub(super) fn compose(delivery: &Delivery, sender: &Mailbox) -> Result<(Envelope, Vec<u8>), Fault> {
    let cannot = |e: &dyn std::fmt::Display| {
        Fault::new(
            FaultKind::Misconfigured,
            format!("{}: a mail cannot be written to this address", delivery.recipient),
        )
        .because(e)
    };
    let recipient: lettre::Address = delivery.recipient.parse().map_err(|e| cannot(&e))?;
    // RFC 3834: nobody's absence is to be announced to us.
    let automatic = HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".into());
    let Content { text, html, attachments } = delivery.content.clone();
    let said = MultiPart::alternative_plain_html(text, html);
    let body = if attachments.is_empty() {
        said
    } else {
        attachments.into_iter().try_fold(MultiPart::mixed().multipart(said), |body, file| {
            let media_type = ContentType::parse(&file.media_type).map_err(|e| cannot(&e))?;
            Ok::<_, Fault>(body.singlepart(Attachment::new(file.name).body(file.text, media_type)))
        })?
    };
    let message = Message::builder()
        .from(sender.clone())
        .to(recipient.into())
        .subject(delivery.subject.clone())
        .message_id(Some(message_id(delivery, sender)))
        .date(delivery.at.into())
        .raw_header(automatic)
        .multipart(body)
        .map_err(|e| cannot(&e))?;
    Ok((message.envelope().clone(), message.formatted()))
}

/// A name that depends on what is said to whom, and on nothing else.
fn message_id(delivery: &Delivery, sender: &Mailbox) -> String {
    let parts = [&delivery.run, &delivery.occasion, &delivery.recipient].map(|part| format!("{} {part}", part.len()));
    let digest = Digest::of(parts.join(" ").as_bytes());
    format!("<{}.offboard@{}>", &digest.0[..32], sender.email.domain())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Attachment as File;

    fn delivery() -> Delivery {
        let page = File {
            name: "offboard-7F3K.html".into(),
            media_type: "text/html; charset=utf-8".into(),
            text: "<p>ü</p>".into(),
        };
        Delivery {
            id: 1,
            run: "7F3K".into(),
            occasion: "report-9".into(),
            recipient: "security@example.com".into(),
            subject: "offboard 7F3K: geschlossen – शट".into(),
            content: Content { text: "Gruß\n.\n".into(), html: "<p>Gruß</p>".into(), attachments: vec![page] },
            at: "2026-11-22T08:30:00Z".parse().unwrap(),
        }
    }

    #[test]
    fn the_same_delivery_has_the_same_name_and_date() {
        let sender: Mailbox = "offboard <offboard@example.com>".parse().unwrap();
        let (envelope, bytes) = compose(&delivery(), &sender).unwrap();
        let (_, again) = compose(&delivery(), &sender).unwrap();
        let header = |bytes: &[u8], name: &str| {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            text.lines().find(|line| line.starts_with(name)).unwrap().to_string()
        };
        for name in ["Message-ID: ", "Date: "] {
            assert_eq!(header(&bytes, name), header(&again, name));
        }
        assert_eq!(header(&bytes, "Date: "), "Date: Sun, 22 Nov 2026 08:30:00 +0000");
        assert_eq!(envelope.to().len(), 1);
        let mut other = delivery();
        other.recipient = "it@example.com".into();
        assert_ne!(header(&bytes, "Message-ID: "), header(&compose(&other, &sender).unwrap().1, "Message-ID: "));
    }

    #[test]
    fn every_header_is_ascii_and_on_its_own_line() {
        let sender: Mailbox = "offboard <offboard@example.com>".parse().unwrap();
        let mut hostile = delivery();
        hostile.subject = "x\r\nBcc: eve@example.com\r\n\r\nbody".into();
        let (_, bytes) = compose(&hostile, &sender).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let head = text.split("\r\n\r\n").next().unwrap();
        assert!(head.is_ascii());
        assert!(!head.lines().any(|line| line.starts_with("Bcc:")), "{head}");
        let mut nowhere = delivery();
        nowhere.recipient = "x\r\nRCPT TO:<eve@example.com>".into();
        assert!(compose(&nowhere, &sender).is_err());
    }
}
