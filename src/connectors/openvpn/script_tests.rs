//! Parts of the script that need no gateway, by a shell of this machine.

use std::io::Write;
use std::process::{Command, Stdio};

/// What the script's functions print.
fn says(call: &str, input: &str) -> String {
    let mut shell = Command::new("sh");
    let mut shell = shell.arg("-c").arg(format!("{}\n{call}", super::link::script()));
    shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = shell.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

const REVOKED: &str = "VERIFY ERROR: depth=0, error=certificate revoked: O=Example, CN=jane, serial=4097";
const PASSED: &str = "VERIFY OK: depth=0, O=Example, CN=bob";

/// As the management interface lists its log: time, flags, text; the script puts a colon and a tab in front.
fn log(lines: &[(u32, String)]) -> String {
    lines.iter().map(|(at, text)| format!(":\t{at},,{text}\n")).collect()
}

#[test]
fn the_log_says_what_it_says_to_our_client_alone() {
    let ours = "127.66.0.16:20123";
    let said = |lines: &[(u32, String)]| says(&format!("said_to {ours} 1795000000 4097"), &log(lines));
    let at = 1_795_000_000;
    assert_eq!(said(&[(at, format!("{ours} {REVOKED}"))]), format!("revoked\t{ours} {REVOKED}\n"));
    assert_eq!(said(&[(at, format!("{ours} {PASSED}"))]), format!("passed\t{ours} {PASSED}\n"));
    assert_eq!(said(&[(at - 1, format!("{ours} {PASSED}"))]).lines().count(), 1);
    for other in [
        // The same port of another address, or of one that ends alike.
        format!("10.7.7.7:20123 {REVOKED}"),
        format!("227.66.0.16:20123 {PASSED}"),
        format!("1{ours} {PASSED}"),
        "127.66.0.16:2012 VERIFY OK: depth=0, CN=x".to_string(),
        format!("127.66.0.16:20124 {PASSED}"),
        // Names are chosen by whoever asks for a certificate.
        format!("10.7.7.7:1194 VERIFY OK: depth=0, CN={ours} x"),
        format!("10.7.7.7:1194 VERIFY OK: depth=0, CN=5,N,{ours} {PASSED}"),
        format!("10.7.7.7:1194 VERIFY ERROR: depth=0, error=certificate revoked: CN={ours} {REVOKED}"),
        format!("MULTI: {ours} {PASSED}"),
        // Another certificate, asked for from the same port a moment before; whatever its name claims.
        format!("{ours} {}", REVOKED.replace("4097", "4098")),
        format!("{ours} {REVOKED}8"),
        format!("{ours} {REVOKED}, CN=x, serial=4098"),
        format!("{ours} {}", REVOKED.replace(", serial=4097", "")),
        // A CA's certificate says nothing of a client's.
        format!("{ours} VERIFY OK: depth=1, CN=depth=0 CA"),
        format!("{ours} peer info: VERIFY OK: depth=0"),
    ] {
        assert_eq!(said(&[(at, other.clone())]), "", "{other}");
    }
    assert_eq!(said(&[(at - 60, format!("{ours} {PASSED}"))]), "", "long ago");
}
