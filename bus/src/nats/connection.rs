//! The connection to NATS, and what its errors mean.

use super::{credentials, names::Names};
use crate::Error;
use async_nats::{
    Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, connection::State, jetstream,
};
use metrics::{counter, gauge};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use talaria_core::config::Nats as Config;

/// The oldest server whose atomic batches take message ids: 2.12.0 refuses them (10177).
const OLDEST_SERVER: (i64, i64, i64) = (2, 12, 1);

/// How long to look for a server at the start.
pub(super) const START_DEADLINE: Duration = Duration::from_secs(10);

/// The pause before it is tried again.
pub(super) const START_PAUSE: Duration = Duration::from_millis(250);

/// How long a server may take to answer a request. Shorter than an ingress' deadline, so that its sender is told.
pub(super) const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// A silent connection is tried this often, and is given up when two tries had no answer.
const PING: Duration = Duration::from_secs(2);

/// The longest pause between two tries to connect again.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long a server that had no room is believed to have none.
const NO_ROOM: Duration = Duration::from_secs(10);

/// What a message's headers may take of the largest message beside its data.
const HEADROOM: usize = 16 * 1024;

#[derive(Clone)]
pub(super) struct Connection {
    pub client: Client,
    pub jetstream: jetstream::Context,
    pub names: Names,
    /// What the server last complained of, such as a missing permission: a request that it refuses has no answer.
    complaint: Arc<Mutex<Option<String>>>,
    /// When the server last had no room for an event, and what it said.
    no_room: Arc<Mutex<Option<(Instant, String)>>>,
}

impl Connection {
    pub(super) async fn open(config: &Config) -> Result<Self, Error> {
        let complaint = Arc::<Mutex<Option<String>>>::default();
        let start = Instant::now();
        let client = loop {
            match options(config, Arc::clone(&complaint))?.connect(config.servers.clone()).await {
                Ok(client) => break client,
                // Whoever is started together with its server may be there first.
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
        Ok(Self { client, jetstream, names: Names::new(&config.prefix), complaint, no_room: Arc::default() })
    }

    /// Why something failed, with what the server complained of since.
    pub(super) fn error(&self, what: &str, why: &dyn std::fmt::Display) -> Error {
        let complaint = self.complaint.lock().unwrap_or_else(PoisonError::into_inner).take();
        match complaint {
            Some(complaint) => Error::new(format_args!("{what}: {why}; the server says: {complaint}")),
            None => Error::new(format_args!("{what}: {why}")),
        }
    }

    /// Fails at once while there is no connection: what is sent then would wait for one.
    pub(super) fn is_connected(&self) -> Result<(), Error> {
        match self.client.connection_state() {
            State::Connected => Ok(()),
            _ => Err(Error::new("there is no connection to NATS")),
        }
    }

    pub(super) fn had_no_room(&self, why: &dyn std::fmt::Display) {
        let mut no_room = self.no_room.lock().unwrap_or_else(PoisonError::into_inner);
        *no_room = Some((Instant::now(), why.to_string()));
    }

    pub(super) fn had_room(&self) {
        self.no_room.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Fails for a while after the server had no room. How much it needs to have some it does not say, so whether it
    /// has is found out by sending something again.
    pub(super) fn has_room(&self) -> Result<(), Error> {
        match &*self.no_room.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((at, why)) if at.elapsed() < NO_ROOM => {
                let stream = self.names.events();
                Err(Error::new(format_args!("the stream {stream} is full, or its server: {why}")))
            }
            _ => Ok(()),
        }
    }

    /// The most bytes that a message's data may have.
    pub(super) fn largest_data(&self) -> usize {
        self.client.max_payload().saturating_sub(HEADROOM)
    }
}

/// Whether the next try may have another outcome: what a server has refused it refuses again.
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

fn options(config: &Config, complaint: Arc<Mutex<Option<String>>>) -> Result<ConnectOptions, Error> {
    let options = match &config.creds {
        Some(creds) => credentials::options(creds.clone())?,
        None => ConnectOptions::new(),
    };
    let mut options = options
        .name("talaria")
        .ping_interval(PING)
        .connection_timeout(ANSWER_DEADLINE)
        .request_timeout(Some(ANSWER_DEADLINE))
        .max_reconnects(None)
        .reconnect_delay_callback(|tries| {
            let tries = u32::try_from(tries).unwrap_or(u32::MAX);
            Duration::from_millis(20).saturating_mul(1 << tries.min(10)).min(LONGEST_PAUSE)
        })
        .event_callback(move |event| {
            let complaint = Arc::clone(&complaint);
            async move { heard(&event, &complaint) }
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

fn heard(event: &Event, complaint: &Mutex<Option<String>>) {
    match event {
        Event::Connected => {
            gauge!("talaria_nats_connected").set(1.0);
            tracing::info!("connected to NATS");
        }
        Event::Disconnected => {
            gauge!("talaria_nats_connected").set(0.0);
            counter!("talaria_nats_disconnects_total").increment(1);
            tracing::warn!("the connection to NATS is lost; trying to connect again");
        }
        Event::SlowConsumer(subscription) => {
            tracing::warn!(subscription, "NATS sends faster than it is read; what was missed is read again");
        }
        Event::ServerError(error) => {
            tracing::warn!(%error, "NATS complains");
            *complaint.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
        }
        other => tracing::debug!("NATS: {other}"),
    }
}
