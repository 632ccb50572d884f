//! What a frame shows: an encoded image, or pixels that this process has already.

use std::{any::Any, fmt, sync::Arc};

use bytes::Bytes;

/// What a frame shows. Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub enum Payload {
    /// JPEG, PNG or WebP, as the client sent it.
    Encoded(Bytes),
    /// Pixels of this process: a door that decodes video need not encode. They leave the process encoded.
    Decoded(Decoded),
}

impl From<Bytes> for Payload {
    fn from(image: Bytes) -> Self {
        Self::Encoded(image)
    }
}

impl From<Decoded> for Payload {
    fn from(decoded: Decoded) -> Self {
        Self::Decoded(decoded)
    }
}

impl Payload {
    /// The encoded image. Pixels are encoded on the spot, which takes milliseconds.
    ///
    /// # Errors
    /// Why pixels cannot be encoded.
    pub fn encode(&self) -> Result<Bytes, String> {
        match self {
            Self::Encoded(image) => Ok(image.clone()),
            Self::Decoded(decoded) => decoded.0.encode(),
        }
    }
}

/// Pixels of a type that only those who make and read them know.
#[derive(Clone)]
pub struct Decoded(Arc<dyn Held>);

trait Held: Send + Sync {
    fn pixels(&self) -> &(dyn Any + Send + Sync);
    fn encode(&self) -> Result<Bytes, String>;
}

struct With<T, E> {
    pixels: T,
    encode: E,
}

impl<T: Any + Send + Sync, E: Fn(&T) -> Result<Bytes, String> + Send + Sync> Held for With<T, E> {
    fn pixels(&self) -> &(dyn Any + Send + Sync) {
        &self.pixels
    }

    fn encode(&self) -> Result<Bytes, String> {
        (self.encode)(&self.pixels)
    }
}

impl Decoded {
    /// `pixels`, and how they are encoded for another process.
    pub fn new<T: Any + Send + Sync>(
        pixels: T,
        encode: impl Fn(&T) -> Result<Bytes, String> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(With { pixels, encode }))
    }

    /// The pixels, if they are of that type.
    pub fn get<T: Any>(&self) -> Option<&T> {
        self.0.pixels().downcast_ref()
    }
}

impl PartialEq for Decoded {
    /// Whether they are the same in memory.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Decoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decoded")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_read_by_who_knows_them_and_encoded_for_others() {
        let encode = |pixels: &Vec<u8>| match pixels[..] {
            [] => Err("nothing to see".to_owned()),
            _ => Ok(Bytes::copy_from_slice(pixels)),
        };
        let decoded = Decoded::new(vec![1u8, 2], encode);
        assert_eq!(decoded.get::<Vec<u8>>(), Some(&vec![1, 2]));
        assert_eq!(decoded.get::<String>(), None);
        let payload = Payload::Decoded(decoded);
        assert_eq!(payload.encode().unwrap(), [1u8, 2][..]);
        assert_eq!(payload.clone(), payload);
        assert_eq!(format!("{payload:?}"), "Decoded(Decoded)");
        assert_ne!(payload, Payload::Decoded(Decoded::new(vec![1u8, 2], encode)));
        assert_eq!(
            Payload::Decoded(Decoded::new(Vec::new(), encode)).encode().unwrap_err(),
            "nothing to see"
        );
        assert_eq!(Payload::from(Bytes::from_static(b"x")).encode().unwrap(), "x");
    }
}
