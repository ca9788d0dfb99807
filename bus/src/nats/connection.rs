//! The connection to NATS, and the texts of its errors.

use super::{credentials, names::Names};
use crate::{Error, LogLimit};
use async_nats::{
    Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, connection::State, jetstream,
};
use metrics::{counter, gauge};
use std::{
    fmt::Display,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use talaria_core::config::Nats as Config;
use tokio::sync::watch;

/// The oldest server whose atomic batches take message ids: 2.12.0 refuses them (10177).
const OLDEST_SERVER: (i64, i64, i64) = (2, 12, 1);

/// How long to look for a server at the start.
pub(super) const START_DEADLINE: Duration = Duration::from_secs(10);

/// The pause before the next try at the start.
pub(super) const START_PAUSE: Duration = Duration::from_millis(250);

/// How long a server may take to answer a request. Shorter than an ingress' deadline, so that a sender gets an answer.
pub(super) const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// A silent connection is pinged this often, and is given up when two pings had no answer.
const PING: Duration = Duration::from_secs(2);

/// The longest pause between two tries to connect again.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How many bytes of the largest message are left for its headers.
const HEADROOM: usize = 16 * 1024;

/// A connection; clones share it.
#[derive(Clone)]
pub(super) struct Connection {
    pub client: Client,
    pub jetstream: jetstream::Context,
    pub names: Names,
    events: Arc<Events>,
}

/// What happened to the connection.
#[derive(Default)]
struct Events {
    /// The server's last complaint, such as a missing permission: a request that it refuses so has no answer.
    complaint: Mutex<Option<String>>,
    /// How often the connection was lost.
    losses: watch::Sender<u64>,
}

impl Connection {
    /// Connects; answers come to subjects that begin with `inbox`.
    pub(super) async fn open(config: &Config, names: Names, inbox: String) -> Result<Self, Error> {
        let events = Arc::<Events>::default();
        let start = Instant::now();
        let client = loop {
            let options = options(config, inbox.clone(), Arc::clone(&events))?;
            match options.connect(config.servers.clone()).await {
                Ok(client) => break client,
                // A server that is started together with this process may come later.
                Err(error) if may_pass(&error) && start.elapsed() < START_DEADLINE => {
                    tokio::time::sleep(START_PAUSE).await;
                }
                Err(error) => return Err(cannot_connect(config, &error)),
            }
        };
        let (major, minor, patch) = OLDEST_SERVER;
        if !client.is_server_compatible(major, minor, patch) {
            let (servers, version) = (config.servers.join(", "), client.server_info().version);
            return Err(Error::new(format_args!(
                "the NATS server at {servers} is version {version}, and Talaria needs {major}.{minor}.{patch} or newer"
            )));
        }
        let jetstream = jetstream::ContextBuilder::new()
            .timeout(ANSWER_DEADLINE)
            .ack_timeout(ANSWER_DEADLINE)
            .build(client.clone());
        Ok(Self { client, jetstream, names, events })
    }

    /// Why something failed, with the server's complaint since the last error.
    pub(super) fn error(&self, what: &dyn Display, why: &dyn Display) -> Error {
        let complaint = self.events.complaint.lock().unwrap_or_else(PoisonError::into_inner).take();
        match complaint {
            Some(complaint) => Error::new(format_args!("{what}: {why}; the server says: {complaint}")),
            None => Error::new(format_args!("{what}: {why}")),
        }
    }

    /// Fails at once while there is no connection: a message that is sent then would wait for one.
    pub(super) fn is_connected(&self) -> Result<(), Error> {
        match self.client.connection_state() {
            State::Connected => Ok(()),
            _ => Err(Error::new("there is no connection to NATS")),
        }
    }

    /// Waits for an answer. Fails as soon as the connection is lost: the answer went with it.
    pub(super) async fn unless_lost<T>(&self, answer: impl Future<Output = T>) -> Result<T, Error> {
        let mut losses = self.events.losses.subscribe();
        tokio::select! {
            biased;
            answer = answer => Ok(answer),
            // The sender is in self.
            _ = losses.changed() => Err(Error::new("the connection to NATS was lost")),
        }
    }

    /// The most bytes that a message's data may have.
    pub(super) fn largest_data(&self) -> usize {
        self.client.max_payload().saturating_sub(HEADROOM)
    }
}

/// Whether the next try may succeed. What a server has refused it refuses again.
fn may_pass(error: &ConnectError) -> bool {
    matches!(error.kind(), ConnectErrorKind::Io | ConnectErrorKind::TimedOut | ConnectErrorKind::Dns)
}

fn cannot_connect(config: &Config, error: &ConnectError) -> Error {
    let servers = config.servers.join(", ");
    match &config.creds {
        // The server gives no reason.
        Some(creds) if error.kind() == ConnectErrorKind::AuthorizationViolation => Error::new(format_args!(
            "cannot connect to NATS at {servers} with the credentials in {creds} (bus.nats.creds): authorization \
             violation; they have expired, were revoked, or are of an account or operator that the server does not \
             know: write new ones there with `nsc generate creds`"
        )),
        _ => Error::new(format_args!("cannot connect to NATS at {servers} (bus.nats.servers): {error}")),
    }
}

fn options(config: &Config, inbox: String, events: Arc<Events>) -> Result<ConnectOptions, Error> {
    let options = match &config.creds {
        Some(creds) => credentials::options(creds.clone())?,
        None => ConnectOptions::new(),
    };
    let mut options = options
        .name("talaria")
        .custom_inbox_prefix(inbox)
        .ping_interval(PING)
        .connection_timeout(ANSWER_DEADLINE)
        .request_timeout(Some(ANSWER_DEADLINE))
        .max_reconnects(None)
        .reconnect_delay_callback(|tries| {
            let tries = u32::try_from(tries).unwrap_or(u32::MAX);
            Duration::from_millis(20).saturating_mul(1 << tries.min(10)).min(LONGEST_PAUSE)
        })
        .event_callback(move |event| {
            let events = Arc::clone(&events);
            async move { events.observe(&event) }
        });
    if let Some(tls) = &config.tls {
        options = options.require_tls(true);
        if let Some(ca) = &tls.ca {
            options = options.add_root_certificates(ca.clone());
        }
        if let Some((certificate, key)) = &tls.client {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
    }
    Ok(options)
}

impl Events {
    fn observe(&self, event: &Event) {
        match event {
            Event::Connected => {
                gauge!("talaria_nats_connected").set(1.0);
                tracing::info!("connected to NATS");
            }
            Event::Disconnected => {
                gauge!("talaria_nats_connected").set(0.0);
                counter!("talaria_nats_disconnects_total").increment(1);
                self.losses.send_modify(|losses| *losses += 1);
                tracing::warn!("the connection to NATS is lost; trying to connect again");
            }
            Event::SlowConsumer(subscription) => {
                tracing::warn!(
                    subscription,
                    "NATS sends faster than it is read; what was missed is read again"
                );
            }
            Event::ServerError(error) => {
                static COMPLAINED: LogLimit = LogLimit::new();
                if let Some(left_out) = COMPLAINED.admit() {
                    tracing::warn!(%error, left_out, "NATS complains");
                }
                *self.complaint.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
            }
            other => tracing::debug!("NATS: {other}"),
        }
    }
}
