//! The password policy control (draft-behera-ldap-password-policy-10, section 6). ldap3 hands response controls over as they
//! came, so the answer is decoded here.

use ldap3::controls::RawControl;

/// The control's identifier, for request and response.
pub const OID: &str = "1.3.6.1.4.1.42.2.27.8.5.1";

/// Asks the server for its password policy's opinion; not critical, so a server without one ignores it.
pub fn request() -> RawControl {
    RawControl { ctype: OID.to_string(), crit: false, val: None }
}

/// What the policy holds against a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyError {
    /// 0: the password has expired.
    PasswordExpired,
    /// 1: the account is locked.
    AccountLocked,
    /// 2: the password must be changed before anything else is allowed.
    ChangeAfterReset,
    /// Anything that concerns setting passwords, by its number.
    Other(u8),
}

/// What the server's password policy said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyReply {
    /// Its objection, if it named one.
    pub error: Option<PolicyError>,
}

impl PolicyReply {
    /// Decodes `SEQUENCE { warning [0] OPTIONAL, error [1] ENUMERATED OPTIONAL }`. Whatever is not that is read as no objection.
    pub fn decode(value: Option<&[u8]>) -> Self {
        let mut reply = Self::default();
        let Some((0x30, mut rest, _)) = value.and_then(element) else { return reply };
        while let Some((tag, content, after)) = element(rest) {
            if let (0x81, [number]) = (tag, content) {
                reply.error = Some(match number {
                    0 => PolicyError::PasswordExpired,
                    1 => PolicyError::AccountLocked,
                    2 => PolicyError::ChangeAfterReset,
                    n => PolicyError::Other(*n),
                });
            }
            rest = after;
        }
        reply
    }
}

/// The first element of `bytes`: tag, content, and what follows. The control is short, so only lengths below 128 are known.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (content, after) = rest.split_at_checked(usize::from(length)).filter(|_| length < 128)?;
    Some((tag, content, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_openldap() {
        let error = |bytes: &[u8]| PolicyReply::decode(Some(bytes)).error;
        assert_eq!(error(&[0x30, 3, 0x81, 1, 1]), Some(PolicyError::AccountLocked));
        assert_eq!(error(&[0x30, 8, 0xa0, 3, 0x80, 1, 5, 0x81, 1, 2]), Some(PolicyError::ChangeAfterReset));
        assert_eq!(error(&[0x30, 0]), None);
        assert_eq!(PolicyReply::decode(None).error, None);
    }

    #[test]
    fn rubbish_is_no_objection() {
        for bytes in [&[][..], &[0x30], &[0x30, 5, 0x81], &[0x30, 0x84, 0, 0, 0, 3, 0x81, 1, 1], &[0x81, 1, 1]] {
            assert_eq!(PolicyReply::decode(Some(bytes)).error, None, "{bytes:x?}");
        }
    }
}
