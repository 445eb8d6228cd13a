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
    let head = format!("secret_put '{}' t0 {} {} <<'END'\n", file.display(), Digest::of(old.as_bytes()), Digest::of(new.as_bytes()));
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
