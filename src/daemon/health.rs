//! Whether it is alive and ready, for the service manager and for monitoring: over HTTP on this machine, and to systemd.

use super::lanes::Shared;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use jiff::SignedDuration;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// If the loop has not come round for so long, it hangs.
const BEAT: Duration = Duration::from_secs(15);
/// A termination that was not taken up so long after its hour is overdue.
const OVERDUE: SignedDuration = SignedDuration::from_secs(60);

/// Answers `/healthz` and `/readyz` until the process ends.
pub(super) async fn answer(listener: TcpListener, shared: Arc<Shared>) {
    let routes = Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).with_state(shared);
    if let Err(error) = axum::serve(listener, routes).await {
        tracing::error!(%error, "health is not told any more");
    }
}

fn json(ok: bool, body: &serde_json::Value) -> impl IntoResponse + use<> {
    let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n"))
}

/// Alive: the loop comes round.
async fn healthz(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let still = shared.last_beat().elapsed();
    let alive = still < BEAT;
    json(alive, &serde_json::json!({ "alive": alive, "last_beat_seconds": still.as_secs() }))
}

/// Ready: what comes due now is done. Any user of this machine may ask, so it tells kinds and counts; who and what it is stands in the log.
async fn readyz(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let still = shared.last_beat().elapsed() >= BEAT;
    shared.is_wrong("loop", 1, still.then(|| "it does not come round".into()));
    shared.is_wrong("journal file", 1, unwritable(&shared));
    shared.is_wrong("journal", 1, shared.journal.head().await.err().map(|error| error.to_string()));
    let (count, overdue) = match shared.store.overdue((shared.clock)() - OVERDUE, &shared.taken()).await {
        Ok(0) => (0, None),
        Ok(count) => (usize::try_from(count).unwrap_or(usize::MAX), Some(format!("{count} terminations are overdue"))),
        Err(fault) => (1, Some(fault.to_string())),
    };
    shared.is_wrong("overdue", count, overdue);
    let wrong = shared.wrong();
    let told: Vec<_> = wrong.iter().map(|(kind, count)| serde_json::json!({ "kind": kind, "count": count })).collect();
    json(wrong.is_empty(), &serde_json::json!({ "ready": wrong.is_empty(), "wrong": told }))
}

/// Whether the journal's file system takes anything any more.
fn unwritable(shared: &Shared) -> Option<String> {
    let folder = &shared.house().config.journal;
    let file = folder.join(crate::journal::FILE);
    if let Err(error) = nix::unistd::access(&file, nix::unistd::AccessFlags::W_OK) {
        return Some(format!("{}: cannot be written: {error}", file.display()));
    }
    match nix::sys::statvfs::statvfs(folder) {
        Ok(room) if room.blocks_available() == 0 => Some(format!("{}: no space is left", folder.display())),
        Ok(_) => None,
        Err(error) => Some(format!("{}: {error}", folder.display())),
    }
}

/// Tells systemd how the service stands (sd_notify(3)): `READY=1`, `WATCHDOG=1`, `STOPPING=1`. Without systemd nothing is told.
pub(super) fn tell_systemd(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let sent = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(error) = sent {
        tracing::debug!(%error, state, "systemd was not told");
    }
}
