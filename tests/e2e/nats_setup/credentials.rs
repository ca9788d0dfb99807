//! A server in operator mode, and services that show it a JWT: `bus.nats.creds`.

use super::{
    on_nats,
    permissions::{allowed, on_the_page},
    process::Process,
};
use std::{fs, path::Path, time::Duration};
use talaria_tests::{
    nats::{self, Account, Operator, Server, User},
    sink::Sink,
    stack::Written,
    until,
};

const FILE: &str = "nats.creds";

/// A server that knows one account.
struct Guarded {
    server: Server,
    account: Account,
}

impl Guarded {
    async fn start() -> Self {
        let (operator, account) = (Operator::new(), Account::new());
        let server = operator.server(nats::server(), &account).start().await;
        Self { server, account }
    }

    /// A configuration whose credentials are yet to be written.
    fn written(&self, sink: &Sink) -> Written {
        on_nats(&self.server.url(), &format!("creds: {{file: {FILE}}}"))
            .tenant("acme", |tenant| tenant.route("r", &sink.url("r"), "pace: off"))
            .write()
    }

    fn written_with(&self, sink: &Sink, creds: &str) -> Written {
        let written = self.written(sink);
        write(written.path(), creds);
        written
    }

    /// A role has to fail with one line that contains all of this and no secret.
    async fn refuses(&self, role: &str, creds: &str, says: &str) {
        let written = self.written_with(&Sink::start().await, creds);
        let ended = Process::fails(role, written).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert_eq!(ended.error.lines().count(), 1, "{ended:?}");
        for what in [says, FILE, "bus.nats.creds", "nsc generate creds"] {
            assert!(ended.error.contains(what), "no {what:?}: {ended:?}");
        }
        says_nothing_secret(&ended.log, creds);
    }
}

/// A user with the permissions of this one on the page.
fn user<'a>(account: &'a Account, name: &str) -> User<'a> {
    let (page, name) = (on_the_page(), format!("talaria-{name}"));
    account.user(&allowed(&page, &name, "publish"), &allowed(&page, &name, "subscribe"))
}

/// Replaced as a whole, as a renewed file should be: half of it is never read.
fn write(directory: &Path, creds: &str) {
    fs::write(directory.join("new"), creds).unwrap();
    fs::rename(directory.join("new"), directory.join(FILE)).unwrap();
}

/// The line of a file that holds the seed.
fn seed(creds: &str) -> String {
    creds.lines().find(|line| line.starts_with("SU")).unwrap().to_owned()
}

fn says_nothing_secret(log: &[String], creds: &str) {
    let log = log.join("\n");
    for secret in creds.lines().filter(|line| line.len() > 20 && !line.starts_with('-')) {
        assert!(!log.contains(secret), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn services_with_credentials_of_their_own_do_all_that_is_done() {
    let (guarded, sink) = (Guarded::start().await, Sink::start().await);
    let [ingress_creds, relay_creds] = ["ingress", "relay"].map(|role| user(&guarded.account, role).creds());
    // The permissions in the JWT count: the page's ingress may not create streams.
    let ended = Process::fails("ingress", guarded.written_with(&sink, &ingress_creds)).await;
    assert!(ended.error.to_lowercase().contains("$js.api.stream.create.talaria-events"), "{ended:?}");
    says_nothing_secret(&ended.log, &ingress_creds);
    assert!(guarded.server.log().contains("Violation"));

    let relay = Process::start("relay", guarded.written_with(&sink, &relay_creds)).await;
    let ingress = Process::start("ingress", guarded.written_with(&sink, &ingress_creds)).await;
    let event = ingress.openrouter("acme").send("job", "completed").await;
    relay.delivered(&event).await;
    assert_eq!(sink.requests_to("r").len(), 1);
    for (process, creds) in [(&ingress, &ingress_creds), (&relay, &relay_creds)] {
        assert_eq!(process.readiness().await, (200, "ready\n".into()));
        let log = process.log();
        assert!(!log.join("\n").contains("complains"), "{log:#?}");
        says_nothing_secret(&log, creds);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_the_server_does_not_take_are_named() {
    let guarded = Guarded::start().await;
    for role in ["ingress", "relay"] {
        let ours = user(&guarded.account, role);
        let unknown = Account::new();
        let unknown = user(&unknown, role);
        let stolen = ours.creds().replace(&seed(&ours.creds()), &seed(&unknown.creds()));
        for creds in [unknown.creds(), ours.expired_creds(), stolen] {
            let says = format!("cannot connect to NATS at {} with the credentials in", guarded.server.url());
            guarded.refuses(role, &creds, &says).await;
        }
        let broken = ours.creds().replace(&seed(&ours.creds()), "SUAHUNTER2HUNTER2HUNTER2");
        guarded.refuses(role, &broken, "the seed in").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_without_credentials_are_errors_of_the_configuration() {
    let (guarded, sink) = (Guarded::start().await, Sink::start().await);
    let creds = user(&guarded.account, "relay").creds();
    let jwt_alone = creds.split_once("\n\n").unwrap().0;
    let nothing_below_the_headings = "-----BEGIN NATS USER JWT-----\n-----BEGIN USER NKEY SEED-----\n";
    let no_credentials = "does not hold NATS credentials\n  help: name a file with a JWT and a seed";
    for (file, says) in [
        (None, "cannot read"),
        (Some(""), "is empty"),
        (Some("SUAHUNTER2HUNTER2HUNTER2"), no_credentials),
        (Some(jwt_alone), no_credentials),
        (Some(seed(&creds).as_str()), no_credentials),
        (Some(nothing_below_the_headings), no_credentials),
    ] {
        for role in ["ingress", "relay"] {
            let written = guarded.written(&sink);
            if let Some(file) = file {
                write(written.path(), file);
            }
            let ended = Process::fails(role, written).await;
            assert_eq!(ended.code, Some(3), "{ended:?}");
            for what in ["talaria.yaml:", FILE, says, "\n  help: "] {
                assert!(ended.error.contains(what), "{ended:?}");
            }
            says_nothing_secret(&ended.log, file.unwrap_or_default());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_were_renewed_are_taken_without_a_restart() {
    let (mut guarded, sink) = (Guarded::start().await, Sink::start().await);
    let users = ["relay", "ingress"].map(|role| user(&guarded.account, role));
    let mut processes = Vec::new();
    for (role, user) in ["relay", "ingress"].iter().zip(&users) {
        processes.push(Process::start(role, guarded.written_with(&sink, &user.creds())).await);
    }
    let [relay, ingress] = &processes[..] else { panic!("a relay and an ingress") };
    let event = ingress.openrouter("acme").send("before", "completed").await;
    relay.delivered(&event).await;

    // Whether they get in before it ends or not, they are outside when it has.
    for (process, user) in processes.iter().zip(&users) {
        write(process.path(), &user.creds_for(Duration::from_secs(2)));
    }
    guarded.server.kill();
    guarded.server.start_again().await;
    for process in &processes {
        says(process, "authorization violation").await;
    }
    for process in &processes {
        write(process.path(), "SUAHUNTER2HUNTER2HUNTER2");
        says(process, "nats.creds does not hold NATS credentials").await;
        assert_ne!(process.readiness().await.0, 200);
    }

    let renewed = users.each_ref().map(User::creds);
    for (process, creds) in processes.iter().zip(&renewed) {
        write(process.path(), creds);
        until("it to be connected again", async || (process.readiness().await.0 == 200).then_some(())).await;
    }
    let event = ingress.openrouter("acme").send("after", "completed").await;
    relay.delivered(&event).await;
    // The page's permissions suffice for a client that reconnects, too.
    assert!(!guarded.server.log().contains("Violation"), "{}", guarded.server.log());
    for (process, creds) in processes.iter().zip(&renewed) {
        says_nothing_secret(&process.log(), creds);
        says_nothing_secret(&process.log(), "SUAHUNTER2HUNTER2HUNTER2");
    }
}

async fn says(process: &Process, what: &str) {
    until(&format!("the log to say {what:?}"), async || {
        process.log().join("\n").contains(what).then_some(())
    })
    .await;
}
