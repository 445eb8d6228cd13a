//! The command line: one file a command. The only room that prints, asks, and reads the clock.

mod accounts;
mod cancel;
mod check;
mod connectors;
mod context;
mod done;
mod init;
mod interrupt;
mod journal;
mod list;
mod mail;
mod orders;
mod outcome;
mod plan;
mod playbook;
mod post;
mod progress;
pub mod render;
mod report;
mod reschedule;
mod restore;
mod resume;
mod rotate;
mod run;
mod seal;
mod secrets;
mod serve;
mod status;
mod sweep;
mod verify;
mod waive;

use clap::{Parser, Subcommand};
use context::{Color, Context};
pub use outcome::{Exit, Failure};
pub use report::{write_all as write_reports, write_sweep};
use std::path::PathBuf;
use std::process::ExitCode;

/// Closes every door that a leaver had, and proves each one shut.
#[derive(Parser)]
#[command(name = "offboard", version, propagate_version = true, after_help = outcome::EXIT_HELP)]
struct Cli {
    /// The configuration.
    #[arg(long, short, global = true, default_value = "offboard.yaml", env = "OFFBOARD_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// Machine-readable output on standard output.
    #[arg(long, global = true)]
    json: bool,
    /// When to use colour.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    color: Color,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a commented offboard.yaml, sealing and signing keys, and an empty journal.
    Init(init::Args),
    /// Check the configuration, the playbooks, and our own login and privileges on every system.
    Check(check::Args),
    /// List everything a person can open, or one system's inventory.
    Accounts(accounts::Args),
    /// Show every step of a run; touches nothing.
    Plan(plan::Args),
    /// Shut every door of a person, prove it, and report.
    Run(run::Args),
    /// Give a scheduled run up, before it has begun.
    Cancel(cancel::Args),
    /// Let a scheduled run begin at another hour.
    Reschedule(reschedule::Args),
    /// Run what is due, when it is due: scheduled runs, leavers of the roster, looks again.
    Serve(serve::Args),
    /// Find orphan, dormant and lingering accounts; changes nothing.
    Sweep(sweep::Args),
    /// Show where a run stands.
    Status(status::Args),
    /// List all runs.
    List(list::Args),
    /// Go on after a crash or a mended fault.
    Resume(resume::Args),
    /// Look at every door of a run again.
    Verify(verify::Args),
    /// Give access back.
    Restore(restore::Args),
    /// Give a stuck step or an unreached place up, in writing.
    Waive(waive::Args),
    /// List shared secrets: who may know them, when they were rotated, and whether they could be.
    Secrets(secrets::Args),
    /// Rotate one shared secret, though nobody leaves.
    Rotate(rotate::Args),
    /// The keys that seal the journal's secrets: see them, change them, get them back.
    Seal(seal::Args),
    /// Close a manual step, with what shows that it is done.
    Done(done::Args),
    /// List the mails that are not delivered, or send them now.
    Mail(mail::Args),
    /// Write the evidence of a run.
    Report(report::Args),
    /// Check the journal.
    Journal(journal::Args),
    /// List the connectors: doors, strength of proof, privileges.
    Connectors(connectors::Args),
    /// Check playbooks, or print their schema.
    Playbook(playbook::Args),
}

/// Runs the program; its result is the exit status.
pub fn main() -> ExitCode {
    keep_memory_private();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Fine.into() };
        }
    };
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("error[unexpected]: a second cryptographic provider is installed");
        return Exit::Unexpected.into();
    }
    #[cfg(feature = "failpoints")]
    outcome::die_at_failpoint();
    let context = Context::new(cli.config, cli.json, cli.color);
    // One thread: there is little to compute, and to hand every packet from thread to thread costs more than that.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error[unexpected]: cannot start: {error}");
            return Exit::Unexpected.into();
        }
    };
    let done = runtime.block_on(async {
        let done = match cli.command {
            Command::Init(args) => init::run(&context, args).await,
            Command::Check(args) => check::run(&context, args).await,
            Command::Accounts(args) => accounts::run(&context, args).await,
            Command::Plan(args) => plan::run(&context, args).await,
            Command::Run(args) => run::run(&context, args).await,
            Command::Cancel(args) => cancel::run(&context, args).await,
            Command::Reschedule(args) => reschedule::run(&context, args).await,
            Command::Serve(args) => serve::run(&context, args).await,
            Command::Sweep(args) => sweep::run(&context, args).await,
            Command::Status(args) => status::run(&context, args).await,
            Command::List(args) => list::run(&context, args).await,
            Command::Resume(args) => resume::run(&context, args).await,
            Command::Verify(args) => verify::run(&context, args).await,
            Command::Restore(args) => restore::run(&context, args).await,
            Command::Waive(args) => waive::run(&context, args).await,
            Command::Secrets(args) => secrets::run(&context, args).await,
            Command::Rotate(args) => rotate::run(&context, args).await,
            Command::Seal(args) => seal::run(&context, args).await,
            Command::Done(args) => done::run(&context, args).await,
            Command::Mail(args) => mail::run(&context, args).await,
            Command::Report(args) => report::run(&context, args).await,
            Command::Journal(args) => journal::run(&context, args).await,
            Command::Connectors(args) => connectors::run(&context, args).await,
            Command::Playbook(args) => playbook::run(&context, args).await,
        };
        post::at_the_end(&context).await;
        done
    });
    // Hanging look-ups and commands must not hold the exit up.
    runtime.shutdown_background();
    match done {
        Ok(Exit::Fine) if context.is_unwritten() => Exit::Unexpected.into(),
        Ok(exit) => exit.into(),
        Err(failure) => {
            eprint!("{}", failure.render(context.style_for_errors()));
            failure.exit.into()
        }
    }
}

/// Secrets are in our memory and environment: a crash must not leave them in a core file, and no process of the same user may look at them with
/// ptrace or through /proc. tests/memory.rs looks.
fn keep_memory_private() {
    if let Err(error) = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0) {
        eprintln!("warning: core dumps could not be switched off: {error}");
    }
    // RLIMIT_CORE does not hold where a core goes to a program (core(5)); this does. And it makes root the owner of /proc/PID (proc(5)).
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        eprintln!("warning: other processes of this user may read the memory of this one: {error}");
    }
}
