//! The ingress' side of the bus.

use crate::{Error, Files, OpenRouterQuestions, dispatch, embedded, nats};
use bytes::Bytes;
use std::{sync::Arc, time::Duration};
use talaria_core::config;
use talaria_proto::v1::{Event, QuarantinedCallback};

/// The ingress' handle. Clones share it.
#[derive(Clone)]
pub enum Publisher {
    /// To SQLite.
    Embedded(embedded::Embedded),
    /// To NATS.
    Nats(Arc<nats::Publisher>),
}

impl Publisher {
    /// Connects to NATS for a process with an ingress alone.
    pub async fn nats(config: &config::Nats) -> Result<Self, Error> {
        nats::Publisher::open(config).await.map(|publisher| Self::Nats(Arc::new(publisher)))
    }

    /// Stores an event. See invariant 1.
    pub async fn publish(&self, event: impl Into<Arc<Event>>) -> Result<(), Error> {
        dispatch!(self, bus => bus.publish(event.into()).await)
    }

    /// Stores a signed callback that is not an event. See invariant 1.
    pub async fn quarantine(&self, callback: QuarantinedCallback) -> Result<(), Error> {
        dispatch!(self, bus => bus.quarantine(callback).await)
    }

    /// Announces this ingress' refusals to the relays. See invariant 13.
    pub async fn announce_refusals(&self, announcement: Bytes) -> Result<(), Error> {
        dispatch!(self, bus => bus.announce_refusals(announcement).await)
    }

    /// The questions of relays about OpenRouter that this ingress gets. See invariant 14.
    pub async fn openrouter_questions(&self) -> Result<OpenRouterQuestions, Error> {
        match self {
            Self::Embedded(bus) => Ok(OpenRouterQuestions::Embedded(bus.openrouter_questions())),
            Self::Nats(bus) => bus.openrouter_questions().await.map(OpenRouterQuestions::Nats),
        }
    }

    /// The files of completed jobs. Over NATS they are gone when they are older than the retention.
    pub fn files(&self, retention: Duration) -> Files {
        match self {
            Self::Embedded(bus) => Files::Embedded(bus.files()),
            Self::Nats(bus) => Files::Nats(Box::new(bus.files(retention))),
        }
    }

    /// Fails if nothing could be made durable now. See invariant 12.
    pub async fn check(&self) -> Result<(), Error> {
        dispatch!(self, bus => bus.check().await)
    }
}
