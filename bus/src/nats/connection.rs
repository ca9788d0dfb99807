//! The connection to NATS, and the texts of its errors.

use super::{credentials, names::Names};
use crate::Error;
use async_nats::{
    Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, connection::State, jetstream,
};
use metrics::{counter, gauge};
use std::{
    fmt::Display,
    sync::Arc,
    time::{Duration, Instant},
};
use talaria_core::config::Nats as Config;
use talaria_telemetry::LogLimiter;
use tokio::sync::watch;

/// The oldest server whose atomic batches take message ids: 2.12.0 refuses them (10177).
const OLDEST_SERVER: (i64, i64, i64) = (2, 12, 1);

/// How long to retry at the start.
pub(super) const START_DEADLINE: Duration = Duration::from_secs(10);

/// The pause before the next try at the start.
pub(super) const START_RETRY_DELAY: Duration = Duration::from_millis(250);

/// The timeout of a request to the server. Shorter than an ingress' deadline, so that a sender gets an answer.
pub(super) const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// The interval of pings on a silent connection, which is closed when two pings had no answer.
const PING: Duration = Duration::from_secs(2);

/// The longest pause between two tries to reconnect.
const LONGEST_RETRY_DELAY: Duration = Duration::from_secs(1);

/// The bytes of the largest message that are reserved for its headers.
const HEADROOM: usize = 16 * 1024;

/// A connection; clones share it.
#[derive(Clone)]
pub(super) struct Connection {
    pub client: Client,
    pub jetstream: jetstream::Context,
    pub names: Names,
    events: Arc<Events>,
}

/// Events of the connection.
#[derive(Default)]
struct Events {
    /// The server's last error, such as a missing permission: a request that it refuses this way has no answer.
    server_error: watch::Sender<Option<String>>,
    /// The number of lost connections.
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
                // A server that is started together with this process may be up later.
                Err(error) if is_transient(&error) && start.elapsed() < START_DEADLINE => {
                    tokio::time::sleep(START_RETRY_DELAY).await;
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

    /// An error with its cause, and the server's error since the last call.
    pub(super) fn error(&self, what: &dyn Display, why: &dyn Display) -> Error {
        match self.events.server_error.send_replace(None) {
            Some(error) => Error::new(format_args!("{what}: {why}; the server says: {error}")),
            None => Error::new(format_args!("{what}: {why}")),
        }
    }

    /// Fails while there is no connection: a message would wait for one.
    pub(super) fn is_connected(&self) -> Result<(), Error> {
        match self.client.connection_state() {
            State::Connected => Ok(()),
            _ => Err(Error::new("there is no connection to NATS")),
        }
    }

    /// Waits for an answer. Fails as soon as the connection is lost, because the answer is lost with it.
    pub(super) async fn unless_lost<T>(&self, answer: impl Future<Output = T>) -> Result<T, Error> {
        let mut losses = self.events.losses.subscribe();
        tokio::select! {
            biased;
            answer = answer => Ok(answer),
            // The sender lives in `self`, so this is a loss.
            _ = losses.changed() => Err(Error::new("the connection to NATS was lost")),
        }
    }

    /// Waits until the server refuses a message to this subject, which a request does not notice.
    pub(super) fn refused(&self, subject: &str) -> impl Future<Output = String> + use<> {
        let refusal = format!("permissions violation for publish to \"{}\"", subject.to_lowercase());
        // Now, so that no error after this call is missed.
        let mut errors = self.events.server_error.subscribe();
        async move {
            while errors.changed().await.is_ok() {
                let error = errors.borrow_and_update().clone().unwrap_or_default();
                if error.to_lowercase().contains(&refusal) {
                    return error;
                }
            }
            std::future::pending().await
        }
    }

    /// The most bytes that a message's data may have.
    pub(super) fn largest_data(&self) -> usize {
        self.client.max_payload().saturating_sub(HEADROOM)
    }
}

/// Whether the next try may succeed. A server repeats a refusal.
fn is_transient(error: &ConnectError) -> bool {
    matches!(error.kind(), ConnectErrorKind::Io | ConnectErrorKind::TimedOut | ConnectErrorKind::Dns)
}

fn cannot_connect(config: &Config, error: &ConnectError) -> Error {
    let servers = config.servers.join(", ");
    let is_refused = error.kind() == ConnectErrorKind::AuthorizationViolation;
    // The server gives no reason.
    match (&config.creds, &config.nkey) {
        (Some(creds), _) if is_refused => Error::new(format_args!(
            "cannot connect to NATS at {servers} with the credentials in {creds} (bus.nats.creds): authorization \
             violation; they have expired, were revoked, or are of an account or operator that the server does not \
             know: write new ones there with `nsc generate creds`"
        )),
        (None, Some(key)) if is_refused => Error::new(format_args!(
            "cannot connect to NATS at {servers} with the key in {key} (bus.nats.nkey): authorization violation; the \
             server's list of users has not its public key: give the server the users.conf that `talaria secrets \
             --nats-users` wrote beside this key, and have it reload its configuration"
        )),
        (None, None) if is_refused => Error::new(format_args!(
            "cannot connect to NATS at {servers} (bus.nats.servers): authorization violation; the server has users: \
             name this one's key under bus.nats.nkey, or its credentials under bus.nats.creds"
        )),
        _ => Error::new(format_args!("cannot connect to NATS at {servers} (bus.nats.servers): {error}")),
    }
}

fn options(config: &Config, inbox: String, events: Arc<Events>) -> Result<ConnectOptions, Error> {
    let options = credentials::options(config)?;
    let mut options = options
        .name("talaria")
        .custom_inbox_prefix(inbox)
        .ping_interval(PING)
        .connection_timeout(ANSWER_DEADLINE)
        .request_timeout(Some(ANSWER_DEADLINE))
        .max_reconnects(None)
        .reconnect_delay_callback(|tries| {
            let tries = u32::try_from(tries).unwrap_or(u32::MAX);
            Duration::from_millis(20).saturating_mul(1 << tries.min(10)).min(LONGEST_RETRY_DELAY)
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
                tracing::warn!("connection to NATS lost; reconnecting");
            }
            Event::SlowConsumer(subscription) => {
                tracing::warn!(subscription, "slow consumer of NATS; missed messages are read again");
            }
            Event::ServerError(error) => {
                static REPORTED: LogLimiter = LogLimiter::new();
                if let Some(left_out) = REPORTED.admit() {
                    tracing::warn!(%error, left_out, "error of the NATS server");
                }
                self.server_error.send_replace(Some(error.to_string()));
            }
            other => tracing::debug!("NATS: {other}"),
        }
    }
}
