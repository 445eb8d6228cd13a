//! WireGuard set up in other ways than the company's: each test makes an interface and a folder of its own on the lab's host `vpn`. Run by
//! `lab/enter cargo test --test wireguard`.

#[path = "lab/mod.rs"]
mod lab;

use futures::StreamExt;
use jiff::Timestamp;
use lab::{Lab, LabSession};
use offboard::connector::{Connector, Cx, Link, Scope, Wanted};
use offboard::connectors::wireguard::{Settings, build};
use offboard::model::*;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

fn cx() -> Cx {
    let now = Timestamp::from_second(1_790_000_000).unwrap();
    Cx { now: Arc::new(move || now), timeout: Duration::from_secs(20), baseline: None, seed: vec![7; 32].into() }
}

/// An interface of the test's own.
struct Gateway {
    lab: Lab,
    name: String,
    folder: String,
    profiles: tempfile::TempDir,
    connector: Arc<dyn Connector>,
}

/// Somebody's device.
struct Device {
    profile: PathBuf,
    key: String,
}

impl Gateway {
    /// Interface `wgNUMBER`, with more lines in its file, and more in the block of offboard.yaml.
    fn with(number: u32, lines: &[&str], block: &str) -> Self {
        let lab = Lab::shared();
        let (name, folder) = (format!("wg{number}"), format!("/etc/wireguard-{number}"));
        let gateway = |lab: &Lab, words: &[&str]| {
            let env = format!("FOLDER={folder}");
            let output = lab.on("vpn", &[&["env", &env, "/etc/sunrise/wireguard"], words].concat());
            assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        gateway(&lab, &[&["make", &name, &number.to_string()], lines].concat());
        gateway(&lab, &["up", &name]);
        let connector = connector(&lab, &name, &folder, block);
        Self { lab, name, folder, profiles: tempfile::tempdir().unwrap(), connector }
    }

    fn new(number: u32) -> Self {
        Self::with(number, &[], "")
    }

    /// As root on the gateway, in the folder; WG is the interface.
    fn root(&self, text: &str) -> String {
        let text = format!("cd {}; export WG={}\n{text}", self.folder, self.name);
        let output = self.lab.on("vpn", &["bash", "-ec", &text]);
        assert!(output.status.success(), "{text}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_string()
    }

    fn admin(&self, words: &[&str]) -> String {
        let env = format!("FOLDER={}", self.folder);
        let output = self.lab.on("vpn", &[&["env", &env, "/etc/sunrise/wireguard"], words].concat());
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// One more device, with that comment above its peer.
    fn device(&self, comment: &str) -> Device {
        let number = std::fs::read_dir(self.profiles.path()).unwrap().count();
        let profile = self.profiles.path().join(format!("{number}.conf"));
        std::fs::write(&profile, self.admin(&["add", &self.name, comment])).unwrap();
        let key = Lab::wireguard_key(&profile);
        Device { profile, key }
    }

    fn gets_in(&self, device: &Device) -> bool {
        self.lab.wireguard(&device.profile)
    }

    fn tunnel(&self, device: &Device) -> LabSession {
        self.lab.wireguard_session(&device.profile)
    }

    /// Whether the key is in the runtime, and in the file.
    fn has(&self, key: &str) -> (bool, bool) {
        let runs = self.root("wg show $WG peers 2>/dev/null || true").lines().any(|line| line == key);
        (runs, self.root(&format!("grep -cF '{key}' $WG.conf || true")) != "0")
    }

    async fn link(&self) -> Box<dyn Link> {
        self.connector.open(&self.connector.places()[0], &cx()).await.unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.lab.on("vpn", &["ip", "link", "delete", &self.name]);
    }
}

fn connector(lab: &Lab, name: &str, folder: &str, block: &str) -> Arc<dyn Connector> {
    let settings = format!(
        "{{ hosts: [vpn.sunrise.test], user: offboard, key: secrets/fleet_ed25519, known-hosts: known_hosts, sudo: true, \
         interfaces: [{name}], folder: {folder}{block} }}"
    );
    let settings: Settings = serde_yaml::from_str(&settings).unwrap();
    build(&SystemName(name.into()), settings, lab.root()).unwrap()
}

/// A leaver's accounts, found over one connection.
struct Found {
    link: Box<dyn Link>,
    accounts: Vec<Account>,
    findings: Vec<Finding>,
}

fn jane() -> Scope {
    let person = Person {
        id: PersonId("E1".into()),
        name: "Jane Roe".into(),
        email: Some("jane@example.com".into()),
        user_name: Some("jane".into()),
        manager: None,
        department: None,
        worker_type: None,
        status: WorkerStatus::Terminated,
        reason: None,
        ends: None,
        zone: None,
        keys: Vec::new(),
    };
    Scope::People(vec![Wanted { person, accounts: Vec::new(), keys: BTreeSet::new() }])
}

/// What of a gateway has one of these keys, as its owner's.
async fn find(gateway: &Gateway, keys: &[&str]) -> Found {
    let mut link = gateway.link().await;
    let scope = jane();
    let all: Vec<Account> = link.discover(&scope).map(|next| next.expect("discover")).collect().await;
    let owner = Owner::Person { id: PersonId("E1".into()), rule: MatchRule::UserName };
    let mut accounts: Vec<Account> = all.into_iter().filter(|a| keys.contains(&a.native_id.as_str())).collect();
    for account in &mut accounts {
        account.owner = owner.clone();
        account.doors.iter_mut().for_each(|door| door.holder = owner.clone());
    }
    assert_eq!(accounts.len(), keys.len());
    let findings = link.findings();
    Found { link, accounts, findings }
}

impl Found {
    fn steps(&self, gateway: &Gateway) -> Vec<Step> {
        let plan = |account| gateway.connector.plan(account, &PersonId("E1".into()), Action::Revoke);
        self.accounts.iter().flat_map(plan).flatten().collect()
    }

    async fn apply(&mut self, gateway: &Gateway) -> Vec<Result<Outcome, Fault>> {
        let steps = self.steps(gateway);
        assert!(!steps.is_empty());
        self.link.apply(&steps, &cx()).await
    }

    async fn looks(&mut self) -> Vec<Look> {
        let doors: Vec<Door> = self.accounts.iter().flat_map(|account| account.doors.clone()).collect();
        self.link.look(&doors, true, &cx()).await
    }

    async fn words(&mut self) -> Vec<&'static str> {
        self.looks().await.iter().map(|look| look.verdict.word()).collect()
    }

    fn says(&self, words: &str) -> &Finding {
        self.findings.iter().find(|f| f.what.contains(words)).unwrap_or_else(|| panic!("{words}: {:#?}", self.findings))
    }
}

fn all_done(results: Vec<Result<Outcome, Fault>>) {
    for result in results {
        let outcome = result.expect("a step");
        assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
    }
}

fn refused(result: &Result<Outcome, Fault>, kind: FaultKind) -> &Fault {
    let fault = result.as_ref().expect_err("it cannot be done");
    assert_eq!(fault.kind, kind, "{fault:?}");
    assert!(fault.hint.as_ref().is_some_and(|hint| !hint.is_empty()), "{fault:?}");
    fault
}

/// The leaver's traffic ends at once, and no handshake comes any more, on all devices; a colleague with nearly the same name pings without one loss.
#[tokio::test(flavor = "multi_thread")]
async fn traffic_ends_on_all_devices_and_the_look_alike_loses_nothing() {
    let gateway = Gateway::new(31);
    let (laptop, phone) = (gateway.device("jane (laptop)"), gateway.device("Jane Roe <jane@example.com>"));
    let others = ["janet", "JANE2", "xjane", "jane.roe"].map(|name| gateway.device(name));
    let mut theirs = [gateway.tunnel(&laptop), gateway.tunnel(&phone)];
    let bystander = gateway
        .lab
        .wireguard_command(&others[0].profile, &["sh", "-c", "ping -q -i 0.05 -c 160 -W 2 $PEER"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut found = find(&gateway, &[&laptop.key, &phone.key]).await;
    let names: Vec<_> =
        found.accounts.iter().map(|a| (a.identity.user_name.clone(), a.identity.mails.clone())).collect();
    assert!(names.contains(&(Some("jane".into()), vec![])), "{names:?}");
    assert!(names.contains(&(None, vec!["jane@example.com".into()])), "{names:?}");
    assert_eq!(found.words().await, ["open", "open"]);
    let before = gateway.root("cat $WG.conf");
    all_done(found.apply(&gateway).await);
    assert!(theirs.iter_mut().all(|tunnel| !tunnel.is_alive()), "traffic through the tunnels from before");
    for look in found.looks().await {
        let Verdict::Shut { proof, reply } = &look.verdict else { panic!("{look:?}") };
        assert_eq!(*proof, Proof::ReadBack);
        assert!(reply.contains("no such peer"), "{reply}");
        assert!(look.control.as_ref().is_some_and(|control| control.contains(&others[0].key)), "{look:?}");
    }
    // A new handshake never comes: the client's own latest handshake stays 0.
    for device in [&laptop, &phone] {
        let command = ["sh", "-c", "ping -c3 -i1 -W1 $PEER >/dev/null; wg show $WG latest-handshakes"];
        let output = gateway.lab.wireguard_command(&device.profile, &command).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.trim_end().ends_with("\t0"), "{said}");
    }
    let said = String::from_utf8(bystander.wait_with_output().unwrap().stdout).unwrap();
    assert!(said.contains("160 received, 0% packet loss"), "{said}");
    assert!(others.iter().all(|other| gateway.gets_in(other)));
    let gone: Vec<_> =
        before.lines().filter(|line| !gateway.root("cat $WG.conf").contains(line)).map(str::to_string).collect();
    assert_eq!(gone.len(), 6, "two comments, two keys, two addresses: {gone:?}");
    for outcome in found.apply(&gateway).await {
        assert_eq!(outcome.unwrap(), Outcome::AlreadyDone);
    }
}

/// SaveConfig writes the file from what runs: so it stays gone however often the interface goes down and up.
#[tokio::test(flavor = "multi_thread")]
async fn gone_after_down_and_up_with_save_config() {
    let gateway = Gateway::with(32, &["SaveConfig = true"], "");
    let (leaver, bystander) = (gateway.device("jane"), gateway.device("bob"));
    gateway.admin(&["down", &gateway.name]);
    gateway.admin(&["up", &gateway.name]);
    assert!(gateway.gets_in(&leaver) && gateway.gets_in(&bystander));
    assert!(!gateway.root("cat $WG.conf").contains("jane"), "wg-quick has dropped the comments");
    let mut found = find(&gateway, &[&leaver.key]).await;
    assert_eq!(found.says("SaveConfig = true").kind, FindingKind::Configuration);
    all_done(found.apply(&gateway).await);
    for _ in 0..2 {
        gateway.admin(&["down", &gateway.name]);
        gateway.admin(&["up", &gateway.name]);
        assert_eq!(gateway.has(&leaver.key), (false, false));
        assert_eq!(gateway.has(&bystander.key), (true, true));
    }
    assert!(!gateway.gets_in(&leaver) && gateway.gets_in(&bystander));
    assert_eq!(found.words().await, ["shut"]);
}

/// Killed between the runtime and the file: the door is open still, and the next apply finishes.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_runtime_and_file_is_finished_by_the_next_apply() {
    let gateway = Gateway::new(33);
    let (leaver, bystander) = (gateway.device("jane"), gateway.device("bob"));
    assert!(gateway.gets_in(&bystander));
    // Once, for this interface alone, kills the script right after the removal.
    gateway.root(
        "cat >/usr/local/sbin/wg.$$ <<'END' && chmod 755 /usr/local/sbin/wg.$$ && mv /usr/local/sbin/wg.$$ /usr/local/sbin/wg; touch /tmp/kill-$WG\n\
         #!/bin/bash\n/usr/bin/wg \"$@\"; status=$?\n\
         if [ \"$1\" = set ] && rm \"/tmp/kill-$2\" 2>/dev/null; then\n\
           pid=$PPID; while [ \"$(tr '\\0' ' ' </proc/$pid/cmdline)\" != '/bin/sh -s ' ]; do pid=$(awk '$1 == \"PPid:\" { print $2 }' /proc/$pid/status); done\n\
           while :; do up=$(awk '$1 == \"PPid:\" { print $2 }' /proc/$pid/status); [ \"$(tr '\\0' ' ' </proc/$up/cmdline)\" = '/bin/sh -s ' ] || break; pids=\"$pids $pid\" pid=$up; done\n\
           kill -9 $pid $pids $PPID\n\
         fi\nexit $status\nEND",
    );
    let mut found = find(&gateway, &[&leaver.key]).await;
    let file = gateway.root("cat $WG.conf");
    let broken = found.apply(&gateway).await;
    assert_eq!(broken[0].as_ref().expect_err("killed").kind, FaultKind::Unreachable, "{broken:?}");
    assert_eq!(gateway.has(&leaver.key), (false, true), "between the two");
    assert_eq!(gateway.root("cat $WG.conf"), file, "not one byte of the file");
    let mut again = find(&gateway, &[&leaver.key]).await;
    assert_eq!(again.words().await, ["open"], "it would be back at the next start");
    all_done(again.apply(&gateway).await);
    assert_eq!(gateway.has(&leaver.key), (false, false));
    assert_eq!(again.words().await, ["shut"]);
    assert_eq!(gateway.root("ls -A"), format!("{0}.conf\n{0}.conf.last", gateway.name), "nothing is left behind");
}

/// Mode, owner and every other byte stay; a link stays a link.
#[tokio::test(flavor = "multi_thread")]
async fn the_file_keeps_mode_owner_and_link() {
    let gateway = Gateway::new(34);
    let (leaver, bystander) = (gateway.device("jane"), gateway.device("bob"));
    assert!(gateway.gets_in(&bystander));
    gateway.root("printf '\\n# caf\\xe9 $(touch /tmp/x) \\x27\\r\\n' >>$WG.conf; mkdir real; mv $WG.conf real/site.conf; chown daemon:mail real/site.conf; chmod 640 real/site.conf; ln -s real/site.conf $WG.conf");
    let mut found = find(&gateway, &[&leaver.key]).await;
    let expected = gateway.root(&format!(
        "awk -v RS= -v ORS='\\n\\n' '!/{}/' real/site.conf | cksum; true",
        leaver.key.replace('/', "\\/").replace('+', "\\+")
    ));
    all_done(found.apply(&gateway).await);
    assert_eq!(gateway.root("awk -v RS= -v ORS='\\n\\n' 1 real/site.conf | cksum"), expected);
    assert_eq!(
        gateway.root("readlink $WG.conf; stat -c '%U:%G %a' real/site.conf; ls -A real"),
        "real/site.conf\ndaemon:mail 640\nsite.conf"
    );
    assert_eq!(found.words().await, ["shut"]);
}

/// A file that wg would refuse is never changed; what runs is shut all the same, and the door is not called shut.
#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_file_is_left_alone_and_told() {
    let gateway = Gateway::new(35);
    let (leaver, bystander) = (gateway.device("jane"), gateway.device("bob"));
    assert!(gateway.gets_in(&bystander) && gateway.gets_in(&leaver));
    gateway.root("printf '[Peer]\\nPublicKey = \"; rm -rf /\\n' >>$WG.conf");
    let before = gateway.root("cksum $WG.conf");
    let mut found = find(&gateway, &[&leaver.key]).await;
    assert_eq!(found.says("nobody can say what wg would read").kind, FindingKind::Unknown);
    let results = found.apply(&gateway).await;
    let fault = refused(&results[0], FaultKind::Misconfigured);
    assert!(fault.to_string().contains("line "), "{fault}");
    assert_eq!(gateway.root("cksum $WG.conf"), before);
    assert!(!gateway.gets_in(&leaver), "what runs is shut first");
    assert_eq!(found.words().await, ["open"], "its own lines can be read");
    gateway.root("sed -i '/rm -rf/d' $WG.conf; sed -i '$d' $WG.conf");
    all_done(found.apply(&gateway).await);
    assert_eq!(found.words().await, ["shut"]);
    assert!(gateway.gets_in(&bystander));
}

/// An interface that is down: its file counts, and one that went down in the meantime proves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_interface_that_is_down() {
    let gateway = Gateway::new(36);
    let (leaver, _) = (gateway.device("jane"), gateway.device("bob"));
    let mut running = find(&gateway, &[&leaver.key]).await;
    gateway.admin(&["down", &gateway.name]);
    assert_eq!(running.words().await, ["open"], "in the file");
    let mut found = find(&gateway, &[&leaver.key]).await;
    all_done(found.apply(&gateway).await);
    assert_eq!(gateway.has(&leaver.key), (false, false));
    assert_eq!(found.words().await, ["shut"], "it was down before");
    assert_eq!(running.words().await, ["unproven"], "it was up before");
    gateway.admin(&["up", &gateway.name]);
    assert_eq!(running.words().await, ["unproven"], "nobody else has had a handshake yet");
    assert!(!gateway.gets_in(&leaver));
}

/// Other programs' files: taken out of what runs, told, not called shut; and a copy is told.
#[tokio::test(flavor = "multi_thread")]
async fn other_programs_files_are_told() {
    let gateway = Gateway::new(37);
    let (leaver, bystander) = (gateway.device("jane"), gateway.device("bob"));
    assert!(gateway.gets_in(&bystander));
    gateway.root(&format!(
        "mkdir -p /etc/systemd/network /etc/NetworkManager/system-connections; cp $WG.conf $WG.conf.bak\n\
         printf '[NetDev]\\nName={0}\\nKind=wireguard\\n[WireGuard]\\nPrivateKey=%s\\n[WireGuardPeer]\\nPublicKey={1}\\n' \"$(wg genkey)\" >/etc/systemd/network/{0}.netdev\n\
         printf '[connection]\\ntype=wireguard\\ninterface-name={0}\\n[wireguard-peer.{2}]\\n' >/etc/NetworkManager/system-connections/{0}.nmconnection",
        gateway.name, leaver.key, bystander.key
    ));
    let mut found = find(&gateway, &[&leaver.key]).await;
    assert_eq!(found.says("set up by systemd-networkd").kind, FindingKind::NotCovered);
    assert_eq!(found.says("set up by NetworkManager").kind, FindingKind::NotCovered);
    assert!(found.says(".conf.bak has a peer of the leaver's").what.contains(&gateway.folder));
    let results = found.apply(&gateway).await;
    assert!(refused(&results[0], FaultKind::Misconfigured).to_string().contains("systemd-networkd"));
    assert_eq!(gateway.has(&leaver.key), (false, false), "out of what runs and out of the file all the same");
    assert_eq!(found.words().await, ["unproven"]);
    gateway.root("rm /etc/systemd/network/$WG.netdev /etc/NetworkManager/system-connections/$WG.nmconnection");
    assert_eq!(found.words().await, ["shut"]);
}

/// One preshared key at several peers is told, and no secret comes out of the gateway.
#[tokio::test(flavor = "multi_thread")]
async fn a_shared_preshared_key_is_told_and_never_shown() {
    let gateway = Gateway::new(38);
    let [leaver, bystander, alone] = ["jane", "bob", "carol"].map(|name| gateway.device(name));
    let shared = gateway.root(&format!(
        "wg genpsk >psk; wg set $WG peer {} preshared-key psk; wg set $WG peer {} preshared-key psk; wg genpsk >own; wg set $WG peer {} preshared-key own; cat psk; rm psk own",
        leaver.key, bystander.key, alone.key
    ));
    let private = gateway.root("awk '/PrivateKey/ { print $3 }' $WG.conf");
    let mut found = find(&gateway, &[&leaver.key]).await;
    let finding = found.says("one preshared key stands at 2 peers");
    assert!(
        finding.what.contains("jane") && finding.what.contains("bob") && !finding.what.contains("carol"),
        "{finding:?}"
    );
    let results = found.apply(&gateway).await;
    let looks = found.looks().await;
    let shown = format!("{:?}{:?}{looks:?}{results:?}", found.accounts, found.findings);
    assert!(!shown.contains(&shared) && !shown.contains(&private));
}

/// A comment that is more than a name matches nobody, and is told; so is SaveConfig's silence. The control is never touched.
#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_the_leavers_is_told_and_the_control_stays() {
    let gateway = Gateway::new(39);
    let (unclear, control) = (gateway.device("the old laptop of jane"), gateway.device("monitoring"));
    let block = format!(", control: {{ public-key: \"{}\" }}", control.key);
    let connector = connector(&gateway.lab, &gateway.name, &gateway.folder, &block);
    let mut link = connector.open(&connector.places()[0], &cx()).await.unwrap();
    let scope = jane();
    let accounts: Vec<Account> = link.discover(&scope).map(|next| next.unwrap()).collect().await;
    let of = |key: &str| accounts.iter().find(|a| a.native_id == key).unwrap();
    assert_eq!(of(&unclear.key).identity, Identity::default());
    assert_eq!(of(&control.key).owner, Owner::Ourselves);
    assert!(connector.plan(of(&control.key), &PersonId("E1".into()), Action::Revoke).is_empty());
    let step = Step::new(Action::Revoke, of(&control.key), &gateway.name, vec![], false);
    refused_protected(&link.apply(&[step], &cx()).await[0]);
    let findings = link.findings();
    assert!(
        findings.iter().any(|f| f.kind == FindingKind::Unknown && f.what.contains("the old laptop of jane")),
        "{findings:#?}"
    );
    assert_eq!(gateway.has(&control.key), (true, true));
}

fn refused_protected(result: &Result<Outcome, Fault>) {
    assert_eq!(result.as_ref().expect_err("the control").kind, FaultKind::Protected);
}

/// Somebody who puts the peer back all the time is told, and nothing is called done.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_put_back_all_the_time_is_told() {
    let gateway = Gateway::new(40);
    let leaver = gateway.device("jane");
    let mut found = find(&gateway, &[&leaver.key]).await;
    gateway.root(&format!(
        "setsid bash -c 'while [ ! -e stop ]; do wg set $WG peer {} allowed-ips 10.140.1.9/32; sleep 0.002; done' >/dev/null 2>&1 </dev/null & sleep 0.2",
        leaver.key
    ));
    let results = found.apply(&gateway).await;
    gateway.root("touch stop; sleep 0.3");
    assert!(results[0].is_err(), "{results:?}");
    all_done(found.apply(&gateway).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_be_are_refused() {
    let lab = Lab::shared();
    let base = "hosts: [vpn.sunrise.test], user: offboard, key: secrets/fleet_ed25519, known-hosts: known_hosts";
    let key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
    for (more, why) in [
        ("peers: { jane: E1 }".to_string(), "no public key"),
        ("control: { public-key: x }".into(), "no public key"),
        (
            format!("peers: {{ \"{key}\": E1 }}, control: {{ public-key: \"{key}\" }}"),
            "the control and somebody's peer",
        ),
        ("interfaces: [\"wg0; reboot\"]".into(), "no interface"),
        ("folder: wireguard".into(), "begins with /"),
    ] {
        let settings: Settings = serde_yaml::from_str(&format!("{{ {base}, {more} }}")).unwrap();
        let fault = build(&SystemName("x".into()), settings, lab.root()).err().expect("refused");
        assert!(fault.kind == FaultKind::Misconfigured && fault.what.contains(why), "{fault:?}");
    }
}
