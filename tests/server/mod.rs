//! Real processes of `cloudpose` on free ports, for one test, and what is said to them.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A process of `cloudpose`. Stops when dropped.
pub(crate) struct Server {
    child: Child,
    address: String,
    log: std::sync::mpsc::Receiver<String>,
    /// What it said before it said where it listens.
    said: Vec<String>,
}

impl Server {
    /// Starts every role in one process and waits until it listens.
    pub(crate) fn start(options: &[&str]) -> Self {
        Self::spawn("serve", &[&["--listen", "127.0.0.1:0"], options].concat(), "listening on")
    }

    /// The same with more in its environment.
    pub(crate) fn start_in(environment: &[(String, String)], options: &[&str]) -> Self {
        let options = [&["--listen", "127.0.0.1:0"], options].concat();
        Self::spawn_in(environment, "serve", &options)
    }

    /// Starts a gateway with its workers elsewhere.
    pub(crate) fn ingest(nats: &str, options: &[&str]) -> Self {
        let options = [&["--nats", nats, "--listen", "127.0.0.1:0"], options].concat();
        Self::spawn("ingest", &options, "listening on")
    }

    /// The same with more in its environment.
    pub(crate) fn ingest_in(environment: &[(String, String)], nats: &str, options: &[&str]) -> Self {
        let options = [&["--nats", nats, "--listen", "127.0.0.1:0"], options].concat();
        Self::spawn_in(environment, "ingest", &options)
    }

    /// Starts a worker, `infer` or `annotate`, and waits until it listens and is loaded.
    pub(crate) fn worker(role: &str, nats: &str) -> Self {
        Self::worker_with(role, nats, &[])
    }

    /// The same with options.
    pub(crate) fn worker_with(role: &str, nats: &str, options: &[&str]) -> Self {
        Self::worker_by(Command::new(env!("CARGO_BIN_EXE_cloudpose")), role, nats, options)
    }

    /// The same with more in its environment.
    pub(crate) fn worker_in(
        environment: &[(String, String)],
        role: &str,
        nats: &str,
        options: &[&str],
    ) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cloudpose"));
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        Self::worker_by(command, role, nats, options)
    }

    /// The same where no file may be larger than so many bytes, until [`make_room`](Self::make_room).
    pub(crate) fn worker_with_room_for(bytes: usize, role: &str, nats: &str, options: &[&str]) -> Self {
        Self::worker_by(limited_to(bytes), role, nats, options)
    }

    /// The same, without memory set apart for each thread: [`leave_memory`](Self::leave_memory) leaves as much as it says.
    pub(crate) fn frugal_worker(role: &str, nats: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cloudpose"));
        command.env("MALLOC_ARENA_MAX", "1");
        Self::worker_by(command, role, nats, &[])
    }

    fn worker_by(command: Command, role: &str, nats: &str, options: &[&str]) -> Self {
        let mut worker = Self::spawn_by(command, role, &[&["--nats", nats], options].concat(), "metrics on");
        // It says so before or after it says where it listens.
        let ready = format!("{role}: ready");
        while !std::mem::take(&mut worker.said).iter().any(|line| line.contains(&ready)) {
            worker.said.push(worker.log.recv().expect("the worker becomes ready"));
        }
        worker
    }

    /// The same where no file may be larger than so many bytes.
    pub(crate) fn with_room_for(bytes: usize, options: &[&str]) -> Self {
        let options = [&["--listen", "127.0.0.1:0"], options].concat();
        Self::spawn_by(limited_to(bytes), "serve", &options, "listening on")
    }

    /// From now on its files may be as large as they like.
    pub(crate) fn make_room(&self) {
        let limits = ["--fsize=unlimited:", "--pid", &self.child.id().to_string()];
        assert!(Command::new("prlimit").args(limits).status().unwrap().success());
    }

    fn spawn_in(environment: &[(String, String)], role: &str, options: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cloudpose"));
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        Self::spawn_by(command, role, options, "listening on")
    }

    fn spawn(role: &str, options: &[&str], where_it_listens: &str) -> Self {
        Self::spawn_by(Command::new(env!("CARGO_BIN_EXE_cloudpose")), role, options, where_it_listens)
    }

    fn spawn_by(mut command: Command, role: &str, options: &[&str], where_it_listens: &str) -> Self {
        let mut child = command.arg(role).args(options).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let marker = format!("{where_it_listens} http://");
        let mut before = Vec::new();
        let address = lines
            .by_ref()
            .map(Result::unwrap)
            .inspect(|line| {
                eprintln!("{line}");
                before.push(line.clone());
            })
            .find_map(|line| {
                let after = line.split_once(&marker)?.1;
                let end = after.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':');
                Some(after[..end.unwrap_or(after.len())].to_owned())
            })
            .expect("the process says where it listens");
        let (said, log) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                eprintln!("{line}");
                // Most tests do not ask.
                said.send(line).ok();
            }
        });
        Self { child, address, log, said: before }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn websocket(&self, path: &str) -> String {
        format!("ws://{}{path}", self.address)
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("-TERM");
    }

    /// Sends a signal by its name, like `-STOP`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Leaves the process so many bytes of memory beside those that it has.
    pub(crate) fn leave_memory(&self, bytes: u64) {
        let id = self.child.id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let has = status.lines().find_map(|line| line.strip_prefix("VmSize:")?.strip_suffix("kB")).unwrap();
        let most = has.trim().parse::<u64>().unwrap() * 1024 + bytes;
        let mut limit = Command::new("prlimit");
        let limited = limit.args(["--pid", &id.to_string(), &format!("--as={most}")]).status();
        assert!(limited.unwrap().success());
    }

    /// Waits until a signal has ended the process.
    pub(crate) async fn is_killed(&mut self) {
        let ended = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(ended.code(), None, "{ended}");
    }

    /// Waits for the process to end.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// What an ended process said after it was ready.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.iter().collect()
    }

    /// Waits until every one of `accepted` frames has its outcome in `/metrics`.
    pub(crate) async fn ledger_closes(&self, accepted: u64) {
        self.counts(accepted, accepted).await;
    }

    /// Waits until `frames` are in flight, of as many that were taken at all.
    pub(crate) async fn in_flight(&self, frames: u64) {
        self.counts(frames, 0).await;
    }

    /// Waits until `/metrics` tells of so many frames.
    async fn counts(&self, accepted: u64, closed: u64) {
        let mut page = String::new();
        for _ in 0..200 {
            page = reqwest::get(self.url("/metrics")).await.unwrap().text().await.unwrap();
            let sum = |name: &str| -> f64 {
                let lines =
                    page.lines().filter(|l| l.strip_prefix(name).is_some_and(|r| r.starts_with(['{', ' '])));
                lines.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum()
            };
            let (taken, ended) = (sum("cloudpose_frames_accepted_total"), sum("cloudpose_frames_total"));
            assert!(ended <= taken, "{ended} ends of {taken} frames");
            if taken == accepted as f64 && ended == closed as f64 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it is not {closed} of {accepted} frames that end:\n{page}");
    }
}

/// The binary, whose files may not be larger than so many bytes.
fn limited_to(bytes: usize) -> Command {
    // In blocks of 512 bytes. Who ignores the signal gets an error instead.
    let limited = format!("trap '' XFSZ; ulimit -S -f {}; exec \"$0\" \"$@\"", bytes.div_ceil(512));
    let mut command = Command::new("sh");
    command.args(["-c", &limited, env!("CARGO_BIN_EXE_cloudpose")]);
    command
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The beginning of a PNG that claims a size: signature and IHDR with its CRC.
pub(crate) fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut chunk = b"IHDR".to_vec();
    chunk.extend(width.to_be_bytes());
    chunk.extend(height.to_be_bytes());
    chunk.extend([8, 2, 0, 0, 0]);
    let crc = chunk.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 })
    });
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\r".to_vec();
    png.extend(&chunk);
    png.extend((!crc).to_be_bytes());
    png
}
