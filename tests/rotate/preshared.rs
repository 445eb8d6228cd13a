//! Preshared keys of WireGuard tunnels: a real tunnel between two hosts, with the programs of wireguard-tools.

use crate::lab::{Lab, LabPerson};
use crate::office::{Office, all_shut};
use crate::resume;
use serde_json::Value;
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

fn sh(lab: &Lab, host: &str, script: &str) -> String {
    let done = lab.on(host, &["bash", "-ec", script]);
    assert!(done.status.success(), "{host}: {script}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim_end().to_string()
}

/// A tunnel between web1, where it listens, and db1. On web1 there is another peer, with a key of its own.
struct Tunnel {
    name: String,
    number: u32,
    /// The key that the leaver knows.
    old: String,
    others: String,
    /// Public keys of the two ends.
    web1: String,
    db1: String,
}

const ENDS: [&str; 2] = ["web1", "db1"];

impl Tunnel {
    fn new(lab: &Lab) -> Self {
        let number = NEXT.fetch_add(1, Ordering::SeqCst) + 1;
        let name = format!("t{}x{number}", std::process::id() % 100_000);
        let key = |what: &str| sh(lab, "web1", what);
        let pair = || {
            let private = key("wg genkey");
            let public = key(&format!("echo {private} | wg pubkey"));
            (private, public)
        };
        let (web1, db1, other) = (pair(), pair(), pair());
        let (old, others) = (key("wg genpsk"), key("wg genpsk"));
        let port = 30_000 + std::process::id() % 100 * 100 + number;
        let of_web1 = format!(
            "[Interface]\nPrivateKey = {}\nListenPort = {port}\nAddress = 10.90.{number}.1/32\n\n# a colleague's tunnel\n[Peer]\nPublicKey = {}\n\
             PresharedKey = {others}\nAllowedIPs = 10.90.{number}.9/32\n\n[Peer] # to the database\nPublicKey = {}\nPresharedKey={old} # since 2019\nAllowedIPs = 10.90.{number}.2/32\n",
            web1.0, other.1, db1.1
        );
        let of_db1 = format!(
            "[Interface]\nPrivateKey = {}\nAddress = 10.90.{number}.2/32\n[Peer]\nPresharedKey = {old}\nPublicKey = {}\nEndpoint = 127.66.0.11:{port}\n\
             AllowedIPs = 10.90.{number}.1/32\n",
            db1.0, web1.1
        );
        let tunnel = Self { name, number, old, others, web1: web1.1, db1: db1.1 };
        for (host, text) in ENDS.into_iter().zip([of_web1, of_db1]) {
            lab.feed(host, &["install", "-D", "-m", "600", "/dev/stdin", &tunnel.file()], text.as_bytes());
            tunnel.up(lab, host);
        }
        assert!(tunnel.pings(lab), "the tunnel does not come up");
        tunnel
    }

    fn file(&self) -> String {
        format!("/etc/wireguard/{}.conf", self.name)
    }

    fn up(&self, lab: &Lab, host: &str) {
        sh(lab, host, &format!("wg-quick up {} >/dev/null 2>&1", self.name));
    }

    /// With what stands in the files, and nothing left of earlier handshakes.
    fn anew(&self, lab: &Lab) {
        for host in ENDS {
            sh(lab, host, &format!("wg-quick down {} >/dev/null 2>&1", self.name));
            self.up(lab, host);
        }
    }

    fn pings(&self, lab: &Lab) -> bool {
        lab.on("db1", &["ping", "-c", "1", "-W", "8", &format!("10.90.{}.1", self.number)]).status.success()
    }

    /// Of the two ends: what stands in the file, and what runs.
    fn keys(&self, lab: &Lab) -> [String; 4] {
        let written = |host: &str, peer: &str| {
            let awk = format!(
                r#"awk -v RS='\\[Peer\\]' 'index($0, "{peer}")' {} | sed -n 's/^PresharedKey *= *//p' | cut -d' ' -f1"#,
                self.file()
            );
            sh(lab, host, &awk)
        };
        let runs = |host: &str, peer: &str| {
            sh(
                lab,
                host,
                &format!("wg show {} preshared-keys | awk -v peer={peer} '$1 == peer {{ print $2 }}'", self.name),
            )
        };
        [written("web1", &self.db1), runs("web1", &self.db1), written("db1", &self.web1), runs("db1", &self.web1)]
    }

    fn entry(&self, person: &LabPerson) -> String {
        let Self { name, number, .. } = self;
        let end = |host: &str, peer: &str, other: u32| {
            format!(
                "{{ system: fleet, place: {host}.sunrise.test, file: {}, format: wireguard, key: \"{peer}\", \
                 reload: [bash, -c, \"wg syncconf {name} <(wg-quick strip {name})\"], health: [ping, -c, \"1\", -W, \"8\", 10.90.{number}.{other}] }}",
                self.file()
            )
        };
        format!(
            "  {name}:\n    source: {}\n    consumers:\n      - {}\n    known-to: {{ people: [{}] }}\n",
            end("web1", &self.db1, 2),
            end("db1", &self.web1, 1),
            person.id
        )
    }

    fn office(&self, lab: &Lab, person: &LabPerson) -> Office {
        let office = Office::new(lab);
        office.edit("offboard.yaml", |text| text + &self.entry(person));
        office
    }

    /// Both ends have one new key, in their files and running, and shake hands with it.
    fn is_rotated(&self, lab: &Lab, old: &str, what: &str) -> String {
        let keys = self.keys(lab);
        assert!(keys.iter().all(|key| *key == keys[0]) && keys[0] != old, "{what}: {keys:?}");
        assert_eq!(sh(lab, "web1", "ls -A /etc/wireguard | grep '^\\.' || true"), "", "{what}");
        keys[0].clone()
    }
}

fn door<'a>(report: &'a Value, tunnel: &Tunnel) -> &'a Value {
    let doors = report["doors"].as_array().unwrap();
    doors
        .iter()
        .find(|d| d["kind"] == "shared-secret" && d["object"] == tunnel.name.as_str())
        .unwrap_or_else(|| panic!("{report:#}"))
}

#[test]
fn both_ends_of_a_tunnel_get_a_new_key_and_the_old_one_opens_it_no_more() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let tunnel = Tunnel::new(&lab);
    let office = tunnel.office(&lab, &leaver);
    let before = sh(&lab, "web1", &format!("cat {}; stat -c '%a %U' {}", tunnel.file(), tunnel.file()));
    let pinging = format!(
        "ping -i 0.2 -w 120 10.90.{}.1 >/tmp/{1}.pings 2>&1 </dev/null & echo $! >/run/{1}.ping",
        tunnel.number, tunnel.name
    );
    sh(&lab, "db1", &pinging);
    let done = office.run(&leaver).expect(0);
    let pings = sh(
        &lab,
        "db1",
        &format!("kill -INT $(cat /run/{0}.ping); sleep 0.5; cat /tmp/{0}.pings; rm /tmp/{0}.pings", tunnel.name),
    );
    assert!(pings.contains(" 0% packet loss"), "{pings}");
    let report = done.json();
    all_shut(&report);
    assert_eq!(
        (&door(&report, &tunnel)["before"], &door(&report, &tunnel)["proof"]),
        (&"open".into(), &"read-back".into())
    );
    let new = tunnel.is_rotated(&lab, &tunnel.old, "after the run");
    let after = sh(&lab, "web1", &format!("cat {}; stat -c '%a %U' {}", tunnel.file(), tunnel.file()));
    assert_eq!(
        after,
        before.replace(&tunnel.old, &new),
        "every other byte, the other peer's key and the mode are as they were"
    );
    assert!(after.contains(&tunnel.others));
    tunnel.anew(&lab);
    assert!(tunnel.pings(&lab), "with the new key there is a handshake");
    // With the end's private key and the old preshared key there is none.
    let with_old = format!(
        "echo {} >/run/{1}.old; wg set {1} peer {2} preshared-key /run/{1}.old; rm /run/{1}.old; ip link set {1} down; ip link set {1} up; \
         ip route replace 10.90.{3}.1/32 dev {1}",
        tunnel.old, tunnel.name, tunnel.web1, tunnel.number
    );
    sh(&lab, "db1", &with_old);
    sh(&lab, "web1", &format!("wg-quick down {0} >/dev/null 2>&1; wg-quick up {0} >/dev/null 2>&1", tunnel.name));
    assert!(!tunnel.pings(&lab), "the old key still makes a tunnel");
    tunnel.anew(&lab);
    assert!(tunnel.pings(&lab));
    let journal = std::fs::read(office.path("journal/journal.sqlite")).unwrap();
    let everything = format!("{}{}{}", done.out, done.err, String::from_utf8_lossy(&journal));
    for key in [&tunnel.old, &new, &tunnel.others] {
        assert!(!everything.contains(key.as_str()), "a key is told");
    }
}

#[test]
fn wherever_it_is_killed_both_ends_have_one_key_in_the_end() {
    let lab = Lab::shared();
    let person = lab.active_person();
    let tunnel = Tunnel::new(&lab);
    let mut old = tunnel.old.clone();
    let mut points: Vec<String> = ["sealed:1", "file:1", "file:2"].map(|point| format!("rotate::{point}")).into();
    points.extend((3..=8).map(|nth| format!("rotate::taken:{nth}")));
    for point in points {
        let office = tunnel.office(&lab, &person);
        let mut command = office.command(&["--json", "rotate", &tunnel.name, "--yes"]);
        let done = command.env("OFFBOARD_DIE_AT", &point).output().unwrap();
        assert!(done.status.code().is_none(), "{point} was not passed: {}", String::from_utf8_lossy(&done.stderr));
        all_shut(&resume(&office).expect(0).json());
        old = tunnel.is_rotated(&lab, &old, &point);
    }
    tunnel.anew(&lab);
    assert!(tunnel.pings(&lab));
}
