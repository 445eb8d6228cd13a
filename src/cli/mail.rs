//! `offboard mail`.

use super::context::{Context, clock};
use super::outcome::{Exit, Failure};
use super::{post, render};
use crate::model::{Fault, FaultKind};

/// List the mails that are not delivered, and why; or send them now.
#[derive(clap::Args)]
pub struct Args {
    /// Send everything that waits now, also what a server has refused.
    #[arg(long)]
    send: bool,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let house = context.house()?;
    let Some(mailer) = house.mailer()? else {
        return Err(Fault::new(FaultKind::Misconfigured, "no mail server is configured")
            .hint("write mail: into offboard.yaml; docs/mail.md shows how")
            .into());
    };
    let store = house.store().await?;
    let sent = if args.send {
        store.try_all_again(clock()()).await?;
        post::send(context, &store, &mailer).await?.sent
    } else {
        0
    };
    let left = store.undelivered(clock()()).await?;
    context.print(
        |style| render::undelivered(&left, sent, style),
        || serde_json::json!({ "sent": sent, "undelivered": left }),
    );
    Ok(if left.is_empty() { Exit::Fine } else { Exit::Found })
}
