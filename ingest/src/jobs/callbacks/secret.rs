//! Who signs callbacks, so that their receivers know who calls (Standard Webhooks, HMAC-SHA256).
//!
//! A receiver needs the key with which is signed, so whoever can check a signature can make one. Tenants therefore have
//! keys of their own, which follow from the deployment's secret: none of them leads to the secret or to another's.

use std::{fmt, fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use cloudpose_wire::Tenant;
use ring::hmac;

/// Fewest bytes of a secret.
const FEWEST: usize = 32;
/// What a key begins with where it is shown: libraries and scanners of secrets know it by that.
const PREFIX: &str = "whsec_";

/// The secret of a deployment, from which the keys follow by which its callbacks are signed.
pub struct CallbackSecret(hmac::Key);

impl CallbackSecret {
    /// Reads it from a file. Blanks and ends of lines around it are not part of it.
    ///
    /// # Errors
    /// Why it cannot be used, and what to do.
    pub fn read(path: &Path) -> Result<Self, String> {
        Self::parse(&fs::read(path).map_err(|error| error.to_string())?)
    }

    /// What its file holds.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let secret = bytes.trim_ascii();
        if secret.len() < FEWEST {
            return Err(format!(
                "it has {} bytes and needs {FEWEST} that nobody guesses; make one with `openssl rand -base64 32`",
                secret.len()
            ));
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, secret)))
    }

    /// The key of a tenant, as its receivers are told it: `whsec_` and base64.
    pub fn of(&self, tenant: &Tenant) -> String {
        format!("{PREFIX}{}", STANDARD.encode(self.key(tenant)))
    }

    fn key(&self, tenant: &Tenant) -> hmac::Tag {
        hmac::sign(&self.0, format!("cloudpose callbacks of {tenant}").as_bytes())
    }

    /// The value of `webhook-signature` for what is sent to a tenant's receiver.
    pub(super) fn sign(&self, tenant: &Tenant, id: &str, timestamp: u64, body: &[u8]) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.key(tenant).as_ref());
        let mut signing = hmac::Context::with_key(&key);
        signing.update(format!("{id}.{timestamp}.").as_bytes());
        signing.update(body);
        format!("v1,{}", STANDARD.encode(signing.sign()))
    }
}

impl fmt::Debug for CallbackSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallbackSecret")
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn secret(text: &str) -> Result<CallbackSecret, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        CallbackSecret::read(file.path())
    }

    const TEXT: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn signatures_are_as_the_standard_has_them() {
        let (secret, tenant) = (secret(TEXT).unwrap(), Tenant::default());
        // As Python's hmac computes them of the same.
        assert_eq!(secret.of(&tenant), "whsec_HNDy+86KfJjB6aqTEsYwJreFVfV5S9pQi/Fk0PYSGe0=");
        assert_eq!(
            secret.sign(&tenant, "up-1", 1_700_000_000, b"{\"a\":1}"),
            "v1,0PwiyFBMlYXQJ4Hs1fe3VnuxqHMABR68gftawV6UA5M="
        );
    }

    #[test]
    fn each_tenant_has_a_key_of_its_own() {
        let (one, blank) = (secret(TEXT).unwrap(), secret(&format!(" {TEXT}\r\n")).unwrap());
        let other = secret(&TEXT.replace('0', "1")).unwrap();
        let [acme, globex] = ["acme", "globex"].map(|tenant| tenant.parse::<Tenant>().unwrap());
        assert_eq!(one.of(&acme), blank.of(&acme));
        assert_ne!(one.of(&acme), one.of(&globex));
        assert_ne!(one.of(&acme), other.of(&acme));
        let signed = |secret: &CallbackSecret, tenant| secret.sign(tenant, "up-1", 1, b"x");
        assert_ne!(signed(&one, &acme), signed(&one, &globex));
        for (id, timestamp, body) in [("up-2", 1, "x"), ("up-1", 2, "x"), ("up-1", 1, "y")] {
            assert_ne!(one.sign(&acme, id, timestamp, body.as_bytes()), signed(&one, &acme));
        }
    }

    #[test]
    fn what_can_be_guessed_is_refused_and_nothing_of_a_secret_is_printed() {
        assert!(secret(&TEXT[1..]).unwrap_err().contains("openssl"));
        assert!(secret(&format!("{:<40}", &TEXT[1..])).is_err(), "blanks do not count");
        assert!(CallbackSecret::read(Path::new("/nowhere/at/all")).is_err());
        assert_eq!(format!("{:?}", secret(TEXT).unwrap()), "CallbackSecret");
    }
}
