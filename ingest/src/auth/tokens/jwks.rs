//! Who may sign tokens: a JSON Web Key Set (RFC 7517).

use std::fmt;

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse},
};

/// A key that signs tokens.
pub(super) struct Signer {
    /// Its name.
    id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.algorithm, self.id)
    }
}

/// All that do.
#[derive(Debug)]
pub(super) struct Signers(Vec<Signer>);

impl Signers {
    /// Reads a set. Keys that sign in other ways than ours, or that are for something else, are left out.
    pub(super) fn parse(json: &[u8]) -> Result<Self, String> {
        let set: JwkSet = serde_json::from_slice(json).map_err(|error| format!("not a key set: {error}"))?;
        let signers: Vec<Signer> = set.keys.iter().filter_map(signer).collect();
        if signers.is_empty() {
            return Err("it holds no public key for RS256, ES256 or EdDSA (Ed25519)".into());
        }
        Ok(Self(signers))
    }

    /// Nobody.
    pub(super) fn none() -> Self {
        Self(Vec::new())
    }

    /// Those that may have signed a token that says so.
    pub(super) fn of(&self, id: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &Signer> {
        self.0.iter().filter(move |signer| {
            signer.algorithm == algorithm
                && (id.is_none() || signer.id.is_none() || signer.id.as_deref() == id)
        })
    }
}

fn signer(key: &Jwk) -> Option<Signer> {
    let algorithm = match &key.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        // A secret that both sides know is no way to say who one is.
        _ => return None,
    };
    let for_another = key.common.key_algorithm.is_some_and(|said| said != KeyAlgorithm::from(algorithm));
    let signs = key.common.public_key_use.as_ref().is_none_or(|said| *said == PublicKeyUse::Signature);
    if for_another || !signs {
        return None;
    }
    let id = key.common.key_id.clone();
    DecodingKey::from_jwk(key).ok().map(|key| Signer { id, algorithm, key })
}
