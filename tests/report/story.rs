//! Runs told by hand: records as a journal would hold them, folded as everybody folds them.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use offboard::model::*;
use offboard::report::{Journal, Report, Sources};

/// A run under way.
pub struct Story {
    pub request: RunRequest,
    pub at: Timestamp,
    pub made_after: SignedDuration,
    pub not_covered: Vec<(SystemName, String)>,
    events: Vec<(Timestamp, Event)>,
}

pub const REPLY_KEY: &str = "Permission denied (publickey)";
pub const REPLY_ROLE: &str = "role \"daniel\" is not permitted to log in (28000)";
pub const REPLY_BIND: &str = "Invalid credentials (49); ppolicy: account locked";
pub const KEY: &str = "SHA256:mJ4uWb0Yl6mQ0q3Jd3nTgk1vXvV7Xf2tC8eHkP59qk8";

pub fn actor() -> Actor {
    Actor { name: "tom.weber".into(), asserted_by: "operating system".into() }
}

pub fn at(text: &str) -> Timestamp {
    text.parse().expect("a timestamp")
}

pub fn refused(reply: &str, control: &str) -> Look {
    let verdict = Verdict::Shut { proof: Proof::Refused, reply: reply.into() };
    Look { verdict, control: Some(control.into()), residual: None }
}

pub fn read_back(reply: &str) -> Look {
    let verdict = Verdict::Shut { proof: Proof::ReadBack, reply: reply.into() };
    Look { verdict, control: None, residual: None }
}

pub fn opens(reply: &str) -> Look {
    Look { verdict: Verdict::Open { reply: reply.into() }, control: None, residual: None }
}

pub fn place(system: &str, address: &str) -> Place {
    Place::new(&SystemName(system.into()), address)
}

pub fn account(place: &Place, native_id: &str, owner: Owner) -> Account {
    Account {
        system: place.system.clone(),
        place: place.id.clone(),
        native_id: native_id.into(),
        name: native_id.into(),
        enabled: true,
        identity: Identity::default(),
        owner,
        privileged: false,
        last_used: None,
        doors: vec![],
        facts: serde_json::Value::Null,
    }
}

pub fn daniels(rule: MatchRule) -> Owner {
    Owner::Person { id: PersonId("E1042".into()), rule }
}

/// A door of Daniel's on `account`.
pub fn door(account: &Account, kind: DoorKind, object: &str, detail: &str, rule: MatchRule) -> Door {
    let mut door = Door::new(&account.place, &account.native_id, kind, object, detail);
    door.holder = daniels(rule);
    door
}

impl Story {
    /// The leaver.
    pub fn person(&mut self) -> &mut Person {
        match &mut self.request.subject {
            Subject::Person(person) => person,
            Subject::Secret(_) => panic!("nobody leaves"),
        }
    }

    /// Daniel Okafor leaves; nothing has happened yet.
    pub fn new(places: Vec<Place>) -> Self {
        let requested_at = at("2026-11-22T08:30:00Z");
        let request = RunRequest {
            subject: Subject::Person(Box::new(Person {
                id: PersonId("E1042".into()),
                name: "Daniel Okafor".into(),
                email: Some("daniel.okafor@sunrise.example.com".into()),
                user_name: Some("daniel".into()),
                manager: Some(PersonId("E1007".into())),
                department: Some("Platform".into()),
                worker_type: Some("employee".into()),
                status: WorkerStatus::Terminated,
                reason: Some("involuntary".into()),
                ends: Some(at("2026-11-22T08:29:00Z")),
                zone: Some("Asia/Kolkata".into()),
                keys: vec![Fingerprint(KEY.into())],
            })),
            playbook: "involuntary-termination".into(),
            playbook_body: serde_json::Value::Null,
            requested_by: actor(),
            requested_at,
            inputs: ["offboard.yaml", "playbooks/involuntary-termination.yaml", "roster.csv", "known_hosts"]
                .map(|file| InputDigest { file: file.into(), sha256: Digest::of(file.as_bytes()) })
                .to_vec(),
            places,
            limits: vec![("access-disabled".into(), 3600), ("sessions-ended".into(), 3600)],
            version: "0.1.0".into(),
        };
        let not_covered = [
            ("directory", "Kerberos tickets: this connector speaks LDAP only."),
            ("billing", "Passwords of roles that applications share: they are nobody's alone."),
            ("fleet", "Programs that the leaver installed with root's rights and that open a way in by themselves."),
        ];
        Self {
            request,
            at: requested_at,
            made_after: SignedDuration::from_secs(120),
            not_covered: not_covered.map(|(s, what)| (SystemName(s.into()), what.into())).to_vec(),
            events: vec![],
        }
    }

    /// Records `event` so many milliseconds after the last one.
    pub fn then(&mut self, milliseconds: i64, event: Event) -> &mut Self {
        self.at += SignedDuration::from_millis(milliseconds);
        self.events.push((self.at, event));
        self
    }

    pub fn started(&mut self) -> &mut Self {
        self.then(400, Event::Started { by: actor() })
    }

    pub fn reached(&mut self, place: &Place) -> &mut Self {
        self.then(120, Event::Reached { place: place.id.clone() })
    }

    pub fn unreached(&mut self, place: &Place, fault: Fault) -> &mut Self {
        self.then(120, Event::Unreached { place: place.id.clone(), fault, last: true })
    }

    pub fn found(&mut self, account: &Account) -> &mut Self {
        self.then(30, Event::Found { account: Box::new(account.clone()), facts: None })
    }

    pub fn looked(&mut self, door: &Door, when: LookAt, look: Look) -> &mut Self {
        self.then(90, Event::Looked { door: door.id.clone(), at: when, look })
    }

    pub fn noted(&mut self, kind: FindingKind, place: &Place, account: &str, what: &str, hint: &str) -> &mut Self {
        let finding = Finding {
            kind,
            place: Some(place.id.clone()),
            account: Some(account.into()),
            what: what.into(),
            hint: hint.into(),
        };
        self.then(5, Event::Noted { finding })
    }

    /// Plans a step and does it.
    pub fn done(&mut self, stage: &str, step: &Step, note: &str) -> &mut Self {
        self.planned(stage, step);
        self.then(40, Event::StepStarted { step: step.id.clone(), attempt: 1 });
        self.then(210, Event::StepDone { step: step.id.clone(), outcome: Outcome::Done { note: note.into() } })
    }

    pub fn planned(&mut self, stage: &str, step: &Step) -> &mut Self {
        self.then(5, Event::Planned { stage: stage.into(), steps: vec![step.clone()] })
    }

    pub fn failed(&mut self, step: &Step, attempts: u32, fault: &Fault) -> &mut Self {
        for attempt in 1..=attempts {
            self.then(40, Event::StepStarted { step: step.id.clone(), attempt });
            let last = attempt == attempts;
            self.then(2_000, Event::StepFailed { step: step.id.clone(), fault: fault.clone(), last });
        }
        self
    }

    pub fn ended(&mut self) -> &mut Self {
        let (state, _) = self.folded();
        self.then(50, Event::Ended { verdict: state.standing() })
    }

    /// Finds an account with one door, looks, does one step, looks again: a whole small life.
    pub fn shut(&mut self, account: &mut Account, door: Door, action: Action, note: &str, before: Look, after: Look) {
        account.doors.push(door.clone());
        let step = Step::new(action, account, &door.object, vec![door.id.clone()], true);
        self.found(account).looked(&door, LookAt::Before, before);
        self.done("contain", &step, note).looked(&door, LookAt::After, after);
    }

    pub fn records(&self) -> Vec<Record> {
        let first = (self.request.requested_at, Event::Requested { request: Box::new(self.request.clone()) });
        let mut hash = Digest::of(b"the beginning");
        let mut records = Vec::new();
        for (seq, (at, event)) in std::iter::once(first).chain(self.events.iter().cloned()).enumerate() {
            hash = Digest::of(hash.0.as_bytes());
            records.push(Record { run: RunId("7F3K".into()), seq: seq as u64 + 1, at, event, hash: hash.clone() });
        }
        records
    }

    pub fn folded(&self) -> (RunState, Vec<Record>) {
        let records = self.records();
        (RunState::fold(&records).expect("begins with the request"), records)
    }

    pub fn report(&self) -> Report {
        self.report_for("Asia/Kolkata")
    }

    pub fn report_for(&self, zone: &str) -> Report {
        let (state, records) = self.folded();
        let journal = Journal {
            problems: 0,
            head: records.last().expect("one at least").hash.clone(),
            records: records.len() as u64,
            key: Some("SHA256:9a41c07b22d85e6f3b7714aa90cde2f1".into()),
            signature: Some("MEQCIF0l2kq8v9Yd3cXo4r1b7TQm5Zs8uJ6hW0aK".into()),
        };
        Report::new(&Sources {
            run: &RunId("7F3K".into()),
            records: &records,
            state: &state,
            journal: &journal,
            not_covered: &self.not_covered,
            company: "Sunrise Hospital IT",
            made_at: self.at + self.made_after,
            zone: &TimeZone::get(zone).expect("a zone"),
        })
    }
}

/// Daniel's access as a company of six places has it, all of it shut. `but` may skip a place: what happens there is told by
/// the caller.
pub fn sunrise(but: &[&str]) -> Story {
    let (ldap1, ldap2) = (place("directory", "ldap1.sunrise.test:636"), place("directory", "ldap2.sunrise.test:636"));
    let billing = place("billing", "pg.sunrise.test:5432");
    let hosts = ["web1", "web2", "db1", "bastion"].map(|h| place("fleet", &format!("{h}.sunrise.test")));
    let mut places = vec![ldap1.clone(), ldap2.clone(), billing.clone()];
    places.extend(hosts.iter().cloned());
    let mut story = Story::new(places);
    story.started();
    let dn = "uid=daniel,ou=people,dc=sunrise,dc=test";
    for replica in [&ldap1, &ldap2].into_iter().filter(|p| !but.contains(&p.address.as_str())) {
        let mut entry = account(replica, dn, daniels(MatchRule::EmployeeNumber));
        entry.name = "Daniel Okafor".into();
        story.reached(replica);
        let password = door(&entry, DoorKind::Password, "", "bind with the entry's password", MatchRule::OwnAccount);
        story.shut(
            &mut entry,
            password,
            Action::Disable,
            "locked with pwdAccountLockedTime and a witness password",
            opens("the entry has a password and no lock"),
            refused(REPLY_BIND, "uid=monitor,ou=services,dc=sunrise,dc=test"),
        );
        let group = "cn=oncall,ou=groups,dc=sunrise,dc=test";
        let member = door(&entry, DoorKind::Membership, group, "member", MatchRule::OwnAccount);
        story.shut(
            &mut entry,
            member,
            Action::Remove,
            "removed from cn=oncall",
            opens("listed as member"),
            read_back("not listed; uid=monitor is"),
        );
    }
    if !but.contains(&"pg.sunrise.test:5432") {
        story.reached(&billing);
        let mut role = account(&billing, "daniel", daniels(MatchRule::UserName));
        role.privileged = true;
        let login = door(&role, DoorKind::Password, "", "SCRAM, 1 database", MatchRule::OwnAccount);
        story.shut(
            &mut role,
            login,
            Action::Disable,
            "NOLOGIN and a witness password",
            opens("rolcanlogin is true"),
            refused(REPLY_ROLE, "monitor"),
        );
        let sessions = door(&role, DoorKind::Session, "sessions", "2 sessions from 127.66.0.9", MatchRule::OwnAccount);
        story.shut(
            &mut role,
            sessions,
            Action::EndSessions,
            "2 sessions ended",
            opens("2 sessions"),
            read_back("no session; 14 of other roles"),
        );
    }
    for host in hosts.iter().filter(|p| !but.contains(&p.address.as_str())) {
        story.reached(host);
        let mut own = account(host, "daniel", daniels(MatchRule::UserName));
        let key = door(&own, DoorKind::SshKey, KEY, "/home/daniel/.ssh/authorized_keys:1", MatchRule::KeyInOwnAccount);
        story.shut(
            &mut own,
            key,
            Action::Revoke,
            "1 line taken out of /home/daniel/.ssh/authorized_keys",
            opens("key accepted"),
            refused(REPLY_KEY, "key of monitor"),
        );
        let login = door(&own, DoorKind::Login, "", "shell /bin/bash", MatchRule::OwnAccount);
        story.shut(
            &mut own,
            login,
            Action::Disable,
            "expired on 1970-01-02 and locked",
            opens("not expired, not locked"),
            read_back("expired and locked; monitor is not"),
        );
        if host.address.starts_with("web") {
            let mut deploy = account(host, "deploy", Owner::Shared);
            let path = "/home/deploy/.ssh/authorized_keys:7, no-pty";
            let key = door(&deploy, DoorKind::SshKey, KEY, path, MatchRule::DeclaredKey);
            story.shut(
                &mut deploy,
                key,
                Action::Revoke,
                "1 line of 20 taken out of /home/deploy/.ssh/authorized_keys",
                opens("key accepted"),
                refused(REPLY_KEY, "key of monitor"),
            );
        }
    }
    story.noted(
        FindingKind::Protected,
        &hosts[2],
        "emergency",
        "Account emergency is for emergencies and was left alone.",
        "",
    );
    story
}
