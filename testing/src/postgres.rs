//! A real PostgreSQL of its own for one test.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

const MISSING: &str = "\
PostgreSQL's server is missing. `deploy/setup.sh test` installs it. By hand: install the package postgresql, or name the \
folder of its programs: POSTGRES_BIN=/path/to/bin";

/// The user as whom the server runs where we are root: it refuses to be that.
const USER: &str = "postgres";

/// A server that stops when dropped. It lets everybody in who reaches it.
#[derive(Debug)]
pub struct Postgres {
    child: Child,
    port: u16,
    folder: TempDir,
}

/// The folder of its programs: as named, or of the newest that Debian has installed.
fn programs() -> PathBuf {
    if let Some(named) = std::env::var_os("POSTGRES_BIN") {
        return named.into();
    }
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = installed
        .map(|version| version.path().join("bin"))
        .filter(|bin| bin.join("postgres").is_file())
        .max();
    newest.expect(MISSING)
}

fn is_root() -> bool {
    let own = fs::read_to_string("/proc/self/status").unwrap();
    own.lines().any(|line| line.starts_with("Uid:\t0\t"))
}

fn program(name: &str) -> Command {
    let program = programs().join(name);
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", USER, "--regid", USER, "--clear-groups"]).arg(program);
    command
}

fn spawn(folder: &Path, port: u16) -> Child {
    let log = fs::File::create(folder.join("log")).unwrap();
    program("postgres")
        .arg("-D")
        .arg(folder.join("data"))
        .arg("-k")
        .arg(folder)
        .args(["-h", "127.0.0.1", "-p", &port.to_string()])
        // A server that is killed loses nothing by this: only a machine would.
        .args(["-c", "fsync=off"])
        .current_dir("/")
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start postgres: {error}\n{MISSING}"))
}

impl Postgres {
    /// Starts a server on a free port and waits until it listens.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        if is_root() {
            let own = Command::new("chown").arg(USER).arg(folder.path()).status().unwrap();
            assert!(own.success(), "{MISSING}");
        }
        let made = program("initdb")
            .arg("-D")
            .arg(folder.path().join("data"))
            .args(["-U", USER, "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync"])
            .current_dir("/")
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Self { child: spawn(folder.path(), port), port, folder };
        server.wait();
        server
    }

    /// Until it takes connections.
    fn wait(&mut self) {
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                if !log.contains("still in use") {
                    panic!("postgres ended at once: {status}\n{log}");
                }
                // Processes of the one that was killed are on their way out.
                std::thread::sleep(Duration::from_millis(50));
                self.child = spawn(self.folder.path(), self.port);
            }
            let status =
                fs::read_to_string(self.folder.path().join("data/postmaster.pid")).unwrap_or_default();
            let is_ours = status.lines().next() == Some(&self.child.id().to_string());
            if is_ours && status.lines().nth(7).is_some_and(|state| state.trim() == "ready") {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The address of its database.
    pub fn url(&self) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/postgres", self.port)
    }

    /// A connection to its database, and what reads and writes the socket as long as it is kept.
    pub async fn connect(&self) -> (Client, JoinSet<()>) {
        let (client, socket) = tokio_postgres::connect(&self.url(), NoTls).await.unwrap();
        let mut running = JoinSet::new();
        running.spawn(async move { drop(socket.await) });
        (client, running)
    }

    /// Its process, and those that it has for its connections and its housekeeping.
    pub fn pids(&self) -> Vec<u32> {
        let server = self.child.id();
        let children =
            fs::read_to_string(format!("/proc/{server}/task/{server}/children")).unwrap_or_default();
        std::iter::once(server)
            .chain(children.split_whitespace().filter_map(|pid| pid.parse().ok()))
            .collect()
    }

    /// Kills the server, without a chance to tidy up.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again with the files that it had.
    pub fn start_again(&mut self) {
        self.child = spawn(self.folder.path(), self.port);
        self.wait();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // "Immediate shutdown": its own processes end with it.
        Command::new("kill").args(["-QUIT", &self.child.id().to_string()]).status().ok();
        self.child.wait().ok();
    }
}
