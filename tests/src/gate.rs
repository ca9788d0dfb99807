//! A wire that can be cut: while its gate is closed nothing gets through, and neither side notices. Bytes under way arrive when
//! it opens again.

use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// A running wire.
#[derive(Debug)]
pub struct Gate {
    /// Where it is connected to.
    pub address: SocketAddr,
    open: watch::Sender<bool>,
    server: JoinHandle<()>,
}

impl Gate {
    /// A wire to this address, with its gate open.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (open, is_open) = watch::channel(true);
        let server = tokio::spawn(async move {
            let mut wires = JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.unwrap();
                // A closed port does not answer any more.
                let Ok(far) = TcpStream::connect(target).await else { continue };
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                wires.spawn(carry(near_in, far_out, is_open.clone()));
                wires.spawn(carry(far_in, near_out, is_open.clone()));
            }
        });
        Self { address, open, server }
    }

    /// Nothing gets through from now on.
    pub fn close(&self) {
        self.open.send_replace(false);
    }

    /// Everything gets through again.
    pub fn open(&self) {
        self.open.send_replace(true);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut is_open: watch::Receiver<bool>) {
    let mut chunk = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        if is_open.wait_for(|open| *open).await.is_err() || to.write_all(&chunk[..read]).await.is_err() {
            return;
        }
    }
    // A closed gate does not pass the end of a connection on either.
    let _ = is_open.wait_for(|open| *open).await;
}
