//! How a command ends: its exit status, and its error in words.

use super::render::{self, Style};
use crate::engine::{Halt, Refusal};
use crate::journal::JournalError;
use crate::model::{Fault, FaultKind, RunVerdict};
use crate::source::Mistakes;
use std::process::ExitCode;

/// For the end of `--help`.
pub const EXIT_HELP: &str = "Exit status: 0 shut, or nothing wrong · 1 unexpected · 2 usage or configuration · 10 unproven · 11 open · \
12 stuck · 13 refused by a guard · 20 something found · 21 the journal does not verify";

/// Exit statuses, as documented in the README.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Shut, or nothing wrong.
    Fine = 0,
    /// Unexpected.
    Unexpected = 1,
    /// Usage or configuration.
    Usage = 2,
    /// A door is unproven.
    Unproven = 10,
    /// A door is open.
    Open = 11,
    /// A step is stuck.
    Stuck = 12,
    /// A guard refused.
    Refused = 13,
    /// Something was found.
    Found = 20,
    /// The journal does not verify.
    Tampered = 21,
}

impl Exit {
    /// The status of that number; `Unexpected` if there is none.
    pub fn numbered(number: u8) -> Self {
        use Exit::{Fine, Found, Open, Refused, Stuck, Tampered, Unexpected, Unproven, Usage};
        let all = [Fine, Unexpected, Usage, Unproven, Open, Stuck, Refused, Found, Tampered];
        all.into_iter().find(|exit| *exit as u8 == number).unwrap_or(Unexpected)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<RunVerdict> for Exit {
    fn from(verdict: RunVerdict) -> Self {
        match verdict {
            RunVerdict::Shut => Self::Fine,
            RunVerdict::Unproven => Self::Unproven,
            RunVerdict::Stuck => Self::Stuck,
            RunVerdict::Open => Self::Open,
        }
    }
}

impl Exit {
    /// This one, unless the journal as a whole does not verify: then nothing that stands in it can be believed.
    pub fn unless_tampered(self, journal: &crate::report::Journal) -> Self {
        if journal.problems > 0 { Self::Tampered } else { self }
    }
}

/// A command that could not do its work.
#[derive(Debug)]
pub struct Failure {
    /// The exit status.
    pub exit: Exit,
    what: What,
}

#[derive(Debug)]
enum What {
    Fault(Fault),
    Mistakes(Mistakes),
    /// As another process has shown it.
    Told(String),
    /// Somebody else has written to the run.
    Fenced(Fault),
}

impl Failure {
    /// A failure with a status of its own.
    pub fn new(exit: Exit, fault: Fault) -> Self {
        Self { exit, what: What::Fault(fault) }
    }

    /// What another process said.
    pub fn told(exit: Exit, words: String) -> Self {
        Self { exit, what: What::Told(words) }
    }

    /// Whether somebody else has written to the run since it was taken up: then it can be taken up anew.
    pub fn is_fenced(&self) -> bool {
        matches!(self.what, What::Fenced(_))
    }

    /// In words, with its next step, without colours.
    pub fn plain(&self) -> String {
        self.render(Style { color: false, zone: jiff::tz::TimeZone::UTC })
    }

    /// In words, with its next step.
    pub fn render(&self, style: Style) -> String {
        match &self.what {
            What::Told(words) => words.clone(),
            What::Fault(fault) | What::Fenced(fault) => render::fault(fault, &style),
            What::Mistakes(mistakes) => mistakes.render(style.color) + "\n",
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        let exit = match fault.kind {
            FaultKind::Misconfigured => Exit::Usage,
            FaultKind::Protected => Exit::Refused,
            _ => Exit::Unexpected,
        };
        Self::new(exit, fault)
    }
}

impl From<Mistakes> for Failure {
    fn from(mistakes: Mistakes) -> Self {
        Self { exit: Exit::Usage, what: What::Mistakes(mistakes) }
    }
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Fenced { .. } => Self { exit: Exit::Unexpected, what: What::Fenced(error.into()) },
            JournalError::Tampered { .. } => Self::new(Exit::Tampered, error.into()),
            _ => Self::new(Exit::Unexpected, error.into()),
        }
    }
}

impl From<Halt> for Failure {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::Journal(error) => error.into(),
            Halt::Place(fault) => fault.into(),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::new(Exit::Refused, Fault::new(FaultKind::Protected, refusal.what).hint(refusal.hint))
    }
}

/// `OFFBOARD_DIE_AT=name:3` ends the process with SIGKILL the third time that it passes that failpoint.
#[cfg(feature = "failpoints")]
pub fn die_at_failpoint() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let Ok(wanted) = std::env::var("OFFBOARD_DIE_AT") else { return };
    let Some((name, nth)) = wanted.rsplit_once(':') else { return };
    let Ok(nth) = nth.parse::<usize>() else { return };
    let passed = AtomicUsize::new(0);
    let die = move || {
        if passed.fetch_add(1, Ordering::SeqCst) + 1 == nth {
            let _ = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL);
        }
    };
    if let Err(error) = fail::cfg_callback(name, die) {
        eprintln!("failpoint {name}: {error}");
    }
}
