//! A running `offboard serve` in an office of a test's own.

use crate::lab::Lab;
use crate::office::Office;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// An office whose server answers on a port of its own, and picks nobody up unless told to.
pub fn office(lab: &Lab) -> Office {
    let office = Office::new(lab);
    serve_with(&office, "leavers: false");
    office
}

/// Writes the section `serve`, with these settings besides the port.
pub fn serve_with(office: &Office, settings: &str) {
    office.edit("offboard.yaml", |text| {
        let kept: String = text.lines().filter(|l| !l.starts_with("serve:")).map(|l| format!("{l}\n")).collect();
        format!("{kept}serve: {{ health: \"127.0.0.1:0\", {settings} }}\n")
    });
}

/// A server that ends with the test.
pub struct Server {
    child: Child,
    log: std::path::PathBuf,
}

impl Server {
    pub fn start(office: &Office) -> Self {
        Self::start_with(office, &[])
    }

    /// With these environment variables. Returns when it serves.
    pub fn start_with(office: &Office, env: &[(&str, &str)]) -> Self {
        let log = office.path(&format!("serve-{}.log", Timestamp::now().as_nanosecond()));
        let mut command = office.command(&["serve"]);
        command.envs(env.iter().copied()).stderr(File::create(&log).unwrap());
        let mut server = Self { child: command.spawn().unwrap(), log };
        server.wait_for("it serves", |s| s.lines().iter().any(|line| line["message"] == "serving"));
        server
    }

    /// Every line of its log so far.
    pub fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.log).unwrap();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("no JSON ({e}): {line}")))
            .collect()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until it is so. Two minutes measure nothing: one may pass before the next whole minute, the other is for slow machines.
    pub fn wait_for(&mut self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(120);
        while !is_so(self) {
            assert!(Instant::now() < end, "{what}: never\n{}", self.log());
            assert!(self.child.try_wait().unwrap().is_none(), "{what}: the server has ended\n{}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// A page of its health: the status and the answer.
    pub fn page(&self, path: &str) -> (u16, Value) {
        let lines = self.lines();
        let serving = lines.iter().find(|line| line["message"] == "serving").unwrap();
        let mut stream = TcpStream::connect(serving["health"].as_str().unwrap()).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Stops it as systemd does; its exit status.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        self.child.wait().unwrap()
    }

    /// Waits until it has killed itself at a failpoint.
    pub fn wait_for_death(mut self) {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) => return assert_eq!(status.signal(), Some(9), "{}", self.log()),
                None => assert!(Instant::now() < end, "it did not die\n{}", self.log()),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An hour so many seconds from now, as `--at` takes it.
pub fn in_seconds(seconds: i64) -> String {
    let at = Timestamp::now() + SignedDuration::from_secs(seconds);
    Timestamp::from_second(at.as_second()).unwrap().to_string()
}

/// Every run, the newest first.
pub fn runs(office: &Office) -> Vec<Value> {
    office.offboard(&["--json", "list"]).expect(0).json()["runs"].as_array().unwrap().clone()
}

pub fn status(office: &Office, run: &str) -> Value {
    office.offboard(&["--json", "status", run]).json()
}

/// Schedules the involuntary termination of a person; the run's name.
pub fn schedule(office: &Office, person: &str, at: &str) -> String {
    let done = office
        .offboard(&["--json", "run", person, "-p", "involuntary-termination", "--yes", "--at", at])
        .expect(0)
        .json();
    done["run"].as_str().unwrap().to_string()
}

pub fn has_ended(office: &Office, run: &str) -> bool {
    runs(office).iter().any(|r| r["run"] == run && r["ended"] == true)
}

/// The times at which work on a run began.
pub fn starts(office: &Office, run: &str) -> Vec<Timestamp> {
    let report = status(office, run);
    let starts = report["started_by"].as_array().unwrap();
    starts.iter().map(|s| s["at"].as_str().unwrap().parse().unwrap()).collect()
}
