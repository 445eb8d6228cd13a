//! A private PostgreSQL cluster on loopback: SCRAM over TLS with an authority of its own. It ends when the last test that uses it
//! does, and with this process whatever happens.

use crate::server;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::{Arc, Mutex, Weak, mpsc};

const BIN: &str = "/usr/lib/postgresql/15/bin";

pub struct Cluster {
    dir: tempfile::TempDir,
    pub port: u16,
    pub postmaster: i32,
    child: Child,
    /// Dropped with the cluster: then the thread that started the server may end.
    _stop: mpsc::Sender<()>,
}

/// The cluster that the tests of this binary share.
pub fn shared() -> Arc<Cluster> {
    static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    shared.upgrade().unwrap_or_else(|| {
        let cluster = Arc::new(Cluster::start(&[]));
        *shared = Arc::downgrade(&cluster);
        cluster
    })
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}; apt-get install postgresql openssl"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// As the system's user `postgres` if we are root: the server refuses to run as root.
fn as_postgres(program: &str) -> Command {
    if nix::unistd::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig=INT", program]);
        command
    } else {
        Command::new(program)
    }
}

/// The real client: over TLS with a password, or without one over the socket, where all are trusted.
fn psql(folder: &Path, port: u16, user: &str, password: Option<&str>) -> Command {
    let mut command = Command::new(format!("{BIN}/psql"));
    command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=0"]);
    command.env_clear().env("PGUSER", user).env("PGPORT", port.to_string()).env("PGDATABASE", "postgres");
    command.env("PGCONNECT_TIMEOUT", "20");
    match password {
        Some(password) => command
            .env("PGPASSWORD", password)
            .env("PGHOST", "127.0.0.1")
            .env("PGSSLMODE", "verify-full")
            .env("PGSSLROOTCERT", folder.join("ca.pem")),
        None => command.env("PGHOST", folder),
    };
    command
}

impl Cluster {
    /// Starts one with more environment than usual.
    pub fn start(environment: &[(&str, &str)]) -> Self {
        let dir = tempfile::Builder::new().prefix("offboard-pg-").tempdir().unwrap();
        let root = dir.path();
        let pki = |arguments: &[&str]| run(Command::new("openssl").args(arguments).current_dir(root));
        pki(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=test authority",
            "-keyout",
            "ca.key",
            "-out",
            "ca.pem",
        ]);
        pki(&[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=db",
            "-keyout",
            "server.key",
            "-out",
            "server.csr",
        ]);
        std::fs::write(root.join("san"), "subjectAltName=IP:127.0.0.1\n").unwrap();
        pki(&[
            "x509",
            "-req",
            "-in",
            "server.csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "san",
            "-out",
            "server.pem",
        ]);
        pki(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=another authority",
            "-keyout",
            "other.key",
            "-out",
            "other-ca.pem",
        ]);
        run(Command::new("chmod").args(["go-w", "ca.pem", "other-ca.pem"]).current_dir(root));
        if nix::unistd::geteuid().is_root() {
            run(Command::new("chown").arg("postgres:postgres").arg(root.join("server.key")));
            // The server makes its files here too, but the folder stays ours: the connector refuses a CA in somebody else's.
            run(Command::new("chmod").arg("1777").arg(root));
        }
        let data = root.join("data");
        run(as_postgres(&format!("{BIN}/initdb"))
            .args(["-A", "trust", "-N", "-U", "postgres", "-E", "UTF8", "--locale=C", "-D"])
            .arg(&data)
            .current_dir("/"));
        let port = server::port();
        let hba = "local all all trust\nlocal replication all trust\n\
                   hostssl all cert_only 127.0.0.1/32 cert\n\
                   hostssl all no_line 127.0.0.1/32 reject\n\
                   hostssl elsewhere only_there 127.0.0.1/32 scram-sha-256\n\
                   hostssl postgres only_there 127.0.0.1/32 reject\n\
                   hostssl all all 127.0.0.1/32 scram-sha-256\n";
        std::fs::write(data.join("pg_hba.conf"), hba).unwrap();
        let conf = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{socket}'\nssl = on\n\
             ssl_cert_file = '{socket}/server.pem'\nssl_key_file = '{socket}/server.key'\nssl_ca_file = '{socket}/ca.pem'\n\
             log_statement = all\nlog_destination = stderr\nfsync = off\nmax_prepared_transactions = 5\n",
            socket = root.display()
        );
        let mut file = std::fs::OpenOptions::new().append(true).open(data.join("postgresql.conf")).unwrap();
        file.write_all(conf.as_bytes()).unwrap();
        Self::serve(dir, port, &data, environment)
    }

    /// A streaming copy of this cluster, on a port of its own.
    pub fn standby(&self) -> Self {
        let dir = tempfile::Builder::new().prefix("offboard-pg-").tempdir().unwrap();
        for name in ["ca.pem", "server.pem", "server.key"] {
            run(Command::new("cp").arg("-p").args([self.path().join(name), dir.path().join(name)]));
        }
        if nix::unistd::geteuid().is_root() {
            run(Command::new("chmod").arg("1777").arg(dir.path()));
        }
        let data = dir.path().join("data");
        let mut copy = as_postgres(&format!("{BIN}/pg_basebackup"));
        copy.args(["-c", "fast", "-R", "-U", "postgres", "-p", &self.port.to_string(), "-h"]).arg(self.path());
        run(copy.arg("-D").arg(&data).current_dir("/"));
        let port = server::port();
        let conf = std::fs::read_to_string(data.join("postgresql.conf")).unwrap();
        let conf = conf.replace(&format!("port = {}", self.port), &format!("port = {port}"));
        let conf = conf.replace(&self.path().display().to_string(), &dir.path().display().to_string());
        std::fs::write(data.join("postgresql.conf"), conf).unwrap();
        Self::serve(dir, port, &data, &[])
    }

    fn serve(dir: tempfile::TempDir, port: u16, data: &Path, environment: &[(&str, &str)]) -> Self {
        let mut command = as_postgres(&format!("{BIN}/postgres"));
        command.arg("-D").arg(data).current_dir("/").envs(environment.iter().copied());
        let (log, mut hello) = (dir.path().join("log"), psql(dir.path(), port, "postgres", None));
        hello.args(["-c", "SELECT 1"]);
        // The kernel's parent-death signal follows the thread that starts the child, so that thread has to live as long.
        let (stop, stopped) = mpsc::channel::<()>();
        let (started, child) = mpsc::channel();
        std::thread::spawn(move || {
            let child = server::start(&mut command, &log, || hello.output().unwrap().status.success());
            started.send(child).unwrap();
            let _ = stopped.recv();
        });
        let child = child.recv().expect("the server has started, see above");
        Self { dir, port, postmaster: child.id().cast_signed(), child, _stop: stop }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.path().join("log")).unwrap()).into_owned()
    }

    fn psql(&self, user: &str, password: Option<&str>) -> Command {
        psql(self.path(), self.port, user, password)
    }

    /// Runs SQL as the administrator and gives what it printed.
    pub fn admin(&self, sql: &str) -> String {
        let mut command = self.psql("postgres", None);
        let output = run(command.args(["-v", "ON_ERROR_STOP=1", "-c", sql]));
        String::from_utf8(output.stdout).unwrap().trim().to_string()
    }

    /// What a login with a password comes to: what the server answered, or its refusal.
    pub fn login(&self, user: &str, password: &str) -> Result<String, String> {
        let output = self.psql(user, Some(password)).args(["-c", "SELECT session_user"]).output().unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_string()),
            false => Err(String::from_utf8_lossy(&output.stderr).trim().to_string()),
        }
    }

    /// Somebody who stays logged in.
    pub fn online(&self, user: &str, password: &str) -> Online {
        let mut command = self.psql(user, Some(password));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut online = Online { child, input, output };
        assert_eq!(online.ask("SELECT 'here'").as_deref(), Some("here"), "{user} did not get in");
        online
    }

    /// A file of that content, for us alone.
    pub fn secret(&self, name: &str, value: &str) -> PathBuf {
        use std::os::unix::fs::OpenOptionsExt;
        let path = self.path().join(name);
        let mut file =
            std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path).unwrap();
        file.write_all(value.as_bytes()).unwrap();
        path
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let postmaster = nix::unistd::Pid::from_raw(self.postmaster);
        let _ = nix::sys::signal::kill(postmaster, nix::sys::signal::Signal::SIGCONT);
        let _ = nix::sys::signal::kill(postmaster, nix::sys::signal::Signal::SIGQUIT);
        // The directory goes next; the server must be gone by then.
        let _ = self.child.wait();
    }
}

/// A person at `psql`.
pub struct Online {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Online {
    /// What the statement printed; nothing if the session is gone or the statement failed.
    pub fn ask(&mut self, sql: &str) -> Option<String> {
        self.send(sql);
        writeln!(self.input, "\\echo [end]").ok()?;
        self.input.flush().ok()?;
        let mut printed = String::new();
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line.trim() == "[end]" {
                return Some(printed.trim().to_string()).filter(|p| !p.is_empty());
            }
            printed.push_str(&line);
        }
    }

    /// Sends a statement again and again, until thrown out.
    pub fn forever(mut self, sql: &'static str) -> std::thread::JoinHandle<()> {
        std::thread::spawn(move || while writeln!(self.input, "{sql};").and_then(|()| self.input.flush()).is_ok() {})
    }

    /// Sends a statement and does not wait for it.
    pub fn send(&mut self, sql: &str) {
        let _ = writeln!(self.input, "{sql};");
        let _ = self.input.flush();
    }
}

impl Drop for Online {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
