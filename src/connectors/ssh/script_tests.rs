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
    let head = format!("secret_put '{}' t0 0123456789abcdef {} {} <<'END'\n", file.display(), Digest::of(old.as_bytes()), Digest::of(new.as_bytes()));
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
