//! Result codes (RFC 4511, appendix A), and the faults that they are.

use super::policy::{self, PolicyReply};
use crate::model::{Fault, FaultKind};
use ldap3::LdapResult;

/// The result codes that somebody here decides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of RFC 4511")]
pub enum Code {
    Success,
    SizeLimitExceeded,
    CompareFalse,
    CompareTrue,
    Referral,
    NoSuchAttribute,
    UndefinedAttributeType,
    ConstraintViolation,
    AttributeOrValueExists,
    NoSuchObject,
    InvalidCredentials,
    InsufficientAccessRights,
    UnwillingToPerform,
    ObjectClassViolation,
    /// Any other, by its number.
    Other(u32),
}

/// What the server answered.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its result code.
    pub code: Code,
    /// In its own words: `insufficientAccessRights (50): no write access to attribute`.
    pub words: String,
    /// Where it would send us, if it is a referral.
    pub referrals: Vec<String>,
    /// What its password policy said, if it has one.
    pub policy: Option<PolicyReply>,
}

impl Reply {
    pub(super) fn new(result: &LdapResult) -> Self {
        let (code, name) = match result.rc {
            0 => (Code::Success, "success"),
            1 => (Code::Other(1), "operationsError"),
            2 => (Code::Other(2), "protocolError"),
            3 => (Code::Other(3), "timeLimitExceeded"),
            4 => (Code::SizeLimitExceeded, "sizeLimitExceeded"),
            5 => (Code::CompareFalse, "compareFalse"),
            6 => (Code::CompareTrue, "compareTrue"),
            8 => (Code::Other(8), "strongerAuthRequired"),
            10 => (Code::Referral, "referral"),
            11 => (Code::Other(11), "adminLimitExceeded"),
            12 => (Code::Other(12), "unavailableCriticalExtension"),
            13 => (Code::Other(13), "confidentialityRequired"),
            16 => (Code::NoSuchAttribute, "noSuchAttribute"),
            17 => (Code::UndefinedAttributeType, "undefinedAttributeType"),
            19 => (Code::ConstraintViolation, "constraintViolation"),
            20 => (Code::AttributeOrValueExists, "attributeOrValueExists"),
            21 => (Code::Other(21), "invalidAttributeSyntax"),
            32 => (Code::NoSuchObject, "noSuchObject"),
            34 => (Code::Other(34), "invalidDNSyntax"),
            48 => (Code::Other(48), "inappropriateAuthentication"),
            49 => (Code::InvalidCredentials, "invalidCredentials"),
            50 => (Code::InsufficientAccessRights, "insufficientAccessRights"),
            51 => (Code::Other(51), "busy"),
            52 => (Code::Other(52), "unavailable"),
            53 => (Code::UnwillingToPerform, "unwillingToPerform"),
            65 => (Code::ObjectClassViolation, "objectClassViolation"),
            n => (Code::Other(n), "result"),
        };
        let text = if result.text.is_empty() { String::new() } else { format!(": {}", result.text) };
        let control = result.ctrls.iter().find(|c| c.1.ctype == policy::OID);
        Self {
            code,
            words: format!("{name} ({}){text}", result.rc),
            referrals: result.refs.clone(),
            policy: control.map(|c| PolicyReply::decode(c.1.val.as_deref())),
        }
    }

    /// This answer as the reason why `what` could not be done. A caller that knows the grant adds the hint.
    pub fn fault(&self, what: impl Into<String>) -> Fault {
        let what = what.into();
        match self.code {
            Code::Referral => Fault::new(FaultKind::Misconfigured, what)
                .because(format!("{}, to {}", self.words, self.referrals.join(" and ")))
                .hint("referrals are never followed; name that server in urls if it is one of yours"),
            Code::InsufficientAccessRights | Code::Other(8 | 13) => {
                Fault::new(FaultKind::Forbidden, what).because(&self.words)
            }
            Code::SizeLimitExceeded => Fault::new(FaultKind::Forbidden, what).because(&self.words),
            Code::Other(3 | 11 | 51 | 52) => Fault::new(FaultKind::Busy, what).because(&self.words),
            _ => Fault::new(FaultKind::Unexpected, what).because(&self.words),
        }
    }
}
