//! Where a store is, as its user writes it.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use url::Url;

/// Where a store is: a folder, or a bucket at a cloud or at what speaks as one.
///
/// ```
/// use cloudpose_store::Address;
/// assert!(matches!("jobs".parse(), Ok(Address::Folder(_))));
/// assert!(matches!("s3://photos/cloudpose".parse(), Ok(Address::Bucket(_))));
/// assert!("ftp://photos".parse::<Address>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A folder of this machine, or one that is mounted here.
    Folder(PathBuf),
    /// `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`; the prefix may be missing.
    Bucket(Url),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((scheme, _)) = text.split_once("://") else {
            return match text {
                "" => Err("is empty; write a folder, or s3://bucket/prefix".into()),
                _ => Ok(Self::Folder(text.into())),
            };
        };
        if !["s3", "gs", "az"].contains(&scheme) {
            return Err(format!(
                "{scheme}:// is no place for jobs; write a folder, s3://bucket/prefix, gs://bucket/prefix or \
                 az://container/prefix"
            ));
        }
        let url =
            Url::parse(text).map_err(|error| format!("{error}; write it like {scheme}://bucket/prefix"))?;
        let is_plain = url.host_str().is_some_and(|host| !host.is_empty())
            && url.username().is_empty()
            && url.password().is_none()
            && url.port().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if !is_plain {
            return Err(format!(
                "write it like {scheme}://bucket/prefix; keys and endpoints are taken from the environment"
            ));
        }
        Ok(Self::Bucket(url))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::Bucket(url) => url.fmt(f),
        }
    }
}

impl From<PathBuf> for Address {
    fn from(path: PathBuf) -> Self {
        Self::Folder(path)
    }
}

impl From<&Path> for Address {
    fn from(path: &Path) -> Self {
        Self::Folder(path.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_place_is_told_how_to_write_one() {
        for (text, words) in [
            ("", "folder"),
            ("https://s3.amazonaws.com/photos", "s3://bucket/prefix"),
            ("s3:///photos", "s3://bucket/prefix"),
            ("s3://key:secret@photos", "environment"),
            ("az://photos?sig=1", "environment"),
        ] {
            let said = text.parse::<Address>().unwrap_err();
            assert!(said.contains(words), "{text}: {said}");
        }
        for text in ["jobs", "/var/lib/jobs", "s3://my-photos", "gs://photos/a/b", "az://container"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }
}
