//! A wire that passes requests on and drops answers until a test mends it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A running wire.
pub struct Lossy {
    /// Where it is connected to.
    pub address: SocketAddr,
    loses: Arc<AtomicBool>,
    server: JoinHandle<()>,
}

impl Lossy {
    /// A wire to this address that loses answers.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let loses = Arc::new(AtomicBool::new(true));
        let lost = Arc::clone(&loses);
        let server = tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let lost = Arc::clone(&lost);
                tokio::spawn(
                    async move { carry(near, TcpStream::connect(target).await.unwrap(), &lost).await },
                );
            }
        });
        Self { address, loses, server }
    }

    /// Passes answers on from now on.
    pub fn mend(&self) {
        self.loses.store(false, Ordering::SeqCst);
    }
}

impl Drop for Lossy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn carry(near: TcpStream, far: TcpStream, loses: &AtomicBool) {
    let (mut near_in, mut near_out) = near.into_split();
    let (mut far_in, mut far_out) = far.into_split();
    let there = tokio::spawn(async move { tokio::io::copy(&mut near_in, &mut far_out).await });
    let mut chunk = [0; 4096];
    while let Ok(read @ 1..) = far_in.read(&mut chunk).await {
        // The answer shows that the request was handled. The sender only sees a closed connection.
        if loses.load(Ordering::SeqCst) || near_out.write_all(&chunk[..read]).await.is_err() {
            break;
        }
    }
    there.abort();
}
