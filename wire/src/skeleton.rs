//! Skeletons: which keypoints a model finds, and what is known of them.

use std::{
    collections::HashSet,
    sync::{Arc, LazyLock},
};

use serde::{Deserialize, Serialize};

use crate::{KeypointName, SkeletonName};

/// The most keypoints of a skeleton: whole-body skeletons have 133.
pub const MAX_KEYPOINTS: usize = 256;

/// The most limbs of a skeleton.
const MAX_LIMBS: usize = 1024;

/// The keypoints that a model reports of a person, in its order, and how they hang together. Comes from the model's
/// manifest; whoever tracks, crops or draws takes it from there.
///
/// In JSON limbs are pairs of keypoints' names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Skeleton {
    name: SkeletonName,
    keypoints: Vec<KeypointKind>,
    limbs: Vec<[usize; 2]>,
}

/// What is known of a keypoint before it is found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeypointKind {
    /// The name that events use.
    pub name: KeypointName,
    /// How far annotators differ on it, as a share of the person's size: the constant of object keypoint similarity
    /// (<https://cocodataset.org/#keypoints-eval>). More than 0.
    pub sigma: f32,
    /// Which part of the body it belongs to, where that matters to us.
    #[serde(default, skip_serializing_if = "Part::is_other")]
    pub part: Part,
    /// Which side of the body it is on.
    #[serde(default, skip_serializing_if = "Side::is_middle")]
    pub side: Side,
}

/// Parts of the body by which we crop and draw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Drawn finer; covered where faces must not be seen.
    Head,
    /// Upper end of the torso.
    Shoulder,
    /// Lower end of the torso.
    Hip,
    /// Anything else.
    #[default]
    Other,
}

/// Sides of the body, as the person sees them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The person's left.
    Left,
    /// The person's right.
    Right,
    /// Neither.
    #[default]
    Middle,
}

impl Part {
    fn is_other(&self) -> bool {
        *self == Self::Other
    }
}

impl Side {
    fn is_middle(&self) -> bool {
        *self == Self::Middle
    }
}

/// Why a skeleton cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SkeletonError {
    /// None, or more than [`MAX_KEYPOINTS`].
    #[error("skeleton {skeleton} has {count} keypoints; use 1 to {MAX_KEYPOINTS}")]
    Keypoints {
        /// Which skeleton.
        skeleton: SkeletonName,
        /// How many it has.
        count: usize,
    },
    /// Two keypoints of one name.
    #[error("skeleton {skeleton} has two keypoints called {keypoint}")]
    Twice {
        /// Which skeleton.
        skeleton: SkeletonName,
        /// The name.
        keypoint: KeypointName,
    },
    /// A sigma by which nothing can be divided.
    #[error("skeleton {skeleton}: the sigma of {keypoint} is {sigma}; use a number above 0, at most 1")]
    Sigma {
        /// Which skeleton.
        skeleton: SkeletonName,
        /// Which keypoint.
        keypoint: KeypointName,
        /// As given.
        sigma: f32,
    },
    /// A limb that joins nothing, or more limbs than anybody draws.
    #[error("skeleton {skeleton}: the limb from {} to {} joins no two of its keypoints, or is one of too many", limb[0], limb[1])]
    Limb {
        /// Which skeleton.
        skeleton: SkeletonName,
        /// As given.
        limb: [KeypointName; 2],
    },
}

/// A skeleton as it stands in JSON.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: SkeletonName,
    keypoints: Vec<KeypointKind>,
    #[serde(default)]
    limbs: Vec<[KeypointName; 2]>,
}

impl TryFrom<Written> for Skeleton {
    type Error = SkeletonError;

    fn try_from(Written { name, keypoints, limbs }: Written) -> Result<Self, SkeletonError> {
        if keypoints.is_empty() || keypoints.len() > MAX_KEYPOINTS {
            return Err(SkeletonError::Keypoints { skeleton: name, count: keypoints.len() });
        }
        let mut names = HashSet::new();
        for KeypointKind { name: keypoint, sigma, .. } in &keypoints {
            if !names.insert(keypoint.as_str()) {
                return Err(SkeletonError::Twice { skeleton: name, keypoint: keypoint.clone() });
            }
            if !(*sigma > 0.0 && *sigma <= 1.0) {
                let (skeleton, keypoint) = (name, keypoint.clone());
                return Err(SkeletonError::Sigma { skeleton, keypoint, sigma: *sigma });
            }
        }
        let index = |name: &KeypointName| keypoints.iter().position(|kind| kind.name == *name);
        let mut pairs = Vec::with_capacity(limbs.len());
        for limb in limbs {
            match [index(&limb[0]), index(&limb[1])] {
                [Some(from), Some(to)] if from != to && pairs.len() < MAX_LIMBS => pairs.push([from, to]),
                _ => return Err(SkeletonError::Limb { skeleton: name, limb }),
            }
        }
        Ok(Self { name, keypoints, limbs: pairs })
    }
}

impl From<Skeleton> for Written {
    fn from(Skeleton { name, keypoints, limbs }: Skeleton) -> Self {
        let limbs = limbs.iter().map(|limb| limb.map(|index| keypoints[index].name.clone())).collect();
        Self { name, limbs, keypoints }
    }
}

impl Skeleton {
    /// COCO's: what events speak of that do not name a skeleton.
    pub fn coco_17() -> Arc<Self> {
        static COCO_17: LazyLock<Arc<Skeleton>> = LazyLock::new(|| {
            let json = include_str!("../skeletons/coco-17.json");
            serde_json::from_str(json).expect("a test reads the skeleton that is built in")
        });
        COCO_17.clone()
    }

    /// The skeleton that goes by `name` without a manifest that describes it.
    pub fn built_in(name: &SkeletonName) -> Option<Arc<Self>> {
        let coco_17 = Self::coco_17();
        (coco_17.name == *name).then_some(coco_17)
    }

    /// Its name.
    pub fn name(&self) -> &SkeletonName {
        &self.name
    }

    /// Its keypoints, in the order in which persons have them. Never empty.
    pub fn keypoints(&self) -> &[KeypointKind] {
        &self.keypoints
    }

    /// Pairs of keypoints, by their position, that are joined.
    pub fn limbs(&self) -> &[[usize; 2]] {
        &self.limbs
    }

    /// The positions of the keypoints of `part`.
    pub fn of_part(&self, part: Part) -> impl Iterator<Item = usize> {
        self.keypoints.iter().enumerate().filter(move |(_, kind)| kind.part == part).map(|(index, _)| index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keypoint_says_where_on_the_body_it_is_if_it_is_somewhere() {
        let json = serde_json::to_value(&*Skeleton::coco_17()).unwrap();
        let (nose, ankle) = (&json["keypoints"][0], &json["keypoints"][16]);
        assert_eq!((nose.get("side"), &nose["part"]), (None, &"head".into()));
        assert_eq!((&ankle["side"], ankle.get("part")), (&"right".into(), None));
    }

    #[test]
    fn cocos_skeleton_is_whole_and_reads_as_it_was_written() {
        let coco = Skeleton::coco_17();
        assert_eq!((coco.keypoints().len(), coco.limbs().len()), (17, 18));
        assert_eq!(coco.keypoints()[16].name.as_str(), "right_ankle");
        assert_eq!(coco.keypoints()[11].side, Side::Left);
        assert_eq!(coco.of_part(Part::Head).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!(
            coco.of_part(Part::Shoulder).chain(coco.of_part(Part::Hip)).collect::<Vec<_>>(),
            [5, 6, 11, 12]
        );
        let json = serde_json::to_string(&*coco).unwrap();
        assert_eq!(serde_json::from_str::<Skeleton>(&json).unwrap(), *coco);
        assert_eq!(Skeleton::built_in(coco.name()), Some(coco));
        assert_eq!(Skeleton::built_in(&"halpe-26".parse().unwrap()), None);
    }

    #[test]
    fn skeletons_that_cannot_be_used_say_why() {
        let read = |keypoints: &str, limbs: &str| {
            let json = format!(r#"{{"name":"s","keypoints":[{keypoints}],"limbs":[{limbs}]}}"#);
            serde_json::from_str::<Skeleton>(&json).map_err(|error| error.to_string())
        };
        let (a, b) = (r#"{"name":"a","sigma":0.1}"#, r#"{"name":"b","sigma":0.1}"#);
        assert!(read(&format!("{a},{b}"), r#"["a","b"]"#).is_ok());
        let many: Vec<String> =
            (0..=MAX_KEYPOINTS).map(|n| format!(r#"{{"name":"k{n}","sigma":0.1}}"#)).collect();
        assert!(read(&many[1..].join(","), "").is_ok());
        for (keypoints, limbs, why) in [
            (String::new(), "", "0 keypoints"),
            (many.join(","), "", "257 keypoints"),
            (format!("{a},{a}"), "", "two keypoints called a"),
            (r#"{"name":"a","sigma":0}"#.into(), "", "sigma of a"),
            (r#"{"name":"a","sigma":-0.1}"#.into(), "", "sigma of a"),
            (r#"{"name":"a","sigma":1e40}"#.into(), "", "sigma of a"),
            (format!("{a},{b}"), r#"["a","a"]"#, "from a to a"),
            (format!("{a},{b}"), r#"["a","c"]"#, "from a to c"),
            (format!("{a},{b}"), &[r#"["a","b"]"#; MAX_LIMBS + 1].join(","), "too many"),
            (r#"{"name":"a.b","sigma":0.1}"#.into(), "", "'.'"),
        ] {
            let error = read(&keypoints, limbs).unwrap_err();
            assert!(error.contains(why), "{why}: {error}");
        }
    }
}
