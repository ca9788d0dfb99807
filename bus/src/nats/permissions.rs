//! Users of a NATS server that is Talaria's alone: what each may do, and the part of the server's configuration that says so.
//!
//! The lists are those of docs/nats.md, which a test holds to them. Each user has as little as its work needs: the key of an
//! ingress, the part that strangers reach, cannot read a stream.

use super::names::Names;
use nkeys::{KeyPair, KeyPairType};
use secrecy::{ExposeSecret as _, SecretString};

/// Who connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatsUser {
    /// `talaria ingress`.
    Ingress,
    /// `talaria relay`.
    Relay,
    /// `talaria backup`.
    Backup,
    /// An administrator, for `nats stream edit` and restoring. May do everything.
    Operator,
}

/// The subjects to which a user may publish and subscribe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// To publish, and with it to ask.
    pub publish: Vec<String>,
    /// To subscribe, and with it to get answers.
    pub subscribe: Vec<String>,
}

impl NatsUser {
    /// All users.
    pub const ALL: [Self; 4] = [Self::Ingress, Self::Relay, Self::Backup, Self::Operator];

    /// The name, which is that of the directory of its key.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Relay => "relay",
            Self::Backup => "backup",
            Self::Operator => "operator",
        }
    }

    /// The permissions with this prefix of all names. `None`: everything.
    pub fn permissions(self, prefix: &str) -> Option<Permissions> {
        let names = Names::new(prefix);
        match self {
            Self::Ingress => Some(ingress(&names)),
            Self::Relay => Some(relay(&names)),
            Self::Backup => Some(backup(&names)),
            Self::Operator => None,
        }
    }
}

fn ingress(names: &Names) -> Permissions {
    let mut publish = names.events_subjects();
    publish.extend([names.refusals("*"), names.openrouter_inbox(">")]);
    // An ingress and a relay are started together, and either may be first.
    publish.extend(requests(["STREAM.INFO", "STREAM.CREATE"], &names.events()));
    publish.extend(files(names));
    Permissions { publish, subscribe: vec![format!("{}.>", names.ingress_inbox()), names.openrouter()] }
}

fn relay(names: &Names) -> Permissions {
    let inbox = format!("{}.>", names.relay_inbox());
    let mut publish = names.journal_subjects();
    publish.extend([
        names.notices(),
        names.announcements(),
        names.ask("*"),
        inbox.clone(),
        names.openrouter(),
    ]);
    for stream in [names.events(), names.journal()] {
        let of_streams = ["STREAM.INFO", "STREAM.CREATE", "STREAM.UPDATE", "STREAM.PURGE", "STREAM.MSG.GET"];
        publish.extend(requests(of_streams, &stream));
        publish.extend(requests(["CONSUMER.CREATE", "DIRECT.GET"], &stream));
        publish.extend(requests(["CONSUMER.MSG.NEXT", "CONSUMER.INFO"], &format!("{stream}.*")));
    }
    publish.extend(files(names));
    let subscribe =
        vec![inbox, names.openrouter_inbox(">"), names.announcements(), names.ask("*"), names.refusals("*")];
    Permissions { publish, subscribe }
}

fn backup(names: &Names) -> Permissions {
    let mut publish = Vec::new();
    for stream in [names.events(), names.journal()] {
        publish.extend(requests(["STREAM.INFO", "STREAM.SNAPSHOT"], &stream));
        // For each part of the stream that has come: of NATS 2.15.1 they end with the snapshot's id, a size and a number.
        publish.push(format!("$JS.SNAPSHOT.ACK.{stream}.>"));
    }
    // The time of the backup is in the journal's metadata.
    publish.extend(requests(["STREAM.UPDATE"], &names.journal()));
    Permissions { publish, subscribe: vec![format!("{}.>", names.backup_inbox())] }
}

/// For kept files, which are an object store.
fn files(names: &Names) -> Vec<String> {
    let (store, stream) = (names.media(), format!("OBJ_{}", names.media()));
    let of_streams = ["STREAM.INFO", "STREAM.CREATE", "STREAM.UPDATE", "STREAM.PURGE", "CONSUMER.CREATE"];
    let mut subjects = vec![format!("$O.{store}.>"), format!("$JS.API.DIRECT.GET.{stream}.>")];
    subjects.extend(requests(of_streams, &stream));
    subjects
}

fn requests<const N: usize>(requests: [&str; N], of: &str) -> [String; N] {
    requests.map(|request| format!("$JS.API.{request}.{of}"))
}

/// The seed of a fresh key. `None` only if the random bytes cannot be one.
pub fn new_nats_key() -> Option<SecretString> {
    let key = KeyPair::new_from_raw(KeyPairType::User, rand::random()).ok()?;
    Some(key.seed().ok()?.into())
}

/// The public key of a seed; `None` for any other text. The library's own error may hold a part of the seed.
pub fn nats_public_key(seed: &SecretString) -> Option<String> {
    Some(KeyPair::from_seed(seed.expose_secret()).ok()?.public_key())
}

/// The block `authorization` of the server's configuration, for users with these public keys and for no others.
pub fn nats_users_conf(prefix: &str, users: &[(NatsUser, String)]) -> String {
    let mut text = format!(
        "# Who may connect, and what each may do with the names of the prefix {prefix}. Written by `talaria secrets \
         --nats-users`,\n# and written again with each run.\nauthorization {{\n  users: [\n"
    );
    for (user, key) in users {
        text += &format!("    # {}\n    {{\n      nkey: {key}\n", user.name());
        if let Some(permissions) = user.permissions(prefix) {
            text += "      permissions: {\n";
            for (what, subjects) in [("publish", permissions.publish), ("subscribe", permissions.subscribe)] {
                let lines: String =
                    subjects.iter().map(|subject| format!("          \"{subject}\"\n")).collect();
                text += &format!("        {what}: {{allow: [\n{lines}        ]}}\n");
            }
            text += "      }\n";
        }
        text += "    }\n";
    }
    text + "  ]\n}\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_users_and_each_is_another() {
        let [one, other] = [new_nats_key().unwrap(), new_nats_key().unwrap()];
        assert!(one.expose_secret().starts_with("SU"), "a user's");
        assert_ne!(one.expose_secret(), other.expose_secret());
        assert!(nats_public_key(&one).unwrap().starts_with('U'));
        assert_eq!(nats_public_key(&SecretString::from("SUAHUNTER2")), None);
    }

    #[test]
    fn permissions_name_nothing_outside_the_prefix() {
        for user in NatsUser::ALL {
            let Some(Permissions { publish, subscribe }) = user.permissions("acme") else { continue };
            for subject in publish.iter().chain(&subscribe) {
                // A type of a notice begins with `talaria.` whatever the prefix is.
                let subject = subject.strip_suffix(".talaria.>").unwrap_or(subject);
                assert!(subject.contains("acme") && !subject.contains("talaria"), "{user:?}: {subject}");
            }
        }
    }

    #[test]
    fn only_the_operator_is_without_limits() {
        let users: Vec<_> = NatsUser::ALL.map(|user| (user, format!("U{}", user.name()))).into();
        let text = nats_users_conf("talaria", &users);
        for (user, key) in &users {
            let (_, rest) = text.split_once(&format!("nkey: {key}\n")).unwrap();
            let its = rest.split_once("nkey: ").map_or(rest, |(its, _)| its);
            assert_eq!(its.contains("permissions"), *user != NatsUser::Operator, "{user:?}");
        }
        let [ingress, relay] =
            [NatsUser::Ingress, NatsUser::Relay].map(|user| user.permissions("talaria").unwrap());
        assert!(!ingress.publish.iter().any(|subject| subject.contains("journal")));
        assert!(!ingress.subscribe.iter().any(|subject| relay.subscribe.contains(subject)));
    }
}
