//! The lab's OpenVPN gateway, with `openvpn` as the real client.

use crate::lab::{Lab, LabPerson, LabSession};
use crate::suite::{Rig, Session, contract};
use offboard::connector::Connector;
use offboard::connectors::openvpn::{Settings, build};
use offboard::model::{Place, SystemName};
use std::sync::Arc;

struct Openvpn;

struct Tunnel(LabSession);

impl Session for Tunnel {
    fn is_alive(&mut self) -> bool {
        self.0.is_alive()
    }
}

fn connector(lab: &Lab, sudo: bool) -> Arc<dyn Connector> {
    let settings = format!(
        "{{ hosts: [vpn.sunrise.test], user: offboard, key: secrets/fleet_ed25519, known-hosts: known_hosts, sudo: {sudo}, \
         config: /etc/openvpn/main/server.conf, ca: {{ easy-rsa: /etc/openvpn/main/pki }} }}"
    );
    let settings: Settings = serde_yaml::from_str(&settings).unwrap();
    build(&SystemName("vpn".into()), settings, lab.root()).unwrap()
}

impl Rig for Openvpn {
    fn connector(lab: &Lab) -> Arc<dyn Connector> {
        connector(lab, true)
    }

    /// Our own login, which does not become root.
    fn powerless(lab: &Lab) -> Arc<dyn Connector> {
        connector(lab, false)
    }

    fn gets_in(lab: &Lab, person: &LabPerson, _place: &Place) -> bool {
        lab.vpn(person, &Lab::vpn_profile(person))
    }

    fn session(lab: &Lab, person: &LabPerson, _place: &Place) -> Option<Box<dyn Session>> {
        Some(Box::new(Tunnel(lab.vpn_session(person, &Lab::vpn_profile(person)))))
    }

    fn server(_place: &Place) -> String {
        "vpn".into()
    }

    /// A certificate cannot be deleted: the administrator revokes it, and publishes the list.
    fn delete_account(lab: &Lab, person: &LabPerson, _place: &Place) {
        lab.gateway(&["revoke", "main", &person.user]);
    }

    /// The old certificate stays dead: the administrator gives out a new one.
    fn gets_in_again(lab: &Lab, person: &LabPerson, _place: &Place, one_time: Option<&str>) -> bool {
        assert_eq!(one_time, None);
        let profile = person.key.with_file_name("vpn_again.ovpn");
        std::fs::write(&profile, lab.gateway(&["issue", "main", &person.user])).unwrap();
        lab.vpn(person, &profile)
    }
}

contract!(Openvpn);
