//! Text that people write for us: where each thing stands in it, and mistakes that point there.
//!
//! Configuration, playbooks and rosters all end in the same kind of error: file, line, column, the line itself with a caret,
//! what is valid there and what to do. This room only turns text into values and mistakes into text: no I/O, no clock, and
//! nothing of ours is imported but the model.

mod mistake;
mod text;
mod words;
pub mod yaml;

pub use crate::model::Period;
pub use mistake::{Mistake, Mistakes, Severity};
pub use text::{Spot, Text};
pub use words::{choices, did_you_mean, is_unprintable, printable};
