//! A network that breaks when it is told to.

use std::sync::Arc;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// A way to a port of this machine that can be cut.
#[derive(Debug)]
pub struct Link {
    listener: Arc<TcpListener>,
    to: u16,
    connections: JoinSet<()>,
}

impl Link {
    /// A way to the port `to`.
    pub async fn to(to: u16) -> Self {
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let mut link = Self { listener, to, connections: JoinSet::new() };
        link.restore();
        link
    }

    /// Where the way begins.
    pub fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// New connections get through again.
    pub fn restore(&mut self) {
        let (listener, to) = (self.listener.clone(), self.to);
        self.connections.spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                open.spawn(async move {
                    let mut far = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                    copy_bidirectional(&mut near, &mut far).await.ok();
                });
            }
        });
    }

    /// Every connection breaks, and no new one gets through.
    pub async fn cut(&mut self) {
        self.connections.shutdown().await;
    }
}
