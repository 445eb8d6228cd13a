//! Servers that a test starts for itself: a port of its own, and patience for a machine that is slow and busy.
#![allow(dead_code, reason = "each test binary uses another part of it")]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long a server may take to answer. It is watched meanwhile, so one that has died is not waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// A port that nothing listens on, that was given to nobody else in this process, and that the kernel gives to no outgoing connection: it
/// lies below the range of those. (One that the kernel picks, and that is free again until the server binds it, may be taken in between.)
pub fn port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let outgoing: u32 = range.split_whitespace().next().unwrap().parse().unwrap();
    let lowest = 10_000;
    assert!(outgoing > lowest + 1_000, "net.ipv4.ip_local_port_range leaves no room for servers: {range}");
    // Another process at the same time begins somewhere else.
    let begin = std::process::id().wrapping_mul(331);
    loop {
        let next = begin.wrapping_add(NEXT.fetch_add(1, Ordering::SeqCst));
        let port = u16::try_from(lowest + next % (outgoing - lowest)).unwrap();
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

/// Starts a server that writes into `log`, and waits until it answers. What it says itself is shown if it does not.
pub fn start(command: &mut Command, log: &Path, mut answers: impl FnMut() -> bool) -> Child {
    let file = std::fs::File::create(log).unwrap();
    command.stdout(Stdio::null()).stderr(file);
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let began = Instant::now();
    let said = || String::from_utf8_lossy(&std::fs::read(log).unwrap()).into_owned();
    while !answers() {
        if let Some(status) = child.try_wait().unwrap() {
            panic!("{command:?} ended with {status}: {}", said());
        }
        if began.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{command:?} does not answer after {} s: {}", PATIENCE.as_secs(), said());
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    child
}

/// Waits for something that must come to pass, however slow the machine is.
pub fn comes_to_pass(mut it: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while !it() {
        if began.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    true
}
