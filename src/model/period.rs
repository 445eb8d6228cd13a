//! Lengths of time as people write them: `15m`, `24h`, `7d`, `1h 30m`.

use jiff::{SignedDuration, Span, SpanRelativeTo};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::time::Duration;

/// A length of time, at least a second and at most ten years, in whole seconds. A day has 24 hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, JsonSchema)]
#[schemars(with = "String", extend("examples" = ["15m", "24h", "7d"]))]
pub struct Period(Duration);

const LONGEST: Duration = Duration::from_hours(24 * 3660);

impl Period {
    /// A period of so many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The length.
    pub fn duration(self) -> Duration {
        self.0
    }

    /// The length in seconds.
    pub fn as_seconds(self) -> i64 {
        i64::try_from(self.0.as_secs()).unwrap_or(i64::MAX)
    }
}

impl std::str::FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a length of time; write one such as `15m`, `24h` or `7d`");
        let span: Span = text.parse().map_err(|_| wrong())?;
        if span.get_years() != 0 || span.get_months() != 0 {
            return Err(format!("`{text}`: months and years differ in length; write days, such as `90d`"));
        }
        let length = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
        match Duration::try_from(length) {
            Ok(length) if length.subsec_nanos() == 0 && (Duration::from_secs(1)..=LONGEST).contains(&length) => {
                Ok(Self(length))
            }
            _ => Err(format!("`{text}` is out of range: whole seconds, from `1s` to `3660d`")),
        }
    }
}

impl std::fmt::Display for Period {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.0.as_secs();
        // 24h stays 24h, as people say it; two days and more are days.
        if seconds >= 172_800 && seconds.is_multiple_of(86_400) {
            write!(f, "{}d", seconds / 86_400)
        } else {
            write!(f, "{:#}", SignedDuration::from_secs(self.as_seconds()))
        }
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Period;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a length of time such as `15m`, `24h` or `7d`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Period, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn people_write_periods_in_many_ways() {
        for (text, seconds) in
            [("15m", 900), ("24h", 86_400), ("7d", 604_800), ("1h 30m", 5_400), ("2 days", 172_800), ("PT15M", 900)]
        {
            assert_eq!(text.parse(), Ok(Period::seconds(seconds)), "{text}");
        }
        for text in ["", "15", "5 parsecs", "-5m", "0s", "1mo", "1y", "400000d", "1ms", "99999999999999999999h"] {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_period_reads_back_as_it_was_written(seconds in 1..316_224_000_u64) {
            let period = Period::seconds(seconds);
            prop_assert_eq!(period.to_string().parse(), Ok(period));
        }
    }
}
