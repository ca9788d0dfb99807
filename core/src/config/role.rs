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
}

impl Role {
    /// Whether callbacks come in here.
    pub fn has_ingress(self) -> bool {
        self != Self::Relay
    }

    /// Whether deliveries go out from here.
    pub fn has_relay(self) -> bool {
        self != Self::Ingress
    }
}
