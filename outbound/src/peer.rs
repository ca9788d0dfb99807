//! The server at the other end, for the words of a fault.

/// A server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A route's Hermes.
    Hermes,
    /// The receiver of a route that is a webhook.
    Webhook,
    /// OpenRouter's API.
    OpenRouter,
}

impl Peer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hermes => "Hermes",
            Self::Webhook => "the receiver",
            Self::OpenRouter => "OpenRouter",
        }
    }

    /// The key that has its URL.
    pub(crate) fn url_key(self) -> &'static str {
        match self {
            Self::Hermes | Self::Webhook => "the route's url",
            Self::OpenRouter => "openrouter.base_url",
        }
    }

    /// How to trust another authority.
    pub(crate) fn trust(self) -> &'static str {
        match self {
            Self::Hermes | Self::Webhook => "name it with tls: {ca: PATH}",
            Self::OpenRouter => "add it to the system's authorities",
        }
    }

    /// Completes "HOST demands a client certificate".
    pub(crate) fn demand(self) -> &'static str {
        match self {
            Self::Hermes | Self::Webhook => "; name one with tls: {cert: PATH, key: PATH}",
            Self::OpenRouter => ", and Talaria has none for OpenRouter",
        }
    }

    /// Completes "HOST does not accept our certificate (ALERT)".
    pub(crate) fn compare_certificate(self) -> &'static str {
        match self {
            Self::Hermes | Self::Webhook => "; compare the route's tls.cert",
            Self::OpenRouter => "",
        }
    }
}
