//! Whether the wall clock can be trusted. Everything is due by the wall clock; when that jumps ahead of the clock that only ever counts
//! (somebody set it, a machine woke up, a time server erred), nothing is begun until it has stood still for a while: an hour that was
//! never reached must not end anybody's access.

use jiff::{SignedDuration, Timestamp};
use std::time::Duration;
use tokio::time::Instant;

/// A jump ahead of more than this is doubted.
const JUMP: SignedDuration = SignedDuration::from_secs(90);
/// For so long a doubted clock must go on without another jump before it is believed.
const DOUBT: Duration = Duration::from_secs(120);

/// Compares the two clocks.
#[derive(Debug)]
pub struct Hold {
    last: (Timestamp, Instant),
    /// Since when the clock is doubted, and what it showed before it jumped.
    doubted: Option<(Instant, Timestamp)>,
}

/// What the comparison says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Nothing has happened.
    Good,
    /// The clock has just jumped ahead by so much.
    Jumped(SignedDuration),
    /// It is still doubted.
    Doubted,
    /// It is believed again.
    Believed,
}

impl Hold {
    /// Begins to watch.
    pub fn new(wall: Timestamp, counted: Instant) -> Self {
        Self { last: (wall, counted), doubted: None }
    }

    /// What to think of the clock that now shows `wall`.
    pub fn see(&mut self, wall: Timestamp, counted: Instant) -> Trust {
        let (last_wall, last_counted) = self.last;
        self.last = (wall, counted);
        let passed = counted.saturating_duration_since(last_counted);
        let passed = SignedDuration::try_from(passed).unwrap_or(SignedDuration::MAX);
        let jump = wall.duration_since(last_wall).saturating_sub(passed);
        if jump > JUMP {
            let before = self.doubted.map_or(last_wall, |(_, before)| before);
            self.doubted = Some((counted, before));
            return Trust::Jumped(jump);
        }
        let Some((since, before)) = self.doubted else { return Trust::Good };
        let waited = counted.saturating_duration_since(since);
        // Set back to where it was: the jump never was.
        let is_back = wall.duration_since(before) <= SignedDuration::try_from(waited).unwrap_or_default() + JUMP;
        if is_back || waited >= DOUBT {
            self.doubted = None;
            return Trust::Believed;
        }
        Trust::Doubted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wall(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn a_clock_that_jumps_ahead_is_doubted_until_it_stands_still_or_comes_back() {
        let start = Instant::now();
        let counted = |seconds: u64| start + Duration::from_secs(seconds);
        let mut hold = Hold::new(wall(0), start);
        assert_eq!(hold.see(wall(1), counted(1)), Trust::Good);
        // A second late, or a minute while the machine was busy: nothing.
        assert_eq!(hold.see(wall(61), counted(60)), Trust::Good);
        assert_eq!(hold.see(wall(3661), counted(61)), Trust::Jumped(SignedDuration::from_secs(3599)));
        assert_eq!(hold.see(wall(3662), counted(62)), Trust::Doubted);
        assert_eq!(hold.see(wall(63), counted(63)), Trust::Believed, "set back");
        assert_eq!(hold.see(wall(64), counted(64)), Trust::Good);
        // It jumps and stays: believed after a while, and not before.
        assert!(matches!(hold.see(wall(90_065), counted(65)), Trust::Jumped(_)));
        assert_eq!(hold.see(wall(90_184), counted(184)), Trust::Doubted);
        assert_eq!(hold.see(wall(90_185), counted(185)), Trust::Believed);
        // It goes back: nothing is early, what has begun is on record.
        assert_eq!(hold.see(wall(0), counted(186)), Trust::Good);
    }

    #[test]
    fn every_further_jump_begins_the_doubt_anew() {
        let start = Instant::now();
        let counted = |seconds: u64| start + Duration::from_secs(seconds);
        let mut hold = Hold::new(wall(0), start);
        assert!(matches!(hold.see(wall(1000), counted(1)), Trust::Jumped(_)));
        assert!(matches!(hold.see(wall(2100), counted(100)), Trust::Jumped(_)));
        assert_eq!(hold.see(wall(2221), counted(219)), Trust::Doubted);
        assert_eq!(hold.see(wall(2222), counted(220)), Trust::Believed);
    }
}
