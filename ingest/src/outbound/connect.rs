//! Connections: the name is looked up once, its addresses are checked, and the connection goes to one that was
//! checked, so that a name that leads elsewhere a moment later leads nowhere.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use url::{Host, Url};

use super::{ANSWER, CONNECT, Reach, Trouble, by_the_system, too_long};

/// How soon the system finds out that a server is there no more which said nothing of it.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(1))
    .with_interval(Duration::from_secs(1))
    .with_retries(3);

/// The addresses of a server that may be reached, in the order in which to try them.
pub(crate) async fn addresses(url: &Url, reach: &Reach) -> Result<Vec<SocketAddr>, Trouble> {
    let port = url.port_or_known_default().unwrap_or(554);
    let found: Vec<SocketAddr> = match host(url) {
        Some(Host::Ipv4(address)) => vec![(address, port).into()],
        Some(Host::Ipv6(address)) => vec![(address, port).into()],
        Some(Host::Domain(name)) => {
            let looked_up = timeout(CONNECT, lookup_host((name.as_str(), port))).await;
            let looked_up = looked_up.map_err(|_| too_long("its name was not looked up", CONNECT))?;
            looked_up.map_err(|error| Trouble::Gone(format!("its name is not known: {error}")))?.collect()
        }
        None => return Err(Trouble::Wrong("it names no host".into())),
    };
    let checked = found.iter().map(|address| reach.check(address.ip()));
    let allowed: Vec<SocketAddr> =
        found.iter().zip(checked.clone()).filter(|(_, checked)| checked.is_ok()).map(|(at, _)| *at).collect();
    if allowed.is_empty() {
        let kind = checked.into_iter().find_map(Result::err).unwrap_or("unknown");
        return Err(Trouble::Wrong(reach.refused(kind)));
    }
    Ok(allowed)
}

/// The host of an address. Only of HTTP does the parser of addresses see by itself which hosts are numbers.
fn host(url: &Url) -> Option<Host> {
    Host::parse(url.host_str()?).ok()
}

/// Checks what shows in the address itself, before anything is looked up.
pub(crate) fn check_literal(url: &Url, reach: &Reach) -> Result<(), String> {
    let address: IpAddr = match host(url) {
        Some(Host::Ipv4(address)) => address.into(),
        Some(Host::Ipv6(address)) => address.into(),
        Some(Host::Domain(_)) | None => return Ok(()),
    };
    reach.check(address).map_err(|kind| reach.refused(kind))
}

/// Connects to the first address that takes it.
pub(crate) async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, Trouble> {
    let each = async {
        let mut last = io::Error::other("it has no address");
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    };
    let connected = timeout(CONNECT, each).await.map_err(|_| too_long("it took no connection", CONNECT))?;
    let stream = connected.map_err(|error| Trouble::Gone(format!("it cannot be reached: {error}")))?;
    // Whatever the system cannot do here, silence is noticed all the same.
    SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE).ok();
    stream.set_nodelay(true).ok();
    Ok(stream)
}

/// Speaks TLS on a connection, with a server that the system's certificates say is `url`'s.
pub(super) async fn secure(stream: TcpStream, url: &Url) -> Result<TlsStream<TcpStream>, Trouble> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(host).map_err(|error| Trouble::Wrong(error.to_string()))?;
    let connector = TlsConnector::from(by_the_system().map_err(Trouble::Wrong)?);
    let spoken = timeout(ANSWER, connector.connect(name, stream)).await;
    let spoken = spoken.map_err(|_| too_long("it did not speak TLS", ANSWER))?;
    spoken.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => Trouble::Wrong(format!(
            "its TLS is not to be trusted ({error}); use http:// within your own network, or give it a certificate that \
             this machine's authorities have signed"
        )),
        _ => Trouble::Gone(format!("it did not speak TLS: {error}")),
    })
}
