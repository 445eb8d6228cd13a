//! What is done without anybody at the keyboard: runs that were scheduled, leavers whom the roster names, looks again, and what failed and
//! is tried again; and the orders that commands give, which are carried out here for all of them.
//!
//! The journal says what is so; the store beside it, what is due, which follows from the journal and can be made again from it. Time comes
//! from the `clock` that is handed in. This room prints nothing: it logs through `tracing`.

pub mod after;
mod aging;
mod asking;
pub mod desk;
mod health;
mod hold;
mod lanes;
mod mailing;
pub mod order;
mod orders;
mod pickup;
mod premises;
mod service;
#[cfg(test)]
mod tests;
mod watching;
pub mod when;

pub use asking::Asked;
pub use desk::{Clock, Desk};
pub use order::{Answer, Order};
pub use service::{Serving, serve};
