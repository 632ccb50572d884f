//! `cloudpose keys`: makes, shows and revokes the keys of a file.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use anyhow::Result;
use clap::{Args, Subcommand};
use cloudpose_ingest::keys::{Digest, Key, KeyFile, Scope, random_key};
use cloudpose_wire::{KeyName, Tenant};

/// Longest time that can be asked for: the year has four digits in the file.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a key and print it, this once: the file keeps its SHA-256 only
    #[command(after_help = "Examples:
  cloudpose keys new door --keys keys.json
  cloudpose keys new uploads --tenant acme --scopes photo --expires 90d --keys keys.json
  KEY=$(cloudpose keys new door --keys keys.json)
  curl -H \"Authorization: Bearer $KEY\" -F file=@photo.jpg http://127.0.0.1:60000/v1/pose")]
    New(New),
    /// Show whose keys there are, for what, and until when
    #[command(after_help = "Example:
  cloudpose keys list --keys keys.json")]
    List(File),
    /// Take a key back: whoever streams with it is cut off within seconds
    #[command(after_help = "Example:
  cloudpose keys revoke uploads --tenant acme --keys keys.json")]
    Revoke(Revoke),
}

#[derive(Debug, Args)]
pub(crate) struct File {
    /// The file of keys; a gateway that was started with it takes changes in by itself
    #[arg(long, env = "CLOUDPOSE_KEYS", value_name = "FILE")]
    keys: PathBuf,
}

impl File {
    fn open(&self) -> KeyFile {
        KeyFile::new(&self.keys)
    }
}

#[derive(Debug, Args)]
pub(crate) struct New {
    /// What to call it: 1 to 64 letters, digits, '-' or '_'
    name: KeyName,
    /// On whose account work is done
    #[arg(long, default_value_t = Tenant::default())]
    tenant: Tenant,
    /// What it is for
    #[arg(long, value_enum, value_delimiter = ',', default_value = "photo,stream", value_name = "SCOPE,…")]
    scopes: Vec<Scope>,
    /// How long it lasts, like 12h or 90d [default: until it is revoked]
    #[arg(long, value_parser = some_years, value_name = "TIME")]
    expires: Option<Duration>,
    #[command(flatten)]
    file: File,
}

fn some_years(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time > LONGEST => {
            Err("must be at most 100years; leave it out for a key that does not end".into())
        }
        Ok(time) => Ok(time),
        Err(error) => Err(format!("{error}; write it like 12h or 90d")),
    }
}

#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// What it is called
    name: KeyName,
    /// Whose it is
    #[arg(long, default_value_t = Tenant::default())]
    tenant: Tenant,
    #[command(flatten)]
    file: File,
}

/// Does what `command` says.
///
/// # Errors
/// If the file cannot be read, understood or written, or holds another key of the name or none.
pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::New(new) => make(new),
        Command::List(file) => list(file),
        Command::Revoke(Revoke { name, tenant, file }) => {
            file.open().revoke(tenant, name)?;
            eprintln!("revoked key {name} of tenant {tenant}");
            Ok(())
        }
    }
}

#[expect(clippy::print_stdout, reason = "the key is what the command is for")]
fn make(New { name, tenant, scopes, expires, file }: &New) -> Result<()> {
    let secret = random_key()?;
    let expires = expires.map(|lasts| SystemTime::now() + lasts);
    let key = Key {
        name: name.clone(),
        tenant: tenant.clone(),
        scopes: scopes.iter().copied().collect(),
        expires,
        sha256: Digest::of(&secret),
    };
    let until = until(&key);
    file.open().add(key)?;
    eprintln!("key {name} of tenant {tenant} lasts {until}; this is the only time that it is shown:");
    println!("{secret}");
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the list is what the command is for")]
fn list(file: &File) -> Result<()> {
    let keys = file.open().read()?;
    println!("{:<16} {:<20} {:<26} SCOPES", "TENANT", "NAME", "LASTS");
    for key in keys.list() {
        let scopes: Vec<&str> = key.scopes.iter().map(|scope| scope.as_str()).collect();
        let lasts = if key.expired(SystemTime::now()) { "expired".to_owned() } else { until(key) };
        println!("{:<16} {:<20} {:<26} {}", key.tenant.as_str(), key.name.as_str(), lasts, scopes.join(" "));
    }
    Ok(())
}

fn until(key: &Key) -> String {
    match key.expires {
        Some(end) => format!("until {}", humantime::format_rfc3339_seconds(end)),
        None => "until revoked".to_owned(),
    }
}
