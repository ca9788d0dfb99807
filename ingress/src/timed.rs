//! A connection with deadlines for heads, for idle time and for writes.
//!
//! hyper has one deadline for a head and for the idle time before it. A head has to arrive soon; an idle connection has to stay
//! open longer than a proxy in front keeps it, or a request that the proxy sends at the moment of the close is lost. hyper has
//! no deadline for writes: a client may send requests and never read the answers.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// The first byte of a TLS handshake (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// The phase of a connection, shared between the stream and the service that answers its requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Phase(Arc<AtomicU8>);

/// No data has come yet.
const NEW: u8 = 0;
/// A part of a head has come.
const HEAD: u8 = 1;
/// A request is being read and answered, which has its own deadlines.
const WORK: u8 = 2;
/// A request was answered, and no data has come since.
const IDLE: u8 = 3;
/// A head did not arrive in time.
const LATE: u8 = 4;
/// The connection began with TLS.
const TLS: u8 = 5;

impl Phase {
    /// The whole head of a request has come.
    pub(crate) fn works(&self) {
        self.0.store(WORK, Relaxed);
    }

    /// A request was answered.
    pub(crate) fn idles(&self) {
        self.0.store(IDLE, Relaxed);
    }

    /// Whether the connection ended because a head did not arrive in time.
    pub(crate) fn was_late(&self) -> bool {
        self.0.load(Relaxed) == LATE
    }

    /// Whether the client sent a TLS handshake.
    pub(crate) fn was_tls(&self) -> bool {
        self.0.load(Relaxed) == TLS
    }

    /// Records received bytes. Returns whether the present deadline for a head continues.
    fn read(&self, bytes: &[u8]) -> bool {
        let phase = self.0.load(Relaxed);
        if phase == NEW && bytes.first() == Some(&TLS_HANDSHAKE) {
            self.0.store(TLS, Relaxed);
        } else if matches!(phase, NEW | IDLE) {
            self.0.store(HEAD, Relaxed);
        }
        matches!(phase, NEW | HEAD | TLS)
    }
}

/// The deadlines of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// For a head, and for progress of a write.
    pub head: Duration,
    /// Between an answer and the next request.
    pub idle: Duration,
}

pub(crate) struct Timed<S> {
    stream: S,
    times: Times,
    phase: Phase,
    /// The deadline for reads, and its phase: `HEAD`, `IDLE` or none.
    late: Option<(Option<u8>, Pin<Box<Sleep>>)>,
    /// The deadline for writes, while one makes no progress.
    stuck: Option<Pin<Box<Sleep>>>,
}

impl<S> Timed<S> {
    pub(crate) fn new(stream: S, times: Times, phase: Phase) -> Self {
        Self { stream, times, phase, late: None, stuck: None }
    }

    /// Polls the deadline for reads.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (phase, time) = match self.phase.0.load(Relaxed) {
            NEW | HEAD | TLS => (HEAD, self.times.head),
            IDLE => (IDLE, self.times.idle),
            _ => return Poll::Pending,
        };
        let (awaited, late) = self.late.get_or_insert_with(|| (Some(phase), Box::pin(sleep(time))));
        if *awaited != Some(phase) {
            *awaited = Some(phase);
            late.as_mut().reset(Instant::now() + time);
        }
        ready!(late.as_mut().poll(cx));
        if phase == IDLE {
            // As if the client had closed the connection.
            return Poll::Ready(Ok(()));
        }
        if self.phase.0.load(Relaxed) == HEAD {
            self.phase.0.store(LATE, Relaxed);
        }
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn wrote(&mut self, written: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stuck = None;
            return written;
        }
        let deadline = self.times.head;
        ready!(self.stuck.get_or_insert_with(|| Box::pin(sleep(deadline))).as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if Pin::new(&mut self.stream).poll_read(cx, buf)?.is_pending() {
            return self.poll_late(cx);
        }
        let goes_on = self.phase.read(buf.filled().get(before..).unwrap_or_default());
        if let Some((awaited, _)) = self.late.as_mut().filter(|_| !goes_on) {
            *awaited = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    fn timed() -> (Timed<DuplexStream>, DuplexStream, Phase) {
        let (ours, theirs) = duplex(64);
        let phase = Phase::default();
        let times = Times { head: Duration::from_secs(10), idle: Duration::from_secs(120) };
        (Timed::new(ours, times, phase.clone()), theirs, phase)
    }

    /// The result of a read, and its time in seconds.
    async fn read(stream: &mut Timed<DuplexStream>) -> (Result<usize, io::ErrorKind>, u64) {
        let start = Instant::now();
        let read = stream.read(&mut [0; 64]).await;
        (read.map_err(|error| error.kind()), start.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_has_the_time_of_a_head_and_so_has_a_head() {
        let (mut stream, _theirs, phase) = timed();
        assert_eq!(read(&mut stream).await, (Err(io::ErrorKind::TimedOut), 10));
        assert!(!phase.was_late(), "without data no head has begun");

        let (mut stream, mut theirs, phase) = timed();
        let dripping = async {
            for _ in 0..9 {
                theirs.write_all(b"x").await.unwrap();
                sleep(Duration::from_secs(3)).await;
            }
        };
        let reading = async {
            let start = Instant::now();
            while let (Ok(_), _) = read(&mut stream).await {}
            start.elapsed().as_secs()
        };
        tokio::select! {
            seconds = reading => assert_eq!(seconds, 10),
            () = dripping => panic!("it may drip without end"),
        }
        assert!(phase.was_late());
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_has_longer_and_then_its_head_has_its_own_time() {
        let (mut stream, mut theirs, phase) = timed();
        theirs.write_all(b"a head").await.unwrap();
        assert_eq!(read(&mut stream).await, (Ok(6), 0));
        phase.works();
        // A request in work has its own deadlines.
        let working = tokio::time::timeout(Duration::from_secs(1_000), read(&mut stream)).await;
        assert!(working.is_err());
        phase.idles();
        let (next, ()) = tokio::join!(read(&mut stream), async {
            sleep(Duration::from_secs(119)).await;
            theirs.write_all(b"a").await.unwrap();
        });
        assert_eq!(next, (Ok(1), 119));
        assert_eq!(read(&mut stream).await, (Err(io::ErrorKind::TimedOut), 10));
        assert!(phase.was_late());

        phase.idles();
        assert_eq!(read(&mut stream).await, (Ok(0), 120), "the end, and no error");
    }

    /// An early request leaves no deadline of an earlier one behind.
    #[tokio::test(start_paused = true)]
    async fn each_pause_and_each_head_has_its_whole_time() {
        let (mut stream, mut theirs, phase) = timed();
        for _ in 0..5 {
            let (came, ()) = tokio::join!(read(&mut stream), async {
                sleep(Duration::from_secs(9)).await;
                theirs.write_all(b"a head").await.unwrap();
            });
            assert_eq!(came, (Ok(6), 9));
            phase.works();
            phase.idles();
        }
        // A part of the next head comes together with the end of the one before.
        theirs.write_all(b"a").await.unwrap();
        assert_eq!(read(&mut stream).await, (Ok(1), 0));
        assert_eq!(read(&mut stream).await, (Err(io::ErrorKind::TimedOut), 10));
    }

    #[tokio::test(start_paused = true)]
    async fn tls_is_detected_by_its_first_byte() {
        let (mut stream, mut theirs, phase) = timed();
        theirs.write_all(&[TLS_HANDSHAKE, 3, 1]).await.unwrap();
        read(&mut stream).await.0.unwrap();
        assert!(phase.was_tls());
        phase.works();
        phase.idles();
        theirs.write_all(&[TLS_HANDSHAKE]).await.unwrap();
        read(&mut stream).await.0.unwrap();
        assert!(!phase.was_tls());
    }
}
