//! The listener: connections of clients, over TLS if that is configured.
//!
//! A client has [`DEADLINE`] for the TLS handshake, and the same again for its first authenticated request; then the connection
//! is closed. There are at most [`CONNECTIONS`] at once; other clients wait in the listener's queue.

use super::{RefusalLog, decide::Transport};
use rustls::ServerConfig;
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

/// The most connections at once.
const CONNECTIONS: usize = 1024;

/// For the TLS handshake, and again for the first authenticated request.
const DEADLINE: Duration = Duration::from_secs(10);

/// The pause after a failed accept, such as when the process has too many open files.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// A connection, by which the gate knows the client's address and its TLS. Clones share it.
#[derive(Clone, Debug)]
pub struct Connection(Arc<ConnectionState>);

#[derive(Debug)]
struct ConnectionState {
    peer: SocketAddr,
    transport: Transport,
    /// Whether it carried a request of an authenticated client.
    kept: AtomicBool,
}

impl Connection {
    pub(super) fn peer(&self) -> SocketAddr {
        self.0.peer
    }

    pub(super) fn transport(&self) -> Transport {
        self.0.transport.clone()
    }

    pub(in crate::services) fn keep(&self) {
        self.0.kept.store(true, Ordering::Relaxed);
    }

    fn is_kept(&self) -> bool {
        self.0.kept.load(Ordering::Relaxed)
    }
}

/// The part of the TLS configuration for clients of one protocol.
type Server = fn(&RelayTls) -> &Arc<ServerConfig>;

/// Accepts connections until the stream is dropped.
pub(crate) fn listen(
    listener: TcpListener,
    config: watch::Receiver<Arc<Config>>,
    refusals: RefusalLog,
    server: Server,
) -> impl Stream<Item = io::Result<Socket>> + use<> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        tokio::select! {
            () = sender.closed() => {}
            () = accept(&listener, &config, &refusals, server, &sender) => {}
        }
    });
    ReceiverStream::new(receiver).map(Ok)
}

async fn accept(
    listener: &TcpListener,
    config: &watch::Receiver<Arc<Config>>,
    refusals: &RefusalLog,
    server: Server,
    sender: &mpsc::Sender<Socket>,
) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let loopback = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    loop {
        // Never closed.
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                pause_after(&error).await;
                continue;
            }
        };
        // Answers are small and must not be delayed.
        let _ = stream.set_nodelay(true);
        let tls = config.borrow().relay.tls.clone();
        let connection = Connection(Arc::new(ConnectionState {
            peer,
            transport: Transport { loopback, tls: tls.clone() },
            kept: false.into(),
        }));
        let (sender, refusals) = (sender.clone(), refusals.clone());
        tokio::spawn(async move {
            match shake_hands(stream, tls.as_deref().map(server)).await {
                Ok(stream) => {
                    let deadline = Some(Box::pin(sleep(DEADLINE)));
                    // The receiver is gone when the relay stops.
                    let _ = sender.send(Socket { stream, connection, deadline, _permit: permit }).await;
                }
                Err(error) => refusals.connection(peer, error),
            }
        });
    }
}

async fn shake_hands(stream: TcpStream, server: Option<&Arc<ServerConfig>>) -> io::Result<MaybeTls> {
    let Some(server) = server else { return Ok(MaybeTls::Plain(stream)) };
    let acceptor = TlsAcceptor::from(Arc::clone(server));
    match timeout(DEADLINE, acceptor.accept(stream)).await {
        Ok(accepted) => Ok(MaybeTls::Tls(Box::new(accepted?))),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no TLS within {DEADLINE:?}"))),
    }
}

/// An error of one connection needs no pause; with too many open files, only waiting helps.
async fn pause_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        static FAILED: LogLimiter = LogLimiter::new();
        if let Some(left_out) = FAILED.admit() {
            tracing::error!(%error, left_out, "gRPC accept failed");
        }
        sleep(RETRY_DELAY).await;
    }
}

/// A connection that is closed unless an authenticated request comes in time.
pub struct Socket {
    stream: MaybeTls,
    connection: Connection,
    /// Until the first authenticated request.
    deadline: Option<Pin<Box<Sleep>>>,
    _permit: OwnedSemaphorePermit,
}

enum MaybeTls {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connected for Socket {
    type ConnectInfo = Connection;

    fn connect_info(&self) -> Connection {
        self.connection()
    }
}

impl Socket {
    /// For the extensions of its requests.
    pub fn connection(&self) -> Connection {
        self.connection.clone()
    }

    /// Fails with `TimedOut` after the deadline. Reads and writes check it: while a client does not read, a write blocks and no
    /// read is polled.
    fn check_deadline(&mut self, context: &mut Context<'_>) -> io::Result<()> {
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
        self.check_deadline(context)?;
        match &mut self.stream {
            MaybeTls::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            MaybeTls::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check_deadline(context)?;
        match &mut self.stream {
            MaybeTls::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            MaybeTls::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_deadline(context)?;
        match &mut self.stream {
            MaybeTls::Plain(stream) => Pin::new(stream).poll_flush(context),
            MaybeTls::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_deadline(context)?;
        match &mut self.stream {
            MaybeTls::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            MaybeTls::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_loses_its_connection_at_the_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let permit = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        let transport = Transport { loopback: true, tls: None };
        let mut socket = Socket {
            stream: MaybeTls::Plain(stream),
            connection: Connection(Arc::new(ConnectionState { peer, transport, kept: false.into() })),
            deadline: Some(Box::pin(sleep(DEADLINE))),
            _permit: permit,
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
