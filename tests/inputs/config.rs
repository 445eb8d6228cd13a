use offboard::config::{Clock, Config, schema, template};
use offboard::model::{Asker, HealthChecks, Part};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

const GOOD: &str = r#"company: Sunrise Hospital IT
roster: { csv: roster.csv }
preset: fedramp-high
systems:
  directory:
    ldap:
      urls: [ldaps://ldap1.example.test, ldap://ldap2.example.test:389]
      ca: ca.pem
      bind-dn: cn=offboard,dc=example,dc=test
      password: { file: secrets/ldap }
      people: ["ou=people,dc=example,dc=test"]
  billing:
    postgres:
      hosts: [db1.example.test:5432]
      user: offboard
      password: { file: secrets/postgres }
      ca: ca.pem
  fleet:
    ssh:
      hosts: [web1.example.test]
      user: offboard
      key: secrets/fleet_ed25519
      known-hosts: known_hosts
accounts:
  - { person: E1042, system: billing, account: jroe_dba }
keys-of:
  - { person: E1042, key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDrbu3L4VUE6a8rS0wzUoYRAPnN+fFhKBmxfTjRCNPS5 jroe" }
protected:
  - { system: fleet, account: emergency, as: break-glass }
mail:
  smtp: smtp.example.test:587
  tls: starttls
  ca: ca.pem
  user: offboard
  password: { file: secrets/smtp }
  from: "offboard <offboard@example.test>"
  to: [security@example.test]
"#;

const ROSTER: &str = "id,name,e-mail,user name,status\nE1042,Jane Roe,jane.roe@example.com,jroe,active\n";

/// A certificate of nobody in particular; its private key was never kept.
const CA: &str = "\
-----BEGIN CERTIFICATE-----
MIIBSjCB/aADAgECAhQ9/SgShJQ6TqBldXuCWs49w1pSmzAFBgMrZXAwGjEYMBYG
A1UEAwwPRXhhbXBsZSBUZXN0IENBMCAXDTI2MTEyMjEzNDQ1NFoYDzIxMjYxMDI5
MTM0NDU0WjAaMRgwFgYDVQQDDA9FeGFtcGxlIFRlc3QgQ0EwKjAFBgMrZXADIQBq
TF1HfpL1fV6O8sNmPSwqt3V5rwtjGypjL9CEEgNlUaNTMFEwHQYDVR0OBBYEFOZj
OhzhDYNRA/tqtkKPQwL6NHmeMB8GA1UdIwQYMBaAFOZjOhzhDYNRA/tqtkKPQwL6
NHmeMA8GA1UdEwEB/wQFMAMBAf8wBQYDK2VwA0EAsL7M+ZOQgFbUiaBSTa7LvZws
Kva8mJaJgNOmMu1uZHzWk52Gw1JHyftqeGEww91xHV2bHH0PeLBN6FdLfmHdCw==
-----END CERTIFICATE-----
";

/// A folder with everything that the good configuration names.
fn folder(yaml: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str, mode: u32| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    write("offboard.yaml", yaml, 0o600);
    write("roster.csv", ROSTER, 0o644);
    write("ca.pem", CA, 0o644);
    write("bin/archive", "#!/bin/sh\n", 0o755);
    for name in [
        "archive",
        "ldap",
        "ldap-control",
        "postgres",
        "postgres-control",
        "redis",
        "redis-control",
        "mysql",
        "mysql-control",
        "smtp",
        "vault",
        "vault-control",
    ] {
        write(&format!("secrets/{name}"), "hunter2\n", 0o600);
    }
    let key = folder.path().join("secrets/fleet_ed25519");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status().unwrap();
    assert!(made.success(), "ssh-keygen is in the package openssh-client");
    let public = fs::read_to_string(key.with_extension("pub")).unwrap();
    let key = public.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let hosts =
        ["web1.example.test", "web2.example.test", "[db1.example.test]:2222", "db1.example.com", "web1.example.com"];
    let hosts = hosts.map(|host| format!("{host} {key}\n"));
    write("known_hosts", &(hosts.concat() + &format!("[127.0.0.1]:2222 {key}\n")), 0o644);
    write("fleet.txt", "web9.example.com\n", 0o644);
    folder
}

fn load(folder: &TempDir) -> Result<Config, String> {
    Config::load(&folder.path().join("offboard.yaml")).map_err(|mistakes| shown(folder, &mistakes.to_string()))
}

/// A message without the folder's name, which differs each time.
fn shown(folder: &TempDir, message: &str) -> String {
    message.replace(&format!("{}/", folder.path().display()), "")
}

/// The message for the good configuration with one thing changed.
fn complaint(good: &str, bad: &str) -> String {
    let message = message_for(good, bad);
    assert!(!message.contains("hunter2"), "{message}");
    message
}

fn message_for(good: &str, bad: &str) -> String {
    assert!(GOOD.contains(good), "{good}");
    let folder = folder(&GOOD.replacen(good, bad, 1));
    let config = match load(&folder) {
        Err(message) => return message,
        Ok(config) => config,
    };
    let built = config.roster().and_then(|_| config.connectors());
    shown(&folder, &built.map(|_| ()).expect_err("accepted").to_string())
}

macro_rules! snapshots {
    ($($name:ident: $good:expr => $bad:expr),* $(,)?) => {
        $(#[test] fn $name() { insta::assert_snapshot!(complaint($good, $bad)); })*
    };
}

snapshots! {
    unknown_key: "company:" => "compnay:",
    unknown_kind_of_system: "    ldap:\n" => "    ldpa:\n",
    unknown_setting: "bind-dn:" => "bind_dn:",
    setting_of_another_system: "      user: offboard\n      password" => "      sudo: true\n      user: offboard\n      password",
    wrong_type: "urls: [ldaps://ldap1.example.test, ldap://ldap2.example.test:389]" => "urls: ldaps://ldap1.example.test",
    missing_setting: "      bind-dn: cn=offboard,dc=example,dc=test\n" => "",
    password_in_the_file: "password: { file: secrets/ldap }" => "password: hunter2",
    two_kinds_of_one_system: "  billing:\n    postgres:" => "    postgres:",
    system_without_a_kind: "    postgres:\n      hosts: [db1.example.test:5432]\n      user: offboard\n      password: { file: secrets/postgres }\n      ca: ca.pem\n" => "    {}\n",
    name_of_a_system: "  billing:\n" => "  bill/ing:\n",
    unknown_preset: "fedramp-high" => "fedramp",
    preset_without_a_time: "fedramp-high" => "iso-27001",
    limit_of_an_unknown_clock: "preset: fedramp-high" => "limits: { disabled: 1h }",
    unknown_system_in_accounts: "system: billing, account: jroe_dba" => "system: biling, account: jroe_dba",
    unknown_person_in_accounts: "{ person: E1042, system" => "{ person: jane.roe@example.com, system",
    unknown_person_in_keys: "{ person: E1042, key" => "{ person: E1024, key",
    mapped_and_protected: "system: fleet, account: emergency" => "system: billing, account: JROE_dba",
    mapped_to_two_people: "keys-of:" => "  - { person: E1043, system: billing, account: jroe_dba }\nkeys-of:",
    unknown_protection: "as: break-glass" => "as: breakglass",
    no_public_key: "ssh-ed25519 AAAA" => "ssh-ed25519 AAAB",
    private_key: "key: \"ssh-ed25519" => "key: \"-----BEGIN OPENSSH PRIVATE KEY-----hunter2 ssh-ed25519",
    key_twice: "protected:" => "  - { person: E1042, key: \"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDrbu3L4VUE6a8rS0wzUoYRAPnN+fFhKBmxfTjRCNPS5\" }\nprotected:",
    missing_file: "known-hosts: known_hosts" => "known-hosts: hosts_known",
    roster_that_is_not_there: "csv: roster.csv" => "csv: people.csv",
    unknown_key_of_a_host: "hosts: [web1.example.test]" => "hosts: [web1.example.test, { nmae: db1.example.test }]",
    wrong_port_of_a_host: "hosts: [web1.example.test]" => "hosts:\n        - { name: db1.example.test, port: ssh }",
    host_that_is_a_number: "hosts: [web1.example.test]" => "hosts: [22]",
    no_hosts: "hosts: [web1.example.test]" => "hosts: []",
    mail_in_the_clear: "tls: starttls\n  ca: ca.pem" => "tls: none",
    mail_without_tls_but_with_a_ca: "smtp.example.test:587\n  tls: starttls" => "127.0.0.1:25\n  tls: none",
    mail_server_that_is_a_url: "smtp: smtp.example.test:587" => "smtp: smtps://smtp.example.test",
    mail_server_with_a_wrong_port: "smtp: smtp.example.test:587" => "smtp: smtp.example.test:smtp",
    mail_from_nobody: "from: \"offboard <offboard@example.test>\"" => "from: offboard",
    mail_to_nobody: "to: [security@example.test]" => "to: []",
    mail_to_no_address: "to: [security@example.test]" => "to: [security]",
    mail_user_without_a_password: "  password: { file: secrets/smtp }\n" => "",
    mail_password_without_a_user: "  user: offboard\n  password: { file: secrets/smtp }" => "  password: { file: secrets/smtp }",
    mail_password_in_the_file: "password: { file: secrets/smtp }" => "password: hunter2",
    mail_ca_that_is_not_there: "ca: ca.pem\n  user" => "ca: other.pem\n  user",
}

/// What [`GOOD`] says of a shared secret, where it says anything.
const SECRET: &str = r#"secrets:
  portal-db:
    source: { system: billing, account: portal_app }
    consumers:
      - { system: fleet, place: web1.example.test, file: /etc/portal.env, key: PGPASSWORD, reload: [systemctl, reload, portal], health: [true] }
    known-to: { people: [E1042] }
"#;

/// The message for one thing changed in the shared secret.
fn complaint_of_secret(good: &str, bad: &str) -> String {
    assert!(SECRET.contains(good), "{good}");
    complaint(
        "  - { system: fleet, account: emergency, as: break-glass }\n",
        &format!("  - {{ system: fleet, account: emergency, as: break-glass }}\n{}", SECRET.replacen(good, bad, 1)),
    )
}

macro_rules! of_secrets {
    ($($name:ident: $good:expr => $bad:expr),* $(,)?) => {
        $(#[test] fn $name() { insta::assert_snapshot!(complaint_of_secret($good, $bad)); })*
    };
}

of_secrets! {
    secret_of_an_unknown_system: "system: billing" => "system: biling",
    secret_of_a_system_that_is_no_source: "source: { system: billing" => "source: { system: fleet",
    consumer_that_can_be_none: "- { system: fleet" => "- { system: directory",
    consumer_at_an_unknown_place: "place: web1.example.test" => "place: web2.example.test",
    source_at_an_unknown_place: "account: portal_app" => "place: db2.example.test, account: portal_app",
    secret_of_a_persons_account: "account: portal_app" => "account: jroe_dba",
    secret_of_a_break_glass_account: "secrets:\n" => "  - { system: billing, account: portal_app, as: break-glass }\nsecrets:\n",
    consumer_with_a_relative_file: "file: /etc/portal.env" => "file: portal.env",
    consumer_with_an_odd_file: "file: /etc/portal.env" => "file: /etc/../portal.env",
    consumer_with_an_odd_key: "key: PGPASSWORD" => "key: PG-PASSWORD",
    consumer_with_an_unknown_format: "key: PGPASSWORD" => "format: toml, key: PGPASSWORD",
    consumer_whose_format_is_not_said: "file: /etc/portal.env, key: PGPASSWORD" => "file: /etc/portal.yaml, key: database.password",
    consumer_with_an_empty_part_of_a_key: "key: PGPASSWORD" => "format: yaml, key: database..password",
    consumer_with_an_odd_key_of_an_ini: "key: PGPASSWORD" => "format: ini, key: a.b.password",
    consumer_with_an_odd_key_of_a_properties_file: "key: PGPASSWORD" => "format: properties, key: [db, password]",
    consumer_without_a_key: "key: PGPASSWORD, " => "",
    private_key_beside_other_keys: "{ system: billing, account: portal_app }" => "{ system: fleet, place: web1.example.test, authorizes: backup }",
    private_key_for_a_password: "key: PGPASSWORD" => "format: ssh-key, key: PGPASSWORD",
    private_key_of_a_database: "account: portal_app" => "authorizes: portal_app",
    private_key_that_opens_one_account_twice: "{ system: billing, account: portal_app }" => "{ system: fleet, place: web1.example.test, authorizes: backup, also: [{ place: web1.example.test, authorizes: backup }, { place: web9.example.test }] }",
    preshared_key_for_a_password: "{ system: billing, account: portal_app }" => "{ system: fleet, place: web1.example.test, file: /etc/wireguard/wg0.conf, format: wireguard, key: short, reload: [a], health: [b] }",
    password_that_opens_further_accounts: "account: portal_app" => "account: portal_app, also: [{ place: db1.example.test }]",
    consumer_with_no_key_at_all: "key: PGPASSWORD" => "format: json, key: {a: b}",
    the_same_key_in_two_ways: "key: PGPASSWORD, reload: [systemctl, reload, portal], health: [true] }" => "format: json, key: [a, 0], reload: [a], health: [b] }\n      - { system: fleet, place: web1.example.test, file: /etc/portal.env, format: json, key: a.0, reload: [a], health: [b] }",
    consumer_without_a_command: "reload: [systemctl, reload, portal]" => "reload: []",
    command_as_one_text: "reload: [systemctl, reload, portal]" => "reload: systemctl reload portal",
    the_same_key_twice: "    known-to" => "      - { system: fleet, place: web1.example.test, file: /etc/portal.env, key: PGPASSWORD, reload: [a], health: [b] }\n    known-to",
    two_secrets_of_one_account: "secrets:\n" => "secrets:\n  a-first: { source: { system: billing, account: portal_app }, consumers: [{ system: fleet, place: web1.example.test, file: /x, key: K, reload: [a], health: [b] }], known-to: { people: [E1042] } }\n",
    source_that_is_two_things: "account: portal_app" => "account: portal_app, file: /etc/portal.key, key: TOKEN",
    source_that_is_nothing: ", account: portal_app" => "",
    account_with_a_key: "account: portal_app" => "account: portal_app, key: TOKEN",
    source_file_without_a_key: "{ system: billing, account: portal_app }" => "{ system: fleet, place: web1.example.test, file: /etc/portal.key }",
    consumer_that_is_two_things: "key: PGPASSWORD" => "path: kv/portal, key: PGPASSWORD",
    consumer_that_is_nothing: "file: /etc/portal.env, " => "",
    consumer_without_a_host: "place: web1.example.test, " => "",
    consumer_with_a_path_where_none_is: "place: web1.example.test, file: /etc/portal.env" => "path: kv/portal",
    health_without_a_check: "health: [true]" => "health: {}",
    health_with_an_unknown_check: "health: [true]" => "health: { http: { url: http://127.0.0.1/, statu: 200 } }",
    health_that_is_a_word: "health: [true]" => "health: login",
    health_of_no_address: "health: [true]" => "health: { http: { url: 127.0.0.1:8080 } }",
    health_of_no_port: "health: [true]" => "health: { tcp: { to: 127.0.0.1 } }",
    health_without_a_ca: "health: [true]" => "health: { http: { url: https://portal.example.test/ } }",
    health_with_a_ca_that_is_not_there: "health: [true]" => "health: { http: { url: https://portal.example.test/, ca: other.pem } }",
    health_with_an_odd_status: "health: [true]" => "health: { http: { url: http://127.0.0.1/, status: 20 } }",
    secret_without_consumers: "    consumers:\n      - { system: fleet, place: web1.example.test, file: /etc/portal.env, key: PGPASSWORD, reload: [systemctl, reload, portal], health: [true] }\n" => "    consumers: []\n",
    secret_known_to_nobody: "known-to: { people: [E1042] }" => "known-to: {}",
    secret_known_to_an_empty_list: "known-to: { people: [E1042] }" => "known-to: { people: [E1042], departments: [] }",
    secret_known_to_a_stranger: "people: [E1042]" => "people: [E1042, E1024]",
    secret_with_a_value: "key: PGPASSWORD" => "key: PGPASSWORD, value: hunter2",
    name_of_a_secret: "portal-db:" => "portal db:",
    overlap_of_a_day: "    known-to" => "    overlap: 1d\n    known-to",
    alternate_without_a_user_key: "account: portal_app" => "account: portal_app, alternate: portal_green",
    user_key_without_an_alternate: "key: PGPASSWORD" => "key: PGPASSWORD, user-key: PGUSER",
    alternate_that_is_no_other: "account: portal_app }\n    consumers:\n      - { system: fleet, place: web1.example.test, file: /etc/portal.env, key: PGPASSWORD" => "account: portal_app, alternate: portal_app }\n    consumers:\n      - { system: fleet, place: web1.example.test, file: /etc/portal.env, key: PGPASSWORD, user-key: PGUSER",
}

#[test]
fn every_check_of_a_program_is_read() {
    let health = "health: { command: [systemctl, is-active, portal], login: true, tcp: { to: 127.0.0.1:8080, by: host }, \
                  http: { url: https://portal.example.test/health, status: 204, ca: ca.pem, by: here } }";
    let folder = folder(&(GOOD.to_string() + &SECRET.replace("health: [true]", health)));
    let config = load(&folder).unwrap();
    assert!(config.connectors().is_ok());
    let secret = config.secrets.values().next().unwrap();
    let Some(Part::Consumer(kept)) = secret.consumers[0].part() else { panic!("it is a file") };
    assert_eq!(kept.health.command, ["systemctl", "is-active", "portal"]);
    assert!(kept.health.login);
    let (http, tcp) = (kept.health.http.unwrap(), kept.health.tcp.unwrap());
    assert_eq!((http.status, http.ca, http.by), (204, Some(folder.path().join("ca.pem")), Some(Asker::Here)));
    assert_eq!((tcp.to.as_str(), tcp.by), ("127.0.0.1:8080", Some(Asker::Host)));
    // The list of old still means a command.
    let written = serde_json::to_value(&secret.consumers[0].health).unwrap();
    assert_eq!(serde_json::from_value::<HealthChecks>(written).unwrap().command, ["systemctl", "is-active", "portal"]);
    assert_eq!(
        serde_json::from_str::<HealthChecks>(r#"["true"]"#).unwrap(),
        HealthChecks { command: vec!["true".into()], ..HealthChecks::default() }
    );
}

#[test]
fn a_department_that_nobody_is_in_is_warned_of() {
    let folder = folder(&(GOOD.to_string() + &SECRET.replace("people: [E1042]", "departments: [enginering]")));
    let config = load(&folder).unwrap();
    let roster = config.roster().unwrap();
    let warnings = config.warnings_about_people(&roster);
    assert_eq!(warnings.len(), 1);
    assert!(config.connectors().is_ok());
}

#[test]
fn a_secret_that_most_people_may_know_is_warned_of() {
    let secret = SECRET.replace("people: [E1042]", "people: [E1042], departments: [nurses]");
    let folder = folder(&(GOOD.to_string() + &secret));
    let warnings = |rows: &[&str]| {
        let head = "id,name,e-mail,user name,status,department\nE1042,Jane Roe,jane.roe@example.com,jroe,active,it\n";
        let rows: String =
            rows.iter().enumerate().map(|(n, row)| format!("E{n},P{n},p{n}@example.com,p{n},{row}\n")).collect();
        fs::write(folder.path().join("roster.csv"), head.to_string() + &rows).unwrap();
        let config = load(&folder).unwrap();
        let warnings = config.warnings_about_people(&config.roster().unwrap());
        warnings.iter().map(|warning| warning.render(false)).collect::<Vec<_>>()
    };
    let many = warnings(&["active,nurses", "active,it", "terminated,it"]);
    assert!(
        many.len() == 1 && many[0].contains("2 of the 3 people who work here may know the secret portal-db"),
        "{many:?}"
    );
    // Half of them is not more than half; and of two, one is nobody in particular.
    assert_eq!(warnings(&["active,nurses", "active,it", "active,it"]), [""; 0]);
    assert_eq!(warnings(&["active,nurses", "terminated,it"]), [""; 0]);
}

#[test]
fn the_good_configuration_is_read() {
    let folder = folder(GOOD);
    let config = load(&folder).unwrap();
    assert_eq!(config.journal, folder.path().join("journal"));
    assert_eq!(config.keys, folder.path().join("keys"));
    let limits: Vec<_> = config.limits.iter().map(|l| (l.clock, l.within.as_seconds(), l.source.as_str())).collect();
    let source = "FedRAMP High, NIST SP 800-53r5 PS-4";
    assert_eq!(limits, [(Clock::AccessDisabled, 3600, source), (Clock::SessionsEnded, 3600, source)]);
    let roster = config.roster().unwrap();
    assert_eq!(roster.people()[0].keys, [config.keys_of[0].key.clone()]);
    assert!(config.keys_of[0].key.0.starts_with("SHA256:"));
    let connectors = config.connectors().unwrap();
    let names: Vec<&str> = connectors.iter().map(|connector| connector.manifest().name).collect();
    assert_eq!(names, ["postgres", "ldap", "ssh"]);
    assert_eq!(config.warnings(&connectors), []);
    // Digests of everything but passwords: those could be guessed from the journal.
    let mut files: Vec<String> = config.digests.iter().map(|digest| shown(&folder, &digest.file)).collect();
    files.sort();
    assert_eq!(files, ["ca.pem", "known_hosts", "offboard.yaml", "secrets/fleet_ed25519"]);
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn own_limits_override_the_preset() {
    let folder =
        folder(&GOOD.replace("preset: fedramp-high", "preset: soc-2\nlimits: { access-disabled: 30m, proved: 2h }"));
    let config = load(&folder).unwrap();
    let limits: Vec<_> = config.limits.iter().map(|l| format!("{} {} {}", l.clock, l.within, l.source)).collect();
    insta::assert_snapshot!(limits.join("\n"));
}

#[test]
fn files_that_others_may_write_are_refused() {
    for (name, mode) in [
        ("offboard.yaml", 0o666),
        ("known_hosts", 0o664),
        ("ca.pem", 0o646),
        ("secrets/ldap", 0o640),
        ("secrets/fleet_ed25519", 0o604),
    ] {
        let folder = folder(GOOD);
        let path = folder.path().join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let message = load(&folder).expect_err(name);
        assert!(message.contains(name) && message.contains("chmod go-"), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
        insta::assert_snapshot!(format!("others_may_write_{}", name.replace('/', "_")), message);
    }
    let folder = folder(GOOD);
    fs::set_permissions(folder.path().join("roster.csv"), fs::Permissions::from_mode(0o666)).unwrap();
    let message = load(&folder).unwrap().roster().unwrap_err().to_string();
    insta::assert_snapshot!("others_may_write_the_roster", shown(&folder, &message));
}

#[test]
fn one_place_in_two_systems_is_pointed_out() {
    let again = "  second:\n    postgres:\n      hosts: [DB1.example.test:5432]\n      user: offboard\n      \
                 password: { file: secrets/postgres }\n      ca: ca.pem\naccounts:";
    let folder = folder(&GOOD.replace("accounts:", again));
    let config = load(&folder).unwrap();
    let warnings = config.warnings(&config.connectors().unwrap());
    insta::assert_snapshot!(shown(&folder, &warnings[0].render(false)));
    assert_eq!(warnings.len(), 1);
}

#[test]
fn the_template_is_right_when_it_is_uncommented() {
    // As it is, it is a good file but for the systems, and says so.
    let untouched = folder(template());
    let message = load(&untouched).unwrap_err();
    insta::assert_snapshot!("untouched_template", message);
    // Remarks begin with `# `; every other `#` at the very beginning is taken away.
    let remark = |line: &str| line == "#" || line.starts_with("# ") && !line.starts_with("#  ");
    let lines = template().lines().map(|line| if remark(line) { line } else { line.strip_prefix('#').unwrap_or(line) });
    let folder = folder(&lines.collect::<Vec<_>>().join("\n"));
    let config = load(&folder).unwrap_or_else(|message| panic!("{message}"));
    assert_eq!(config.systems.len(), offboard::connectors::NAMES.len(), "the template shows every kind of system");
    config.roster().unwrap_or_else(|mistakes| panic!("{mistakes}"));
    config.connectors().unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert!(config.limits.iter().all(|limit| limit.source.starts_with("offboard.yaml, for FedRAMP High")));
    // Every key of the schema is in it.
    for key in schema()["properties"].as_object().unwrap().keys() {
        assert!(template().lines().any(|line| line.trim_start_matches('#').starts_with(&format!("{key}:"))), "{key}");
    }
}

#[test]
fn peers_of_wireguard_are_accounts_of_people() {
    let block = |person: &str| {
        format!(
            "  tunnel:\n    wireguard:\n      hosts: [vpn.example.test]\n      user: offboard\n      key: secrets/fleet_ed25519\n      \
             known-hosts: known_hosts\n      peers: {{ \"xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dj\": {person} }}\naccounts:"
        )
    };
    let good = folder(&GOOD.replace("accounts:", &block("E1042")));
    let config = load(&good).unwrap();
    config.roster().unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let mapped = config.accounts.iter().find(|one| one.system.0 == "tunnel").unwrap();
    // As wg writes it.
    assert_eq!(
        (mapped.account.as_str(), mapped.person.as_str()),
        ("xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", "E1042")
    );
    let bad = folder(&GOOD.replace("accounts:", &block("E104")));
    let message = load(&bad).unwrap().roster().unwrap_err().to_string();
    assert!(message.contains("nobody in the roster has the id `E104`") && message.contains("Dj\": E104"), "{message}");
}

#[test]
fn the_manual_explains_every_key() {
    let manual = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md")).unwrap();
    let mut keys: Vec<String> = Vec::new();
    properties(&schema(), &mut keys);
    assert!(keys.len() > 30, "{keys:?}");
    for key in keys {
        assert!(manual.contains(&format!("`{key}`")), "{key} is not in docs/configuration.md");
    }
    let manual = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/playbooks.md")).unwrap();
    let mut keys = Vec::new();
    properties(&offboard::playbook::schema(), &mut keys);
    for key in keys {
        assert!(manual.contains(&format!("`{key}`")), "{key} is not in docs/playbooks.md");
    }
}

/// The keys of a schema, at any depth, and the words that they may be.
fn properties(schema: &serde_json::Value, keys: &mut Vec<String>) {
    match schema {
        serde_json::Value::Object(object) => {
            if let Some(properties) = object.get("properties").and_then(|p| p.as_object()) {
                keys.extend(properties.keys().cloned());
            }
            keys.extend(object.get("const").and_then(|word| word.as_str()).map(str::to_string));
            object.values().for_each(|value| properties(value, keys));
        }
        serde_json::Value::Array(list) => list.iter().for_each(|value| properties(value, keys)),
        _ => {}
    }
}
