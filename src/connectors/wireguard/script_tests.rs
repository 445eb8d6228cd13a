//! Parts of the script that need no gateway, by a shell of this machine.

use super::survey::{Other, Survey};
use std::path::Path;
use std::process::Command;

const JANE: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
const BOB: &str = "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=";
const CAROL: &str = "gN65BkIKy1eCE9pP1wdc8ROUtkHLF2PfAqYdyYBz6EA=";
const SECRET: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";

/// What the script's functions print, over a folder.
fn says(folder: &Path, call: &str) -> (Survey, String) {
    let text = format!("FOLDER='{}'\n{}\n{call}", folder.display(), super::link::script());
    let output = Command::new("sh").arg("-c").arg(text).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut survey = Survey::default();
    output.stdout.split(|b| *b == b'\n').for_each(|line| survey.line(line));
    (survey, String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

fn read(text: &str) -> (Survey, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("wg0.conf"), text).unwrap();
    says(folder.path(), "{ files; others; } | awk \"$PEERS\"")
}

/// What is left of a file when a key is cut out of it, and what the script says.
fn cut(text: &[u8], key: &str) -> (Vec<u8>, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wg0.conf");
    std::fs::write(&file, text).unwrap();
    let call = format!("cut_out '{}' wg0 '{key}'; echo \"$? $CUT $HOW $WHY\"", file.display());
    let (_, said) = says(folder.path(), &call);
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing lies beside it: {left:?}");
    (std::fs::read(&file).unwrap(), said)
}

#[test]
fn wg_takes_white_space_and_case_as_they_come() {
    let (survey, said) = read(&format!(
        "[interface]\r\nPrivate Key = {SECRET} # mine\nSaveConfig=TRUE\n\n# jane (phone)\n# PrivateKey = {SECRET}\n[ P E E R ] # two\n\
         publickey={} {}\nPreSharedKey = {SECRET}\nAllowedIPs = 10.0.0.2/32, 10.0.0.3/32\n\n[Peer]\n# bob\nPublicKey = {BOB}\nPresharedKey={SECRET}",
        &JANE[..20],
        &JANE[20..],
    ));
    assert_eq!(survey.files[0].wrong, None, "{survey:?}");
    assert!(survey.files[0].saved);
    let peers: Vec<_> = survey.written.iter().map(|peer| (peer.key.as_str(), peer.secret, peer.line)).collect();
    assert_eq!(peers, [(JANE, Some(1), 5), (BOB, Some(1), 12)], "one preshared key at both");
    assert_eq!(survey.written[0].comments, ["jane (phone)", "two"]);
    assert_eq!(survey.written[0].allowed, "10.0.0.2/32,10.0.0.3/32");
    assert_eq!(survey.written[1].comments, ["bob"]);
    assert!(!said.contains(SECRET), "no private and no preshared key leaves the gateway: {said}");
}

#[test]
fn what_wg_refuses_is_not_understood() {
    for (text, line) in [
        ("PrivateKey = x\n".to_string(), 1),
        ("[Interface]\n[Peers]\n".into(), 2),
        ("[Interface]\nPublicKey = x\n".into(), 2),
        ("[Peer]\nAllowedIPs = 10.0.0.1/32\n".into(), 1),
        (format!("[Peer]\nPublicKey = {JANE}\nPublicKey = {BOB}\n"), 3),
        (format!("[Peer]\nPublicKey = {JANE}\nSaveConfig = true\n"), 3),
        (format!("[Peer]\nPublicKey = {}h=\n", &JANE[..42]), 2),
        (format!("[Peer]\nPublicKey = {JANE}\n$(touch /tmp/x)\n"), 3),
        (format!("[Peer]\nPublicKey = {JANE}\n\0\n"), 1),
    ] {
        let (survey, _) = read(&text);
        assert_eq!(survey.files[0].wrong.as_ref().map(|(line, _)| *line), Some(line), "{text:?} {survey:?}");
        let (after, said) = cut(text.as_bytes(), JANE);
        assert_eq!(after, text.as_bytes(), "the file is as it was");
        assert!(said.starts_with("1  misconfigured"), "{said}");
    }
}

/// Somebody adds a peer while the file is read.
#[test]
fn a_file_that_grows_meanwhile_is_understood() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wg0.conf");
    std::fs::write(&file, format!("[Peer]\nPublicKey = {JANE}\n")).unwrap();
    let grows = "tr() { command tr \"$@\"; printf '[Peer]\\nPublicKey = %s\\n' \"$NEXT\" >>\"$FOLDER/wg0.conf\"; }";
    let (survey, _) = says(folder.path(), &format!("NEXT={BOB}; {grows}; {{ files; }} | awk \"$PEERS\""));
    assert_eq!(survey.files[0].wrong, None, "{survey:?}");
    assert_ne!(std::fs::read_to_string(&file).unwrap().matches("[Peer]").count(), 1, "nobody added a peer");
}

#[test]
fn comments_of_others_are_not_the_next_peers() {
    let (survey, _) = read(&format!(
        "[Interface]\n# jane\n\n[Peer]\nPublicKey = {BOB}\n# END_PEER jane\n# carol\n[Peer]\nPublicKey = {CAROL}\n# jane\n#[Peer]\n#PublicKey = {JANE}\n\
         [Peer]\nPublicKey = {JANE}\n"
    ));
    let comments: Vec<_> = survey.written.iter().map(|peer| peer.comments.join("|")).collect();
    assert_eq!(comments, ["", "carol", ""], "{survey:?}");
    let loose: Vec<_> = survey.comments.iter().map(|(_, line, text)| (*line, text.as_str())).collect();
    assert_eq!(loose, [(2, "jane"), (10, "jane")]);
}

#[test]
fn every_other_byte_stays() {
    let others = format!("[Peer]\nPublicKey = {BOB}\r\n\tAllowedIPs=10.0.0.3/32 # \u{e9}\n");
    let mut broken = b"# \xff\xfe $(x) 'q' \"\n".to_vec();
    broken.extend_from_slice(others.as_bytes());
    let head = format!("[Interface]\nPrivateKey = {SECRET}\n\n");
    let jane = format!("# jane\n[Peer]\nPublicKey = {JANE}\nAllowedIPs = 10.0.0.2/32\n\n");
    let whole = |parts: &[&[u8]]| parts.concat();
    // In the middle, twice, and last without a newline.
    let (after, said) = cut(&whole(&[head.as_bytes(), jane.as_bytes(), &broken, jane.as_bytes(), b"# bob's\n", others.as_bytes()]), JANE);
    assert!(said.starts_with("0 yes"), "{said}");
    assert_eq!(after, whole(&[head.as_bytes(), &broken, b"# bob's\n", others.as_bytes()]));
    let (after, _) = cut(&whole(&[head.as_bytes(), &broken, jane.trim_end().as_bytes()]), JANE);
    assert_eq!(after, whole(&[head.as_bytes(), &broken]));
    let (after, said) = cut(&whole(&[head.as_bytes(), &broken]), JANE);
    assert!(said.starts_with("0  "), "{said}");
    assert_eq!(after, whole(&[head.as_bytes(), &broken]));
    assert_eq!(cut(after.as_slice(), CAROL).0, after);
}

#[test]
fn copies_and_commands_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("[Interface]\nPostUp = wg set %i peer {JANE} allowed-ips 10.0.0.2/32; echo {SECRET}\n[Peer]\nPublicKey = {BOB}\n");
    std::fs::write(folder.path().join("wg0.conf"), &text).unwrap();
    std::fs::write(folder.path().join("wg0.conf.bak"), format!("[Peer]\nPublicKey = {JANE}\n")).unwrap();
    std::os::unix::fs::symlink("/nowhere", folder.path().join("wg1.conf")).unwrap();
    let (survey, said) = says(folder.path(), &format!("export WANT={JANE}; {{ files; others; }} | awk \"$PEERS\""));
    assert_eq!(survey.calls.len(), 1);
    assert_eq!(survey.commands.iter().map(|(_, line, key)| (*line, key.as_str())).collect::<Vec<_>>(), [(2, JANE)]);
    assert!(!said.contains(SECRET), "{said}");
    assert!(survey.others.iter().any(|other| Other::is_copy(other) && other.key.as_deref() == Some(JANE)), "{survey:?}");
    assert_eq!(survey.file_of("wg1").unwrap().wrong, Some((1, "it is no regular file".into())));
}
