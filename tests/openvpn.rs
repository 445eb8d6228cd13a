//! OpenVPN set up in other ways than the company's: each test makes a gateway of its own on the lab's host `vpn`, with a CA, a port and
//! people of its own. Run by `lab/enter cargo test --test openvpn`.

#[path = "lab/mod.rs"]
mod lab;

use futures::StreamExt;
use jiff::Timestamp;
use lab::{Lab, LabPerson, LabSession};
use offboard::connector::{Connector, Cx, Link, Scope};
use offboard::connectors::openvpn::{Settings, build};
use offboard::model::*;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

fn cx() -> Cx {
    // The host's own clock decides about lists; this one about certificates that are over.
    let now = Timestamp::from_second(1_790_000_000).unwrap();
    Cx { now: Arc::new(move || now), timeout: Duration::from_secs(20), baseline: None, seed: vec![7; 32].into() }
}

/// A gateway of the test's own.
struct Gateway {
    lab: Lab,
    name: &'static str,
    number: u32,
    folder: tempfile::TempDir,
    connector: Arc<dyn Connector>,
}

impl Gateway {
    /// With more lines in its configuration; `ca` is the block in offboard.yaml.
    fn with(name: &'static str, number: u32, lines: &[&str], ca: bool) -> Self {
        let lab = Lab::shared();
        let port = (1194 + number).to_string();
        lab.gateway(&[&["make", name, &port], lines].concat());
        let base = format!("/etc/openvpn/{name}");
        let ca = if ca { format!(", ca: {{ easy-rsa: {base}/pki }}") } else { String::new() };
        let settings = format!(
            "{{ hosts: [vpn.sunrise.test], user: offboard, key: secrets/fleet_ed25519, known-hosts: known_hosts, sudo: true, \
             config: {base}/server.conf{ca} }}"
        );
        let settings: Settings = serde_yaml::from_str(&settings).unwrap();
        let connector = build(&SystemName(name.into()), settings, lab.root()).unwrap();
        Self { lab, name, number, folder: tempfile::tempdir().unwrap(), connector }
    }

    fn new(name: &'static str, number: u32) -> Self {
        let gateway = Self::with(name, number, &[], true);
        gateway.start();
        gateway
    }

    fn start(&self) {
        self.lab.gateway(&["start", self.name]);
    }

    /// As root on the gateway, in the server's folder.
    fn root(&self, text: &str) -> String {
        let text = format!("cd /etc/openvpn/{} && {text}", self.name);
        let output = self.lab.on("vpn", &["bash", "-ec", &text]);
        assert!(output.status.success(), "{text}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_string()
    }

    /// One more certificate for a name; its profile.
    fn issue(&self, user: &str) -> Holder {
        let number = std::fs::read_dir(self.folder.path()).unwrap().count();
        let profile = self.folder.path().join(format!("{number}.ovpn"));
        std::fs::write(&profile, self.lab.gateway(&["issue", self.name, user])).unwrap();
        let person = LabPerson {
            id: format!("T-{user}"),
            user: user.into(),
            name: user.into(),
            mail: format!("{user}@sunrise.test"),
            password: String::new(),
            key: PathBuf::new(),
        };
        Holder { person, profile }
    }

    fn peer(&self) -> String {
        format!("10.{}.0.1", 66 + self.number)
    }

    fn gets_in(&self, holder: &Holder) -> bool {
        let mut client =
            self.lab.vpn_command(&holder.person.user, &holder.profile, &["ping", "-c1", "-W2", &self.peer()]);
        client.env("VPN_WAIT", "6").output().unwrap().status.success()
    }

    /// The same where it is expected: a busy machine may need more than one try.
    fn lets_in(&self, holder: &Holder) -> bool {
        (0..3).any(|_| self.gets_in(holder))
    }

    fn tunnel(&self, holder: &Holder) -> LabSession {
        self.lab.vpn_session_to(&holder.person, &holder.profile, &self.peer())
    }

    /// What the server's log says since it was started.
    fn log(&self) -> String {
        self.root("cat server.log")
    }

    fn listed(&self) -> Vec<String> {
        let serials = self.root("openssl crl -in crl.pem -noout -text | sed -n 's/^ *Serial Number: //p' | sort");
        serials.lines().map(str::to_string).collect()
    }

    async fn link(&self) -> Box<dyn Link> {
        self.connector.open(&self.connector.places()[0], &cx()).await.unwrap()
    }
}

/// Somebody with a certificate.
struct Holder {
    person: LabPerson,
    profile: PathBuf,
}

/// A leaver's account, found over one connection.
struct Found {
    link: Box<dyn Link>,
    account: Account,
    findings: Vec<Finding>,
}

async fn find(gateway: &Gateway, name: &str) -> Found {
    let mut link = gateway.link().await;
    let mut account = None;
    {
        let mut stream = link.discover(&Scope::Everything);
        while let Some(next) = stream.next().await {
            let next = next.expect("discover");
            if next.native_id == name {
                account = Some(next);
            }
        }
    }
    let mut account = account.unwrap_or_else(|| panic!("no account {name}"));
    let owner = Owner::Person { id: PersonId("E1".into()), rule: MatchRule::UserName };
    account.owner = owner.clone();
    account.doors.iter_mut().for_each(|door| door.holder = owner.clone());
    let findings = link.findings();
    Found { link, account, findings }
}

impl Found {
    fn steps(&self, gateway: &Gateway) -> Vec<Step> {
        [Action::Disable, Action::Revoke, Action::EndSessions]
            .into_iter()
            .flat_map(|action| gateway.connector.plan(&self.account, &PersonId("E1".into()), action))
            .flatten()
            .collect()
    }

    fn only(&self, gateway: &Gateway, action: Action) -> Vec<Step> {
        gateway.connector.plan(&self.account, &PersonId("E1".into()), action).into_iter().flatten().collect()
    }

    async fn apply(&mut self, steps: &[Step]) -> Vec<Result<Outcome, Fault>> {
        self.link.apply(steps, &cx()).await
    }

    async fn looks(&mut self) -> Vec<(Door, Look)> {
        let doors = self.account.doors.clone();
        let looks = self.link.look(&doors, true, &cx()).await;
        doors.into_iter().zip(looks).collect()
    }

    async fn words(&mut self, kind: DoorKind) -> Vec<String> {
        let looks = self.looks().await;
        looks.iter().filter(|(d, _)| d.kind == kind).map(|(_, l)| l.verdict.word().to_string()).collect()
    }

    fn says(&self, words: &str) -> &Finding {
        self.findings.iter().find(|f| f.what.contains(words)).unwrap_or_else(|| panic!("{words}: {:#?}", self.findings))
    }
}

fn all_done(results: Vec<Result<Outcome, Fault>>) {
    for result in results {
        let outcome = result.expect("a step");
        assert!(matches!(outcome, Outcome::Done { .. } | Outcome::AlreadyDone), "{outcome:?}");
    }
}

fn refused(result: &Result<Outcome, Fault>, kind: FaultKind) -> &Fault {
    let fault = result.as_ref().expect_err("it cannot be done");
    assert_eq!(fault.kind, kind, "{fault:?}");
    assert!(fault.hint.as_ref().is_some_and(|hint| !hint.is_empty()), "{fault:?}");
    fault
}

/// Every certificate of the name, and nobody else's; a live client is cut and does not come back; the others' tunnels are the same as before.
#[tokio::test(flavor = "multi_thread")]
async fn look_alikes_keep_their_tunnels() {
    let gateway = Gateway::new("alike", 1);
    let (first, second) = (gateway.issue("jane.roe"), gateway.issue("jane.roe"));
    let others =
        [gateway.issue("jane.roe2"), gateway.issue("JANE.ROE"), gateway.issue("jane-roe"), gateway.issue("janexroe")];
    let mut theirs = [gateway.tunnel(&first), gateway.tunnel(&second)];
    let mut tunnels: Vec<LabSession> = others.iter().map(|other| gateway.tunnel(other)).collect();
    let ids = || {
        gateway.root("cat status.log >/dev/null; perl -MSocket -e 'socket(S,AF_UNIX,SOCK_STREAM,0);connect(S,sockaddr_un(\"management.sock\"));$|=1;select(S);$|=1;print S \"status 3\\n\";while(<S>){last if /^END/;@f=split /\\t/;print STDOUT \"$f[1] $f[2] $f[10]\\n\" if $f[0] eq \"CLIENT_LIST\" && $f[1] ne \"jane.roe\"}' | sort")
    };
    let before = ids();
    assert_eq!(before.lines().count(), others.len(), "{before}");
    let mut found = find(&gateway, "jane.roe").await;
    assert_eq!(found.words(DoorKind::Certificate).await, ["open", "open"]);
    assert_eq!(found.words(DoorKind::Session).await, ["open"]);
    let steps = found.steps(&gateway);
    assert_eq!(steps.len(), 4, "disable, two certificates, sessions: {steps:#?}");
    all_done(found.apply(&steps).await);
    assert_eq!(found.words(DoorKind::Certificate).await, ["shut", "shut"]);
    assert_eq!(found.words(DoorKind::Session).await, ["shut"]);
    assert!(theirs.iter_mut().all(|tunnel| !tunnel.is_alive()), "the leaver's tunnels are cut");
    assert!(tunnels.iter_mut().all(LabSession::is_alive), "the others' tunnels hold");
    assert_eq!(ids(), before, "the very same connections as before");
    // The running server itself says it, though nobody has the leaver's key.
    for (door, look) in found.looks().await.iter().filter(|(d, _)| d.kind == DoorKind::Certificate) {
        let Verdict::Shut { proof, reply } = &look.verdict else { panic!("{look:?}") };
        assert_eq!(*proof, Proof::Refused, "{}: {look:?}", door.id);
        assert!(reply.contains("error=certificate revoked") && reply.contains("CN=jane.roe,"), "{reply}");
        assert!(look.control.as_ref().is_some_and(|c| c.contains("VERIFY OK")), "{look:?}");
    }
    gateway.root("rm ccd/jane.roe");
    for holder in [&first, &second] {
        assert!(!gateway.gets_in(holder));
    }
    let log = gateway.log();
    assert!(log.matches("error=certificate revoked: O=Sunrise Hospital IT, CN=jane.roe,").count() >= 2, "{log}");
    assert_eq!(found.words(DoorKind::Certificate).await, ["shut", "shut"], "also without the disable line");
    for other in &others {
        assert!(gateway.lets_in(other), "{}", other.person.user);
    }
}

/// Cut before its certificate is worthless, a client comes straight back; the order of the plan prevents it.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_was_cut_does_not_come_back() {
    let gateway = Gateway::new("again", 2);
    let leaver = gateway.issue("jane");
    // This one connects again and again, whatever it is told.
    let mut client = std::process::Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/lab/vpn-client"));
    client.args(["jane", "sh", "-c", "sleep 60"]).env("PROFILE", &leaver.profile);
    let mut stubborn = (0..1).map(|_| client.spawn().unwrap()).collect::<Vec<_>>();
    let mut found = find(&gateway, "jane").await;
    for _ in 0..100 {
        if found.words(DoorKind::Session).await == ["open"] {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    all_done(found.apply(&found.steps(&gateway)).await);
    for _ in 0..5 {
        assert_eq!(found.words(DoorKind::Session).await, ["shut"]);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    stubborn.iter_mut().for_each(|child| drop((child.kill(), child.wait())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_over_is_told_and_replaced() {
    let gateway = Gateway::new("over", 3);
    let (leaver, bystander, earlier) = (gateway.issue("jane"), gateway.issue("bob"), gateway.issue("earlier"));
    gateway.lab.gateway(&["revoke", "over", "earlier"]);
    let old = gateway.listed();
    gateway.root(
        "openssl ca -batch -config pki/openssl.cnf -gencrl -out crl.pem -crl_lastupdate 20260101000000Z -crl_nextupdate 20260201000000Z; chmod 644 crl.pem",
    );
    assert!(!gateway.gets_in(&bystander), "with a list that is over nobody gets in");
    let mut found = find(&gateway, "jane").await;
    found.says("is over since 2026-02-01T00:00:00Z");
    gateway.root("echo disable >>ccd/nobody-else");
    assert_eq!(found.words(DoorKind::Certificate).await, ["unproven"], "a refusal of everybody proves nothing");
    all_done(found.apply(&found.only(&gateway, Action::Revoke)).await);
    assert_eq!(found.words(DoorKind::Certificate).await, ["shut"]);
    assert!(gateway.lets_in(&bystander), "the new list lets the others in again");
    assert!(!gateway.gets_in(&leaver) && !gateway.gets_in(&earlier));
    assert!(old.iter().all(|serial| gateway.listed().contains(serial)), "what was revoked stays revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_stays_and_old_entries_are_carried_on() {
    let gateway = Gateway::with("linked", 4, &[], true);
    gateway.root("mkdir lists && mv crl.pem lists/real.pem && ln -s lists/real.pem crl.pem && chown daemon:mail lists/real.pem && chmod 604 lists/real.pem");
    gateway.start();
    let (leaver, bystander, forgotten) = (gateway.issue("jane"), gateway.issue("bob"), gateway.issue("forgotten"));
    // In the list, and gone from the database: as when a CA was restored from an old backup.
    gateway.root("cp pki/index.txt saved && cp pki/crlnumber numbers");
    gateway.lab.gateway(&["revoke", "linked", "forgotten"]);
    gateway.root("cat crl.pem >lists/new; ls -l >&2; rm crl.pem; cp lists/new lists/real.pem; chown daemon:mail lists/real.pem; chmod 604 lists/real.pem; ln -s lists/real.pem crl.pem; cp saved pki/index.txt; cp numbers pki/crlnumber; rm pki/certs_by_serial/1003.pem pki/issued/forgotten.crt; sed -i '/forgotten/d' pki/index.txt");
    assert_eq!(gateway.listed(), ["1003"]);
    let mut found = find(&gateway, "jane").await;
    found.says("stand in the list and not in the CA's database");
    all_done(found.apply(&found.only(&gateway, Action::Revoke)).await);
    assert_eq!(found.words(DoorKind::Certificate).await, ["shut"]);
    assert_eq!(gateway.listed(), ["1001", "1003"], "nothing that was revoked is let in again");
    assert_eq!(
        gateway.root("readlink crl.pem; stat -c '%U:%G %a' lists/real.pem; ls lists"),
        "lists/real.pem\ndaemon:mail 604\nnew\nreal.pem"
    );
    assert!(gateway.lets_in(&bystander) && !gateway.gets_in(&leaver) && !gateway.gets_in(&forgotten));
    let number = |file: &str| gateway.root(&format!("openssl crl -in {file} -noout -crlnumber"));
    assert!(
        number("crl.pem") > number("lists/new"),
        "numbers only rise: {} {}",
        number("crl.pem"),
        number("lists/new")
    );
}

/// OpenVPN that cannot reach its list goes on with the one that it read before: the leaver still gets in.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_out_of_the_servers_reach_proves_nothing() {
    let gateway = Gateway::with("apart", 5, &[], true);
    gateway.root("mkdir lists && mv crl.pem lists/ && sed -i 's|^crl-verify .*|crl-verify lists/crl.pem|; /^client-config-dir/d' server.conf");
    gateway.start();
    gateway.root("chmod 700 lists");
    let (leaver, _) = (gateway.issue("jane"), gateway.issue("bob"));
    let mut found = find(&gateway, "jane").await;
    found.says("cannot read its list of revoked certificates");
    let results = found.apply(&found.only(&gateway, Action::Revoke)).await;
    refused(&results[0], FaultKind::Misconfigured);
    assert!(gateway.lets_in(&leaver), "the server has not seen the new list");
    assert_eq!(found.words(DoorKind::Certificate).await, ["open"], "and says so at a handshake");
    gateway.root("chmod 755 lists");
    all_done(found.apply(&found.only(&gateway, Action::Revoke)).await);
    assert_eq!(found.words(DoorKind::Certificate).await, ["shut"]);
    assert!(!gateway.gets_in(&leaver));
}

/// A list that only root may read is made readable for the server, which runs as nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_the_server_may_not_read_is_made_readable() {
    let gateway = Gateway::new("private", 6);
    let (leaver, bystander) = (gateway.issue("jane"), gateway.issue("bob"));
    gateway.root("chmod 600 crl.pem");
    let mut found = find(&gateway, "jane").await;
    all_done(found.apply(&found.only(&gateway, Action::Revoke)).await);
    assert_eq!(found.words(DoorKind::Certificate).await, ["shut"]);
    assert!(gateway.lets_in(&bystander) && !gateway.gets_in(&leaver));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_management_interface_sessions_are_unproven() {
    let gateway = Gateway::with("mute", 7, &["without management"], true);
    gateway.start();
    gateway.issue("jane");
    let mut found = find(&gateway, "jane").await;
    assert!(found.says("management interface says nothing").hint.contains("management /run/openvpn"));
    assert_eq!(found.words(DoorKind::Session).await, ["unproven"]);
    let results = found.apply(&found.only(&gateway, Action::EndSessions)).await;
    refused(&results[0], FaultKind::Misconfigured);
    // What does not need it is done.
    all_done(found.apply(&found.only(&gateway, Action::Revoke)).await);
    assert_eq!(found.words(DoorKind::Session).await, ["unproven"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_key_of_the_ca_the_client_config_dir_shuts() {
    let gateway = Gateway::with("keyless", 8, &[], false);
    gateway.start();
    let (leaver, bystander) = (gateway.issue("jane"), gateway.issue("bob"));
    // Without a CA nothing but the connection itself says that there is such a person.
    let tunnel = gateway.tunnel(&leaver);
    gateway
        .root("printf 'push \"route 10.9.9.0 255.255.255.0\"' >ccd/jane; chmod 640 ccd/jane; chgrp nogroup ccd/jane");
    let mut found = find(&gateway, "jane").await;
    found.says("the CA's key is not here");
    let steps = found.steps(&gateway);
    all_done(found.apply(&steps).await);
    assert_eq!(
        gateway.root("cat ccd/jane; stat -c %a:%G ccd/jane"),
        "push \"route 10.9.9.0 255.255.255.0\"\ndisable\n640:nogroup"
    );
    assert_eq!(found.words(DoorKind::Session).await, ["shut"]);
    drop(tunnel);
    assert!(!gateway.gets_in(&leaver) && gateway.lets_in(&bystander));
    assert!(gateway.log().contains("jane"), "{}", gateway.log());
    let undo = steps.iter().filter(|s| s.reversible).map(|s| Undo { step: s.clone(), account: found.account.clone() });
    for restored in found.link.restore(&undo.collect::<Vec<_>>(), &cx()).await {
        restored.unwrap();
    }
    assert_eq!(gateway.root("cat ccd/jane"), "push \"route 10.9.9.0 255.255.255.0\"");
    assert!(gateway.lets_in(&leaver));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_key_and_folder_it_says_what_to_do() {
    let gateway = Gateway::with("helpless", 9, &["without client-config-dir"], true);
    gateway.start();
    gateway.issue("jane");
    gateway.root("mv pki/private/ca.key away");
    let mut found = find(&gateway, "jane").await;
    let results = found.apply(&found.only(&gateway, Action::Revoke)).await;
    let fault = refused(&results[0], FaultKind::Forbidden);
    assert!(fault.hint.as_ref().unwrap().contains("openssl ca -revoke certs_by_serial/1001.pem"), "{fault:?}");
    assert_eq!(found.words(DoorKind::Certificate).await, ["open"]);
    assert_eq!(gateway.root("cut -c1 pki/index.txt | sort | uniq -c | xargs"), "2 V", "nothing was changed");
}

/// Two workers at the same time, and one that fell over between the database and the list.
#[tokio::test(flavor = "multi_thread")]
async fn two_workers_lose_nothing_and_a_crash_is_made_good() {
    let gateway = Gateway::new("busy", 10);
    let names: Vec<String> = (0..6).map(|n| format!("p{n}")).collect();
    for name in &names {
        gateway.issue(name);
    }
    let mut workers = Vec::new();
    for name in &names {
        workers.push(find(&gateway, name).await);
    }
    let jobs = workers.iter_mut().map(|found| async {
        let steps = found.only(&gateway, Action::Revoke);
        all_done(found.apply(&steps).await);
    });
    futures::future::join_all(jobs).await;
    assert_eq!(gateway.listed().len(), 6);
    assert_eq!(gateway.root("ls | grep -c offboard || true"), "0", "nothing is left beside the list");
    // Signed, and not published.
    let leaver = gateway.issue("late");
    gateway.root(
        "sed -i '/CN=late$/s/^V\\t\\([^\\t]*\\)\\t/R\\t\\1\\t260101000000Z/' pki/index.txt; : >crl.pem.offboard-left",
    );
    assert!(gateway.lets_in(&leaver), "the server has not heard of it");
    let mut found = find(&gateway, "late").await;
    assert_eq!(found.words(DoorKind::Certificate).await, ["open"]);
    let steps = found.only(&gateway, Action::Revoke);
    assert!(matches!(found.apply(&steps).await[0], Ok(Outcome::Done { .. })));
    assert_eq!(found.words(DoorKind::Certificate).await, ["shut"]);
    assert_eq!(found.apply(&steps).await[0], Ok(Outcome::AlreadyDone));
    assert!(!gateway.gets_in(&leaver));
    assert_eq!(gateway.root("ls | grep -c offboard || true"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_is_unproven() {
    let gateway = Gateway::new("down", 11);
    gateway.issue("jane");
    let mut found = find(&gateway, "jane").await;
    all_done(found.apply(&found.only(&gateway, Action::Revoke)).await);
    gateway.lab.gateway(&["stop", "down"]);
    for (door, look) in found.looks().await {
        assert!(matches!(look.verdict, Verdict::Unproven { .. }), "{}: {look:?}", door.id);
    }
    let found = find(&gateway, "jane").await;
    assert_eq!(found.says("no openvpn runs").kind, FindingKind::Unknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_list_is_left_alone() {
    let gateway = Gateway::new("broken", 12);
    gateway.issue("jane");
    gateway.root("echo rubbish >crl.pem");
    let mut found = find(&gateway, "jane").await;
    found.says("cannot be used");
    let results = found.apply(&found.only(&gateway, Action::Revoke)).await;
    refused(&results[0], FaultKind::Misconfigured);
    assert_eq!(gateway.root("cat crl.pem"), "rubbish");
    assert_eq!(found.words(DoorKind::Certificate).await, ["unproven"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_serial_that_two_people_have_is_not_revoked() {
    let gateway = Gateway::new("twins", 13);
    gateway.issue("jane");
    // The counter was set back, and the database lost a row.
    gateway.root("echo 1001 >pki/serial; cp pki/issued/jane.crt kept; sed -i '/CN=jane$/d' pki/index.txt");
    let twin = gateway.issue("bob");
    let mut found = find(&gateway, "jane").await;
    found.says("the serial 1001 was given to bob and to jane");
    let results = found.apply(&found.only(&gateway, Action::Revoke)).await;
    refused(&results[0], FaultKind::Protected);
    assert!(gateway.lets_in(&twin), "the other holder of the serial still gets in");
    // The client-config-dir tells them apart.
    all_done(found.apply(&found.only(&gateway, Action::Disable)).await);
    assert!(gateway.lets_in(&twin));
}

/// To awk, 10E2 is a number, and the same as 1000: the serial of the gateway's own certificate.
#[tokio::test(flavor = "multi_thread")]
async fn serials_that_look_like_one_number_are_two() {
    let gateway = Gateway::new("numbers", 20);
    gateway.root("echo 10E2 >pki/serial");
    let leaver = gateway.issue("jane");
    let mut found = find(&gateway, "jane").await;
    all_done(found.apply(&found.only(&gateway, Action::Revoke)).await);
    assert_eq!(gateway.listed(), ["10E2"]);
    assert!(!gateway.gets_in(&leaver));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_beside_certificates_is_told() {
    let lines = [
        "script-security 2",
        "auth-user-pass-verify /bin/true via-file",
        "auth-gen-token 0",
        "verify-client-cert optional",
        "without crl-verify",
    ];
    let gateway = Gateway::with("mixed", 14, &lines, true);
    gateway.start();
    gateway.issue("jane");
    gateway.issue("DEFAULT");
    let mut found = find(&gateway, "jane").await;
    found.says("/bin/true via-file says whether it is right");
    found.says("gives out auth-tokens");
    assert_eq!(found.says("without a certificate").kind, FindingKind::Unknown);
    found.says("checks no list");
    let steps = found.only(&gateway, Action::Revoke);
    refused(&found.apply(&steps).await[0], FaultKind::Misconfigured);
    // A file called DEFAULT would mean everybody.
    let found = find(&gateway, "DEFAULT").await;
    assert!(found.only(&gateway, Action::Disable).is_empty());
}

/// What stands in the file now, the running server has never read.
#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_changed_after_the_start_proves_nothing() {
    let gateway = Gateway::with("stale", 15, &["without client-config-dir"], true);
    gateway.start();
    let (leaver, bystander) = (gateway.issue("jane"), gateway.issue("bob"));
    gateway.root("sleep 0.5; echo client-config-dir ccd >>server.conf");
    let mut found = find(&gateway, "jane").await;
    found.says("was changed after the server read it");
    all_done(found.apply(&found.only(&gateway, Action::Disable)).await);
    assert_ne!(found.words(DoorKind::Certificate).await, ["shut"]);
    assert!(gateway.lets_in(&leaver), "the server knows nothing of the folder");
    gateway.lab.gateway(&["stop", "stale"]);
    gateway.start();
    assert_eq!(found.words(DoorKind::Certificate).await, ["shut"]);
    assert!(!gateway.gets_in(&leaver) && gateway.lets_in(&bystander));
}

/// openssl writes other bytes than ASCII as `\xC3\xA9`, in the CA's database and where it prints a certificate; openvpn does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_not_ascii_is_shut_and_none_that_looks_like_it() {
    let gateway = Gateway::new("names", 16);
    let leaver = gateway.issue("rené.zoë");
    let others = [gateway.issue("rene.zoe"), gateway.issue("rene\u{301}.zoe\u{308}"), gateway.issue("renè.zoë")];
    assert!(gateway.root("cat pki/index.txt").contains("CN=ren\\xC3\\xA9.zo\\xC3\\xAB\n"));
    let mut theirs = gateway.tunnel(&leaver);
    let mut tunnels: Vec<LabSession> = others.iter().map(|other| gateway.tunnel(other)).collect();
    let mut found = find(&gateway, "rené.zoë").await;
    assert_eq!(found.words(DoorKind::Certificate).await, ["open"]);
    assert_eq!(found.words(DoorKind::Session).await, ["open"]);
    let steps = found.steps(&gateway);
    assert_eq!(steps.len(), 2, "one certificate, sessions: {steps:#?}");
    all_done(found.apply(&steps).await);
    for (door, look) in found.looks().await {
        assert_eq!(look.verdict.word(), "shut", "{}: {look:?}", door.id);
        let by_refusal = matches!(look.verdict, Verdict::Shut { proof: Proof::Refused, .. });
        assert_eq!(by_refusal, door.kind == DoorKind::Certificate, "{look:?}");
    }
    assert!(!theirs.is_alive() && tunnels.iter_mut().all(LabSession::is_alive));
    assert!(!gateway.gets_in(&leaver));
    assert_eq!(gateway.listed(), ["1001"]);
    for other in &others {
        assert!(gateway.lets_in(other), "{}", other.person.user);
    }
    assert_eq!(found.apply(&steps).await, [Ok(Outcome::AlreadyDone), Ok(Outcome::AlreadyDone)]);
    // Whoever shares its serial is told apart by the name, all the same.
    gateway.root("echo 1002 >pki/serial; sed -i '/CN=rene.zoe$/d' pki/index.txt");
    let twin = gateway.issue("jürgen");
    let mut found = find(&gateway, "jürgen").await;
    let results = found.apply(&found.only(&gateway, Action::Revoke)).await;
    refused(&results[0], FaultKind::Protected);
    assert!(gateway.lets_in(&twin));
}

/// Anybody on the gateway may call a process openvpn, and have it hold a socket.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_of_somebody_else_is_not_the_server() {
    let gateway = Gateway::new("posing", 17);
    let (leaver, bystander) = (gateway.issue("jane"), gateway.issue("bob"));
    gateway.root(
        "install -D -m 755 /bin/bash /tmp/posing/openvpn
         setsid setpriv --reuid 1600 --regid 1600 --clear-groups /tmp/posing/openvpn --norc -c \
           'exec 3<>/dev/udp/127.0.0.1/9; while :; do sleep 1; done' --config /etc/openvpn/posing/server.conf \
           </dev/null >/dev/null 2>&1 & echo $! >poser",
    );
    let mut found = find(&gateway, "jane").await;
    found.says("as user id 1600, which is neither root nor the user that the configuration names");
    all_done(found.apply(&found.only(&gateway, Action::Revoke)).await);
    assert_eq!(found.words(DoorKind::Certificate).await, ["shut"]);
    assert!(!gateway.gets_in(&leaver) && gateway.lets_in(&bystander));
    gateway.root("kill $(cat poser); rm -r /tmp/posing");
}

/// A CA that was made anew under its old name: lists of both stand in one file, and only ours is made anew.
#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_another_ca_with_the_same_name_stays() {
    let gateway = Gateway::with("rolled", 18, &[], true);
    gateway.root(
        "printf '[keyed]\\nauthorityKeyIdentifier = keyid\\n' >>pki/openssl.cnf
         openssl ca -config pki/openssl.cnf -gencrl -crlexts keyed -out crl.pem 2>/dev/null
         openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj '/O=Sunrise Hospital IT/CN=Sunrise VPN CA rolled' \
           -config pki/openssl.cnf -extensions authority -keyout old.key -out old.crt 2>/dev/null
         sed \"s|^database = .*|database = $PWD/old.txt|; s|^crlnumber = .*|crlnumber = $PWD/old.number|\" pki/openssl.cnf >old.cnf
         printf 'R\\t300101000000Z\\t260101000000Z\\t0777\\tunknown\\t/CN=long.gone\\n' >old.txt; echo 01 >old.number
         openssl ca -config old.cnf -gencrl -crlexts keyed -keyfile old.key -cert old.crt -out old.pem 2>/dev/null
         cat old.pem >>crl.pem; chmod 644 crl.pem",
    );
    gateway.start();
    let (leaver, bystander) = (gateway.issue("jane"), gateway.issue("bob"));
    assert!(gateway.lets_in(&bystander));
    let mut found = find(&gateway, "jane").await;
    all_done(found.apply(&found.only(&gateway, Action::Revoke)).await);
    assert_eq!(found.words(DoorKind::Certificate).await, ["shut"]);
    assert!(!gateway.gets_in(&leaver) && gateway.lets_in(&bystander));
    assert_eq!(gateway.root("grep -c 'BEGIN X509 CRL' crl.pem"), "2");
    let old = gateway.root("cat old.pem");
    assert!(gateway.root("cat crl.pem").contains(&old), "the other CA's list is as it was");
}

/// `crl-verify FOLDER dir`: a file named by the serial shuts, if the server can open it.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_serials_shuts_by_files_that_the_server_can_open() {
    let gateway = Gateway::with("folder", 19, &["without crl-verify", "without client-config-dir"], true);
    gateway.root("mkdir serials; echo 'crl-verify serials dir' >>server.conf");
    gateway.start();
    let (leaver, bystander) = (gateway.issue("jane"), gateway.issue("bob"));
    let mut found = find(&gateway, "jane").await;
    assert_eq!(found.words(DoorKind::Certificate).await, ["open"]);
    let steps = found.only(&gateway, Action::Revoke);
    all_done(found.apply(&steps).await);
    assert_eq!(gateway.root("ls serials"), "4097", "1001 in decimal");
    assert_eq!(found.words(DoorKind::Certificate).await, ["shut"]);
    assert!(!gateway.gets_in(&leaver) && gateway.lets_in(&bystander));
    assert_eq!(found.apply(&steps).await, [Ok(Outcome::AlreadyDone)]);
    // One that it cannot open is none to it.
    gateway.root("chmod 600 serials/4097");
    assert_eq!(found.words(DoorKind::Certificate).await, ["open"]);
    assert!(gateway.lets_in(&leaver));
    assert!(matches!(found.apply(&steps).await[..], [Ok(Outcome::Done { .. })]));
    assert_eq!(found.words(DoorKind::Certificate).await, ["shut"]);
    assert!(!gateway.gets_in(&leaver) && gateway.lets_in(&bystander));
}
