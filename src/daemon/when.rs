//! Hours, as people write them and as schedules mean them: in a zone, on days on which the clocks change, too.

use crate::model::{Fault, FaultKind};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, Zoned};

/// The furthest that a run can be scheduled ahead.
const FURTHEST: SignedDuration = SignedDuration::from_hours(24 * 366 * 5);

/// The hour that `written` means: `2026-12-31 18:00 Asia/Kolkata`, with an offset (RFC 3339), or without a zone in `own`, the person's.
/// `now` is the present.
///
/// # Errors
/// `Misconfigured`: no such hour, no zone, an hour that the clocks skip or repeat (with the hours that can be meant), a past one.
pub fn hour(written: &str, own: Option<&str>, now: Timestamp) -> Result<Timestamp, Fault> {
    let written = written.trim();
    if written.eq_ignore_ascii_case("now") {
        return Ok(now);
    }
    let wrong = |what: String| Fault::new(FaultKind::Misconfigured, what);
    let at = match written.parse::<Timestamp>() {
        Ok(at) => at,
        Err(_) => {
            let (text, zone) = split(written, own)?;
            let local = local(&text).ok_or_else(|| {
                wrong(format!("{written:?} is no hour"))
                    .hint("write one such as: --at \"2026-12-31 18:00 Asia/Kolkata\", or 2026-12-31T18:00:00+05:30")
            })?;
            instant(local, &zone, written)?
        }
    };
    if at <= now {
        let ago = now.duration_since(at).as_secs();
        return Err(wrong(format!("{written:?} is over: that was {ago} s ago"))
            .because(format!("it means {at}, and it is {now:.0}"))
            .hint("leave --at out, or write --at now, to begin at once"));
    }
    if at.duration_since(now) > FURTHEST {
        return Err(wrong(format!("{written:?} is more than five years ahead")).hint("check the year"));
    }
    Ok(at)
}

/// The text without its zone, and the zone.
fn split(written: &str, own: Option<&str>) -> Result<(String, TimeZone), Fault> {
    let wrong = |what: String| Fault::new(FaultKind::Misconfigured, what);
    // RFC 9557: 2026-12-31T18:00[Asia/Kolkata].
    let named = match (written.strip_suffix(']').and_then(|rest| rest.split_once('[')), written.rsplit_once(' ')) {
        (Some((text, zone)), _) => Some((text, zone)),
        (None, Some((text, zone))) if zone.starts_with(|c: char| c.is_ascii_alphabetic()) => Some((text, zone)),
        _ => None,
    };
    let (text, name) = match (named, own) {
        (Some((text, zone)), _) => (text, zone),
        (None, Some(own)) => (written, own),
        (None, None) => {
            return Err(wrong(format!("{written:?} is an hour in no zone, and the roster knows none for this person"))
                .hint("add the zone: --at \"2026-12-31 18:00 Asia/Kolkata\", or fill in the roster's column `zone`"));
        }
    };
    // Abbreviations are several zones at once (IST is three), and `localtime` is this machine's.
    let zone = TimeZone::get(name)
        .ok()
        .filter(|zone| zone.iana_name().is_some_and(|name| name == "UTC" || name == "Etc/UTC" || name.contains('/')));
    let zone = zone.ok_or_else(|| {
        let names: Vec<String> = jiff::tz::db().available().map(|zone| zone.to_string()).collect();
        let meant =
            crate::source::did_you_mean(name, &names).map(|m| format!("did you mean {m}? ")).unwrap_or_default();
        wrong(format!("unknown zone {name:?}"))
            .hint(format!("{meant}write an IANA name such as Asia/Kolkata, Europe/Berlin or UTC"))
    })?;
    Ok((text.trim().to_string(), zone))
}

/// A day and an hour, without a zone. A day alone is no hour.
fn local(text: &str) -> Option<DateTime> {
    let (day, time) = text.split_once(['T', 't', ' '])?;
    let day = jiff::civil::Date::strptime("%Y-%m-%d", day).ok().filter(|_| day.len() == 10)?;
    let time = time.trim();
    let clock = |form| jiff::civil::Time::strptime(form, time).ok();
    Some(day.to_datetime(clock("%H:%M").or_else(|| clock("%H:%M:%S"))?))
}

/// The one moment at which a clock in `zone` shows `local`.
fn instant(local: DateTime, zone: &TimeZone, written: &str) -> Result<Timestamp, Fault> {
    let name = zone.iana_name().unwrap_or("UTC");
    let range =
        |e: jiff::Error| Fault::new(FaultKind::Misconfigured, format!("{written:?} is out of range")).because(e);
    let with = |offset: Offset| -> Result<String, Fault> {
        let zoned = offset.to_timestamp(local).map_err(range)?.to_zoned(zone.clone());
        Ok(zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string())
    };
    let fault = |what: String| Fault::new(FaultKind::Misconfigured, what);
    let ambiguous = zone.to_ambiguous_timestamp(local);
    match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { .. } => ambiguous.unambiguous().map_err(range),
        AmbiguousOffset::Gap { before, after } => {
            let (sooner, later) = (with(after)?, with(before)?);
            Err(fault(format!("{written:?} does not exist: the clocks in {name} skip that hour"))
                .hint(format!("write {sooner} or {later}")))
        }
        AmbiguousOffset::Fold { before, after } => {
            let (first, second) = (with(before)?, with(after)?);
            Err(fault(format!("{written:?} comes twice: the clocks in {name} repeat that hour"))
                .hint(format!("write {first} for the first, or {second} for the second")))
        }
    }
}

/// Reads a schedule of five fields: minute, hour, day of the month, month, day of the week.
///
/// # Errors
/// What is wrong with it, half a sentence.
pub fn schedule(written: &str) -> Result<Cron, String> {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    parser.parse(written).map_err(|e| e.to_string())
}

/// The first moment after `after` at which `schedule` is due by a clock in `zone`. An hour that the clocks skip is due once, when they
/// have gone forward; one that they repeat is due once, the first time. Nothing if the schedule names a day that never comes.
pub fn next_occurrence(schedule: &Cron, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
    // The search is over what a clock shows, which knows no gaps; only then is it asked when the clock shows that.
    let mut shown = zone.to_datetime(after);
    loop {
        let next = schedule.find_next_occurrence(&as_if_utc(shown)?, false).ok()?;
        shown = next.datetime();
        let ambiguous = zone.to_ambiguous_timestamp(shown);
        let at = match ambiguous.offset() {
            AmbiguousOffset::Gap { .. } => {
                // What the clock would have shown by its old offset is past the change; the change itself is the next valid moment.
                let late = ambiguous.later().ok()?;
                let change =
                    zone.preceding(late + SignedDuration::from_nanos(1)).next().map(|change| change.timestamp());
                change.unwrap_or(late)
            }
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => ambiguous.earlier().ok()?,
        };
        if at > after {
            return Some(at);
        }
    }
}

fn as_if_utc(shown: DateTime) -> Option<Zoned> {
    shown.to_zoned(TimeZone::UTC).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn now() -> Timestamp {
        at("2026-01-15T12:00:00Z")
    }

    #[test]
    fn an_hour_is_read_in_its_zone() {
        for (written, own, meant) in [
            ("2026-12-31 18:00 Asia/Kolkata", None, "2026-12-31T12:30:00Z"),
            ("2026-12-31T18:00[Asia/Kolkata]", Some("Europe/Berlin"), "2026-12-31T12:30:00Z"),
            ("2026-12-31 18:00", Some("Asia/Kolkata"), "2026-12-31T12:30:00Z"),
            ("2026-12-31T18:00:30", Some("America/St_Johns"), "2026-12-31T21:30:30Z"),
            ("2026-12-31T18:00:00+05:30", None, "2026-12-31T12:30:00Z"),
            ("2026-12-31T18:00:00Z", Some("Asia/Kolkata"), "2026-12-31T18:00:00Z"),
            ("2026-07-01 00:00 UTC", None, "2026-07-01T00:00:00Z"),
            ("  2026-07-01 09:00   Europe/Berlin ", None, "2026-07-01T07:00:00Z"),
            ("now", None, "2026-01-15T12:00:00Z"),
        ] {
            assert_eq!(hour(written, own, now()).unwrap(), at(meant), "{written}");
        }
    }

    #[test]
    fn what_is_no_hour_is_refused_with_what_can_be_meant() {
        for (written, own, says) in [
            ("2026-12-31 18:00", None, "in no zone"),
            ("2026-12-31", Some("Asia/Kolkata"), "is no hour"),
            ("2026-02-30 18:00", Some("Asia/Kolkata"), "is no hour"),
            ("tomorrow", Some("Asia/Kolkata"), "is no hour"),
            ("", Some("Asia/Kolkata"), "is no hour"),
            ("2026-12-31 18:00 IST", None, "unknown zone \"IST\""),
            ("2026-12-31 18:00 Asia/Kolkatta", None, "did you mean Asia/Kolkata?"),
            ("2026-01-15 11:59 UTC", None, "is over"),
            ("2020-12-31 18:00 Asia/Kolkata", None, "--at now"),
            ("2062-12-31 18:00 UTC", None, "five years"),
            // America/New_York goes forward on 8 March 2026 at 02:00, and back on 1 November 2026 at 02:00.
            ("2026-03-08 02:30 America/New_York", None, "write 2026-03-08T01:30:00-05:00 or 2026-03-08T03:30:00-04:00"),
            (
                "2026-11-01 01:30 America/New_York",
                None,
                "write 2026-11-01T01:30:00-04:00 for the first, or 2026-11-01T01:30:00-05:00",
            ),
            // Lord Howe Island moves by half an hour.
            ("2026-10-04 02:15 Australia/Lord_Howe", None, "does not exist"),
            ("2026-04-05 01:45 Australia/Lord_Howe", None, "comes twice"),
        ] {
            let fault = hour(written, own, now()).unwrap_err();
            let told = format!("{fault} {}", fault.hint.clone().unwrap_or_default());
            assert!(told.contains(says), "{written}: {told}");
        }
        // What the message offers is accepted.
        for offered in ["2026-03-08T01:30:00-05:00", "2026-11-01T01:30:00-05:00"] {
            hour(offered, None, now()).unwrap();
        }
    }

    fn occurrences(cron: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let (schedule, zone) = (schedule(cron).unwrap(), TimeZone::get(zone).unwrap());
        let mut last = at(from);
        (0..count)
            .map(|_| {
                last = next_occurrence(&schedule, &zone, last).unwrap();
                last.to_string()
            })
            .collect()
    }

    #[test]
    fn a_schedule_is_right_across_daylight_saving_time() {
        // Every day at 09:00 in Berlin: 08:00 UTC, from 29 March on 07:00.
        assert_eq!(
            occurrences("0 9 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", 3),
            ["2026-03-28T08:00:00Z", "2026-03-29T07:00:00Z", "2026-03-30T07:00:00Z"]
        );
        // 02:30 is skipped on 29 March: due once, at 03:00 summer time.
        assert_eq!(
            occurrences("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3),
            ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
        );
        // All that is skipped is due once.
        assert_eq!(
            occurrences("*/20 2 * * *", "Europe/Berlin", "2026-03-28T22:00:00Z", 2),
            ["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"]
        );
        // 02:30 comes twice on 25 October: due the first time only.
        assert_eq!(
            occurrences("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
            ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
        );
        // Asked in the middle of the second pass, nothing of the first is due again.
        assert_eq!(occurrences("45 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", 1), ["2026-10-26T01:45:00Z"]);
        // The quarter's first day at six in Kolkata.
        assert_eq!(
            occurrences("0 6 1 1,4,7,10 *", "Asia/Kolkata", "2026-01-15T00:00:00Z", 2),
            ["2026-04-01T00:30:00Z", "2026-07-01T00:30:00Z"]
        );
        // Midnight does not exist in Cairo on 24 April 2026.
        assert_eq!(occurrences("0 0 24 4 *", "Africa/Cairo", "2026-04-01T00:00:00Z", 1), ["2026-04-23T22:00:00Z"]);
    }

    #[test]
    fn a_day_that_never_comes_is_no_endless_search() {
        let never = schedule("0 0 31 2 *").unwrap();
        assert_eq!(next_occurrence(&never, &TimeZone::UTC, now()), None);
        for wrong in ["", "0 6 * *", "61 * * * *", "* * * * * *", "every day"] {
            assert!(schedule(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn the_next_occurrence_is_later_and_shows_the_hour_or_follows_a_gap(
            second in 1_700_000_000i64..2_000_000_000, hour in 0i8..24, minute in 0i8..60,
            zone in prop::sample::select(vec!["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Kolkata", "America/Santiago"]),
        ) {
            let (after, zone) = (Timestamp::from_second(second).unwrap(), TimeZone::get(zone).unwrap());
            let cron = schedule(&format!("{minute} {hour} * * *")).unwrap();
            let next = next_occurrence(&cron, &zone, after).unwrap();
            prop_assert!(next > after);
            prop_assert!(next.duration_since(after) <= SignedDuration::from_hours(50));
            let shown = zone.to_datetime(next);
            let is_change = zone.preceding(next + SignedDuration::from_nanos(1)).next().is_some_and(|c| c.timestamp() == next);
            prop_assert!((shown.hour(), shown.minute()) == (hour, minute) || is_change);
            // Nothing between: the one before this is not after `after`.
            let day = next_occurrence(&cron, &zone, next).unwrap();
            prop_assert!(day.duration_since(next) >= SignedDuration::from_hours(22));
        }
    }
}
