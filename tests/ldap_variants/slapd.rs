//! A private slapd, and the connector pointed at it.

use crate::server;
use futures::StreamExt;
use jiff::Timestamp;
use offboard::connector::{Connector, Cx, Link, Scope, Wanted};
use offboard::connectors::ldap::{self, Settings};
use offboard::model::*;
use secrecy::SecretSlice;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::sync::Arc;
use std::time::Duration;

pub const OPERATOR: &str = "cn=offboard,ou=services,dc=sunrise,dc=test";
pub const JROE: &str = "uid=jroe,ou=people,dc=sunrise,dc=test";
pub const BYSTANDER: &str = "uid=jroe2,ou=people,dc=sunrise,dc=test";

/// How the server is set up.
#[derive(Clone)]
pub struct Variant {
    /// The overlay is there, with these lines of its configuration.
    pub ppolicy: Option<&'static str>,
    /// Attributes of the entry `cn=default,ou=policies`.
    pub policy: &'static str,
    /// What the operator may do with passwords and people's entries.
    pub operator: &'static str,
    /// Lines of configuration for the database.
    pub more: &'static str,
    /// More entries.
    pub entries: String,
    /// It has a certificate.
    pub tls: bool,
    /// The operator may read cn=Monitor.
    pub monitor: bool,
}

impl Default for Variant {
    fn default() -> Self {
        Self {
            ppolicy: Some("ppolicy_default cn=default,ou=policies,dc=sunrise,dc=test\nppolicy_use_lockout"),
            policy: "pwdLockout: TRUE",
            operator: "manage",
            more: "",
            entries: String::new(),
            tls: true,
            monitor: true,
        }
    }
}

/// A running server; stopped and removed when dropped.
pub struct Slapd {
    child: Child,
    pub folder: tempfile::TempDir,
    pub ldap: u16,
    pub ldaps: u16,
}

impl Drop for Slapd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn run(command: &mut Command) -> Output {
    let output =
        command.output().unwrap_or_else(|e| panic!("{command:?}: {e}; apt-get install slapd ldap-utils openssl"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// A CA and a certificate for 127.0.0.1 and localhost, as `NAME-ca.pem`, `NAME.pem` and `NAME.key`.
pub fn certificates(folder: &Path, name: &str) {
    let file = |suffix: &str| folder.join(format!("{name}{suffix}"));
    let mut ca = Command::new("openssl");
    ca.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj"]);
    run(ca.arg(format!("/CN={name} test CA")).arg("-keyout").arg(file("-ca.key")).arg("-out").arg(file("-ca.pem")));
    fs::write(file(".ext"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").unwrap();
    let mut request = Command::new("openssl");
    request.args(["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=directory"]);
    run(request.arg("-keyout").arg(file(".key")).arg("-out").arg(file(".csr")));
    let mut sign = Command::new("openssl");
    sign.args(["x509", "-req", "-days", "2", "-CAcreateserial", "-CA"]).arg(file("-ca.pem"));
    sign.arg("-CAkey").arg(file("-ca.key")).arg("-in").arg(file(".csr")).arg("-extfile").arg(file(".ext"));
    run(sign.arg("-out").arg(file(".pem")));
}

const SCHEMA: &str = r"
attributetype ( 1.3.6.1.4.1.24552.500.1.1.1.13 NAME 'sshPublicKey' EQUALITY octetStringMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 )
objectclass ( 1.3.6.1.4.1.24552.500.1.1.2.0 NAME 'ldapPublicKey' SUP top AUXILIARY MAY ( sshPublicKey $ uid ) )
attributetype ( 1.3.6.1.4.1.15953.9.1.1 NAME 'sudoUser' EQUALITY caseExactIA5Match SYNTAX 1.3.6.1.4.1.1466.115.121.1.26 )
objectclass ( 1.3.6.1.4.1.15953.9.2.1 NAME 'sudoRole' SUP top STRUCTURAL MUST cn MAY ( sudoUser $ description ) )
";

const ENTRIES: &str = "
dn: dc=sunrise,dc=test
objectClass: dcObject
objectClass: organization
o: Sunrise

dn: ou=people,dc=sunrise,dc=test
objectClass: organizationalUnit

dn: ou=groups,dc=sunrise,dc=test
objectClass: organizationalUnit

dn: ou=services,dc=sunrise,dc=test
objectClass: organizationalUnit

dn: ou=policies,dc=sunrise,dc=test
objectClass: organizationalUnit

dn: cn=offboard,ou=services,dc=sunrise,dc=test
objectClass: organizationalRole
objectClass: simpleSecurityObject
userPassword: operator-secret

dn: uid=monitor,ou=services,dc=sunrise,dc=test
objectClass: account
objectClass: simpleSecurityObject
userPassword: control-secret

dn: uid=jroe,ou=people,dc=sunrise,dc=test
objectClass: inetOrgPerson
objectClass: shadowAccount
objectClass: ldapPublicKey
cn: Jane Roe
sn: Roe
mail: jane.roe@example.com
employeeNumber: E1042
userPassword: jane-old-password
shadowExpire: 99999
sshPublicKey: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ jane@laptop

dn: uid=jroe2,ou=people,dc=sunrise,dc=test
objectClass: inetOrgPerson
cn: Jane Roe
sn: Roe
mail: jane.roe2@example.com
employeeNumber: E10422
userPassword: bystander-password

dn: cn=dev,ou=groups,dc=sunrise,dc=test
objectClass: groupOfNames
member: uid=jroe,ou=people,dc=sunrise,dc=test
member: uid=jroe2,ou=people,dc=sunrise,dc=test

dn: cn=alone,ou=groups,dc=sunrise,dc=test
objectClass: groupOfNames
member: uid=jroe,ou=people,dc=sunrise,dc=test

dn: cn=unique,ou=groups,dc=sunrise,dc=test
objectClass: groupOfUniqueNames
uniqueMember: uid=jroe,ou=people,dc=sunrise,dc=test
uniqueMember: uid=jroe2,ou=people,dc=sunrise,dc=test

dn: cn=unix,ou=groups,dc=sunrise,dc=test
objectClass: posixGroup
gidNumber: 2000
memberUid: jroe
memberUid: jroe2

dn: cn=sudo,ou=groups,dc=sunrise,dc=test
objectClass: sudoRole
sudoUser: jroe
sudoUser: jroe2
";

impl Slapd {
    pub fn start(variant: &Variant) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        certificates(folder.path(), "server");
        fs::create_dir(folder.path().join("db")).unwrap();
        fs::write(at("local.schema"), SCHEMA).unwrap();
        let (module, overlay) = match variant.ppolicy {
            Some(lines) => ("moduleload ppolicy", format!("overlay ppolicy\n{lines}\n")),
            None => ("", String::new()),
        };
        let operator = variant.operator;
        let tls = if variant.tls {
            let (ca, cert, key) = (at("server-ca.pem"), at("server.pem"), at("server.key"));
            format!(
                "TLSCACertificateFile {ca}\nTLSCertificateFile {cert}\nTLSCertificateKeyFile {key}\nsecurity simple_bind=128"
            )
        } else {
            String::new()
        };
        let conf = format!(
            "include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\ninclude /etc/ldap/schema/inetorgperson.schema\n\
             include /etc/ldap/schema/nis.schema\ninclude {schema}\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\nmoduleload back_monitor\n{module}\n\
             {tls}\n\
             database monitor\naccess to * by dn.exact=\"{OPERATOR}\" {monitor}\n\
             database mdb\nsuffix dc=sunrise,dc=test\nrootdn cn=admin,dc=sunrise,dc=test\nrootpw admin-secret\ndirectory {db}\nmaxsize 268435456\ndbnosync\n\
             index objectClass,uid,mail,employeeNumber,member,memberUid eq\n\
             {more}\n\
             access to attrs=userPassword by dn.exact=\"{OPERATOR}\" {operator} by self write by anonymous auth\n\
             access to dn.subtree=\"ou=people,dc=sunrise,dc=test\" by dn.exact=\"{OPERATOR}\" {operator} by self write by users read\n\
             access to dn.subtree=\"ou=groups,dc=sunrise,dc=test\" by dn.exact=\"{OPERATOR}\" {operator} by users read\n\
             access to * by users read\n{overlay}",
            schema = at("local.schema"),
            db = at("db"),
            monitor = if variant.monitor { "read" } else { "none" },
            more = variant.more,
        );
        fs::write(at("slapd.conf"), conf).unwrap();
        let policy = if variant.ppolicy.is_some() {
            format!(
                "\ndn: cn=default,ou=policies,dc=sunrise,dc=test\nobjectClass: device\nobjectClass: pwdPolicy\npwdAttribute: userPassword\n{}\n",
                variant.policy
            )
        } else {
            String::new()
        };
        fs::write(at("seed.ldif"), format!("{ENTRIES}{policy}\n{}", variant.entries)).unwrap();
        run(Command::new("slapadd").args([
            "-q",
            "-f",
            &at("slapd.conf"),
            "-b",
            "dc=sunrise,dc=test",
            "-l",
            &at("seed.ldif"),
        ]));
        for (name, secret) in
            [("operator", "operator-secret"), ("control", "control-secret"), ("wrong", "something-else")]
        {
            fs::write(at(name), secret).unwrap();
            fs::set_permissions(at(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        let (ldap, ldaps) = (server::port(), server::port());
        // 127.0.0.2 leads to the same server, whose certificate does not carry it.
        let secure = format!(" ldaps://127.0.0.1:{ldaps} ldaps://127.0.0.2:{ldaps}");
        let urls = format!("ldap://127.0.0.1:{ldap}{}", if variant.tls { &secure } else { "" });
        let mut slapd = Command::new("slapd");
        slapd.args(["-d", "none", "-f", &at("slapd.conf"), "-h", &urls]);
        // It listens on one after the other.
        let ports = if variant.tls { vec![ldap, ldaps] } else { vec![ldap] };
        let answers = || ports.iter().all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok());
        let child = server::start(&mut slapd, Path::new(&at("log")), answers);
        Self { child, folder, ldap, ldaps }
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn settings(&self) -> Settings {
        serde_json::from_value(serde_json::json!({
            "urls": [format!("ldaps://127.0.0.1:{}", self.ldaps)],
            "ca": "server-ca.pem",
            "bind-dn": OPERATOR,
            "password": { "file": "operator" },
            "people": ["ou=people,dc=sunrise,dc=test"],
            "groups": ["ou=groups,dc=sunrise,dc=test"],
            "control": { "dn": "uid=monitor,ou=services,dc=sunrise,dc=test", "password": { "file": "control" } },
        }))
        .unwrap()
    }

    pub fn connector(&self) -> Arc<dyn Connector> {
        self.connector_with(self.settings())
    }

    pub fn connector_with(&self, settings: Settings) -> Arc<dyn Connector> {
        ldap::build(&SystemName("directory".into()), settings, self.folder.path()).unwrap()
    }

    pub async fn open(&self) -> Box<dyn Link> {
        let connector = self.connector();
        connector.open(&connector.places()[0], &cx()).await.unwrap()
    }

    /// A client of OpenLDAP's own as somebody.
    pub fn client(&self, tool: &str, dn: &str, password: &str) -> Command {
        let mut command = Command::new(tool);
        command.env("LDAPTLS_CACERT", self.path("server-ca.pem"));
        command.args(["-x", "-H", &format!("ldaps://127.0.0.1:{}", self.ldaps), "-D", dn, "-w", password]);
        command
    }

    pub fn gets_in(&self, dn: &str, password: &str) -> bool {
        let output = self.client("ldapwhoami", dn, password).output().unwrap();
        let code = output.status.code();
        assert!(matches!(code, Some(0 | 48 | 49)), "{}", String::from_utf8_lossy(&output.stderr));
        code == Some(0)
    }

    /// Changes made by the directory's own administrator.
    pub fn change(&self, ldif: &str) {
        fs::write(self.path("change.ldif"), ldif).unwrap();
        let mut modify = self.client("ldapmodify", "cn=admin,dc=sunrise,dc=test", "admin-secret");
        run(modify.arg("-f").arg(self.path("change.ldif")));
    }

    /// One attribute of an entry, as its administrator sees it; base64 where it is not plain.
    pub fn values(&self, dn: &str, attribute: &str) -> Vec<String> {
        let mut search = self.client("ldapsearch", "cn=admin,dc=sunrise,dc=test", "admin-secret");
        let output = run(search.args(["-LLL", "-o", "ldif_wrap=no", "-s", "base", "-b", dn, attribute]));
        let text = String::from_utf8(output.stdout).unwrap();
        let prefix = format!("{attribute}:");
        text.lines()
            .filter_map(|line| line.strip_prefix(&prefix))
            .map(|v| v.trim_start_matches(": ").trim().to_string())
            .collect()
    }
}

pub fn cx() -> Cx {
    Cx {
        now: Arc::new(|| Timestamp::UNIX_EPOCH),
        timeout: Duration::from_secs(20),
        baseline: None,
        seed: SecretSlice::from(vec![7; 32]),
    }
}

pub fn jane() -> Person {
    Person {
        id: PersonId("E1042".into()),
        name: "Jane Roe".into(),
        email: Some("jane.roe@example.com".into()),
        user_name: Some("jroe".into()),
        manager: None,
        department: None,
        worker_type: None,
        status: WorkerStatus::Active,
        reason: None,
        ends: None,
        zone: None,
        keys: Vec::new(),
    }
}

pub fn wanted(person: Person) -> Wanted {
    Wanted { person, accounts: Vec::new(), keys: Default::default() }
}

pub async fn discover(link: &mut dyn Link, scope: &Scope) -> Vec<Account> {
    let found: Vec<_> = link.discover(scope).collect().await;
    found.into_iter().map(|account| account.unwrap()).collect()
}

/// Jane's account, matched to her as the roster would.
pub async fn janes(link: &mut dyn Link) -> Account {
    let found = discover(link, &Scope::People(vec![wanted(jane())])).await;
    let mut account = found.into_iter().find(|a| a.native_id == JROE).expect("jroe is found");
    account.owner = Owner::Person { id: jane().id, rule: MatchRule::EmployeeNumber };
    account
}

pub fn steps(connector: &dyn Connector, account: &Account, action: Action) -> Vec<Step> {
    connector.plan(account, &jane().id, action).into_iter().flatten().collect()
}

pub fn door(account: &Account, kind: DoorKind) -> Vec<Door> {
    account.doors.iter().filter(|d| d.kind == kind).cloned().collect()
}
