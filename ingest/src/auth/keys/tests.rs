use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use super::*;
use crate::auth::{Denied, Need, Pass, Proof};

fn key(tenant: &str, name: &str, secret: &str, scopes: &[Scope]) -> Key {
    Key {
        name: name.parse().unwrap(),
        tenant: tenant.parse().unwrap(),
        scopes: scopes.iter().copied().collect(),
        expires: None,
        sha256: Digest::of(secret),
    }
}

#[test]
fn digests_are_sha_256_in_hexadecimal() {
    // FIPS 180-2, appendix B.1.
    let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(Digest::of("abc").to_string(), text);
    assert_eq!(Digest::try_from(text.to_uppercase()).unwrap(), Digest::of("abc"));
    for bad in [&text[1..], &format!("{text}0"), &text.replace('a', "g"), &text.replace("ba", "+a"), ""] {
        assert!(Digest::try_from(bad.to_owned()).is_err(), "{bad}");
    }
}

#[test]
fn keys_are_long_and_differ() {
    let (one, other) = (random_key().unwrap(), random_key().unwrap());
    assert_ne!(one, other);
    let random = one.strip_prefix("cpk_").unwrap();
    assert_eq!(URL_SAFE_NO_PAD.decode(random).unwrap().len() * 8, 256);
}

#[test]
fn the_documented_file_is_understood() {
    let documented = include_str!("mod.rs").split("```json").nth(1).unwrap().split("```").next().unwrap();
    let json = documented.replace("//!", "");
    let keys = Keys::parse(json.as_bytes()).unwrap();
    let [door] = keys.list() else { panic!("{keys:?}") };
    assert_eq!((door.name.as_str(), door.tenant.as_str()), ("door", "acme"));
    assert_eq!(door.scopes, [Scope::Photo, Scope::Stream].into());
    let end = door.expires.unwrap();
    assert!(door.expired(end) && !door.expired(end - Duration::from_secs(1)));
    assert_eq!(humantime::format_rfc3339_seconds(end).to_string(), "2027-01-31T00:00:00Z");
}

#[test]
fn a_file_that_says_too_little_or_too_much_is_refused() {
    let sha256 = Digest::of("a").to_string();
    let entry = |more: &str| format!(r#"{{"name":"a","scopes":["photo"],"sha256":"{sha256}"{more}}}"#);
    let parse = |keys: &[String]| Keys::parse(format!(r#"{{"keys":[{}]}}"#, keys.join(",")).as_bytes());
    assert_eq!(parse(&[]).unwrap(), Keys::default());
    assert_eq!(parse(&[entry("")]).unwrap().list()[0].tenant, Tenant::default());
    for more in [r#","tenant":"a.b""#, r#","expires":"tomorrow""#, r#","expires":7"#, r#","quota":1"#] {
        assert!(parse(&[entry(more)]).is_err(), "{more}");
    }
    for json in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"more":1}"#] {
        assert!(Keys::parse(json.as_bytes()).is_err(), "{json}");
    }
    let scope = entry("").replace("photo", "everything");
    assert!(parse(&[scope]).unwrap_err().to_string().contains("everything"));
    let twice = parse(&[entry(""), entry("").replace(&sha256, &Digest::of("b").to_string())]);
    assert!(matches!(twice, Err(Flaw::SameName { .. })), "{twice:?}");
    let same = parse(&[entry(""), entry("").replace(r#""a""#, r#""b""#)]);
    assert!(matches!(same, Err(Flaw::SameKey(..))), "{same:?}");
}

#[test]
fn a_file_is_made_changed_and_its_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let file = KeyFile::new(&path);
    assert!(file.read().unwrap_err().to_string().contains("cloudpose keys new"));
    file.add(key("acme", "door", "1", &[Scope::Stream])).unwrap();
    // The rest of somebody who was killed does not stand in the way.
    fs::write(folder.path().join("keys.json.new"), "half").unwrap();
    file.add(key("other", "door", "2", &[Scope::Photo])).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let names =
        || -> Vec<String> { file.read().unwrap().list().iter().map(|key| key.tenant.to_string()).collect() };
    assert_eq!(names(), ["acme", "other"]);

    let again = file.add(key("acme", "door", "3", &[Scope::Photo]));
    assert!(matches!(again, Err(Error::Taken { .. })), "{again:?}");
    let (acme, door) = ("acme".parse().unwrap(), "door".parse().unwrap());
    file.revoke(&acme, &door).unwrap();
    assert_eq!(names(), ["other"]);
    assert!(matches!(file.revoke(&acme, &door), Err(Error::Unknown { .. })));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");

    fs::write(&path, "not keys").unwrap();
    assert!(matches!(file.add(key("acme", "door", "1", &[])), Err(Error::Flawed { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"not keys", "what is not understood is not overwritten");
}

#[test]
fn a_link_to_the_file_stays_one() {
    let folder = tempfile::tempdir().unwrap();
    let (real, link) = (folder.path().join("real.json"), folder.path().join("link.json"));
    KeyFile::new(&real).add(key("a", "a", "1", &[])).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    KeyFile::new(&link).add(key("a", "b", "2", &[])).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(KeyFile::new(&real).read().unwrap().list().len(), 2);
}

#[test]
fn changes_at_one_time_are_all_there() {
    let folder = tempfile::tempdir().unwrap();
    let file = KeyFile::new(folder.path().join("keys.json"));
    std::thread::scope(|threads| {
        for i in 0..8 {
            let file = &file;
            threads.spawn(move || file.add(key("a", &format!("k{i}"), &format!("{i}"), &[])).unwrap());
        }
    });
    assert_eq!(file.read().unwrap().list().len(), 8);
}

#[test]
fn a_key_lets_in_for_what_it_is_and_while_it_lasts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let now = SystemTime::now();
    let mut ends = key("acme", "ends", "2", &[Scope::Photo]);
    ends.expires = Some(now + Duration::from_secs(5));
    let file = KeyFile::new(&path);
    file.add(key("acme", "lasts", "1", &[Scope::Stream])).unwrap();
    file.add(ends).unwrap();
    let ring = Keyring::open(path).unwrap();
    let photo = Need::Scope(Scope::Photo);
    let admit = |secret: &str, need, now| {
        ring.admit(Digest::of(secret), need, now).map(|pass| pass.caller.key.to_string())
    };
    assert_eq!(admit("2", photo, now).as_deref(), Ok("ends"));
    assert_eq!(admit("2", photo, now + Duration::from_secs(5)), Err(Denied::Expired));
    assert_eq!(admit("1", photo, now), Err(Denied::Scope(Scope::Photo)));
    assert_eq!(admit("1", Need::Key, now).as_deref(), Ok("lasts"));
    assert_eq!(admit("3", Need::Key, now), Err(Denied::UnknownKey));
    assert_eq!(admit("", Need::Key, now), Err(Denied::UnknownKey));
}

#[test]
fn what_cannot_be_used_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let file = KeyFile::new(&path);
    file.add(key("acme", "old", "1", &[Scope::Stream])).unwrap();
    let ring = Keyring::open(path.clone()).unwrap();
    let opens = |secret: &str| ring.admit(Digest::of(secret), Need::Key, SystemTime::now()).is_ok();
    for bad in [Ok(Vec::new()), Ok(b"{\"keys\":[{}]}".to_vec()), Err("it is gone".to_owned())] {
        ring.take_in(bad);
        assert!(opens("1"));
    }
    file.add(key("acme", "new", "2", &[Scope::Stream])).unwrap();
    file.revoke(&"acme".parse().unwrap(), &"old".parse().unwrap()).unwrap();
    ring.take_in(Ok(fs::read(&path).unwrap()));
    assert!(opens("2") && !opens("1"));
}

#[tokio::test]
async fn a_pass_ends_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let file = KeyFile::new(&path);
    let (now, stream) = (SystemTime::now(), Need::Scope(Scope::Stream));
    let mut short = key("acme", "short", "1", &[Scope::Stream]);
    short.expires = Some(now + Duration::from_millis(1500));
    file.add(short).unwrap();
    for (secret, name) in [("2", "revoked"), ("3", "narrowed"), ("4", "moved"), ("5", "kept")] {
        file.add(key("acme", name, secret, &[Scope::Stream])).unwrap();
    }
    let ring = Keyring::open(path.clone()).unwrap();
    let pass = |secret: &str| ring.admit(Digest::of(secret), stream, now).unwrap();
    // Whole seconds stand in the file, and this one may be over.
    let caller = Caller { tenant: "acme".parse().unwrap(), ..Caller::default() };
    let short = Pass { caller, proof: Proof::Key(Digest::of("1")) };
    let (revoked, narrowed, moved, kept) = (pass("2"), pass("3"), pass("4"), pass("5"));
    let ended = async |pass: &Pass| match &pass.proof {
        Proof::Key(sha256) => ring.ended(pass, sha256, stream).await,
        other => panic!("{other:?}"),
    };
    assert_eq!(ended(&short).await, Denied::Expired);

    let changed = [
        key("acme", "narrowed", "3", &[Scope::Photo]),
        key("other", "moved", "4", &[Scope::Stream]),
        key("acme", "kept-under-another-name", "5", &[Scope::Stream, Scope::Photo]),
    ];
    let json = serde_json::to_vec(&Listed { keys: changed.into(), quotas: Default::default() }).unwrap();
    let waiting = async { tokio::join!(ended(&revoked), ended(&narrowed), ended(&moved)) };
    let change = async { ring.take_in(Ok(json)) };
    let (ends, ()) = tokio::join!(waiting, change);
    assert_eq!(ends, (Denied::UnknownKey, Denied::Scope(Scope::Stream), Denied::UnknownKey));
    tokio::select! {
        biased;
        denied = ended(&kept) => panic!("{denied}"),
        () = tokio::task::yield_now() => {}
    }
}
