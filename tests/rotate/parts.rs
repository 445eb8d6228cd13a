//! Other sources than a database: a service account of the directory, and a file that a program checks the value by; and checks of a program
//! besides a command.

use super::lab::Lab;
use super::office::{Office, all_shut, doors};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

/// A program that lets in whoever has the token of its file, which it reads at its start and on SIGHUP. /health needs none.
const GATE: &str = r#"
import configparser, http.server, signal, sys
def token():
    c = configparser.ConfigParser(interpolation=None); c.read(sys.argv[1]); return c["gate"]["token"]
now = token()
def reload(*_):
    global now; now = token()
signal.signal(signal.SIGHUP, reload)
class Gate(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        ok = self.path == "/health" or self.headers.get("Authorization") == "Bearer " + now
        self.send_response(200 if ok else 401); self.send_header("Content-Length", "0"); self.end_headers()
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Gate).serve_forever()
"#;

/// Tries the token that it reads: 0 taken, 1 refused.
const PROBE: &str = r#"#!/bin/sh
IFS= read -r token
code=$(printf 'Authorization: Bearer %s' "$token" | curl -s -o /dev/null -w '%{http_code}' -H @- "http://127.0.0.1:$1/")
case $code in 200) exit 0 ;; 401) exit 1 ;; *) echo "$code"; exit 2 ;; esac
"#;

fn port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A server of this process that answers 401 to everybody.
fn refuser() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(&stream).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let _ = (&stream).write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
        }
    });
    port
}

fn text(lab: &Lab, host: &str, file: &str) -> String {
    String::from_utf8(lab.on(host, &["cat", file]).stdout).unwrap()
}

fn secret<'a>(report: &'a Value, name: &str) -> &'a Value {
    let doors = report["doors"].as_array().unwrap();
    doors.iter().find(|d| d["kind"] == "shared-secret" && d["object"] == name).unwrap_or_else(|| panic!("{report:#}"))
}

struct Gate {
    port: u16,
}

impl Gate {
    fn start(lab: &Lab, token: &str) -> Self {
        let gate = Self { port: port() };
        let install = |mode: &str, file: &str, what: &str| {
            lab.feed("web2", &["install", "-D", "-m", mode, "/dev/stdin", file], what.as_bytes());
        };
        install(
            "600",
            "/etc/sunrise/gate.ini",
            &format!("; who may open the gate\n[gate]\ntoken = {token} \nname = north\n"),
        );
        install("644", "/etc/sunrise/gate.py", GATE);
        install("755", "/etc/sunrise/gate-probe", PROBE);
        let start = "setsid python3 /etc/sunrise/gate.py /etc/sunrise/gate.ini $1 >/dev/null 2>&1 </dev/null & echo $! >/run/gate.pid";
        lab.on("web2", &["sh", "-c", start, "_", &gate.port.to_string()]);
        install("755", "/etc/sunrise/gate-reload", "#!/bin/sh\nread -r pid </run/gate.pid && kill -HUP $pid\n");
        lab.feed(
            "web1",
            &["install", "-D", "-m", "600", "/dev/stdin", "/etc/sunrise/gate-client.env"],
            format!("TOKEN='{token}'\n").as_bytes(),
        );
        let begun = (0..200).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(50));
            gate.status(lab, token) == "200"
        });
        assert!(begun, "the gate does not answer");
        gate
    }

    fn status(&self, lab: &Lab, token: &str) -> String {
        let header = format!("Authorization: Bearer {token}");
        let url = format!("http://127.0.0.1:{}/", self.port);
        let said = lab.on("web2", &["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", &header, &url]);
        String::from_utf8(said.stdout).unwrap()
    }

    /// The entry in offboard.yaml.
    fn entry(&self, leaver: &str, probe: bool) -> String {
        let (port, here) = (self.port, refuser());
        let probe = if probe { format!("probe: [/etc/sunrise/gate-probe, \"{port}\"],") } else { String::new() };
        format!(
            "  gate:
    source: {{ system: fleet, place: web2.sunrise.test, file: /etc/sunrise/gate.ini, format: ini, key: gate.token, reload: [/etc/sunrise/gate-reload], {probe}
              health: {{ http: {{ url: \"http://127.0.0.1:{port}/health\" }} }} }}
    consumers:
      - {{ system: fleet, place: web1.sunrise.test, file: /etc/sunrise/gate-client.env, key: TOKEN, reload: [\"true\"],
          health: {{ command: [\"true\"], tcp: {{ to: \"127.0.0.1:22\" }}, http: {{ url: \"http://127.0.0.1:{here}/\", status: 401, by: here }} }} }}
    known-to: {{ people: [{leaver}] }}
"
        )
    }
}

#[test]
fn a_token_that_a_program_reads_from_its_file_is_rotated() {
    let lab = Lab::alone();
    for probe in [true, false] {
        let leaver = lab.person();
        let token = format!("token-that-{}-knows", leaver.id);
        let gate = Gate::start(&lab, &token);
        let office = Office::hasty(&lab);
        office.edit("offboard.yaml", |text| text + &gate.entry(&leaver.id, probe));
        // The lab's own portal may be down: a test before this one has taken its database away.
        let listed = office.offboard(&["secrets"]).out;
        let listed = listed.split("\nportal-db").next().unwrap();
        assert!(listed.contains("/etc/sunrise/gate.ini") && !listed.contains("not well"), "{listed}");
        let done = office.run(&leaver).expect(0);
        let report = done.json();
        all_shut(&report);
        assert_eq!(doors(&report).iter().filter(|(kind, _)| kind == "shared-secret").count(), 1);
        let door = secret(&report, "gate");
        let proof = if probe { "refused" } else { "read-back" };
        assert_eq!(
            (&door["before"], &door["after"], &door["proof"]),
            (&"open".into(), &"shut".into(), &proof.into()),
            "{door:#}"
        );
        let file = text(&lab, "web2", "/etc/sunrise/gate.ini");
        let new = file.lines().find_map(|l| l.strip_prefix("token = ")).unwrap().trim();
        assert_eq!(new.len(), 43);
        assert_eq!(
            file,
            format!("; who may open the gate\n[gate]\ntoken = {new} \nname = north\n"),
            "the rest is as it was"
        );
        assert_eq!(text(&lab, "web1", "/etc/sunrise/gate-client.env"), format!("TOKEN='{new}'\n"));
        assert_eq!((gate.status(&lab, &token).as_str(), gate.status(&lab, new).as_str()), ("401", "200"));
        let run = report["run"].as_str().unwrap();
        all_shut(&office.offboard(&["--json", "verify", run]).expect(0).json());
        office.offboard(&["verify", run, "--last"]).expect(0);
        for said in [&done.out, &done.err] {
            assert!(!said.contains(&token) && !said.contains(new), "{said}");
        }
        lab.on("web2", &["sh", "-c", "kill $(cat /run/gate.pid)"]);
    }
}

#[test]
fn what_a_file_source_is_known_to_fail_at_changes_nothing() {
    let lab = Lab::alone();
    let leaver = lab.person();
    let gate = Gate::start(&lab, "token-that-somebody-knows");
    let office = Office::hasty(&lab);
    office.edit("offboard.yaml", |text| text + &gate.entry(&leaver.id, true));
    let before = text(&lab, "web2", "/etc/sunrise/gate.ini");
    let says = |wanted: &str| {
        let listed = office.offboard(&["secrets"]).expect(20).out;
        assert!(listed.contains(wanted), "{listed}");
        assert!(!listed.contains("token-that"), "{listed}");
        assert_eq!(text(&lab, "web2", "/etc/sunrise/gate.ini"), before);
    };
    let probe = |script: &str| {
        lab.feed("web2", &["install", "-m", "755", "/dev/stdin", "/etc/sunrise/gate-probe"], script.as_bytes())
    };
    probe("#!/bin/sh\nexit 0\n");
    says("it would prove nothing");
    probe("#!/bin/sh\nread -r t; echo no: $t; exit 1\n");
    says("does not say that the program takes");
    probe(PROBE);
    lab.feed("web1", &["sh", "-c", "cat >/etc/sunrise/gate-client.env"], b"TOKEN=another-token-that-is-old\n");
    says("another one than stands there");
    lab.feed("web1", &["sh", "-c", "cat >/etc/sunrise/gate-client.env"], b"TOKEN=token-that-somebody-knows\n");
    lab.on("web2", &["sh", "-c", "kill $(cat /run/gate.pid)"]);
    says("health check of http://127.0.0.1");
}

#[test]
fn a_directorys_service_account_is_rotated_on_every_server() {
    let lab = Lab::alone();
    let leaver = lab.person();
    let (old, dn) = ("portal-bind-password-old", "uid=portal-bind,ou=services,dc=sunrise,dc=test");
    let add = "cd \"$1/lab\" && . ./lib.sh && in_lab && . ./seed.sh && . ./ldap.sh && ldap_admin ldap1 ldapadd";
    let mut command = Command::new("bash");
    let mut child = command
        .args(["-c", add, "_", env!("CARGO_MANIFEST_DIR")])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let entry = format!(
        "dn: {dn}\nobjectClass: account\nobjectClass: simpleSecurityObject\nuid: portal-bind\nuserPassword: {old}\n"
    );
    child.stdin.take().unwrap().write_all(entry.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    lab.feed(
        "web1",
        &["install", "-D", "-m", "600", "/dev/stdin", "/etc/sunrise/bind.env"],
        format!("LDAP_PASSWORD={old}\n").as_bytes(),
    );
    let on_both = |password: &str| ["ldap1", "ldap2"].map(|replica| lab.ldapwhoami(replica, dn, password));
    assert!((0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        on_both(old) == [true, true]
    }));
    let office = Office::hasty(&lab);
    let entry = format!(
        "  bind:
    source: {{ system: directory, place: \"ldap1.sunrise.test:636\", account: \"{dn}\" }}
    consumers:
      - {{ system: fleet, place: web1.sunrise.test, file: /etc/sunrise/bind.env, key: LDAP_PASSWORD, reload: [\"true\"], health: [\"true\"] }}
    known-to: {{ people: [{}] }}
",
        leaver.id
    );
    office.edit("offboard.yaml", |text| text + &entry);
    let done = office.run(&leaver).expect(0);
    let report = done.json();
    all_shut(&report);
    let door = secret(&report, "bind");
    assert_eq!(
        (&door["before"], &door["after"], &door["proof"]),
        (&"open".into(), &"shut".into(), &"refused".into()),
        "{door:#}"
    );
    assert!(door["reply"].as_str().unwrap().contains("invalidCredentials"), "{door:#}");
    let file = text(&lab, "web1", "/etc/sunrise/bind.env");
    let new = file.trim().strip_prefix("LDAP_PASSWORD=").unwrap();
    assert_eq!((on_both(old), on_both(new)), ([false, false], [true, true]));
    all_shut(&office.offboard(&["--json", "verify", report["run"].as_str().unwrap()]).expect(0).json());
}
