//! The lab's PostgreSQL, with `psql` as the real client.

use crate::lab::{Lab, LabPerson, LabSession};
use crate::suite::{Rig, Session, contract};
use offboard::connector::Connector;
use offboard::connectors::postgres::{Settings, build};
use offboard::model::{Place, SystemName};
use std::sync::Arc;

struct Postgres;

struct Psql(LabSession);

impl Session for Psql {
    fn is_alive(&mut self) -> bool {
        self.0.is_alive()
    }
}

fn connector(lab: &Lab, user: &str, secret: &str) -> Arc<dyn Connector> {
    let settings = format!(
        "{{ hosts: [\"pg.sunrise.test:5432\"], user: {user}, password: {{ file: secrets/{secret} }}, ca: ca.pem, \
           control: {{ user: monitor, password: {{ file: secrets/postgres-control }} }} }}"
    );
    let settings: Settings = serde_yaml::from_str(&settings).unwrap();
    build(&SystemName("billing".into()), settings, lab.root()).unwrap()
}

/// As the lab's database administrator, behind offboard's back.
fn administer(lab: &Lab, statement: &str) {
    let password = std::fs::read_to_string(lab.root().join("secrets/postgres")).unwrap();
    lab.psql("offboard", password.trim_end(), statement).unwrap();
}

impl Rig for Postgres {
    fn connector(lab: &Lab) -> Arc<dyn Connector> {
        connector(lab, "offboard", "postgres")
    }

    fn powerless(lab: &Lab) -> Arc<dyn Connector> {
        connector(lab, "offboard_limited", "postgres-limited")
    }

    fn gets_in(lab: &Lab, person: &LabPerson, _: &Place) -> bool {
        lab.psql(&person.user, &person.password, "SELECT 1").is_ok()
    }

    fn session(lab: &Lab, person: &LabPerson, _: &Place) -> Option<Box<dyn Session>> {
        let mut session = lab.psql_session(person);
        assert!(session.is_alive(), "psql does not open");
        Some(Box::new(Psql(session)))
    }

    fn server(_: &Place) -> String {
        "pg".into()
    }

    fn delete_account(lab: &Lab, person: &LabPerson, _: &Place) {
        administer(lab, &format!("DROP ROLE \"{}\"", person.user));
    }

    fn gets_in_again(lab: &Lab, person: &LabPerson, _: &Place, one_time: Option<&str>) -> bool {
        // The suite's clock stands still, so the day for which the password is valid may be over.
        administer(lab, &format!("ALTER ROLE \"{}\" VALID UNTIL 'infinity'", person.user));
        one_time.is_some_and(|password| lab.psql(&person.user, password, "SELECT 1").is_ok())
    }
}

contract!(Postgres);
