//! `cloudpose health`: asks a running process how it is. A container image without a shell has no other way.

use std::{
    io::{Read as _, Write as _},
    net::{TcpStream, ToSocketAddrs as _},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use axum::http::Uri;

use crate::cli::Health;

/// How long connecting, and each read and write, may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// More than a status line and its headers need; the rest of the answer says nothing to us.
const HEAD_BYTES: u64 = 4096;

/// Asks, and prints the answer.
///
/// # Errors
/// If nothing answers, or the answer is not 200.
#[expect(clippy::print_stdout, reason = "it answers on the command line")]
pub(crate) fn run(command: &Health) -> Result<()> {
    let url = &command.url;
    let status = ask(url).with_context(|| format!("{url} does not answer"))?;
    ensure!(status == "200", "{url} answers {status}");
    println!("{url} answers 200");
    Ok(())
}

/// The status code of a `GET`.
fn ask(url: &Uri) -> Result<String> {
    ensure!(url.scheme_str() == Some("http"), "only http:// addresses can be asked");
    let host = url.host().context("the address names no host")?;
    let port = url.port_u16().unwrap_or(80);
    // An IPv6 address stands in brackets in a URL, and without them here.
    let mut addresses = (host.trim_matches(['[', ']']), port).to_socket_addrs()?;
    let address = addresses.next().context("the host has no address")?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n")?;
    let mut head = Vec::new();
    stream.take(HEAD_BYTES).read_to_end(&mut head)?;
    match String::from_utf8_lossy(&head).split_ascii_whitespace().collect::<Vec<_>>()[..] {
        ["HTTP/1.1" | "HTTP/1.0", status, ..] => Ok(status.to_owned()),
        _ => bail!("what listens there does not speak HTTP"),
    }
}
