//! Servers that are missing, foreign or insufficient: one sentence, and exit code 1.

use super::{
    on_nats,
    process::{Ended, Process},
};
use crate::certificates::Authority;
use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
};
use talaria_tests::{
    nats::{self, Server},
    stack::Written,
    until,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

fn written(url: &str, keys: &str) -> Written {
    on_nats(url, keys).tenant("acme", |tenant| tenant).write()
}

/// Both roles have to end with an error of one line that says all of this. At the same time, because some of these errors
/// take a process all the time that it has for connecting.
async fn refused(url: &str, keys: &str, files: impl Fn(&Path), says: &[&str]) {
    let refused = async |role| {
        let written = written(url, keys);
        files(written.path());
        let Ended { code, error, .. } = Process::fails(role, written).await;
        assert_eq!(code, Some(1), "{role}: {error}");
        assert_eq!(error.lines().count(), 1, "{role}: {error}");
        for what in says {
            assert!(error.contains(what), "{role} does not say {what:?}: {error}");
        }
    };
    tokio::join!(refused("ingress"), refused("relay"));
}

fn no_files(_: &Path) {}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_named() {
    // Bound and dropped, so that connections are refused.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let url = format!("nats://127.0.0.1:{port}");
    let says = ["cannot connect to NATS", &url, "bus.nats.servers", "refused"];
    let nobody = refused(&url, "", no_files, &says);
    // A server that accepts connections and never answers.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    let says = ["cannot connect to NATS", &url];
    let silent = refused(&url, "", no_files, &says);
    tokio::join!(nobody, silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_know_us_is_named() {
    let server = nats::server().with("authorization {token: \"let me in\"}").start().await;
    refused(&server.url(), "", no_files, &["cannot connect to NATS", &server.url(), "uthorization"]).await;
}

/// A server with these lines in its `tls`, and the directory of its certificates.
async fn server_with_tls(authority: &Authority, verify: &str, users: &str) -> (Server, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    authority.write_server(directory.path());
    let at = directory.path().display();
    let tls = format!(
        "tls {{cert_file: \"{at}/server.pem\", key_file: \"{at}/server-key.pem\", ca_file: \"{at}/ca.pem\"\n{verify}}}"
    );
    (nats::server().with(&tls).with(users).start().await, directory)
}

const TLS: &str = "tls: {ca: ca.pem, cert: client.pem, key: client-key.pem}";

#[tokio::test(flavor = "multi_thread")]
async fn wrong_certificates_are_a_clear_error() {
    let (authority, another) = (Authority::new(), Authority::new());
    let users = "authorization {users: [{user: \"CN=talaria\"}]}";
    let (server, _files) = server_with_tls(&authority, "verify_and_map: true", users).await;
    let url = server.url();
    let process = written(&url, TLS);
    authority.write_client(process.path(), "talaria");
    drop(Process::start("up", process).await);
    let (unknown, known) =
        (["cannot connect to NATS", &url, "certificate"], ["cannot connect to NATS", &url]);
    let unauthorized = ["cannot connect to NATS", &url, "uthorization"];
    tokio::join!(
        // An unknown certificate: signed by another authority, or by none that the system trusts.
        refused(&url, TLS, |at| another.write_client(at, "talaria"), &unknown),
        refused(&url, "", no_files, &unknown),
        // It does not know us: no certificate, or another name.
        refused(&url, "tls: {ca: ca.pem}", |at| authority.write_client(at, "talaria"), &known),
        refused(&url, TLS, |at| authority.write_client(at, "stranger"), &unauthorized),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_without_jetstream_is_a_clear_error() {
    let accounts = "accounts {plain {users: [{user: plain, password: plain}]}, keeps {jetstream: enabled}}\n\
                    no_auth_user: plain";
    let server = nats::server().with(accounts).start().await;
    refused(&server.url(), "", no_files, &["talaria-events", "have JetStream enabled, and this account"])
        .await;
}

/// A server that a test of its own configuration runs; [`Server`] always has JetStream.
struct Plain(Child);

impl Drop for Plain {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_jetstream_is_a_clear_error() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(nats::program());
    command.args(["--addr", "127.0.0.1", "--port", "-1", "--ports_file_dir"]).arg(directory.path());
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let _server = Plain(child);
    let url = until("the server's port", async || {
        let file = fs::read_dir(directory.path()).unwrap().next()?.unwrap().path();
        let ports: serde_json::Value = serde_json::from_slice(&fs::read(file).unwrap()).ok()?;
        Some(ports["nats"][0].as_str().unwrap().to_owned())
    })
    .await;
    refused(&url, "", no_files, &["talaria-events", "have JetStream enabled, and this account"]).await;
}

/// Greets as a server of this version, which is all that a client has to see.
async fn greets_as(version: &str) -> String {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    let info = format!(
        "INFO {{\"server_id\":\"old\",\"server_name\":\"old\",\"version\":\"{version}\",\"proto\":1,\
         \"headers\":true,\"max_payload\":1048576,\"jetstream\":true}}\r\n"
    );
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(answer_pings(connection, info.clone()));
        }
    });
    url
}

async fn answer_pings(connection: TcpStream, info: String) {
    let (read, mut write) = connection.into_split();
    let mut lines = BufReader::new(read).lines();
    let mut answer = info;
    // A client that learns that the server is too old hangs up.
    while write.write_all(answer.as_bytes()).await.is_ok() {
        loop {
            match lines.next_line().await {
                Ok(Some(line)) if line == "PING" => break,
                Ok(Some(_)) => {}
                _ => return,
            }
        }
        answer = "PONG\r\n".into();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_too_old_is_named_with_its_version() {
    for version in ["2.9.25", "2.10.26", "2.11.11"] {
        let url = greets_as(version).await;
        let says = format!("the NATS server at {url} is version {version}, and Talaria needs 2.12");
        refused(&url, "", no_files, &[&says]).await;
    }
}

/// It takes no message ids in batches, so callbacks that come at the same time would all be answered 503.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_server_with_batches_is_too_old() {
    let url = greets_as("2.12.0").await;
    let says = format!("the NATS server at {url} is version 2.12.0, and Talaria needs 2.12.1 or newer");
    refused(&url, "", no_files, &[&says]).await;
}
