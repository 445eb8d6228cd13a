//! The lab's OpenSSH hosts, with `ssh` as the real client.

use crate::lab::{Lab, LabPerson, LabSession};
use crate::suite::{Rig, Session, contract};
use offboard::connector::Connector;
use offboard::connectors::ssh::{Settings, build};
use offboard::model::{Place, SystemName};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

struct Ssh;

struct Shell(LabSession);

impl Session for Shell {
    fn is_alive(&mut self) -> bool {
        self.0.is_alive()
    }
}

fn connector(lab: &Lab, hosts: &str, user: &str, key: &Path) -> Arc<dyn Connector> {
    let settings = format!(
        "{{ hosts: [{hosts}], user: {user}, key: {}, known-hosts: known_hosts, sudo: true, parallel: 10 }}",
        key.display()
    );
    let settings: Settings = serde_yaml::from_str(&settings).unwrap();
    build(&SystemName("fleet".into()), settings, lab.root()).unwrap()
}

/// As root in the host, behind offboard's back.
fn administer(lab: &Lab, host: &str, text: &str, arguments: &[&str]) {
    let output = lab.on(host, &[&["bash", "-ec", text, "bash"], arguments].concat());
    assert!(output.status.success(), "{host}: {text}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Rig for Ssh {
    fn connector(lab: &Lab) -> Arc<dyn Connector> {
        let hosts = "web1.sunrise.test, web2.sunrise.test, { name: db1.sunrise.test, address: 127.66.0.13, port: 22 }, \
             bastion.sunrise.test, { name: backup.sunrise.test, user: root }";
        connector(lab, hosts, "offboard", Path::new("secrets/fleet_ed25519"))
    }

    /// Somebody with an account and a key, whom sudo does not know.
    fn powerless(lab: &Lab) -> Arc<dyn Connector> {
        let operator = lab.active_person();
        connector(lab, "web1.sunrise.test", &operator.user, &operator.key)
    }

    fn gets_in(lab: &Lab, person: &LabPerson, place: &Place) -> bool {
        lab.ssh(&person.key, &person.user, &Self::server(place))
    }

    fn session(lab: &Lab, person: &LabPerson, place: &Place) -> Option<Box<dyn Session>> {
        Some(Box::new(Shell(lab.ssh_session(person, &person.user, &Self::server(place)))))
    }

    fn server(place: &Place) -> String {
        place.address.split('.').next().unwrap().to_string()
    }

    fn delete_account(lab: &Lab, person: &LabPerson, place: &Place) {
        // Others work on the same passwd.
        let delete = "for try in {1..50}; do userdel \"$1\" && exit; sleep 0.1; done; exit 1";
        administer(lab, &Self::server(place), delete, &[&person.user]);
    }

    /// No password is handed out here: the administrator puts a new key in place.
    fn gets_in_again(lab: &Lab, person: &LabPerson, place: &Place, one_time: Option<&str>) -> bool {
        assert_eq!(one_time, None);
        let key = person.key.with_file_name("id_new");
        let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status().unwrap();
        assert!(made.success());
        let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
        let put = "echo \"$2\" >>/home/\"$1\"/.ssh/authorized_keys";
        administer(lab, &Self::server(place), put, &[&person.user, public.trim_end()]);
        lab.ssh(&key, &person.user, &Self::server(place))
    }
}

contract!(Ssh);
