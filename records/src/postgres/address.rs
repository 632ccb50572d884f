//! Where the database is, as people write it.

use std::{fmt, str::FromStr, sync::Arc};

use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio_postgres::{Config, config::Host};

/// The address of a PostgreSQL database. Shows neither user nor password.
#[derive(Clone)]
pub struct Address(Config);

impl Address {
    pub(super) fn config(&self) -> &Config {
        &self.0
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let example = "write it like postgres://user:password@host/database";
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            return Err(format!("it is not the address of a PostgreSQL database: {example}"));
        }
        // The parser's words may hold a part of the password.
        let mut config: Config = text.parse().map_err(|_| format!("it cannot be read: {example}"))?;
        config.application_name("cloudpose");
        config.keepalives_idle(std::time::Duration::from_secs(15));
        Ok(Self(config))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = match self.0.get_hosts().first() {
            Some(Host::Tcp(host)) => host.clone(),
            Some(Host::Unix(path)) => path.display().to_string(),
            None => "localhost".into(),
        };
        match self.0.get_ports().first() {
            Some(port) if *port != 5432 => write!(f, "{host}:{port}")?,
            _ => f.write_str(&host)?,
        }
        match self.0.get_dbname() {
            Some(name) => write!(f, "/{name}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

/// Checks certificates by the system's authorities, where the address asks for TLS (`sslmode=require`).
pub(super) fn tls() -> ClientConfig {
    let mut roots = RootCertStore::empty();
    // Those that cannot be read are left out: what they would have signed is refused.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_shows_no_password() {
        for (text, shown) in [
            ("postgres://me:secret@db.example/poses", "db.example/poses"),
            ("postgresql://me:secret@db.example:6000/poses?sslmode=require", "db.example:6000/poses"),
            ("postgres://me:secret@%2Fvar%2Frun/poses", "/var/run/poses"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
            assert!(!format!("{address:?}").contains("secret"));
        }
        for wrong in ["secret", "mysql://me:secret@db/x", "postgres://me:secret@db:port/x"] {
            let error = wrong.parse::<Address>().unwrap_err();
            assert!(error.contains("postgres://user") && !error.contains("secret"), "{error}");
        }
    }
}
