//! `cloudpose doctor`: what this machine offers, and what to do about what is missing.

use std::{
    env, fmt, fs,
    io::{self, Read as _},
    net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, ensure};
use axum::http::Uri;
use cloudpose_bus::nats::{Login, log_in};
use cloudpose_kernels::{Isa, Kernels, bf16};

use crate::cli::Doctor;

/// How long a NATS server may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(2);
/// Where a server is looked for that nobody named.
const USUAL_NATS: &str = "nats://127.0.0.1:4222";
/// What one process with the built-in models takes at rest, with room for pictures, in bytes.
const ENOUGH_MEMORY: u64 = 512 << 20;
/// As many connections as a gateway takes, and what else is open.
const ENOUGH_FILES: u64 = 4096 + 512;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    /// As it should be.
    Good,
    /// Goes without.
    Note,
    /// `cloudpose serve` as asked would not start, or not work well.
    Bad,
}

/// One thing that was looked at.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    weight: Weight,
    of: &'static str,
    /// What it is and, if it could be better, what to do.
    says: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.weight {
            Weight::Good => "ok  ",
            Weight::Note => "note",
            Weight::Bad => "bad ",
        };
        write!(f, "{mark}  {:<17} {}", self.of, self.says)
    }
}

fn finding(weight: Weight, of: &'static str, says: impl Into<String>) -> Finding {
    Finding { weight, of, says: says.into() }
}

/// Looks at everything, and prints what was found.
///
/// # Errors
/// If something is bad.
#[expect(clippy::print_stdout, reason = "it answers on the command line")]
pub(crate) async fn run(asked: &Doctor) -> Result<()> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let limit = [read("/sys/fs/cgroup/memory.max"), read("/sys/fs/cgroup/memory/memory.limit_in_bytes")];
    let findings = [
        instructions(
            Kernels::detect().map(|kernels| kernels.isa()).map_err(|error| error.to_string()),
            bf16::Kernels::detect().ok().map(|kernels| kernels.unit()),
        ),
        processors(std::thread::available_parallelism().map_or(1, usize::from)),
        memory(available(&read("/proc/meminfo")), limit.iter().find_map(|limit| limit.trim().parse().ok())),
        files(open_files(&read("/proc/self/limits"))),
        gpu(&gpus(Path::new("/proc/driver/nvidia/gpus")), library("libcuda.so.1", &library_folders())),
        port(asked.listen),
        webcam(asked.listen, asked.tls),
        if asked.nats.servers.is_empty() { nats(USUAL_NATS, Asked::No) } else { nats_for(&asked.nats).await },
        ffmpeg(
            env::var_os("PATH")
                .is_some_and(|path| env::split_paths(&path).any(|dir| dir.join("ffmpeg").is_file())),
        ),
    ];
    let cameras = asked.camera.iter().map(camera);
    let findings: Vec<Finding> = findings.into_iter().chain(cameras).collect();
    for finding in &findings {
        println!("{finding}");
    }
    let bad = findings.iter().filter(|finding| finding.weight == Weight::Bad).count();
    ensure!(bad == 0, "{bad} of these would be in the way");
    Ok(())
}

/// `bf16`: which unit would compute in bfloat16.
fn instructions(isa: Result<Isa, String>, bf16: Option<bf16::Unit>) -> Finding {
    const OF: &str = "instruction sets";
    let bf16 = match bf16 {
        Some(bf16::Unit::Amx) => ", and AMX for --precision bf16",
        Some(bf16::Unit::Avx512) => ", and AVX512_BF16 for --precision bf16",
        Some(bf16::Unit::Neon) => ", and BF16 for --precision bf16",
        Some(bf16::Unit::Emulated) | None => "",
    };
    match isa {
        Ok(isa @ (Isa::Avx512 | Isa::Avx2 | Isa::Neon)) => finding(Weight::Good, OF, format!("{isa}{bf16}")),
        Ok(Isa::Portable) => finding(
            Weight::Note,
            OF,
            "none that the kernels are written for: the CPU engine is several times slower than with AVX2 or NEON; \
             a virtual machine may hide them (give it the host's processor)",
        ),
        Err(error) => finding(Weight::Bad, OF, error),
    }
}

fn processors(count: usize) -> Finding {
    let says = format!("{count}: a CPU worker works on so many frames at once");
    finding(if count > 1 { Weight::Good } else { Weight::Note }, "processors", says)
}

/// Of the machine, and what a container may have of it; in bytes.
fn memory(available: Option<u64>, limit: Option<u64>) -> Finding {
    const OF: &str = "memory";
    let Some(available) = available else {
        return finding(Weight::Note, OF, "cannot be told on this system");
    };
    let usable = available.min(limit.unwrap_or(u64::MAX));
    let mebibytes = usable >> 20;
    if usable < ENOUGH_MEMORY {
        let says = format!("{mebibytes} MiB can be had: give it {} MiB", ENOUGH_MEMORY >> 20);
        return finding(Weight::Bad, OF, says);
    }
    finding(Weight::Good, OF, format!("{mebibytes} MiB can be had"))
}

/// `MemAvailable` of `/proc/meminfo`, in bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The soft limit of open files in `/proc/self/limits`.
fn open_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        soft => soft.parse().ok(),
    }
}

fn files(limit: Option<u64>) -> Finding {
    const OF: &str = "open files";
    match limit {
        None => finding(Weight::Note, OF, "cannot be told on this system"),
        Some(limit) if limit < ENOUGH_FILES => {
            let says = format!(
                "{limit}: a gateway takes up to 4096 connections; raise it (ulimit -n 8192) for many clients"
            );
            finding(Weight::Note, OF, says)
        }
        Some(limit) => finding(Weight::Good, OF, format!("{limit}")),
    }
}

/// The models of the GPUs that the kernel's driver lists.
fn gpus(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let model = |path: PathBuf| {
        let told = fs::read_to_string(path.join("information")).ok()?;
        told.lines().find_map(|line| line.strip_prefix("Model:")).map(|model| model.trim().to_owned())
    };
    entries.flatten().filter_map(|entry| model(entry.path())).collect()
}

fn library_folders() -> Vec<PathBuf> {
    let given = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let usual = [
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/lib64",
        "/usr/lib",
        "/usr/lib/wsl/lib",
    ];
    env::split_paths(&given).chain(usual.map(PathBuf::from)).collect()
}

fn library(name: &str, folders: &[PathBuf]) -> bool {
    folders.iter().any(|folder| folder.join(name).exists())
}

fn gpu(found: &[String], library: bool) -> Finding {
    const OF: &str = "GPU";
    match (found, library) {
        ([], _) => finding(Weight::Note, OF, "no NVIDIA GPU: frames are worked on by the processor"),
        (found, true) => {
            finding(Weight::Good, OF, format!("{}: --device auto uses the first", found.join(", ")))
        }
        (found, false) => finding(
            Weight::Bad,
            OF,
            format!(
                "{}, but libcuda.so.1 is nowhere: install the driver's user part, or start the container with its GPUs \
                 (docker run --gpus all)",
                found.join(", ")
            ),
        ),
    }
}

fn port(listen: SocketAddr) -> Finding {
    const OF: &str = "port";
    match TcpListener::bind(listen) {
        Ok(_) => finding(Weight::Good, OF, format!("{listen} is free")),
        Err(error) => finding(
            Weight::Bad,
            OF,
            format!(
                "{listen} cannot be used ({error}): stop what has it, or serve with --listen and another"
            ),
        ),
    }
}

/// Browsers give a page the webcam where nobody can have changed the page on its way.
fn webcam(listen: SocketAddr, tls: bool) -> Finding {
    const OF: &str = "webcam";
    if tls {
        return finding(Weight::Good, OF, "pages over https may use it");
    }
    if listen.ip().is_loopback() {
        let says = format!("browsers on this machine may use theirs, at http://localhost:{}", listen.port());
        return finding(Weight::Good, OF, says);
    }
    finding(
        Weight::Note,
        OF,
        "browsers on other machines let a page use it over https only: serve with --tls-cert and --tls-key, or \
         behind a proxy that speaks TLS (docs/security.md)",
    )
}

/// Whether a camera can be reached.
fn camera(url: &Uri) -> Finding {
    const OF: &str = "camera";
    let usual = match url.scheme_str() {
        Some("rtsp") => 554,
        Some("https") => 443,
        Some("http") => 80,
        _ => {
            return finding(
                Weight::Bad,
                OF,
                "no rtsp://, http:// or https:// address: only these are fetched",
            );
        }
    };
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let port = url.port_u16().unwrap_or(usual);
    // The address may hold a password: it is not told.
    match connect((host, port)) {
        Ok(_) => finding(Weight::Good, OF, format!("{host}, port {port}, answers")),
        Err(error) => {
            let says = format!(
                "{host}, port {port}, cannot be reached ({error}): check the address, and that this machine is in \
                 the camera's network"
            );
            finding(Weight::Bad, OF, says)
        }
    }
}

/// Whether the user said where a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Yes,
    No,
}

/// The server that a role would use, which has to let it in.
async fn nats_for(login: &Login) -> Finding {
    let found = nats(&login.servers.join(","), Asked::Yes);
    if found.weight != Weight::Good {
        return found;
    }
    match log_in(login).await {
        Ok(()) => Finding { says: format!("{}, which lets us in", found.says), ..found },
        Err(error) => Finding { weight: Weight::Bad, says: error.to_string(), ..found },
    }
}

fn nats(urls: &str, asked: Asked) -> Finding {
    let found = urls.split(',').map(|url| nats_server(url.trim(), asked));
    // One that works is enough: roles find the others from there.
    found.min_by_key(|finding| finding.weight).expect("a text has a first part")
}

fn nats_server(url: &str, asked: Asked) -> Finding {
    const OF: &str = "NATS";
    let address = url.split_once("://").map_or(url, |(_, rest)| rest);
    let address = address.rsplit_once('@').map_or(address, |(_, rest)| rest).trim_end_matches('/');
    let spelled = if address.contains(':') { address.to_owned() } else { format!("{address}:4222") };
    match (greeting(&spelled), asked) {
        (Ok(said), _) if !said.starts_with("INFO ") => {
            finding(Weight::Bad, OF, format!("what listens on {spelled} is no NATS server"))
        }
        (Ok(said), _) if said.contains("\"jetstream\":true") => {
            finding(Weight::Good, OF, format!("a server with JetStream on {spelled}"))
        }
        (Ok(_), _) => {
            let says = format!(
                "the server on {spelled} has no JetStream: start it with deploy/nats/nats-server.conf"
            );
            finding(Weight::Bad, OF, says)
        }
        (Err(error), Asked::Yes) => {
            let says = format!(
                "{spelled} cannot be reached ({error}): start the server (docs/nats.md), or correct --nats"
            );
            finding(Weight::Bad, OF, says)
        }
        (Err(_), Asked::No) => finding(
            Weight::Note,
            OF,
            format!(
                "none on {spelled}: `cloudpose serve` works without; roles apart need one (docs/nats.md)"
            ),
        ),
    }
}

/// What a server says first.
fn greeting(address: &str) -> io::Result<String> {
    let mut stream = connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut said = vec![0; 4096];
    let length = stream.read(&mut said)?;
    Ok(String::from_utf8_lossy(&said[..length]).into_owned())
}

fn connect(address: impl ToSocketAddrs) -> io::Result<TcpStream> {
    let nowhere = || io::Error::other("the host has no address");
    let address = address.to_socket_addrs()?.next().ok_or_else(nowhere)?;
    TcpStream::connect_timeout(&address, PATIENCE)
}

fn ffmpeg(found: bool) -> Finding {
    if found {
        return finding(Weight::Good, "ffmpeg", "is there: `cloudpose detect` takes every video");
    }
    let says =
        "is not there: `cloudpose detect` takes H.264 in MP4 and MOV, and Motion JPEG; install it for others";
    finding(Weight::Note, "ffmpeg", says)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_is_there_is_good_and_what_is_missing_says_what_to_do() {
        let avx2 = instructions(Ok(Isa::Avx2), Some(bf16::Unit::Emulated));
        assert_eq!(avx2.to_string(), "ok    instruction sets  avx2");
        let amx = instructions(Ok(Isa::Avx512), Some(bf16::Unit::Amx));
        assert_eq!(amx.says, "avx512, and AMX for --precision bf16");
        assert_eq!(instructions(Ok(Isa::Portable), None).weight, Weight::Note);
        assert_eq!(instructions(Err("unknown".into()), None).weight, Weight::Bad);
        assert_eq!(processors(1).weight, Weight::Note);
        assert_eq!(memory(Some(8 << 30), Some(256 << 20)).weight, Weight::Bad);
        assert_eq!(memory(Some(8 << 30), None), finding(Weight::Good, "memory", "8192 MiB can be had"));
        assert_eq!(files(Some(1024)).weight, Weight::Note);
        assert_eq!(gpu(&[], false).weight, Weight::Note);
        assert_eq!(gpu(&["H100".into()], true).weight, Weight::Good);
        assert!(gpu(&["H100".into()], false).says.contains("--gpus all"));
        assert!(ffmpeg(false).says.contains("install it"));
        let everywhere = "0.0.0.0:80".parse().unwrap();
        assert!(webcam(everywhere, false).says.contains("--tls-cert"));
        assert_eq!(webcam(everywhere, true).weight, Weight::Good);
        assert!(webcam("[::1]:80".parse().unwrap(), false).says.contains("localhost:80"));
    }

    #[test]
    fn what_the_kernel_says_is_read() {
        assert_eq!(available("MemTotal: 9 kB\nMemAvailable:    2048 kB\n"), Some(2 << 20));
        assert_eq!(available("MemAvailable: many kB"), None);
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 4096      files\n";
        assert_eq!(open_files(limits), Some(1024));
        assert_eq!(open_files("Max open files  unlimited unlimited files"), Some(u64::MAX));
        let folder = tempfile::tempdir().unwrap();
        let gpu = folder.path().join("0000:01:00.0");
        fs::create_dir(&gpu).unwrap();
        fs::write(gpu.join("information"), "Model: \t NVIDIA H100\nIRQ: 1\n").unwrap();
        assert_eq!(gpus(folder.path()), ["NVIDIA H100"]);
        assert!(gpus(&folder.path().join("nowhere")).is_empty());
    }

    #[test]
    fn port_that_is_taken_is_bad() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        assert_eq!(port(address).weight, Weight::Bad);
        drop(taken);
        assert_eq!(port(address).weight, Weight::Good);
    }

    #[test]
    fn nats_server_is_known_by_what_it_says() {
        let says = |word: &'static str| {
            let server = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("nats://user:secret@{}/", server.local_addr().unwrap());
            let answer =
                std::thread::spawn(move || server.accept().unwrap().0.write_all(word.as_bytes()).unwrap());
            let found = nats(&url, Asked::Yes);
            answer.join().unwrap();
            assert!(!found.says.contains("secret"), "{found}");
            found.weight
        };
        assert_eq!(says("INFO {\"version\":\"2.15.1\",\"jetstream\":true}\r\n"), Weight::Good);
        assert_eq!(says("INFO {\"version\":\"2.15.1\"}\r\n"), Weight::Bad);
        assert_eq!(says("SSH-2.0-OpenSSH\r\n"), Weight::Bad);
        assert_eq!(nats("nats://127.0.0.1:1", Asked::No).weight, Weight::Note);
        assert_eq!(nats("nats://127.0.0.1:1", Asked::Yes).weight, Weight::Bad);
        let one = TcpListener::bind("127.0.0.1:0").unwrap();
        let urls = format!("nats://127.0.0.1:1, nats://{}", one.local_addr().unwrap());
        let greets = std::thread::spawn(move || {
            one.accept().unwrap().0.write_all(b"INFO {\"jetstream\":true}\r\n").unwrap();
        });
        assert_eq!(nats(&urls, Asked::Yes).weight, Weight::Good);
        greets.join().unwrap();
    }

    #[test]
    fn camera_is_reached_or_says_what_to_check_and_never_its_password() {
        let one = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("rtsp://user:secret@{}/1", one.local_addr().unwrap()).parse().unwrap();
        assert_eq!(camera(&url).weight, Weight::Good);
        drop(one);
        let gone = camera(&url);
        assert!(gone.weight == Weight::Bad && gone.says.contains("check"), "{gone}");
        assert!(!gone.says.contains("secret"), "{gone}");
        assert_eq!(camera(&"ftp://127.0.0.1/1".parse().unwrap()).weight, Weight::Bad);
    }
}
