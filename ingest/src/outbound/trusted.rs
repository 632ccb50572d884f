//! With whom TLS is spoken as a client: servers that this system's authorities vouch for.

use std::sync::{Arc, OnceLock};

use rustls::{ClientConfig, RootCertStore, crypto::ring};

/// For servers that the system's authorities, which are read once, vouch for.
///
/// # Errors
/// If there are none, what to do.
pub(crate) fn by_the_system() -> Result<Arc<ClientConfig>, String> {
    static CLIENT: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(client) = CLIENT.get() {
        return Ok(Arc::clone(client));
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(
            "this machine has no certificates of authorities (Debian: apt install ca-certificates)".into()
        );
    }
    let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::clone(CLIENT.get_or_init(|| Arc::new(client))))
}
