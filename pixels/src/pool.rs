//! Images that are lent, and come back when they are dropped.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{PlanarImage, Recent, recent::is_excessive};

/// A fixed number of images to hand pictures on in, from one stage to the next. Clones share them.
///
/// The bound is what keeps a slow next stage from filling the memory with pictures: when all images are
/// lent there is none, and the picture has to travel encoded.
#[derive(Clone)]
pub struct Pool(Arc<Mutex<Waiting>>);

struct Waiting {
    images: Vec<PlanarImage>,
    /// What those that came back last needed.
    recent: Recent,
}

impl Pool {
    /// A pool of `images` images, still empty.
    pub fn new(images: usize) -> Self {
        let images = vec![PlanarImage::default(); images];
        Self(Arc::new(Mutex::new(Waiting { images, recent: Recent::default() })))
    }

    /// Takes an image, which holds whatever it last held, or `None` if all are lent.
    pub fn take(&self) -> Option<Pooled> {
        // The one that came back last: its samples are the likeliest to be in a cache.
        let image = lock(&self.0).images.pop()?;
        Some(Pooled { image, pool: self.0.clone() })
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("idle", &lock(&self.0).images.len()).finish_non_exhaustive()
    }
}

/// An image on loan from a [`Pool`].
pub struct Pooled {
    image: PlanarImage,
    pool: Arc<Mutex<Waiting>>,
}

impl Deref for Pooled {
    type Target = PlanarImage;

    fn deref(&self) -> &PlanarImage {
        &self.image
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut PlanarImage {
        &mut self.image
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let mut waiting = lock(&self.pool);
        waiting.images.push(std::mem::take(&mut self.image));
        waiting.settle();
    }
}

impl fmt::Debug for Pooled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pooled")
            .field("width", &self.image.width())
            .field("height", &self.image.height())
            .finish_non_exhaustive()
    }
}

impl Waiting {
    /// An image came back. Those that are far larger than what comes back of late are given up: the ones that
    /// nobody takes, because others come back before their turn, would hold their memory for ever.
    fn settle(&mut self) {
        let needed = self.images.last().map_or(0, |image| image.samples().len());
        let largest = self.images.iter().map(PlanarImage::room).max().unwrap_or(0);
        if let Some(needed) = self.recent.needed(needed, largest) {
            for image in self.images.iter_mut().filter(|image| is_excessive(image.room(), needed)) {
                *image = PlanarImage::default();
            }
        }
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    // The list is only pushed to and popped from: it is whole whatever happened.
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Subsampling;

    #[test]
    fn no_more_are_lent_than_there_are_and_they_come_back_with_their_buffers() {
        let pool = Pool::new(2);
        let mut first = pool.take().unwrap();
        let second = pool.clone().take().unwrap();
        assert!(pool.take().is_none());

        first.resize(640, 480, Subsampling::S420);
        let buffer = first.samples().as_ptr();
        drop(first);
        let again = pool.take().unwrap();
        assert_eq!(again.samples().as_ptr(), buffer);
        assert!(pool.take().is_none());
        drop((second, again));
        assert!(pool.take().is_some());
    }

    #[test]
    fn large_images_that_nobody_takes_any_more_are_given_up() {
        let pool = Pool::new(3);
        let mut lent: Vec<Pooled> = (0..3).map(|_| pool.take().unwrap()).collect();
        lent.iter_mut().for_each(|image| image.resize(1024, 1024, Subsampling::S420));
        drop(lent);
        for _ in 0..100 {
            pool.take().unwrap().resize(64, 64, Subsampling::S420);
        }
        let rooms: Vec<usize> = lock(&pool.0).images.iter().map(PlanarImage::room).collect();
        assert!(rooms.len() == 3 && rooms.iter().all(|room| *room < 10_000), "{rooms:?}");
    }

    #[test]
    fn buffers_that_change_hands_stay_in_the_pool() {
        let pool = Pool::new(1);
        let mut mine = PlanarImage::new(64, 48, Subsampling::S420);
        let buffer = mine.samples().as_ptr();
        let mut lent = pool.take().unwrap();
        std::mem::swap(&mut *lent, &mut mine);
        drop(lent);
        assert_eq!(pool.take().unwrap().samples().as_ptr(), buffer);
    }
}
