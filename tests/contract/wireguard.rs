//! The lab's WireGuard gateway, with a tunnel of the real WireGuard in a network of its own as the client.

use crate::lab::{Lab, LabPerson, LabSession};
use crate::suite::{Rig, Session, contract};
use offboard::connector::Connector;
use offboard::connectors::wireguard::{Settings, build};
use offboard::model::{Place, SystemName};
use std::sync::Arc;

struct Wireguard;

struct Tunnel(LabSession);

impl Session for Tunnel {
    fn is_alive(&mut self) -> bool {
        self.0.is_alive()
    }
}

fn connector(lab: &Lab, sudo: bool) -> Arc<dyn Connector> {
    let control = std::fs::read_to_string(lab.root().join("seed/wireguard-control")).unwrap();
    let settings = format!(
        "{{ hosts: [vpn.sunrise.test], user: offboard, key: secrets/fleet_ed25519, known-hosts: known_hosts, sudo: {sudo}, \
         interfaces: [wg0], control: {{ public-key: \"{}\" }} }}",
        control.trim()
    );
    let settings: Settings = serde_yaml::from_str(&settings).unwrap();
    build(&SystemName("tunnel".into()), settings, lab.root()).unwrap()
}

impl Rig for Wireguard {
    fn connector(lab: &Lab) -> Arc<dyn Connector> {
        connector(lab, true)
    }

    /// Our own login, which does not become root.
    fn powerless(lab: &Lab) -> Arc<dyn Connector> {
        connector(lab, false)
    }

    fn gets_in(lab: &Lab, person: &LabPerson, _place: &Place) -> bool {
        lab.wireguard(&Lab::wireguard_profile(person))
    }

    fn session(lab: &Lab, person: &LabPerson, _place: &Place) -> Option<Box<dyn Session>> {
        Some(Box::new(Tunnel(lab.wireguard_session(&Lab::wireguard_profile(person)))))
    }

    fn server(_place: &Place) -> String {
        "vpn".into()
    }

    fn delete_account(lab: &Lab, person: &LabPerson, _place: &Place) {
        lab.wireguard_admin(&["delete", "wg0", &Lab::wireguard_key(&Lab::wireguard_profile(person))]);
    }

    /// The old key stays dead: the administrator takes a new one in.
    fn gets_in_again(lab: &Lab, person: &LabPerson, _place: &Place, one_time: Option<&str>) -> bool {
        assert_eq!(one_time, None);
        let profile = person.key.with_file_name("wg_again.conf");
        std::fs::write(&profile, lab.wireguard_admin(&["add", "wg0", &person.user])).unwrap();
        lab.wireguard(&profile)
    }
}

contract!(Wireguard);
