//! What every command needs from its surroundings: where to read, how to write, who asks, what time it is.

use super::outcome::Failure;
use super::render::Style;
use crate::model::{Actor, Fault, FaultKind};
use crate::store::Store;
use crate::wiring::House;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// When to use colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set (no-color.org).
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The surroundings of one command.
pub struct Context {
    /// The path of `offboard.yaml`.
    pub config: PathBuf,
    /// Whether to write JSON.
    pub json: bool,
    color: Color,
    unwritten: AtomicBool,
    outbox: Mutex<Option<(Arc<House>, Store)>>,
}

impl Context {
    /// The surroundings as the arguments describe them.
    pub fn new(config: PathBuf, json: bool, color: Color) -> Self {
        Self { config, json, color, unwritten: AtomicBool::new(false), outbox: Mutex::default() }
    }

    /// How to write on standard output.
    pub fn style(&self) -> Style {
        self.style_on(std::io::stdout().is_terminal())
    }

    /// How to write on standard error.
    pub fn style_for_errors(&self) -> Style {
        self.style_on(std::io::stderr().is_terminal())
    }

    fn style_on(&self, terminal: bool) -> Style {
        let color = match self.color {
            Color::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
            Color::Always => true,
            Color::Never => false,
        };
        Style { color, zone: TimeZone::system() }
    }

    /// Everything that the configuration describes.
    pub fn house(&self) -> Result<House, Failure> {
        let house = House::build(&self.config, clock())?;
        for warning in &house.warnings {
            eprintln!("{}", warning.render(self.style_for_errors().color));
        }
        Ok(house)
    }

    /// Writes a result: text for people, or JSON.
    pub fn print(&self, text: impl FnOnce(&Style) -> String, json: impl FnOnce() -> serde_json::Value) {
        let out = if self.json { format!("{:#}\n", json()) } else { text(&self.style()) };
        self.write(&out);
    }

    /// Writes to standard output. A reader that went away (`| head`) is no error of ours; a full disk is.
    pub fn write(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush())
            && error.kind() != std::io::ErrorKind::BrokenPipe
        {
            eprintln!("error[unexpected]: cannot write the result: {error}");
            self.unwritten.store(true, Ordering::SeqCst);
        }
    }

    /// Writes what is told only once: that somebody reads it is part of the work, and a reader that went away has not.
    pub fn write_once(&self, text: &str) -> Result<(), Fault> {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .map_err(|e| Fault::new(FaultKind::Unexpected, "cannot write the result; nothing was changed").because(e))
    }

    /// What waits in this outbox is sent when the command has done its work and said what came of it.
    pub fn sends_at_the_end(&self, house: &Arc<House>, store: &Store) {
        *self.outbox.lock().unwrap_or_else(PoisonError::into_inner) = Some((Arc::clone(house), store.clone()));
    }

    /// The outbox that is to be sent from.
    pub fn outbox(&self) -> Option<(Arc<House>, Store)> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether a result could not be written: then the command has not done its work, whatever else it did.
    pub fn is_unwritten(&self) -> bool {
        self.unwritten.load(Ordering::SeqCst)
    }
}

/// The time.
#[expect(clippy::disallowed_methods, reason = "this is the edge at which time comes in")]
pub fn clock() -> Arc<dyn Fn() -> Timestamp + Send + Sync> {
    Arc::new(Timestamp::now)
}

/// The operating system's user: the one who logged in, also under `sudo` and `sudo -u offboard`, where the user of the process would say
/// nothing. The kernel keeps who that is, and no ordinary user can change it (proc_pid_loginuid(5)).
pub fn actor() -> Actor {
    let by_id = |id| nix::unistd::User::from_uid(id).ok().flatten().map(|user| user.name);
    let real = nix::unistd::getuid();
    let name = std::fs::read_to_string("/proc/self/loginuid")
        .ok()
        .and_then(|text| logged_in(&text))
        .and_then(|id| by_id(id.into()))
        .or_else(|| std::env::var("SUDO_USER").ok().filter(|name| real.is_root() && !name.is_empty()))
        .or_else(|| by_id(real));
    Actor { name: name.unwrap_or_else(|| format!("user id {real}")), asserted_by: "operating system".into() }
}

/// The user of this login; nothing if nobody logged in (a service), or it was root: that may be anybody.
fn logged_in(loginuid: &str) -> Option<u32> {
    loginuid.trim().parse().ok().filter(|id| *id != u32::MAX && *id != 0)
}

/// Asks on the terminal; `false` where there is none.
pub fn confirm(question: &str, word: &str) -> bool {
    if !std::io::stdin().is_terminal() {
        return false;
    }
    eprint!("{question} Type {word} to confirm: ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).is_ok() && answer.trim() == word
}

#[cfg(test)]
mod tests {
    use super::logged_in;

    #[test]
    fn who_logged_in_is_somebody_or_nobody() {
        assert_eq!(logged_in("1000\n"), Some(1000));
        for nobody in ["4294967295", "0", "", "-1", "root"] {
            assert_eq!(logged_in(nobody), None, "{nobody:?}");
        }
    }
}
