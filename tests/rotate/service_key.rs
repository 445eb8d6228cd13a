//! SSH service keys: the private key with which programs log in to an account of another host. With the real `ssh`, by those programs and by the leaver.

use crate::lab::{Lab, LabPerson};
use crate::office::{Office, all_shut};
use crate::resume;
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A job on web1, and a second one on web2, that log in to accounts of its own on db1 and backup.
struct Job {
    name: String,
    /// The leaver's copy of the key.
    copy: PathBuf,
    /// Where it is on both hosts.
    file: String,
    _folder: tempfile::TempDir,
}

fn sh(lab: &Lab, host: &str, script: &str) -> String {
    let done = lab.on(host, &["sh", "-ec", script]);
    assert!(done.status.success(), "{host}: {script}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim_end().to_string()
}

fn keygen(arguments: &[&str]) {
    let done = Command::new("ssh-keygen").arg("-q").args(arguments).stdin(Stdio::null()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

const HOSTS: [&str; 2] = ["web1", "web2"];
const OPENS: [&str; 2] = ["db1", "backup"];
const OPTIONS: &str = r#"no-port-forwarding,environment="A=a \"b\\c\" 'd'""#;

impl Job {
    fn new(lab: &Lab) -> Self {
        Self::with(lab, &["-t", "ed25519"], OPTIONS)
    }

    fn with(lab: &Lab, kind: &[&str], options: &str) -> Self {
        let name = format!("job{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
        let folder = tempfile::tempdir().unwrap();
        let (copy, other) = (folder.path().join("copy"), folder.path().join("other"));
        keygen(&[kind, &["-N", "", "-C", "nightly backup", "-f", copy.to_str().unwrap()]].concat());
        keygen(&["-t", "ed25519", "-N", "", "-C", "nightly backup", "-f", other.to_str().unwrap()]);
        let line = |key: &PathBuf| std::fs::read_to_string(key.with_extension("pub")).unwrap();
        // Another program's line before it, with the same comment; and the last one has no end.
        let lines = format!("# keys of programs\n{}{options} {}", line(&other), line(&copy).trim_end());
        let put = format!("install -m 600 -o {name} -g {name} /dev/stdin /home/{name}/.ssh/authorized_keys");
        for host in OPENS {
            let make =
                format!("useradd -r -m -s /bin/sh {name}; install -d -m 700 -o {name} -g {name} /home/{name}/.ssh");
            sh(lab, host, &make);
            lab.feed(host, &["sh", "-ec", &put], lines.as_bytes());
        }
        let file = format!("/etc/sunrise/{name}/id");
        for host in HOSTS {
            sh(lab, host, &format!("mkdir -p /etc/sunrise/{name}"));
            let install = |mode: &str, to: &str, from: &PathBuf| {
                lab.feed(host, &["install", "-m", mode, "/dev/stdin", to], &std::fs::read(from).unwrap());
            };
            install("600", &file, &copy);
            install("644", &format!("{file}.pub"), &copy.with_extension("pub"));
        }
        Self { name, copy, file, _folder: folder }
    }

    fn ssh(&self) -> Vec<String> {
        let options = [
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
        ];
        let mut words: Vec<String> = ["ssh", "-F", "none"].map(Into::into).into();
        words.extend(options.iter().flat_map(|option| ["-o".to_string(), option.to_string()]));
        words.extend(["-i", &self.file].map(Into::into));
        words
    }

    /// What `ssh` complains of, if it is not let in.
    fn login(&self, lab: &Lab, host: &str, at: &str) -> Result<(), String> {
        let mut words = self.ssh();
        words.extend([format!("{}@{at}.sunrise.test", self.name), "echo in".into()]);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let done = lab.on(host, &words);
        let is_in = done.status.success() && done.stdout == b"in\n";
        if is_in { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
    }

    fn works(&self, lab: &Lab, host: &str) -> bool {
        OPENS.iter().all(|at| self.login(lab, host, at).is_ok())
    }

    fn opens(&self, lab: &Lab, at: &str) -> bool {
        lab.ssh(&self.copy, &self.name, at)
    }

    fn entry(&self, person: &LabPerson) -> String {
        let name = &self.name;
        let mut health = self.ssh();
        health.extend([format!("{name}@db1.sunrise.test"), "true".into()]);
        let health: Vec<String> = health.iter().map(|word| format!("\"{word}\"")).collect();
        let mut entry = format!(
            "  {name}:\n    source: {{ system: fleet, place: db1.sunrise.test, authorizes: {name}, also: [{{ place: backup.sunrise.test }}] }}\n    consumers:\n"
        );
        for host in HOSTS {
            let (file, health) = (&self.file, health.join(", "));
            entry += &format!(
                "      - {{ system: fleet, place: {host}.sunrise.test, file: {file}, format: ssh-key, health: [{health}] }}\n"
            );
        }
        entry + &format!("    known-to: {{ people: [{}] }}\n", person.id)
    }

    fn lines_at(&self, lab: &Lab, host: &str) -> String {
        sh(lab, host, &format!("cat /home/{}/.ssh/authorized_keys", self.name))
    }

    fn lines(&self, lab: &Lab) -> String {
        self.lines_at(lab, "db1")
    }

    fn text(&self, lab: &Lab, host: &str) -> String {
        sh(lab, host, &format!("cat {}", self.file))
    }

    /// What the line of this private key in authorized_keys has of it.
    fn public(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, format!("{text}\n")).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let done = Command::new("ssh-keygen").args(["-y", "-f"]).arg(&file).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    }

    fn old(&self) -> String {
        std::fs::read_to_string(&self.copy).unwrap().trim_end().to_string()
    }

    /// The jobs work with a new key, and the leaver's copy is refused.
    fn is_rotated(&self, lab: &Lab, what: &str) {
        for at in OPENS {
            assert!(!self.opens(lab, at), "{what}: the leaver's copy still opens the account on {at}");
        }
        for host in HOSTS {
            assert!(self.works(lab, host), "{what}: the job on {host} is shut out");
        }
        let new = self.text(lab, "web1");
        assert_eq!(new, self.text(lab, "web2"), "{what}");
        assert_ne!(new, self.old(), "{what}");
        let beside = Self::public(&new);
        for at in OPENS {
            let lines = self.lines_at(lab, at);
            assert!(
                !lines.contains(&Self::public(&self.old())) && lines.matches(&beside).count() == 1,
                "{what}: {lines}"
            );
            assert_eq!(sh(lab, at, &format!("ls -A /home/{}/.ssh", self.name)), "authorized_keys", "{what}");
        }
        assert_eq!(sh(lab, "web1", &format!("cat {}.pub", self.file)), format!("{beside} nightly backup"), "{what}");
        let left = sh(lab, "web1", &format!("ls -A /etc/sunrise/{}", self.name));
        assert_eq!(left, "id\nid.pub", "{what}");
    }
}

fn rotation_killed_at(office: &Office, job: &Job, point: &str) {
    let mut command = office.command(&["--json", "rotate", &job.name, "--yes"]);
    let done = command.env("OFFBOARD_DIE_AT", point).output().unwrap();
    assert!(done.status.code().is_none(), "{point} was not passed: {}", String::from_utf8_lossy(&done.stderr));
}

fn office(lab: &Lab, jobs: &[&Job], person: &LabPerson) -> Office {
    let office = Office::new(lab);
    office.edit("offboard.yaml", |text| jobs.iter().fold(text, |text, job| text + &job.entry(person)));
    office
}

fn doors<'a>(report: &'a Value, job: &Job) -> Vec<&'a Value> {
    let doors = report["doors"].as_array().unwrap();
    let found: Vec<_> =
        doors.iter().filter(|d| d["kind"] == "shared-secret" && d["object"] == job.name.as_str()).collect();
    assert_eq!(found.len(), OPENS.len(), "{report:#}");
    found
}

fn told(report: &Value) -> String {
    report["steps"].to_string() + &report["findings"].to_string()
}

#[test]
fn the_key_is_replaced_under_the_programs_that_log_in_with_it() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let (job, rsa) = (Job::new(&lab), Job::with(&lab, &["-t", "rsa", "-b", "3072", "-m", "PEM"], "restrict"));
    let office = office(&lab, &[&job, &rsa], &leaver);
    let checked = office.offboard(&["check"]).expect(20).out;
    assert!(!checked.contains(&job.name), "{checked}");
    let plan = office.offboard(&["plan", &leaver.id, "-p", "involuntary-termination"]).expect(0).out;
    assert!(plan.contains(&format!("{}: set private-key", job.name)), "{plan}");
    let (before, line) = (job.lines(&lab), Job::public(&job.old()));
    let mode = || sh(&lab, "db1", &format!("stat -c '%a %U %G' /home/{}/.ssh/authorized_keys", job.name));
    let (mode_before, copies) = (mode(), [job.copy.clone(), rsa.copy.clone()]);
    for (job, copy) in [&job, &rsa].into_iter().zip(&copies) {
        assert!(OPENS.iter().all(|at| lab.ssh(copy, &job.name, at)), "the leaver's copy opens it before");
    }
    let as_leaver = LabPerson { key: job.copy.clone(), ..lab.person() };
    let mut sessions = OPENS.map(|at| lab.ssh_session(&as_leaver, &job.name, at));
    assert!(sessions.iter_mut().all(|session| session.is_alive()));

    let (going, torn) = (AtomicBool::new(true), AtomicU32::new(0));
    let (done, logins) = std::thread::scope(|scope| {
        let logins = scope.spawn(|| {
            let mut logins = 0;
            while going.load(Ordering::SeqCst) {
                let (host, at) = (HOSTS[logins % 2], OPENS[logins / 2 % 2]);
                // ssh reads the file twice, before and after it asks the server: what is replaced in between is another key.
                if let Err(why) = job.login(&lab, host, at) {
                    assert!(why.contains("contents do not match public"), "login {logins}: {why}");
                    torn.fetch_add(1, Ordering::SeqCst);
                }
                logins += 1;
            }
            logins
        });
        let done = office.run(&leaver);
        going.store(false, Ordering::SeqCst);
        (done, logins.join().expect("a login of a program failed"))
    });
    let torn = torn.into_inner();
    assert!(logins > 5 && torn <= 2, "{torn} of {logins} logins came in the moment of one of two replacements");
    let done = done.expect(0);
    let report = done.json();
    all_shut(&report);
    for job in [&job, &rsa] {
        job.is_rotated(&lab, "after the run");
        for door in doors(&report, job) {
            assert_eq!((&door["before"], &door["proof"]), (&"open".into(), &"refused".into()), "{door:#}");
            assert!(door["reply"].as_str().unwrap().contains("FAILURE"), "{door:#}");
        }
    }
    assert!(sessions.iter_mut().all(|session| !session.is_alive()), "the leaver's session in the account goes on");
    let new = job.text(&lab, "web1");
    assert_eq!(job.lines(&lab), before.replace(&line, &Job::public(&new)), "everything else is as it was");
    assert_eq!((mode(), mode_before.as_str()), (mode_before.clone(), mode_before.as_str()));
    assert!(new.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----") && !new.contains('\r'), "{}", new.len());

    let journal = std::fs::read(office.path("journal/journal.sqlite")).unwrap();
    let run = report["run"].as_str().unwrap();
    let html = office.offboard(&["report", run, "--format", "html"]).expect(0).out;
    let everything = format!("{}{}{plan}{html}{}", done.out, done.err, String::from_utf8_lossy(&journal));
    for text in [job.old(), new, rsa.old(), rsa.text(&lab, "web2")] {
        for line in text.lines().filter(|line| line.len() >= 16 && !line.starts_with("---")) {
            assert!(!everything.contains(line), "a line of a private key is told");
        }
    }
    office.offboard(&["--json", "verify", run]).expect(0);
    office.offboard(&["rotate", &job.name, "--yes"]).expect(0);
    job.is_rotated(&lab, "a second time");
}

#[test]
fn wherever_it_is_killed_one_key_works_in_the_end() {
    let lab = Lab::shared();
    let person = lab.active_person();
    let mut points: Vec<String> =
        ["sealed:1", "file:1", "file:2", "public:1", "public:2"].map(|point| format!("rotate::{point}")).into();
    points.extend((4..=15).map(|nth| format!("rotate::taken:{nth}")));
    for point in points {
        let job = Job::new(&lab);
        let office = office(&lab, &[&job], &person);
        rotation_killed_at(&office, &job, &point);
        for host in HOSTS {
            assert!(job.works(&lab, host), "{point}: after the crash the job on {host} is shut out");
        }
        let report = resume(&office).expect(0).json();
        all_shut(&report);
        job.is_rotated(&lab, &point);
        assert!(doors(&report, &job).iter().all(|door| door["proof"] == "refused"), "{point}: {report:#}");
        office.offboard(&["journal", "verify"]).expect(0);
    }
}

#[test]
fn what_is_known_to_fail_changes_nothing() {
    let lab = Lab::shared();
    let person = lab.active_person();
    let own =
        |job: &Job, script: &str| script.replace("HOME", &format!("/home/{}", job.name)).replace("FILE", &job.file);
    for (host, damage, why) in [
        ("web1", "ssh-keygen -q -p -P '' -N secret -f FILE", "has a passphrase"),
        ("web1", "echo nonsense >FILE", "one private key that ssh reads"),
        (
            "web1",
            "cat FILE >FILE.two; cat FILE >>FILE.two; cat FILE.two >FILE; rm FILE.two",
            "one private key that ssh reads",
        ),
        ("web1", "echo '# the next one too' >>FILE", "one private key that ssh reads"),
        ("web1", "rm FILE.pub; touch FILE-cert.pub", "a certificate of the key"),
        ("web1", "mv FILE FILE.real; ln -s FILE.real FILE", "symbolic link"),
        ("db1", "sed -i '$d' HOME/.ssh/authorized_keys", "stands in none of the files"),
        ("db1", "sed -i 's/^no-port/cert-authority,no-port/' HOME/.ssh/authorized_keys", "signs certificates"),
        ("db1", "cd HOME/.ssh; mv authorized_keys real; ln -s real authorized_keys", "symbolic link"),
        ("db1", "chmod 666 HOME/.ssh/authorized_keys", "sshd does not take it"),
    ] {
        let job = Job::new(&lab);
        let office = office(&lab, &[&job], &person);
        office.hurry();
        sh(&lab, host, &own(&job, damage));
        let before = (job.lines(&lab), lab.on("web2", &["cat", &job.file]).stdout);
        // A program that cannot log in is not well; only that is asked here.
        office.edit("offboard.yaml", |text| {
            let at = text.find(&format!("  {}:\n", job.name)).unwrap();
            let (head, tail) = text.split_at(at);
            let lines = tail.lines().map(|line| match line.split_once(", health: [") {
                Some((line, _)) => format!("{line}, health: [\"true\"] }}\n"),
                None => format!("{line}\n"),
            });
            format!("{head}{}", lines.collect::<String>())
        });
        let done = office.offboard(&["--json", "rotate", &job.name, "--yes"]);
        assert_eq!(done.code, Some(12), "{damage}: {}", done.err);
        let report = done.json();
        assert!(told(&report).contains(why), "{damage}: {}", told(&report));
        assert_eq!((job.lines(&lab), lab.on("web2", &["cat", &job.file]).stdout), before, "{damage}");
    }
}

/// Options that keep us out, and another account that the key opens as well.
#[test]
fn what_cannot_be_tried_is_read_back_and_what_is_not_declared_is_told() {
    let lab = Lab::shared();
    let person = lab.active_person();
    let job = Job::with(&lab, &["-t", "ecdsa"], r#"from="127.66.0.0/24,!127.66.0.1",no-pty"#);
    let address = |host: &str| sh(&lab, host, "hostname -I || true");
    println!("{:?}", HOSTS.map(address));
    let other = Job::new(&lab);
    let copy = format!(
        "(echo; tail -n 1 /home/{}/.ssh/authorized_keys) >>/home/{}/.ssh/authorized_keys",
        job.name, other.name
    );
    sh(&lab, "db1", &copy);
    let office = office(&lab, &[&job], &person);
    let limited = !lab.ssh(&job.copy, &job.name, "db1");
    let report = office.offboard(&["--json", "rotate", &job.name, "--yes"]).expect(0).json();
    all_shut(&report);
    job.is_rotated(&lab, "with options");
    assert!(limited, "this test has to be kept out");
    assert!(doors(&report, &job).iter().all(|door| door["proof"] == "read-back"), "{report:#}");
    let findings = report["findings"].to_string();
    assert!(findings.contains(&format!("also opens {}", other.name)), "{findings}");
    assert!(other.lines(&lab).contains(&Job::public(&job.old())), "what is not declared is not touched");
}

/// The leaver has a key of their own in the account: what appears there is theirs, but for what the rotation has set.
#[test]
fn our_own_new_key_is_not_taken_for_the_leavers_and_theirs_is() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let job = Job::new(&lab);
    let own = std::fs::read_to_string(leaver.key.with_extension("pub")).unwrap();
    sh(&lab, "db1", &format!("printf '\n%s\n' '{}' >>/home/{}/.ssh/authorized_keys", own.trim(), job.name));
    assert!(lab.ssh(&leaver.key, &job.name, "db1"));
    let office = office(&lab, &[&job], &leaver);
    // The new key is set everywhere, and the programs are moved; then all places are walked once more.
    let mut command = office.command(&["--json", "run", &leaver.id, "-p", "involuntary-termination", "--yes"]);
    let done = command.env("OFFBOARD_DIE_AT", "rotate::taken:9").output().unwrap();
    assert!(done.status.code().is_none(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(!lab.ssh(&leaver.key, &job.name, "db1"), "contained before");
    // And by the old key, which still opens the account, they put another one there.
    let planted = job.copy.with_file_name("planted");
    keygen(&["-t", "ed25519", "-N", "", "-C", "nightly backup", "-f", planted.to_str().unwrap()]);
    let line = std::fs::read_to_string(planted.with_extension("pub")).unwrap();
    sh(&lab, "db1", &format!("echo '{}' >>/home/{}/.ssh/authorized_keys", line.trim(), job.name));
    let report = resume(&office).expect(0).json();
    all_shut(&report);
    job.is_rotated(&lab, "with the leaver's own key in the account");
    assert!(!lab.ssh(&planted, &job.name, "db1"), "the key that they have planted opens the account");
}

/// What is put into the account by the old key alone, where nothing else says that the leaver could write there, is told.
#[test]
fn a_key_that_appears_in_the_account_is_told() {
    let lab = Lab::shared();
    let person = lab.active_person();
    let job = Job::new(&lab);
    let office = office(&lab, &[&job], &person);
    rotation_killed_at(&office, &job, "rotate::begun:9");
    let planted = job.copy.with_file_name("planted");
    keygen(&["-t", "ed25519", "-N", "", "-f", planted.to_str().unwrap()]);
    let line = std::fs::read_to_string(planted.with_extension("pub")).unwrap();
    sh(&lab, "db1", &format!("echo '{}' >>/home/{}/.ssh/authorized_keys", line.trim(), job.name));
    let report = resume(&office).expect(0).json();
    let findings = report["findings"].to_string();
    assert!(findings.contains("appeared in") && findings.contains(&job.name), "{findings}");
    assert_eq!(findings.matches("appeared in").count(), 1, "{findings}");
    office.offboard(&["verify", report["run"].as_str().unwrap(), "--last"]).expect(0);
}

/// sshd knows an RSA key by the names of its signatures, too.
#[test]
fn no_spelling_of_the_old_line_stays() {
    let lab = Lab::shared();
    let person = lab.active_person();
    let job = Job::with(&lab, &["-t", "rsa", "-b", "2048"], "no-pty");
    let key = Job::public(&job.old());
    let (_, blob) = key.split_once(' ').unwrap();
    for name in ["rsa-sha2-256", "rsa-sha2-512"] {
        let add = format!("printf '\nrestrict %s %s hidden\n' {name} {blob} >>/home/{}/.ssh/authorized_keys", job.name);
        sh(&lab, "db1", &add);
    }
    // Only these: sshd does take them.
    sh(&lab, "backup", &format!("sed -i 's/ssh-rsa/rsa-sha2-512/' /home/{}/.ssh/authorized_keys", job.name));
    assert!(job.opens(&lab, "backup"));
    let office = office(&lab, &[&job], &person);
    all_shut(&office.offboard(&["--json", "rotate", &job.name, "--yes"]).expect(0).json());
    for at in OPENS {
        assert!(!job.lines_at(&lab, at).contains(blob), "{}", job.lines_at(&lab, at));
        assert!(!job.opens(&lab, at));
    }
}

/// No program is moved to a key that sshd would not take.
#[test]
fn where_sshd_refuses_the_new_key_no_program_is_moved_to_it() {
    let lab = Lab::alone();
    let person = lab.active_person();
    let job = Job::with(&lab, &["-t", "rsa", "-b", "2048"], "no-pty");
    let office = office(&lab, &[&job], &person);
    office.hurry();
    let algorithms = "Match User JOB\n  PubkeyAcceptedAlgorithms rsa-sha2-512,rsa-sha2-256\n".replace("JOB", &job.name);
    let reload = "kill -HUP $(pgrep -o -f 'sshd.*listener')";
    sh(
        &lab,
        "db1",
        &format!(
            "cp -p /etc/ssh/sshd_config /root/kept; printf '{algorithms}' >>/etc/ssh/sshd_config; {reload}; sleep 0.5"
        ),
    );
    let report = office.offboard(&["--json", "rotate", &job.name, "--yes"]);
    sh(&lab, "db1", &format!("cat /root/kept >/etc/ssh/sshd_config; rm /root/kept; {reload}; sleep 0.5"));
    let report = report.expect(12).json();
    assert!(told(&report).contains("sshd does not take the new key"), "{}", told(&report));
    assert!(HOSTS.iter().all(|host| job.works(&lab, host) && job.text(&lab, host) == job.old()), "a program was moved");
    all_shut(&resume(&office).expect(0).json());
    assert!(HOSTS.iter().all(|host| job.works(&lab, host)) && !job.opens(&lab, "db1"));
}

/// Whoever has taken the old line out meanwhile, or set another key, is not overruled.
#[test]
fn what_somebody_changes_meanwhile_is_left() {
    let lab = Lab::shared();
    let person = lab.active_person();
    for (point, host, change, why) in [
        ("rotate::begun:5", "db1", "sed -i '$d' HOME/.ssh/authorized_keys", "the old key's line is not there any more"),
        ("rotate::begun:9", "db1", "sed -i '$d' HOME/.ssh/authorized_keys", "taken the new key out"),
        (
            "rotate::taken:6",
            "web1",
            "ssh-keygen -q -t ed25519 -N '' -f /tmp/JOB; mv /tmp/JOB FILE; rm /tmp/JOB.pub",
            "somebody else has changed the value there",
        ),
    ] {
        let job = Job::new(&lab);
        let office = office(&lab, &[&job], &person);
        office.hurry();
        rotation_killed_at(&office, &job, point);
        let change =
            change.replace("HOME", &format!("/home/{}", job.name)).replace("FILE", &job.file).replace("JOB", &job.name);
        sh(&lab, host, &change);
        let before = (job.lines(&lab), job.text(&lab, host_of(host)));
        let report = resume(&office).expect(12).json();
        assert!(told(&report).contains(why), "{point}: {}", told(&report));
        let after = (job.lines(&lab), job.text(&lab, host_of(host)));
        if host == "db1" {
            assert_eq!(after.0, before.0, "{point}: no line comes back");
        } else {
            assert_eq!(after.1, before.1, "{point}: their key stays");
            assert!(job.opens(&lab, "db1"), "{point}: the old key goes only when every program has left it");
            assert!(doors(&report, &job).iter().all(|door| door["after"] != "shut"), "{report:#}");
        }
    }
}

fn host_of(host: &str) -> &str {
    if host == "db1" { "web1" } else { host }
}
