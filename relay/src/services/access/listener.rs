//! Connections of gRPC clients, over TLS where that is configured.
//!
//! A stranger does not keep one: TLS has to be agreed on within [`DEADLINE`], and within the same again somebody who is
//! known has to have asked something, or the connection is closed. There are no more than [`CONNECTIONS`] at once; who
//! comes after that waits in front of the listener.

use super::{Refusals, decide::Wire};
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use talaria_core::config::{Config, RelayTls};
use talaria_telemetry::LogLimiter;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::transport::server::Connected;

/// Connections at once.
const CONNECTIONS: usize = 1024;

/// How long a stranger may take for TLS, and then to show who he is.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long nothing is accepted when the process has no more files.
const PAUSE: Duration = Duration::from_millis(100);

/// What is known of a connection. Clones speak of the same one.
#[derive(Clone, Debug)]
pub(crate) struct Connection(Arc<About>);

#[derive(Debug)]
struct About {
    peer: SocketAddr,
    wire: Wire,
    kept: AtomicBool,
}

impl Connection {
    pub(super) fn peer(&self) -> SocketAddr {
        self.0.peer
    }

    pub(super) fn wire(&self) -> Wire {
        self.0.wire.clone()
    }

    /// It carried a request of an authenticated client.
    pub(super) fn keep(&self) {
        self.0.kept.store(true, Ordering::Relaxed);
    }

    fn is_kept(&self) -> bool {
        self.0.kept.load(Ordering::Relaxed)
    }
}

/// Accepts connections until the stream of them is dropped.
pub(crate) fn listen(
    listener: TcpListener,
    config: watch::Receiver<Arc<Config>>,
    refusals: Refusals,
) -> impl Stream<Item = io::Result<Socket>> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        tokio::select! {
            () = sender.closed() => {}
            () = accept(&listener, &config, &refusals, &sender) => {}
        }
    });
    ReceiverStream::new(receiver).map(Ok)
}

async fn accept(
    listener: &TcpListener,
    config: &watch::Receiver<Arc<Config>>,
    refusals: &Refusals,
    sender: &mpsc::Sender<Socket>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let loopback = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    loop {
        // Never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                pause_after(&error).await;
                continue;
            }
        };
        // Answers are small and should not wait to be joined with others.
        let _ = stream.set_nodelay(true);
        let tls = config.borrow().relay.tls.clone();
        let connection = Connection(Arc::new(About {
            peer,
            wire: Wire { loopback, tls: tls.clone() },
            kept: false.into(),
        }));
        let (sender, refusals) = (sender.clone(), refusals.clone());
        tokio::spawn(async move {
            match shake_hands(stream, tls.as_deref()).await {
                Ok(stream) => {
                    let deadline = Some(Box::pin(sleep(DEADLINE)));
                    // The receiver is gone when the relay stops.
                    let _ = sender.send(Socket { stream, connection, deadline, _place: place }).await;
                }
                Err(error) => refusals.connection(peer, error),
            }
        });
    }
}

async fn shake_hands(stream: TcpStream, tls: Option<&RelayTls>) -> io::Result<Wired> {
    let Some(tls) = tls else { return Ok(Wired::Plain(stream)) };
    let acceptor = TlsAcceptor::from(Arc::clone(&tls.server));
    match timeout(DEADLINE, acceptor.accept(stream)).await {
        Ok(accepted) => Ok(Wired::Tls(Box::new(accepted?))),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no TLS within {DEADLINE:?}"))),
    }
}

/// Errors of one connection pass; when the process has no more files, waiting is all that helps.
async fn pause_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        static FAILED: LogLimiter = LogLimiter::new();
        if let Some(left_out) = FAILED.admit() {
            tracing::error!(%error, left_out, "cannot accept gRPC connections");
        }
        sleep(PAUSE).await;
    }
}

/// One connection, closed unless an authenticated client has asked on it in time.
pub(crate) struct Socket {
    stream: Wired,
    connection: Connection,
    /// Until the first request of an authenticated client.
    deadline: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

enum Wired {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connected for Socket {
    type ConnectInfo = Connection;

    fn connect_info(&self) -> Connection {
        self.connection.clone()
    }
}

impl Socket {
    /// Whether nobody who is known has asked in time. Looked at whatever is waited for: as long as a stranger does not take
    /// what is written for him, nothing of his is read.
    fn in_time(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.connection.is_kept() {
            self.deadline = None;
        }
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(context).is_ready()
        {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.in_time(context)?;
        match &mut self.stream {
            Wired::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Wired::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.in_time(context)?;
        match &mut self.stream {
            Wired::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Wired::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(context)?;
        match &mut self.stream {
            Wired::Plain(stream) => Pin::new(stream).poll_flush(context),
            Wired::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(context)?;
        match &mut self.stream {
            Wired::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Wired::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;

    #[tokio::test(start_paused = true)]
    async fn a_stranger_who_takes_nothing_of_what_is_written_does_not_keep_his_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let place = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        let wire = Wire { loopback: true, tls: None };
        let mut socket = Socket {
            stream: Wired::Plain(stream),
            connection: Connection(Arc::new(About { peer, wire, kept: false.into() })),
            deadline: Some(Box::pin(sleep(DEADLINE))),
            _place: place,
        };
        let written = async {
            loop {
                socket.write_all(&[0; 4096]).await?;
            }
        };
        let ended: io::Result<()> = timeout(2 * DEADLINE, written).await.expect("it ends by itself");
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(client);
    }
}
