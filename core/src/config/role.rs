//! What a process does of the whole.

/// What a process does of the whole, and so which secrets it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything; reads every secret.
    Both,
    /// Takes callbacks; reads what OpenRouter signs with.
    Ingress,
    /// Forwards them; reads what Hermes expects to be signed with.
    Relay,
    /// Sends callbacks as OpenRouter would; reads the secrets that OpenRouter signs with.
    Sender,
}

impl Role {
    /// Whether callbacks come in here, or are made here as they come in.
    pub fn has_ingress(self) -> bool {
        self != Self::Relay
    }

    /// Whether deliveries go out from here.
    pub fn has_relay(self) -> bool {
        matches!(self, Self::Both | Self::Relay)
    }

    /// Whether it is one of two processes that meet on a bus.
    pub fn is_alone(self) -> bool {
        matches!(self, Self::Ingress | Self::Relay)
    }
}
