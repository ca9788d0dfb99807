//! Roles of processes.

/// The role of a process, which decides which secrets it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Ingress and relay; reads every secret.
    Both,
    /// Receives callbacks; reads OpenRouter's signing secrets and API keys.
    Ingress,
    /// Sends deliveries; reads the secrets for Hermes.
    Relay,
    /// Sends test callbacks; reads OpenRouter's signing secrets.
    Sender,
}

impl Role {
    /// Whether it verifies or signs callbacks.
    pub fn has_ingress(self) -> bool {
        self != Self::Relay
    }

    /// Whether it asks OpenRouter, with the tenants' API keys.
    pub fn asks_openrouter(self) -> bool {
        matches!(self, Self::Both | Self::Ingress)
    }

    /// Whether it sends deliveries.
    pub fn has_relay(self) -> bool {
        matches!(self, Self::Both | Self::Relay)
    }

    /// Whether it needs another process on the same bus.
    pub fn is_alone(self) -> bool {
        matches!(self, Self::Ingress | Self::Relay)
    }
}
