//! A disk of its own for one test, which is full when the test wants it to be.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

/// Mounts it, says so, and keeps it until nobody is there.
const KEEP: &str = "mount -t tmpfs -o size=$1m tmpfs \"$0\" && echo mounted && exec cat";

/// A file system in memory, which only processes see that are started [on it](Self::command). It is gone when dropped.
#[derive(Debug)]
pub struct Disk {
    keeper: Child,
    /// Ours are mapped to those of a namespace: that is how who is not root mounts.
    maps_users: bool,
    folder: TempDir,
}

impl Disk {
    /// One of so many MiB; `None` where the system lets nobody mount anything, also not for himself.
    pub fn of(mebibytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        [false, true]
            .into_iter()
            .find_map(|maps_users| {
                let users: &[&str] = if maps_users { &["--user", "--map-root-user"] } else { &[] };
                let mut keeper = Command::new("unshare")
                    .args(users)
                    .args(["--mount", "sh", "-c", KEEP])
                    .arg(folder.path())
                    .arg(mebibytes.to_string())
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::null())
                    .spawn()
                    .ok()?;
                let mut said = String::new();
                BufReader::new(keeper.stdout.take()?).read_line(&mut said).ok()?;
                if said.trim() == "mounted" {
                    return Some((keeper, maps_users));
                }
                keeper.wait().ok();
                None
            })
            .map(|(keeper, maps_users)| Self { keeper, maps_users, folder })
    }

    /// Where it is, for who is on it.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A command that sees it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.keeper.id().to_string(), "--mount"]);
        if self.maps_users {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg(program);
        command
    }

    /// Makes it larger, or smaller.
    pub fn resize(&self, mebibytes: u32) {
        let size = format!("remount,size={mebibytes}m");
        let resized = self.command("mount").args(["-o", &size]).arg(self.path()).status();
        assert!(resized.unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.keeper.kill().ok();
        self.keeper.wait().ok();
    }
}
