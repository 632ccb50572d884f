//! A real nats-server of its own for one test, with the configuration that we ship.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::{Disk, repository};

const MISSING: &str = "\
nats-server is missing. `make setup-test` installs it into tests/.venv. By hand: put nats-server 2.12 or
newer on the PATH, or name it: NATS_SERVER=/path/to/nats-server";

/// A server that stops when dropped.
#[derive(Debug)]
pub struct NatsServer {
    child: Child,
    port: u16,
    config: PathBuf,
    environment: Vec<(String, String)>,
    folder: TempDir,
    /// Where its files are, if not in the folder.
    disk: Option<Disk>,
}

fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("NATS_SERVER") {
        return named.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    places.push(repository().join("tests/.venv/bin"));
    let found = places.into_iter().map(|p| p.join("nats-server")).find(|p| p.is_file());
    found.expect(MISSING)
}

fn spawn(
    port: &str,
    config: &Path,
    environment: &[(String, String)],
    folder: &Path,
    disk: Option<&Disk>,
) -> Child {
    let mut command = disk.map_or_else(|| Command::new(binary()), |disk| disk.command(binary()));
    command
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .arg("--config")
        .arg(config)
        .args(["--addr", "127.0.0.1", "--port", port, "--ports_file_dir"])
        .arg(folder)
        .arg("--store_dir")
        .arg(disk.map_or(folder, Disk::path))
        .arg("--log")
        .arg(folder.join("log"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {}: {error}\n{MISSING}", binary().display()))
}

impl NatsServer {
    /// Starts a server on a free port and waits until it listens.
    pub fn start() -> Self {
        Self::with("nats-server.conf", [])
    }

    /// The same with another of our configurations, and the environment that it needs.
    pub fn with<const N: usize>(config: impl AsRef<Path>, environment: [(&str, &str); N]) -> Self {
        let environment = environment.map(|(name, value)| (name.into(), value.into())).into();
        Self::spawn(config.as_ref(), environment, None)
    }

    /// One whose files are on a disk of their own.
    pub fn on(disk: Disk) -> Self {
        Self::spawn(Path::new("nats-server.conf"), Vec::new(), Some(disk))
    }

    fn spawn(config: &Path, environment: Vec<(String, String)>, disk: Option<Disk>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = repository().join("deploy/nats").join(config);
        let child = spawn("-1", &config, &environment, folder.path(), disk.as_ref());
        let mut server = Self { child, port: 0, config, environment, folder, disk };
        server.port = server.wait_for_port();
        server
    }

    /// The disk that it is [on](Self::on).
    pub fn disk(&self) -> &Disk {
        self.disk.as_ref().expect("its files are on a disk of their own")
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The server writes where it listens into a file when it does.
    fn wait_for_port(&mut self) -> u16 {
        let file = self.folder.path().join(format!("nats-server_{}.ports", self.child.id()));
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("nats-server ended at once: {status}\n{}", self.log());
            }
            let told = std::fs::read_to_string(&file).unwrap_or_default();
            let port = told.split("://127.0.0.1:").nth(1);
            let port = port.map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
            if let Some(port) = port.and_then(|digits| digits.parse().ok()) {
                return port;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Where it listens, for clients.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The port of it on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Stops the server as it is: it says nothing more, and its connections stay.
    pub fn silence(&self) {
        let sent = Command::new("kill").args(["-STOP", &self.pid().to_string()]).status().unwrap();
        assert!(sent.success());
        // A thread that runs at that moment goes on for a while, and might answer.
        while !self.threads_are_stopped() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn threads_are_stopped(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap()).all(
            |stat| {
                let (_, after_name) = stat.rsplit_once(") ").unwrap();
                after_name.starts_with('T')
            },
        )
    }

    /// Kills the server. What it held in memory is lost.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again where it was, with the files that it had.
    pub fn start_again(&mut self) {
        let (port, folder) = (self.port.to_string(), self.folder.path());
        self.child = spawn(&port, &self.config, &self.environment, folder, self.disk.as_ref());
        self.wait_for_port();
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
