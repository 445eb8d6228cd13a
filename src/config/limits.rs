//! Limits for the clocks that auditors ask for: from a preset, or your own.

use crate::source::Period;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A clock that can have a limit. All count from the end of employment, or from the request where that came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Clock {
    /// Until every login is refused.
    AccessDisabled,
    /// Until the last session is ended.
    SessionsEnded,
    /// Until every door is proved shut.
    Proved,
    /// Until nothing can work any more, tickets and bound connections included.
    LastPossibleAccess,
}

impl std::fmt::Display for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::AccessDisabled => "access-disabled",
            Self::SessionsEnded => "sessions-ended",
            Self::Proved => "proved",
            Self::LastPossibleAccess => "last-possible-access",
        })
    }
}

/// A standard that limits how long access may outlast employment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// FedRAMP High: one hour.
    FedrampHigh,
    /// FedRAMP Moderate: four hours.
    FedrampModerate,
    /// NIST SP 800-53 for high-risk individuals: one hour.
    #[serde(rename = "nist-800-53-high-risk")]
    Nist80053HighRisk,
    /// PCI DSS 4: immediately, taken as 15 minutes.
    #[serde(rename = "pci-dss-4")]
    PciDss4,
    /// The HIPAA Security Rule as proposed in 2025: one hour.
    #[serde(rename = "hipaa-2025")]
    Hipaa2025,
    /// CIS Controls 8: immediately, taken as 15 minutes.
    #[serde(rename = "cis-8")]
    Cis8,
    /// SOC 2: what you have promised, usually 24 hours.
    #[serde(rename = "soc-2")]
    Soc2,
    /// NERC CIP-004: 24 hours.
    NercCip,
    /// ISO 27001: it names no time; you do, under `limits`.
    #[serde(rename = "iso-27001")]
    Iso27001,
}

impl Preset {
    /// The limit of the clock *access disabled*, and where it stands. Without a limit the standard leaves it to the organisation.
    fn access_disabled(self) -> (Option<Period>, &'static str) {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 3600;
        let (seconds, source) = match self {
            Self::FedrampHigh => (Some(HOUR), "FedRAMP High, NIST SP 800-53r5 PS-4"),
            Self::FedrampModerate => (Some(4 * HOUR), "FedRAMP Moderate, NIST SP 800-53r5 PS-4"),
            Self::Nist80053HighRisk => (Some(HOUR), "NIST SP 800-53r5 AC-2(13)"),
            Self::PciDss4 => (Some(15 * MINUTE), "PCI DSS v4 8.2.5 (immediately; taken as 15 minutes)"),
            Self::Hipaa2025 => (Some(HOUR), "HIPAA 164.308(a)(3)(ii)(C) as proposed in 2025"),
            Self::Cis8 => (Some(15 * MINUTE), "CIS Controls v8 6.2 (immediately; taken as 15 minutes)"),
            Self::Soc2 => (Some(24 * HOUR), "SOC 2 CC6.2, CC6.3 (your own promise; usually 24 hours)"),
            Self::NercCip => (Some(24 * HOUR), "NERC CIP-004 5.1"),
            Self::Iso27001 => (None, "ISO 27001:2022 A.5.18, A.6.5"),
        };
        (seconds.map(Period::seconds), source)
    }

    /// Whether it says no time, so that `limits` must.
    pub fn needs_limits(self) -> bool {
        self.access_disabled().0.is_none()
    }
}

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Of which clock.
    pub clock: Clock,
    /// How long it may take.
    pub within: Period,
    /// Who says so: a standard and its paragraph, or `offboard.yaml`.
    pub source: String,
}

/// The limits of a preset, with those that are set on top of it. The preset's limit of access holds for sessions as well: whoever
/// is still logged in still has access.
pub fn limits(preset: Option<Preset>, own: &BTreeMap<Clock, Period>) -> Vec<Limit> {
    let mut limits = BTreeMap::new();
    let source = preset.map(|preset| preset.access_disabled());
    if let Some((Some(within), source)) = source {
        for clock in [Clock::AccessDisabled, Clock::SessionsEnded] {
            limits.insert(clock, Limit { clock, within, source: source.to_string() });
        }
    }
    for (&clock, &within) in own {
        let standard = source.map(|(_, standard)| format!(", for {standard}")).unwrap_or_default();
        limits.insert(clock, Limit { clock, within, source: format!("offboard.yaml{standard}") });
    }
    limits.into_values().collect()
}
