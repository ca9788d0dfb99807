//! Trusted authorities and client certificates.

use super::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
};
use std::net::SocketAddr;
use tokio_rustls::TlsAcceptor;

struct Authority(CertifiedIssuer<'static, KeyPair>);

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn certificate(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate()).unwrap();
        roots
    }

    fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }
}

/// Answers over TLS with 202, and demands a certificate of this authority's if there is one.
async fn server((certificates, key): Pair, clients: Option<&Authority>) -> SocketAddr {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        Some(clients) => {
            let roots = Arc::new(clients.roots());
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let acceptor = TlsAcceptor::from(Arc::new(builder.with_single_cert(certificates, key).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut request = Vec::new();
                while stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {
                    if request.ends_with(b"{}") {
                        let _ =
                            stream.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok").await;
                    }
                }
            });
        }
    });
    address
}

/// Sends one request to `https://hermes.test`, which this address stands for.
async fn send(address: SocketAddr, tls: RouteTls) -> (Exchange, Timings) {
    send_to(Peer::Hermes, address, tls).await
}

async fn send_to(peer: Peer, address: SocketAddr, tls: RouteTls) -> (Exchange, Timings) {
    let url = Url::parse(&format!("https://hermes.test:{}/webhooks/r", address.port())).unwrap();
    let mut target = Target::new(url, Duration::from_secs(5), &["loopback"]);
    target.policy.peer = peer;
    target.policy.tls = Some(Arc::new(tls));
    let resolver = Resolver::asking(move |_| Ok(vec![address.ip()]));
    Clients::new(resolver, MAX_AGE).post(&target).await
}

fn trusting(authority: &Authority) -> RouteTls {
    RouteTls { ca: vec![authority.certificate()], client: None }
}

fn not_sent(exchange: &Exchange) -> &str {
    match exchange {
        Exchange::NotSent(why) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_certificate_of_the_routes_own_authority_is_trusted() {
    let authority = Authority::new("ours");
    let address = server(authority.issue("hermes.test", |_| ()), None).await;
    let (exchange, timings) = send(address, trusting(&authority)).await;
    assert!(matches!(exchange, Exchange::Answered(Answer { status: 202, .. })), "{exchange:?}");
    assert!(
        timings.connecting.tls.is_some()
            && timings.connecting.dns.is_some()
            && timings.connecting.connect.is_some()
    );
    assert!(timings.first_byte.unwrap() <= timings.total);
}

#[tokio::test]
async fn a_fault_of_a_certificate_is_described_in_a_sentence() {
    let (authority, stranger) = (Authority::new("ours"), Authority::new("a stranger's"));
    let wrong_name = server(authority.issue("other.test", |_| ()), None).await;
    let (exchange, timings) = send(wrong_name, trusting(&authority)).await;
    assert_eq!(
        not_sent(&exchange),
        "the certificate of hermes.test is for other.test and not for that name; compare the route's url"
    );
    assert!(
        timings.connecting.connect.is_some()
            && timings.connecting.tls.is_some()
            && timings.first_byte.is_none()
    );

    let unknown = server(stranger.issue("hermes.test", |_| ()), None).await;
    for (peer, expected) in [
        (Peer::Hermes, "if it is to be, name it with tls: {ca: PATH}"),
        (Peer::OpenRouter, "if it is to be, add it to the system's authorities"),
    ] {
        let why = send_to(peer, unknown, trusting(&authority)).await.0;
        let expected = format!("is by an authority that is not trusted here; {expected}");
        assert!(not_sent(&why).ends_with(&expected), "{why:?}");
    }

    let old = authority.issue("hermes.test", |params| params.not_after = rcgen::date_time_ymd(2001, 1, 1));
    let why = send(server(old, None).await, trusting(&authority)).await.0;
    assert_eq!(not_sent(&why), "the certificate of hermes.test has expired");

    let ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let own = authority.issue("hermes.test", |params| params.is_ca = ca);
    let why = send(server(own, None).await, trusting(&authority)).await.0;
    assert!(not_sent(&why).contains("is an authority's, which no server may show"), "{why:?}");

    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = plain.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = plain.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let why = send(address, trusting(&authority)).await.0;
    assert!(not_sent(&why).contains("does not speak TLS there"), "{why:?}");
}

#[tokio::test]
async fn a_server_that_demands_to_know_us_gets_our_certificate() {
    let (authority, stranger) = (Authority::new("ours"), Authority::new("a stranger's"));
    let address = server(authority.issue("hermes.test", |_| ()), Some(&authority)).await;
    let known = RouteTls { client: Some(authority.issue("talaria", |_| ())), ..trusting(&authority) };
    let (exchange, _) = send(address, known).await;
    assert!(matches!(exchange, Exchange::Answered(_)), "{exchange:?}");

    let why = send(address, trusting(&authority)).await.0;
    assert_eq!(
        not_sent(&why),
        "hermes.test demands a client certificate; name one with tls: {cert: PATH, key: PATH}"
    );
    let unknown = RouteTls { client: Some(stranger.issue("talaria", |_| ())), ..trusting(&authority) };
    let why = send(address, unknown).await.0;
    assert!(not_sent(&why).contains("hermes.test does not accept our certificate"), "{why:?}");
}
