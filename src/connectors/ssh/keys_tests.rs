//! The parser against lines written by hand, and against `ssh-keygen -lf` on a generated corpus.

use super::*;
use proptest::prelude::*;

const ED: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
const OTHER: &str = "AAAAC3NzaC1lZDI1NTE5AAAAILIG2T/B0l0gaqj3puu510tu9N1OkQ4znY3LYuEm5zCF";

fn base64_of(line: &str) -> Option<String> {
    parse(line.as_bytes()).map(|key| key.base64.into_owned())
}

#[test]
fn a_key_is_the_same_key_whatever_stands_around_it() {
    let plain = parse(format!("ssh-ed25519 {ED}").as_bytes()).unwrap().fingerprint;
    for line in [
        format!("ssh-ed25519 {ED} jane@laptop"),
        format!("  \tssh-ed25519\t \t{ED}\tnobody@nowhere"),
        format!("ssh-ed25519 {ED}\r"),
        format!("ssh-ed25519 {ED} a comment\r"),
        format!("restrict,command=\"echo \\\"a, b\\\" c\" ssh-ed25519 {ED} x"),
        format!("from=\"10.0.0.0/8,*.sunrise.test\",no-pty\tssh-ed25519 {ED}"),
        format!("command=\"ssh-ed25519 {OTHER}\" ssh-ed25519 {ED}"),
        format!("environment=\"X=$(touch /tmp/x)\" ssh-ed25519 {ED} $(id) `id` ' \" ;"),
    ] {
        assert_eq!(parse(line.as_bytes()).map(|k| k.fingerprint), Some(plain.clone()), "{line:?}");
    }
    assert_eq!(base64_of(&format!("ssh-ed25519 {ED}\0 ssh-ed25519 {OTHER}")).as_deref(), Some(ED));
}

#[test]
fn what_sshd_does_not_take_for_a_key_is_none() {
    for line in [
        String::new(),
        format!("# ssh-ed25519 {ED}"),
        format!("ssh-ed25519{ED}"),
        format!("ssh-rsa {ED}"),
        format!("SSH-ED25519 {ED}"),
        format!("ssh-ed25519 {}", &ED[..60]),
        format!("ssh-ed25519 {ED}AAAA"),
        format!("command=\"open ssh-ed25519 {ED}"),
        format!("no-pty no-x11 ssh-ed25519 {ED}"),
        format!("\0ssh-ed25519 {ED}"),
        "ssh-ed25519".to_string(),
        "ssh-ed25519 AAAA".to_string(),
    ] {
        assert_eq!(base64_of(&line), None, "{line:?}");
    }
}

#[test]
fn a_key_in_somebody_elses_comment_or_command_is_not_theirs() {
    assert_eq!(base64_of(&format!("ssh-ed25519 {OTHER} was ssh-ed25519 {ED}")).as_deref(), Some(OTHER));
    assert_eq!(base64_of(&format!("command=\"x ssh-ed25519 {ED}\" ssh-ed25519 {OTHER}")).as_deref(), Some(OTHER));
}

#[test]
fn authorities_are_told_from_keys() {
    let from = |options: &str| parse(format!("{options} ssh-ed25519 {ED}").as_bytes()).unwrap().from;
    assert!(from("no-pty,FROM=\"10.0.0.0/8\"") && from("from=\"a,b\",restrict"));
    assert!(!from("command=\"rsync --files-from=/x,from=y\"") && !from("no-pty"));
    let authority = |line: String| parse(line.as_bytes()).unwrap().authority;
    assert!(authority(format!("cert-authority ssh-ed25519 {ED}")));
    assert!(authority(format!("principals=\"a,b\",CERT-AUTHORITY ssh-ed25519 {ED}")));
    assert!(!authority(format!("command=\"x,cert-authority,y\" ssh-ed25519 {ED}")));
    assert!(!authority(format!("command=\"\\\",cert-authority,y\" ssh-ed25519 {ED}")));
    assert!(!authority(format!("ssh-ed25519 {ED} cert-authority")));
}

/// What `ssh-keygen -lf` says of a file, without line numbers: it prints one line a key that it reads.
fn keygen(content: &[u8]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("authorized_keys");
    std::fs::write(&path, content).unwrap();
    let output = std::process::Command::new("ssh-keygen").arg("-lf").arg(&path).output().expect("ssh-keygen");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.split(' ').find(|word| word.starts_with("SHA256:")).map(str::to_string))
        .collect()
}

fn real_keys() -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    [("ed25519", "256"), ("rsa", "1024"), ("rsa", "2048"), ("ecdsa", "256"), ("ecdsa", "384"), ("ecdsa", "521")]
        .iter()
        .map(|(kind, bits)| {
            let path = dir.path().join(format!("{kind}{bits}"));
            let made = std::process::Command::new("ssh-keygen")
                .args(["-q", "-N", "", "-C", "", "-t", kind, "-b", bits, "-f"])
                .arg(&path)
                .status()
                .expect("ssh-keygen");
            assert!(made.success());
            std::fs::read_to_string(path.with_extension("pub")).unwrap().trim().to_string()
        })
        .collect()
}

#[test]
fn ssh_keygen_agrees_on_a_corpus() {
    let keys = real_keys();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let before = prop_oneof![
        Just(String::new()),
        Just("restrict ".to_string()),
        Just("no-pty,command=\"a \\\"b\\\" c\" ".to_string()),
        Just("from=\"10.0.0.1\"\t".to_string()),
        Just("\t ".to_string()),
        Just("#".to_string()),
        Just("command=\"unclosed ".to_string()),
    ];
    let after = prop_oneof![
        Just(String::new()),
        Just(" jane@laptop".to_string()),
        Just("\tx\t\"y".to_string()),
        Just("\r".to_string()),
        "[ -~]{0,12}".prop_map(|s| format!(" {s}")),
        "[A-Za-z0-9+/=]{1,4}",
    ];
    let cut = 0usize..200;
    let strategy = (before, 0..keys.len(), after, cut);
    let corpus = proptest::collection::vec(strategy, 1..8);
    runner
        .run(&corpus, |lines| {
            let mut text = String::new();
            for (before, key, after, cut) in &lines {
                let key = &keys[*key];
                let kept = if *cut > 180 { key.len().saturating_sub(*cut - 180) } else { key.len() };
                text.push_str(&format!("{before}{}{after}\n", &key[..kept]));
            }
            let ours: Vec<String> = text.lines().filter_map(|l| parse(l.as_bytes())).map(|k| k.fingerprint.0).collect();
            prop_assert_eq!(ours, keygen(text.as_bytes()), "{}", text);
            Ok(())
        })
        .unwrap();
}

proptest! {
    #[test]
    fn no_line_makes_it_panic(line in proptest::collection::vec(any::<u8>(), 0..300)) {
        parse(&line);
    }
}
