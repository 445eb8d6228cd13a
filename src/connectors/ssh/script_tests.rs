//! Parts of the script that need no host, by a shell of this machine.

use crate::model::Digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::io::Write;
use std::process::{Command, Stdio};

/// What a shell says that is fed the script and then `call`, and whose input ends there.
fn says(call: &str) -> String {
    let mut child = Command::new("sh").arg("-s").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let text = format!("WE=offboard\nGROUPS_OF_NOTE=\n{}\n{call}", super::link::script());
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

/// A shell takes the end of a connection for the end of what it was sent: it would put half a file into place.
#[test]
fn what_was_cut_off_on_its_way_does_not_take_the_place_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("env");
    let (old, new) = ("PGPASSWORD=old-value\n".repeat(20), "PGPASSWORD=new-value\n".repeat(20));
    std::fs::write(&file, &old).unwrap();
    let base64 = STANDARD.encode(&new);
    let head = format!(
        "secret_put '{}' t0 0123456789abcdef {} {} <<'END'\n",
        file.display(),
        Digest::of(old.as_bytes()),
        Digest::of(new.as_bytes())
    );
    for arrived in [0, 4, 76, 200, base64.len() - 4, base64.len() - 1] {
        let said = says(&format!("{head}{}", &base64[..arrived]));
        assert!(said.starts_with("E\tbusy\t") || said.starts_with("E\tfailed\t"), "{arrived}: {said}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), old, "{arrived}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "{arrived}: something is left");
    }
    let said = says(&format!("{head}{base64}\nEND\n"));
    assert!(said.starts_with("D\t"), "{said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), new);
}

/// A name service that lists nobody (sssd does so unless it is told to), and takes digits alone for a user id.
const NAME_SERVICE: &str = r#"
getent() {
    shift
    [ $# -gt 0 ] || { echo 'root:x:0:0::/root:/bin/sh'; return; }
    for key in "$@"; do
        case $key in
        jroe) echo 'jroe:x:5001:5001::/home/jroe:/bin/sh' ;;
        7001) echo '10421:x:7001:7001::/home/10421:/bin/sh' ;;
        10421) echo 'other:x:10421:10421::/home/other:/bin/sh' ;;
        esac
    done
}
id() { [ "$*" = '-u -- 10421' ] && echo 7001; }
"#;

#[test]
fn an_account_that_is_called_by_a_number_is_found_and_hides_nobody() {
    let entry = |name: &str| says(&format!("{NAME_SERVICE}\nentry {name}\n"));
    assert_eq!(entry("10421"), "10421:x:7001:7001::/home/10421:/bin/sh\n");
    assert_eq!(entry("jroe"), "jroe:x:5001:5001::/home/jroe:/bin/sh\n");
    let all = says(&format!("{NAME_SERVICE}\nnamed 10421 jroe\n"));
    assert!(all.contains("jroe:x:5001") && all.contains("10421:x:7001"), "{all}");
}

/// What becomes of the lines of an authorized_keys file once a new key was set beside an old one, and what the script says of that.
fn beside(lines: &str) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("authorized_keys");
    std::fs::write(&file, lines).unwrap();
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&file).unwrap());
    let said =
        says(&format!("strip '{}' me {owner} other '0 ssh-ed25519 AAAAold= ssh-ed25519 AAAAnew='\n", file.display()));
    (std::fs::read_to_string(&file).unwrap(), said)
}

#[test]
fn a_new_key_stands_beside_the_old_one_with_its_options() {
    let options = r#"from="10.0.0.0/8",command="echo \"a b\\n\" 'c' & $(id)" "#;
    for (before, after) in [
        ("ssh-ed25519 AAAAold= x\n".to_string(), "ssh-ed25519 AAAAold= x\nssh-ed25519 AAAAnew= x\n".to_string()),
        // No end of the line; white space; a comment that looks like a key.
        ("\t ssh-ed25519  AAAAold=".into(), "\t ssh-ed25519  AAAAold=\nssh-ed25519 AAAAnew=\n".into()),
        ("a ssh-ed25519 AAAAother= ssh-ed25519 AAAAold=\n".into(), String::new()),
        ("# ssh-ed25519 AAAAold=\n".into(), String::new()),
        (
            format!("{options}ssh-ed25519 AAAAold= a  b \\1 &\nssh-rsa AAAAold= y\n"),
            format!("{options}ssh-ed25519 AAAAold= a  b \\1 &\n{options}ssh-ed25519 AAAAnew= a  b \\1 &\nssh-rsa AAAAold= y\n"),
        ),
        // Twice; and a line that is there already.
        (
            "ssh-ed25519 AAAAold= 1\nno-pty ssh-ed25519 AAAAold= 2\n".into(),
            "ssh-ed25519 AAAAold= 1\nssh-ed25519 AAAAnew= 1\nno-pty ssh-ed25519 AAAAold= 2\nno-pty ssh-ed25519 AAAAnew= 2\n".into(),
        ),
        ("ssh-ed25519 AAAAold= 1\nno-pty ssh-ed25519 AAAAnew= 2\n".into(), String::new()),
        ("ssh-ed25519 AAAAnew= 1\n".into(), String::new()),
    ] {
        let (edited, said) = beside(&before);
        match after.is_empty() {
            true => assert_eq!((edited.as_str(), said.as_str()), (before.as_str(), "none\n")),
            false => {
                assert_eq!(edited, after);
                assert!(said.starts_with("gone 0 "), "{said}");
                assert_eq!(beside(&edited).1, "none\n", "a second time");
            }
        }
    }
}
