//! A connection through which only so much comes between one picture and the next.
//!
//! The RTSP client opens its own connections and keeps whatever it is sent until a picture or an answer is whole: a peer
//! that never finishes one would fill the memory. So it gets a connection within this machine, and we carry the bytes
//! between that and the camera: counted, and from an address that was checked.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Read at once, in bytes.
const PIECE: usize = 64 << 10;

/// A camera's connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Tap {
    near: SocketAddr,
    budget: Arc<Budget>,
    _carrying: JoinSet<()>,
}

#[derive(Debug)]
struct Budget {
    left: AtomicUsize,
    is_spent: AtomicBool,
}

impl Tap {
    /// Carries what `camera` sends, `bytes` at most until it is filled again. The first who connects gets it.
    pub(super) async fn open(camera: TcpStream, bytes: usize) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let near = listener.local_addr()?;
        let budget = Arc::new(Budget { left: AtomicUsize::new(bytes), is_spent: AtomicBool::new(false) });
        let mut carrying = JoinSet::new();
        let counted = Arc::clone(&budget);
        carrying.spawn(async move {
            let Ok((client, _)) = listener.accept().await else { return };
            drop(listener);
            client.set_nodelay(true).ok();
            let ((from_camera, to_camera), (from_client, to_client)) =
                (camera.into_split(), client.into_split());
            tokio::select! {
                () = carry(from_camera, to_client, Some(&counted)) => {}
                () = carry(from_client, to_camera, None) => {}
            }
        });
        Ok(Self { near, budget, _carrying: carrying })
    }

    /// Where to connect.
    pub(super) fn near(&self) -> SocketAddr {
        self.near
    }

    /// So much may come from now on.
    pub(super) fn fill(&self, bytes: usize) {
        self.budget.left.store(bytes, Ordering::Relaxed);
    }

    /// Whether more came than might.
    pub(super) fn is_spent(&self) -> bool {
        self.budget.is_spent.load(Ordering::Relaxed)
    }
}

/// Carries bytes until either side ends, or more come than may.
async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, budget: Option<&Budget>) {
    let mut piece = vec![0; PIECE];
    while let Ok(len @ 1..) = from.read(&mut piece).await {
        if let Some(budget) = budget {
            let left = budget.left.load(Ordering::Relaxed);
            if len > left {
                return budget.is_spent.store(true, Ordering::Relaxed);
            }
            // One that is filled meanwhile may lose what was counted now: it is a bound, not a bill.
            budget.left.store(left - len, Ordering::Relaxed);
        }
        if to.write_all(&piece[..len]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_more_passes_than_may_until_it_is_filled() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let camera = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        let tap = Tap::open(camera, 10).await.unwrap();
        let mut client = TcpStream::connect(tap.near()).await.unwrap();
        client.write_all(b"hello").await.unwrap();
        let mut read = [0; 10];
        far.read_exact(&mut read[..5]).await.unwrap();
        assert_eq!(&read[..5], b"hello");
        far.write_all(b"0123456789").await.unwrap();
        client.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"0123456789");
        tap.fill(10);
        far.write_all(b"abcdefghij").await.unwrap();
        client.read_exact(&mut read).await.unwrap();
        assert!(!tap.is_spent());
        far.write_all(b"x").await.unwrap();
        assert_eq!(client.read(&mut read).await.unwrap(), 0, "it is closed");
        assert!(tap.is_spent());
    }
}
