use std::fs;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use ring::{
    rand::SystemRandom,
    rsa::PublicKeyComponents,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
        RsaKeyPair,
    },
};
use serde_json::{Value, json};

use super::*;

/// Made for these tests with `openssl genpkey -algorithm RSA -outform DER`; it signs nothing else.
const RSA: &[u8] = include_bytes!("../../../tests/keys/rsa.der");

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

enum Issuer {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Issuer {
    /// One of each kind.
    fn all() -> [Self; 3] {
        [Self::Rsa(RsaKeyPair::from_der(RSA).unwrap()), Self::ec(), Self::ed()]
    }

    fn ec() -> Self {
        let (of, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let made = EcdsaKeyPair::generate_pkcs8(of, &random).unwrap();
        Self::Ec(EcdsaKeyPair::from_pkcs8(of, made.as_ref(), &random).unwrap())
    }

    fn ed() -> Self {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed(Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap())
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::Ec(_) => "ES256",
            Self::Ed(_) => "EdDSA",
        }
    }

    /// What it publishes.
    fn key(&self, id: &str) -> Value {
        match self {
            Self::Rsa(pair) => {
                let PublicKeyComponents::<Vec<u8>> { n, e } = pair.public().into();
                // With the zero that some write before it.
                let n = [vec![0], n].concat();
                json!({"kid": id, "kty": "RSA", "n": base64url(n), "e": base64url(e), "use": "sig", "alg": "RS256"})
            }
            Self::Ec(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({"kid": id, "kty": "EC", "crv": "P-256", "x": base64url(x), "y": base64url(y)})
            }
            Self::Ed(pair) => {
                json!({"kid": id, "kty": "OKP", "crv": "Ed25519", "x": base64url(pair.public_key())})
            }
        }
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", base64url(header.to_string()), base64url(claims.to_string()));
        let signature = match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                let random = SystemRandom::new();
                pair.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).unwrap();
                signature
            }
            Self::Ec(pair) => pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap().as_ref().to_vec(),
            Self::Ed(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
        };
        format!("{message}.{}", base64url(signature))
    }

    /// A token of this key with these claims.
    fn token(&self, claims: &Value) -> String {
        self.sign(&json!({"alg": self.algorithm(), "typ": "JWT", "kid": "a"}), claims)
    }
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// The claims of a token that is good at `now()`, changed by `more`; what is null there is left out.
fn claims(more: Value) -> Value {
    let mut claims = json!({
        "iss": "https://id.example.com", "aud": ["other", "cloudpose"], "exp": 1_800_000_060, "sub": "door",
        "tenant": "acme", "scope": "openid stream photo"
    });
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims
}

fn believing(keys: &[Value]) -> Tokens {
    signatures::install();
    let json = json!({"keys": keys}).to_string().into_bytes();
    let signers = Signers::parse(&json).unwrap();
    let signers =
        Followed::new(vec!["keys.json".into()], vec![json], signers, |files| Signers::parse(&files[0]));
    Tokens {
        signers,
        published: None,
        audience: "cloudpose".into(),
        issuer: Some("https://id.example.com".into()),
    }
}

fn stream(tokens: &Tokens, token: &str) -> Result<Caller, Denied> {
    tokens.admit(token, Need::Scope(Scope::Stream), now()).map(|pass| pass.caller)
}

#[test]
fn tokens_of_every_kind_let_in_whom_they_name() {
    for issuer in Issuer::all() {
        let tokens = believing(&[issuer.key("a")]);
        let caller = stream(&tokens, &issuer.token(&claims(json!({})))).unwrap();
        assert_eq!((caller.tenant.as_str(), caller.key.as_str()), ("acme", "door"), "{}", issuer.algorithm());
        assert_eq!(caller.scopes, [Scope::Stream.into(), Scope::Photo.into()].into());
    }
}

/// RFC 7515, appendix A.3, and RFC 8037, appendix A.4.
#[test]
fn signatures_of_the_standards_are_good() {
    signatures::install();
    let ec = DecodingKey::from_ec_components(
        "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    );
    let ed = DecodingKey::from_ed_components("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
    let es256 = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19\
                 yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    let eddsa = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6\
                 dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    for (token, key, algorithm) in [(es256, ec, Algorithm::ES256), (eddsa, ed, Algorithm::EdDSA)] {
        let (message, signature) = token.rsplit_once('.').unwrap();
        let key = key.unwrap();
        assert!(crypto::verify(signature, message.as_bytes(), &key, algorithm).unwrap(), "{algorithm:?}");
        assert!(!crypto::verify(signature, &message.as_bytes()[1..], &key, algorithm).unwrap());
    }
}

#[test]
fn a_token_must_be_signed_by_whom_we_believe_in_the_way_of_his_key() {
    let (ours, other) = (Issuer::ed(), Issuer::ed());
    let tokens = believing(&[ours.key("a")]);
    let good = claims(json!({}));
    let refused = |token: &str| matches!(stream(&tokens, token), Err(Denied::Token(_)));
    assert!(refused(&other.token(&good)), "another key of the same name");
    assert!(refused(&ours.sign(&json!({"alg": "EdDSA", "kid": "b"}), &good)), "another name");
    assert!(stream(&tokens, &ours.sign(&json!({"alg": "EdDSA"}), &good)).is_ok(), "no name");
    assert!(refused(&ours.sign(&json!({"alg": "EdDSA", "kid": "a", "crit": ["b64"], "b64": true}), &good)));
    // What the public key is taken for a secret in, or is not asked at all.
    for algorithm in ["none", "None", "HS256", "RS256", "ES256", "PS256"] {
        assert!(refused(&ours.sign(&json!({"alg": algorithm, "kid": "a"}), &good)), "{algorithm}");
    }
    let token = ours.token(&good);
    let (message, signature) = token.rsplit_once('.').unwrap();
    let (header, _) = message.split_once('.').unwrap();
    let forged = base64url(claims(json!({"tenant": "other"})).to_string());
    for bad in [
        format!("{message}."),
        format!("{header}.{forged}.{signature}"),
        format!("{}.{signature}", message.replacen('.', "..", 1)),
        "..".to_owned(),
        "a.b.c".to_owned(),
        token[1..].to_owned(),
    ] {
        assert!(refused(&bad), "{bad}");
    }
}

#[test]
fn claims_are_held_to() {
    let issuer = Issuer::ed();
    let tokens = believing(&[issuer.key("a")]);
    let with = |more: Value| stream(&tokens, &issuer.token(&claims(more)));
    for more in [
        json!({"aud": "other"}),
        json!({"aud": []}),
        json!({"aud": null}),
        json!({"iss": "https://evil.example"}),
        json!({"iss": null}),
        json!({"exp": null}),
        json!({"exp": "tomorrow"}),
        json!({"exp": 1e300}),
        json!({"nbf": 1_800_000_061}),
        json!({"nbf": -1}),
        json!({"tenant": "a.b"}),
        json!({"tenant": 7}),
        json!({"scope": 7}),
    ] {
        assert!(matches!(with(more.clone()), Err(Denied::Token(_))), "{more}");
    }
    assert_eq!(with(json!({"exp": 1_800_000_000})), Err(Denied::Expired));
    for more in
        [json!({"scope": "photo"}), json!({"scope": []}), json!({"scope": null}), json!({"scope": "Stream"})]
    {
        assert_eq!(with(more.clone()), Err(Denied::Scope(Scope::Stream)), "{more}");
    }
    assert!(with(json!({"scope": ["stream", "email"], "nbf": 1_800_000_060, "aud": "cloudpose"})).is_ok());
    assert!(with(json!({"tenant": null})).unwrap().tenant.is_default());
    assert_eq!(with(json!({"sub": null})).unwrap().key, KeyName::default());
    let named = with(json!({"sub": "auth0|someone@example.com"})).unwrap().key;
    assert!(named.as_str().starts_with("sub-") && named.as_str().len() == 20, "{named}");
}

#[test]
fn what_is_no_public_key_of_ours_is_left_out() {
    let (ed, ec) = (Issuer::ed(), Issuer::ec());
    let left_out = [
        json!({"kty": "oct", "k": base64url("secret"), "alg": "HS256", "kid": "secret"}),
        json!({"kty": "EC", "crv": "P-384", "x": "AA", "y": "AA"}),
        json!({"kty": "new", "kid": "a"}),
        {
            let mut key = ec.key("enc");
            key["use"] = "enc".into();
            key
        },
        {
            let mut key = ec.key("other");
            key["alg"] = "ES384".into();
            key
        },
    ];
    let parse = |keys: &[Value]| Signers::parse(json!({"keys": keys}).to_string().as_bytes());
    assert!(parse(&left_out).unwrap_err().contains("no public key"));
    assert!(Signers::parse(b"{}").is_err() && Signers::parse(b"").is_err());
    let tokens = believing(&[&left_out[..], &[ed.key("a")]].concat());
    assert!(stream(&tokens, &ed.token(&claims(json!({})))).is_ok());
    assert!(stream(&tokens, &ec.sign(&json!({"alg": "ES256", "kid": "enc"}), &claims(json!({})))).is_err());
}

#[tokio::test]
async fn a_token_ends_with_its_time_and_with_its_key() {
    let issuer = Issuer::ec();
    let tokens = believing(&[issuer.key("a")]);
    let since = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let until = |end| issuer.token(&claims(json!({"exp": since(SystemTime::now() + end)})));
    assert_eq!(tokens.ended(&until(Duration::from_secs(1))).await, Denied::Expired);
    let token = until(Duration::from_secs(3600));
    let rotate = async {
        let next = json!({"keys": [Issuer::ec().key("b")]}).to_string();
        tokens.signers.take_in(Ok(vec![b"broken".to_vec()]));
        assert!(tokens.admit(&token, Need::Key, SystemTime::now()).is_ok());
        tokens.signers.take_in(Ok(vec![next.into_bytes()]));
    };
    let (ended, ()) = tokio::join!(tokens.ended(&token), rotate);
    assert!(matches!(ended, Denied::Token(_)), "{ended}");
}

#[test]
fn a_file_is_read_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    let open = || Tokens::open(&path.clone().into(), "cloudpose".into(), None);
    assert!(open().is_err());
    fs::write(&path, json!({"keys": [Issuer::ed().key("a")]}).to_string()).unwrap();
    assert!(open().is_ok());
}

/// Answers every request with what is in `set` now, if anything is.
fn provider(set: Arc<std::sync::Mutex<Option<String>>>) -> (axum::http::Uri, tokio::task::JoinSet<()>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = format!("http://{}/keys", listener.local_addr().unwrap()).parse().unwrap();
    let router = axum::Router::new().route(
        "/keys",
        axum::routing::get(async move || {
            let set = set.lock().unwrap().clone();
            set.ok_or(axum::http::StatusCode::BAD_GATEWAY)
        }),
    );
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let mut served = tokio::task::JoinSet::new();
    served.spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, served)
}

#[tokio::test]
async fn published_keys_are_fetched_again_for_a_key_that_is_not_known_and_kept_while_nobody_answers() {
    signatures::install();
    let (one, two) = (Issuer::ed(), Issuer::ec());
    let set = |issuer: &Issuer, id: &str| json!({"keys": [issuer.key(id)]}).to_string();
    let published = Arc::new(std::sync::Mutex::new(None));
    let (address, _served) = provider(Arc::clone(&published));
    let hour = Duration::from_secs(3600);
    let pace = Pace { every: hour, again: Duration::from_millis(10), apart: Duration::from_millis(10) };
    let source = Source::new(&address).unwrap();
    let tokens = Tokens::publishing(
        Published { source, unknown: Notify::new(), pace },
        "cloudpose".into(),
        Some("https://id.example.com".into()),
    );
    let token = |issuer: &Issuer| issuer.token(&claims(json!({})));
    let until = async |issuer: &Issuer| {
        while stream(&tokens, &token(issuer)).is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let story = async {
        assert!(stream(&tokens, &token(&one)).is_err(), "nothing is published yet");
        *published.lock().unwrap() = Some(set(&one, "a"));
        until(&one).await;
        // Fetched again only because a token names a key that is not known: the pace is an hour.
        *published.lock().unwrap() = Some(set(&two, "a"));
        until(&two).await;
        assert!(stream(&tokens, &token(&one)).is_err(), "its key is not published any more");
        *published.lock().unwrap() = None;
        tokens.published.as_ref().unwrap().unknown.notify_one();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(stream(&tokens, &token(&two)).is_ok(), "what was fetched last stays in force");
    };
    tokio::select! {
        () = story => {}
        never = tokens.follow() => match never {},
    }
}
