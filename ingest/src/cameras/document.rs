//! What gateways write down of cameras for each other, in a bucket of the bus that only they may read: the addresses in it
//! have their passwords.
//!
//! | key | document |
//! |---|---|
//! | `cameras.<tenant>.<stream>` | [`Document`]: what a client has named, and who fetches it |
//! | `gateways.<gateway>` | [`Said`]: what a gateway says of itself and of the cameras that it fetches; gone a minute after it was last renewed |

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use cloudpose_bus::Document as Written;
use cloudpose_policy::fleet::{Key, Member, Wanted};
use cloudpose_wire::{Caller, GatewayId, StreamName, Tenant};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, de::DeserializeOwned};

use super::{Address, Report, Wishes};

/// The bucket.
pub(super) const BUCKET: &str = "cameras";
/// First tokens of the keys.
pub(super) const CAMERAS: &str = "cameras";
const GATEWAYS: &str = "gateways";
/// A gateway that has not renewed its document for so long is forgotten.
pub(super) const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// A camera.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Document {
    /// What a client has named. Absent: it is of command lines, and only gateways that have it there know where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) named: Option<Named>,
    /// Who fetches it, or is to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) holder: Option<GatewayId>,
    /// Since when it is wanted: milliseconds since 1970-01-01T00:00:00Z.
    pub(super) since: u64,
}

/// A camera that a client has named.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Named {
    pub(super) caller: Caller,
    #[serde(serialize_with = "with_password", deserialize_with = "address")]
    pub(super) url: Address,
    #[serde(flatten)]
    pub(super) wishes: Wishes,
}

fn with_password<S: Serializer>(address: &Address, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(address.with_password())
}

fn address<'de, D: Deserializer<'de>>(from: D) -> Result<Address, D::Error> {
    String::deserialize(from)?.parse().map_err(de::Error::custom)
}

/// What a gateway says.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Said {
    /// It takes no cameras any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    leaving: bool,
    /// The cameras of its command line, which are the default tenant's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    own: Vec<StreamName>,
    /// The cameras that it fetches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    cameras: Vec<Told>,
}

/// What a gateway says of a camera.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    #[serde(default, skip_serializing_if = "Tenant::is_default")]
    tenant: Tenant,
    #[serde(flatten)]
    report: Report,
}

impl Said {
    pub(super) fn new(member: &Member, cameras: impl IntoIterator<Item = (Tenant, Report)>) -> Self {
        Self {
            leaving: member.is_leaving,
            own: member.own.iter().map(|(_, stream)| stream.clone()).collect(),
            cameras: cameras.into_iter().map(|(tenant, report)| Told { tenant, report }).collect(),
        }
    }
}

pub(super) fn camera_key((tenant, stream): &Key) -> String {
    format!("{CAMERAS}.{tenant}.{stream}")
}

pub(super) fn gateway_key(gateway: &GatewayId) -> String {
    format!("{GATEWAYS}.{gateway}")
}

pub(super) fn written(document: &impl Serialize) -> Bytes {
    serde_json::to_vec(document).expect("our own types are JSON").into()
}

/// All that gateways have written.
#[derive(Debug, Default)]
pub(super) struct All {
    /// With their revisions.
    pub(super) cameras: BTreeMap<Key, (u64, Document)>,
    pub(super) gateways: Vec<(GatewayId, u64, Member)>,
    /// What is said of cameras, and by whom.
    pub(super) told: BTreeMap<Key, (GatewayId, Report)>,
}

impl All {
    pub(super) fn read(documents: BTreeMap<String, Written>) -> Self {
        let mut all = Self::default();
        for (key, document) in documents {
            let tokens: Vec<&str> = key.split('.').collect();
            let known = match tokens[..] {
                [CAMERAS, tenant, stream] => all.read_camera((tenant, stream), &document),
                [GATEWAYS, gateway] => all.read_gateway(gateway, &document),
                _ => None,
            };
            if known.is_none() {
                tracing::debug!(key, "left alone what another version of a gateway has written of cameras");
            }
        }
        all
    }

    fn read_camera(&mut self, (tenant, stream): (&str, &str), document: &Written) -> Option<()> {
        let key = (Tenant::new(tenant).ok()?, StreamName::new(stream).ok()?);
        self.cameras.insert(key, (document.revision, read(&document.value)?));
        Some(())
    }

    fn read_gateway(&mut self, gateway: &str, document: &Written) -> Option<()> {
        let gateway = GatewayId::new(gateway).ok()?;
        let Said { leaving, own, cameras } = read(&document.value)?;
        let own = own.into_iter().map(|stream| (Tenant::default(), stream)).collect();
        let told = |Told { tenant, report }| ((tenant, report.stream.clone()), (gateway.clone(), report));
        self.told.extend(cameras.into_iter().map(told));
        self.gateways.push((gateway, document.revision, Member { is_leaving: leaving, own }));
        Some(())
    }
}

/// For the policy.
pub(super) fn wanted(cameras: &BTreeMap<Key, (u64, Document)>) -> BTreeMap<Key, Wanted> {
    let wanted =
        |document: &Document| Wanted { holder: document.holder.clone(), is_own: document.named.is_none() };
    cameras.iter().map(|(key, (_, document))| (key.clone(), wanted(document))).collect()
}

fn read<T: DeserializeOwned>(value: &[u8]) -> Option<T> {
    serde_json::from_slice(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_gateway_writes_another_reads_with_the_password_and_nobody_prints_it() {
        let key = (Tenant::default(), StreamName::new("door").unwrap());
        let named = Named {
            caller: Caller::default(),
            url: "rtsp://joe:hunter2@cam/".parse().unwrap(),
            wishes: Wishes { fps: Some(5.0), ..Wishes::default() },
        };
        let document = Document { named: Some(named), holder: GatewayId::new("g").ok(), since: 7 };
        assert!(!format!("{document:?}").contains("hunter"));
        let value = written(&document);
        assert!(std::str::from_utf8(&value).unwrap().contains("hunter2"));
        let documents = [
            (camera_key(&key), Written { revision: 3, value }),
            ("cameras.default".into(), Written { revision: 4, value: Bytes::new() }),
            ("gateways.g".into(), Written { revision: 5, value: r#"{"own":["yard"],"later":1}"#.into() }),
            ("gateways.h".into(), Written { revision: 6, value: "7".into() }),
        ];
        let all = All::read(documents.into());
        assert_eq!(all.cameras, [(key, (3, document))].into());
        let own = [(Tenant::default(), StreamName::new("yard").unwrap())].into();
        assert_eq!(all.gateways, [(GatewayId::new("g").unwrap(), 5, Member { is_leaving: false, own })]);
    }
}
