//! The signatures of tokens, checked by `ring`: it is in the binary for TLS anyway.

use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind,
    crypto::{CryptoProvider, JwtVerifier, KeyUtils},
    errors::{ErrorKind, Result},
    signature,
};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
    VerificationAlgorithm,
};

static PROVIDER: CryptoProvider = CryptoProvider {
    // We make no tokens.
    signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
    verifier_factory: verifier,
    // For what makes descriptions of keys, which we do not.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Has tokens of this process checked here.
pub(super) fn install() {
    // The second time it is there already.
    PROVIDER.install_default().ok();
}

struct Checker {
    algorithm: Algorithm,
    key: Key,
}

enum Key {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    Point(&'static dyn VerificationAlgorithm, Vec<u8>),
}

fn verifier(&algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    let point = |of: &'static dyn VerificationAlgorithm| -> Result<Key> {
        Ok(Key::Point(of, key.try_get_as_bytes()?.to_vec()))
    };
    let key = match (algorithm, key.kind()) {
        (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, e }) => {
            // Some who publish keys write the sign's zero byte.
            let n = n.iter().copied().skip_while(|&byte| byte == 0).collect();
            Key::Rsa { n, e: e.clone() }
        }
        (Algorithm::ES256, _) => point(&ECDSA_P256_SHA256_FIXED)?,
        (Algorithm::EdDSA, _) => point(&ED25519)?,
        _ => return Err(ErrorKind::UnsupportedAlgorithm.into()),
    };
    Ok(Box::new(Checker { algorithm, key }))
}

impl signature::Verifier<Vec<u8>> for Checker {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), signature::Error> {
        let verified = match &self.key {
            Key::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            Key::Point(algorithm, point) => {
                UnparsedPublicKey::new(*algorithm, point).verify(message, signature)
            }
        };
        verified.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Checker {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
