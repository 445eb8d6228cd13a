//! What is told to people by mail: how a letter is written so that nothing foreign in it steers anybody, and how it is sent. What there is
//! to tell is decided elsewhere (`letters`); when it is sent is never on the path of a revocation: it comes out of the store's outbox.

mod drain;
mod letter;
mod mailer;
mod message;
mod settings;

pub use drain::{Drained, drain};
pub use letter::{Item, Letter};
pub use mailer::Mailer;
pub use settings::{Settings, Tls};
