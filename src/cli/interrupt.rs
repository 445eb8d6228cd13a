//! What asks this process to stop: Ctrl-C, `kill`, a terminal that is closed. All three end a run in the same way.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens from the moment that it is made.
pub struct Interrupts {
    heard: Vec<(&'static str, Signal)>,
}

impl Interrupts {
    /// Begins to listen. A signal that was ignored when this process was started (nohup(1), a shell's background job) stays ignored.
    pub fn listen() -> Self {
        let ignored = ignored_signals();
        let kinds = [
            ("SIGINT", SignalKind::interrupt()),
            ("SIGTERM", SignalKind::terminate()),
            ("SIGHUP", SignalKind::hangup()),
        ];
        let is_ignored = |kind: SignalKind| ignored >> (kind.as_raw_value() - 1) & 1 == 1;
        let heard = kinds.into_iter().filter(|(_, kind)| !is_ignored(*kind));
        Self { heard: heard.filter_map(|(name, kind)| Some((name, signal(kind).ok()?))).collect() }
    }

    /// Waits until one is heard, and gives its name.
    pub async fn next(&mut self) -> &'static str {
        let any = self.heard.iter_mut().map(|(name, signal)| {
            Box::pin(async {
                signal.recv().await;
                *name
            })
        });
        let any: Vec<_> = any.collect();
        if any.is_empty() {
            return std::future::pending().await;
        }
        futures::future::select_all(any).await.0
    }
}

/// The mask of signals that this process ignores, as proc(5) shows it.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}
