//! What can be asked, by a command or of a running `offboard serve`, and what comes back. The very same order does the very same thing in
//! both. None of these holds a secret.

use crate::model::{Actor, Evidence, RunId, SecretName, StepId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "kebab-case")]
pub enum Order {
    /// A run begins now, or is scheduled.
    Run {
        /// The person's number, mail address or user name.
        person: String,
        /// The playbook; nothing: the one whose trigger fits.
        playbook: Option<String>,
        /// When; nothing: now.
        at: Option<Timestamp>,
        /// Although the roster says that the person has not left by then.
        although_active: bool,
        /// Although there is another run that is not shut.
        anew: bool,
        /// Where the report is written; nothing: the journal's `reports`. An absolute path.
        report_to: Option<PathBuf>,
        /// Who asks.
        by: Actor,
    },
    /// A run that waits is given up.
    Cancel {
        /// The run.
        run: RunId,
        /// Why.
        why: String,
        /// Who asks.
        by: Actor,
    },
    /// A run that waits begins at another hour.
    Reschedule {
        /// The run.
        run: RunId,
        /// When.
        at: Timestamp,
        /// Although the roster says that the person has not left by then.
        although_active: bool,
        /// Who asks.
        by: Actor,
    },
    /// A run goes on.
    Resume {
        /// The run.
        run: RunId,
        /// As in [`Order::Run`].
        report_to: Option<PathBuf>,
        /// Who asks.
        by: Actor,
    },
    /// Every door of a run is looked at again.
    Verify {
        /// The run.
        run: RunId,
        /// Whether the witness passwords are destroyed afterwards, if everything is shut then.
        last: bool,
        /// Who asks.
        by: Actor,
    },
    /// A step or a place is given up, in writing.
    Waive {
        /// The run.
        run: RunId,
        /// A step's or a place's name.
        target: String,
        /// Why.
        why: String,
        /// Who asks.
        by: Actor,
    },
    /// A sweep is made.
    Sweep {
        /// Its playbook; nothing: the only one there is.
        playbook: Option<String>,
        /// As in [`Order::Run`].
        report_to: Option<PathBuf>,
        /// Who asks.
        by: Actor,
    },
    /// A shared secret is rotated, though nobody leaves.
    Rotate {
        /// As `offboard.yaml` calls it.
        secret: SecretName,
        /// Why, a few words.
        why: String,
        /// Although another run that rotates it is not shut.
        anew: bool,
        /// As in [`Order::Run`].
        report_to: Option<PathBuf>,
        /// Who asks.
        by: Actor,
    },
    /// A manual step is closed.
    Done {
        /// The run.
        run: RunId,
        /// The step.
        step: StepId,
        /// What was done.
        note: Option<String>,
        /// What shows it; its copy is kept already.
        evidence: Option<Evidence>,
        /// Who asks.
        by: Actor,
    },
}

impl Order {
    /// The run that it is about, if it is about one that exists.
    pub fn run(&self) -> Option<&RunId> {
        match self {
            Self::Run { .. } | Self::Sweep { .. } | Self::Rotate { .. } => None,
            Self::Cancel { run, .. }
            | Self::Reschedule { run, .. }
            | Self::Resume { run, .. }
            | Self::Verify { run, .. }
            | Self::Waive { run, .. }
            | Self::Done { run, .. } => Some(run),
        }
    }

    /// Whether it asks for a new run that begins at once.
    pub fn begins_a_run(&self) -> bool {
        matches!(self, Self::Run { at: None, .. } | Self::Rotate { .. })
    }

    /// Its name, for the log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Run { at: None, .. } => "run",
            Self::Run { .. } => "run --at",
            Self::Cancel { .. } => "cancel",
            Self::Reschedule { .. } => "reschedule",
            Self::Resume { .. } => "resume",
            Self::Verify { .. } => "verify",
            Self::Waive { .. } => "waive",
            Self::Done { .. } => "done",
            Self::Sweep { .. } => "sweep",
            Self::Rotate { .. } => "rotate",
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The run that it was about.
    pub run: Option<RunId>,
    /// The exit status of the command.
    pub exit: u8,
    /// Reports that were written.
    pub written: Vec<PathBuf>,
    /// Why it was not carried out, or what went wrong besides: an error as it is shown, without colours.
    pub trouble: Option<String>,
    /// Whether it was carried out, whatever came of it.
    pub carried_out: bool,
}
