//! The lab's Redis servers, a primary and a replica, with `redis-cli` as the real client.

use crate::lab::{Lab, LabPerson, LabSession};
use crate::suite::{Rig, Session, contract};
use offboard::connector::Connector;
use offboard::connectors::redis::{Settings, build};
use offboard::model::{Place, SystemName};
use std::sync::Arc;

struct Redis;

struct RedisCli(LabSession);

impl Session for RedisCli {
    fn is_alive(&mut self) -> bool {
        self.0.is_alive()
    }
}

fn connector(lab: &Lab, user: &str, secret: &str) -> Arc<dyn Connector> {
    let settings = format!(
        "{{ hosts: [cache1.sunrise.test, \"cache2.sunrise.test:6379\"], user: {user}, password: {{ file: secrets/{secret} }}, \
           ca: ca.pem, control: {{ user: monitor, password: {{ file: secrets/redis-control }} }} }}"
    );
    let settings: Settings = serde_yaml::from_str(&settings).unwrap();
    build(&SystemName("cache".into()), settings, lab.root()).unwrap()
}

fn server_of(place: &Place) -> &str {
    place.address.split('.').next().unwrap()
}

impl Rig for Redis {
    fn connector(lab: &Lab) -> Arc<dyn Connector> {
        connector(lab, "offboard", "redis")
    }

    fn powerless(lab: &Lab) -> Arc<dyn Connector> {
        connector(lab, "offboard_limited", "redis-limited")
    }

    fn gets_in(lab: &Lab, person: &LabPerson, place: &Place) -> bool {
        lab.redis(server_of(place), &person.user, &person.password, &["PING"]).is_ok_and(|said| said == "PONG")
    }

    fn session(lab: &Lab, person: &LabPerson, place: &Place) -> Option<Box<dyn Session>> {
        let mut session = lab.redis_session(server_of(place), &person.user, &person.password);
        assert!(session.is_alive(), "redis-cli does not open");
        Some(Box::new(RedisCli(session)))
    }

    fn server(place: &Place) -> String {
        server_of(place).into()
    }

    fn delete_account(lab: &Lab, person: &LabPerson, place: &Place) {
        lab.redis_admin(server_of(place), &["ACL", "DELUSER", &person.user]);
    }

    fn gets_in_again(lab: &Lab, person: &LabPerson, place: &Place, one_time: Option<&str>) -> bool {
        one_time.is_some_and(|password| lab.redis(server_of(place), &person.user, password, &["PING"]).is_ok())
    }
}

contract!(Redis);
