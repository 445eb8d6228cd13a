//! `offboard check`.

use super::context::{Context, clock};
use super::outcome::{Exit, Failure};
use super::render;
use crate::model::Fault;
use crate::playbook::Book;
use crate::store::Undelivered;
use crate::wiring::House;

/// Check the configuration, the playbooks, and our own login and privileges on every system.
#[derive(clap::Args)]
pub struct Args {}

pub async fn run(context: &Context, _: Args) -> Result<Exit, Failure> {
    let house = context.house()?;
    let playbooks = house.books()?;
    let sealing = async {
        match &house.keeper {
            Some(keeper) => Some((keeper.name(), crate::wiring::try_keeper(&**keeper, &house.config.keys).await)),
            None => None,
        }
    };
    let (health, mail, sealing) = tokio::join!(house.engine.check(), mail(&house), sealing);
    for (book, _) in playbooks.iter().filter(|_| mail.is_none()) {
        let report = match book {
            Book::Leaver(playbook) => &playbook.report,
            Book::Sweep(sweep) => &sweep.report,
        };
        if !report.to.is_empty() {
            eprintln!("warning: the report of {} is mailed to nobody: offboard.yaml has no `mail`", book.name());
        }
    }
    let faults = health.iter().filter(|(_, h)| h.is_err()).count();
    let findings = health.iter().filter_map(|(_, h)| h.as_ref().ok()).map(|h| h.findings.len()).sum::<usize>();
    context.print(
        |style| {
            let mail = mail.as_ref().map(|(answer, left)| render::mail_server(answer, left, style)).unwrap_or_default();
            let sealing = sealing.as_ref().map(|(name, tried)| render::keeper(name, tried, style)).unwrap_or_default();
            sealing + &mail + &render::health(&health, playbooks.len(), house.roster.people().len(), style)
        },
        || {
            let places: Vec<_> = health
                .iter()
                .map(|(place, health)| match health {
                    Ok(h) => serde_json::json!({ "place": place.id, "identity": h.identity, "findings": h.findings }),
                    Err(fault) => serde_json::json!({ "place": place.id, "fault": fault }),
                })
                .collect();
            let mail = mail.as_ref().map(|(answer, left)| match answer {
                Ok(identity) => serde_json::json!({ "identity": identity, "undelivered": left }),
                Err(fault) => serde_json::json!({ "fault": fault, "undelivered": left }),
            });
            let sealing = sealing.as_ref().map(|(name, tried)| match tried {
                Ok(files) => serde_json::json!({ "keeper": name, "files": files }),
                Err(fault) => serde_json::json!({ "keeper": name, "fault": fault }),
            });
            serde_json::json!({ "sealing": sealing, "mail": mail, "places": places, "playbooks": playbooks.len(), "people": house.roster.people().len() })
        },
    );
    let not_kept =
        sealing.is_some_and(|(_, tried)| tried.map_or(true, |files| files.iter().any(|f| f.wrapped.is_none())));
    let no_mail = mail.is_some_and(|(answer, left)| answer.is_err() || !left.is_empty());
    Ok(if faults + findings > 0 || no_mail || not_kept { Exit::Found } else { Exit::Fine })
}

/// How the mail server answers, and what was not delivered; nothing if there is none.
async fn mail(house: &House) -> Option<(Result<String, Fault>, Vec<Undelivered>)> {
    house.config.mail.as_ref()?;
    let answer = async {
        match house.mailer()? {
            Some(mailer) => mailer.check().await,
            None => Ok(String::new()),
        }
    };
    let answer = answer.await;
    // Without a journal there is no outbox either; what is wrong with it is said where it is needed.
    let left = async { house.store().await?.undelivered(clock()()).await };
    let left =
        if crate::wiring::has_journal(&house.config.journal) { left.await.unwrap_or_default() } else { Vec::new() };
    Some((answer, left))
}
