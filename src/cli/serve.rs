//! `offboard serve`.

use super::context::{Context, clock};
use super::outcome::{Exit, Failure};
use crate::daemon::{Serving, serve};
use crate::model::{Fault, FaultKind};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Run what is due, when it is due, until it is stopped (SIGTERM, SIGINT). Logs JSON on standard error.
#[derive(clap::Args)]
pub struct Args {}

pub async fn run(context: &Context, _: Args) -> Result<Exit, Failure> {
    log();
    let (stopping, stop) = watch::channel(false);
    let listen =
        |kind| signal(kind).map_err(|e| Fault::new(FaultKind::Unexpected, "signals cannot be received").because(e));
    let (mut term, mut int) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        let _ = stopping.send(true);
    });
    serve(Serving { config: context.config.clone(), clock: clock(), stop, ready: None }).await?;
    Ok(Exit::Fine)
}

/// JSON lines on standard error. Only our own: what libraries log may hold what was sent.
fn log() {
    let ours = Targets::new().with_target("offboard", LevelFilter::INFO);
    let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stderr);
    tracing_subscriber::registry().with(lines).with(ours).init();
}
