//! The lab's MariaDB, with `mariadb` as the real client.

use crate::lab::{Lab, LabPerson, LabSession};
use crate::suite::{Rig, Session, contract};
use offboard::connector::Connector;
use offboard::connectors::mysql::{Settings, build};
use offboard::model::{Place, SystemName};
use std::sync::Arc;

struct Mysql;

struct Client(LabSession);

impl Session for Client {
    fn is_alive(&mut self) -> bool {
        self.0.is_alive()
    }
}

fn connector(lab: &Lab, user: &str, secret: &str) -> Arc<dyn Connector> {
    let settings = format!(
        "{{ hosts: [\"maria.sunrise.test:3306\"], user: {user}, password: {{ file: secrets/{secret} }}, ca: ca.pem, \
           control: {{ user: monitor, password: {{ file: secrets/mysql-control }} }} }}"
    );
    let settings: Settings = serde_yaml::from_str(&settings).unwrap();
    build(&SystemName("clinic".into()), settings, lab.root()).unwrap()
}

impl Rig for Mysql {
    fn connector(lab: &Lab) -> Arc<dyn Connector> {
        connector(lab, "offboard", "mysql")
    }

    fn powerless(lab: &Lab) -> Arc<dyn Connector> {
        connector(lab, "offboard_limited", "mysql-limited")
    }

    fn gets_in(lab: &Lab, person: &LabPerson, _: &Place) -> bool {
        lab.mysql(&person.user, &person.password, "SELECT 1").is_ok()
    }

    fn session(lab: &Lab, person: &LabPerson, _: &Place) -> Option<Box<dyn Session>> {
        let mut session = lab.mysql_session(&person.user, &person.password);
        assert!(session.is_alive(), "mariadb does not open");
        Some(Box::new(Client(session)))
    }

    fn server(_: &Place) -> String {
        "maria".into()
    }

    fn delete_account(lab: &Lab, person: &LabPerson, _: &Place) {
        let user = &person.user;
        lab.mysql_root(&format!("DROP USER `{user}`@`%`, `{user}`@`127.%`, `{user}`@localhost"));
    }

    fn gets_in_again(lab: &Lab, person: &LabPerson, _: &Place, one_time: Option<&str>) -> bool {
        // It has to be changed at the first login.
        one_time.is_some_and(|password| {
            lab.mysql(&person.user, password, "SELECT 1").is_err_and(|said| said.contains("must SET PASSWORD"))
                && lab.mysql(&person.user, password, "SET PASSWORD = PASSWORD('their-own'); SELECT 1").is_ok()
                && lab.mysql(&person.user, "their-own", "SELECT 1").is_ok()
        })
    }
}

contract!(Mysql);
