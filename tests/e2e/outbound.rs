//! Endpoints that drip, never end or redirect, addresses that are not allowed, and wrong certificates. Each is contained and
//! reported.

use rcgen::{CertificateParams, KeyPair};
use std::{fs, net::SocketAddr, sync::Arc, time::Duration};
use talaria_proto::v1::{AttemptOutcome as Outcome, DeliveryState as State, GetDeliveryResponse};
use talaria_tests::{
    binary,
    sink::{SECRET, Sink},
    stack::{Stack, stack},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    time::sleep,
};
use tokio_rustls::{TlsAcceptor, rustls};

/// The answer of an endpoint.
#[derive(Clone, Copy)]
enum Does {
    /// A byte each 50 ms.
    Drip,
    /// A body without an end.
    Flood,
    /// A redirect to itself.
    Loop,
}

/// An endpoint that answers all requests so.
async fn endpoint(does: Does) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/webhooks/r", listener.local_addr().unwrap());
    let itself = url.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, does, itself.clone()));
        }
    });
    url
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, does: Does, itself: String) {
    let mut request = vec![0; 1 << 16];
    while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
        let head = match does {
            Does::Drip => "202 Accepted\r\nContent-Length: 100000".to_owned(),
            Does::Flood => "202 Accepted\r\nTransfer-Encoding: chunked".to_owned(),
            Does::Loop => format!("307 Temporary Redirect\r\nLocation: {itself}\r\nContent-Length: 0"),
        };
        let _ = stream.write_all(format!("HTTP/1.1 {head}\r\n\r\n").as_bytes()).await;
        match does {
            Does::Drip => {
                while stream.write_all(b" ").await.is_ok() {
                    sleep(Duration::from_millis(50)).await;
                }
            }
            Does::Flood => while stream.write_all(b"8\r\n........\r\n").await.is_ok() {},
            Does::Loop => {}
        }
    }
}

/// The first attempt's detail, and the delivery as the command line shows it.
async fn shown(stack: &Stack, event: &str, route: &str) -> (GetDeliveryResponse, String) {
    let found = stack.delivery_when(event, route, |delivery| delivery.attempts >= 1).await;
    let id = found.delivery.as_ref().unwrap().id.clone();
    let output = binary::run(stack.written.path(), &["status", "--relay", &stack.relay(), &id]);
    (found, String::from_utf8(output.stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_answers_are_cut_off_and_delay_no_other_route() {
    let sink = Sink::start().await;
    let (drips, floods, loops) =
        (endpoint(Does::Drip).await, endpoint(Does::Flood).await, endpoint(Does::Loop).await);
    let keys = "pace: off\ntimeout: 1s\nretry: {schedule: [100ms]}";
    let stack = stack()
        .tenant("acme", |t| {
            t.route("drips", &drips, keys).route("floods", &floods, keys).route("loops", &loops, keys).route(
                "good",
                &sink.url("good"),
                keys,
            )
        })
        .start()
        .await;
    let event = stack.openrouter("acme").send("job", "completed").await;
    let good = stack.finished(&event, "good").await;
    assert_eq!(good.delivery.unwrap().state(), State::Delivered);
    for (route, outcome, why) in [
        ("drips", Outcome::AnswerLost, "its body did not arrive whole: not whole within 1s"),
        ("floods", Outcome::RouteFault, "202, but what answers is not Hermes; compare the route's url"),
        ("loops", Outcome::RouteFault, &format!("307: redirects to {loops}, which is not followed")),
    ] {
        let (found, said) = shown(&stack, &event, route).await;
        assert_eq!(found.attempts[0].outcome(), outcome, "{route}");
        assert!(said.contains(why), "{route}: {said}");
    }
}

/// A name that resolves to a cloud's metadata service, in a mount namespace with its own /etc/hosts.
#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(
    not(has_mount_namespaces),
    ignore = "needs `unshare --map-root-user --mount`; once it works, `touch tests/build.rs`"
)]
async fn a_name_in_a_forbidden_network_shuts_its_route_with_advice() {
    let alone = ["unshare", "--map-root-user", "--mount"];
    let hosts = tempfile::NamedTempFile::new().unwrap();
    fs::write(hosts.path(), "127.0.0.1 localhost\n169.254.169.254 hooks.acme.test\n").unwrap();
    let script = format!("mount --bind {} /etc/hosts && exec \"$0\" \"$@\"", hosts.path().display());
    let sink = Sink::start().await;
    let stack = stack()
        .under(&[&alone[..], &["sh", "-c", &script]].concat())
        .tenant("acme", |t| {
            t.route("bad", "http://hooks.acme.test/webhooks/r", "").route("good", &sink.url("good"), "")
        })
        .start()
        .await;
    let event = stack.openrouter("acme").send("job", "completed").await;
    let good = stack.finished(&event, "good").await;
    assert_eq!(good.delivery.unwrap().state(), State::Delivered);
    let (found, said) = shown(&stack, &event, "bad").await;
    assert!(
        said.contains(
            "not sent: hooks.acme.test leads to 169.254.169.254, which is link-local, and the tenant does not allow \
             that; if Hermes is there, add link-local to the tenant's networks"
        ),
        "{said}"
    );
    let delivery = found.delivery.unwrap();
    assert_eq!((delivery.state(), delivery.counted_attempts), (State::Waiting, 0), "no attempt is used up");
    assert!(delivery.reason.starts_with("the route is shut: "), "{}", delivery.reason);
}

/// Answers over TLS, with a certificate for this name.
async fn over_tls(name: &str) -> (SocketAddr, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([name.to_owned()]).unwrap().self_signed(&key).unwrap();
    let chain = vec![certificate.der().clone()];
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key.serialize_der().try_into().unwrap())
            .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    serve(stream, Does::Loop, "itself".into()).await;
                }
            });
        }
    });
    (address, certificate.pem())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_name_is_not_taken_and_one_of_the_right_name_is() {
    let sink = Sink::start().await;
    let ((wrong, wrong_pem), (right, right_pem)) =
        (over_tls("other.test").await, over_tls("localhost").await);
    let url = |address: SocketAddr| format!("https://localhost:{}/webhooks/r", address.port());
    let written = stack()
        .tenant("acme", |t| {
            t.route("wrong", &url(wrong), "tls: {ca: wrong.pem}\nretry: {schedule: [100ms]}")
                .route("right", &url(right), "tls: {ca: right.pem}")
                .route("unknown", &url(right), "retry: {schedule: []}")
                .route("good", &sink.url("good"), "")
        })
        .write();
    fs::write(written.path().join("wrong.pem"), wrong_pem).unwrap();
    fs::write(written.path().join("right.pem"), right_pem).unwrap();
    let stack = written.start().await;
    let event = stack.openrouter("acme").send("job", "completed").await;
    let good = stack.finished(&event, "good").await;
    assert_eq!(good.delivery.unwrap().state(), State::Delivered);
    for (route, why) in [
        ("wrong", "not sent: the certificate of localhost is for other.test and not for that name"),
        ("unknown", "not sent: the certificate of localhost is by an authority that is not trusted here"),
        ("right", "307: redirects to itself"),
    ] {
        let (found, said) = shown(&stack, &event, route).await;
        assert!(said.contains(why), "{route}: {said}");
        let timings = found.attempts[0].timings.unwrap();
        assert!(timings.dns.is_some() && timings.connect.is_some() && timings.tls.is_some(), "{timings:?}");
        assert_eq!(timings.first_byte.is_some(), route == "right");
    }
    // A failed certificate may be renewed, so it is tried again by the schedule, and counts.
    let wrong = stack.finished(&event, "wrong").await;
    assert_eq!((wrong.delivery.unwrap().state(), wrong.attempts.len()), (State::Parked, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_the_operators_own_arrive_and_connections_are_used_again() {
    let sink = Sink::start().await;
    let stack = stack()
        .environment("PROXY_TOKEN", "Bearer for the proxy")
        .environment("RUST_LOG", "trace")
        .tenant("acme", |t| {
            let keys = "signing: gitlab\nheaders: {X-Env: prod, Authorization: {env: PROXY_TOKEN}}";
            t.route("r", &sink.url("r"), keys)
        })
        .start()
        .await;
    for (job, is_reused) in [("first", false), ("second", true)] {
        let event = stack.openrouter("acme").send(job, "completed").await;
        let found = stack.finished(&event, "r").await;
        let timings = found.attempts[0].timings.unwrap();
        assert_eq!(timings.reused_connection, is_reused, "{job}");
        assert_eq!(timings.connect.is_some(), !is_reused, "{job}");
        assert!(timings.first_byte.is_some() && timings.total.is_some() && timings.tls.is_none());
    }
    for request in sink.requests() {
        assert!(request.signed);
        assert_eq!(request.headers["X-Env"], "prod");
        assert_eq!(request.headers["Authorization"], "Bearer for the proxy");
    }
    for secret in ["for the proxy", SECRET] {
        assert!(stack.log().iter().all(|line| !line.contains(secret)), "a secret is logged");
    }
}
