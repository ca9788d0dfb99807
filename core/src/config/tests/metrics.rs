//! The settings that metrics show.

use super::*;

#[test]
fn the_first_tenants_by_name_are_counted_by_name() {
    let tenants = ["b", "a", "c"]
        .map(|name| format!("  {name}: {{openrouter: {{secrets: [{{file: secrets/acme-openrouter}}]}}}}\n"));
    let read = |admin: &str| load_text(&format!("admin: {{{admin}}}\ntenants:\n{}", tenants.concat()));
    let counted = |admin: &str| read(admin).unwrap().counted_tenants().collect::<Vec<_>>().join(" ");
    assert_eq!(counted(""), "a b c");
    assert_eq!(counted("counted_tenants: 2"), "a b");
    assert_eq!(counted("counted_tenants: 0"), "");
    assert_eq!(
        read("counted_tenants: 10001").unwrap_err(),
        "talaria.yaml:1:26: counted_tenants is out of range\n  help: write a number from 0 to 10000"
    );
}

const CERTIFICATES: &str = "\
relay: {tls: {cert: a.pem, key: a.key, client_ca: b.pem}}
bus: {nats: {servers: [nats://n:4222], creds: {file: nats.creds}, tls: {ca: c.pem, cert: d.pem, key: d.key}}}
telemetry: {otlp: 'https://collector.example', ca: e.pem}
tenants:
  acme:
    openrouter: {secrets: [{file: secrets/acme-openrouter}]}
    routes:
      tls: {url: 'https://a.example', secret: {file: cert.pem}, tls: {ca: /f.pem, cert: g.pem, key: g.key}, extra: {tls: {ca: h.pem}}}
";

fn certificates(settings: &Settings, base: &Path) -> String {
    let of = |(key, path): (&String, &PathBuf)| {
        format!("{key}={} ", path.strip_prefix(base).unwrap_or(path).display())
    };
    settings.certificates().iter().map(of).collect()
}

#[test]
fn certificates_are_those_that_the_role_uses() {
    let (base, later) = (Path::new("/base"), Path::new("/later"));
    let read = |text: &str, role: Role| Settings::read(text, base, role);
    let of_all = "bus.nats.creds=nats.creds bus.nats.tls.ca=c.pem bus.nats.tls.cert=d.pem ";
    let of_relay = "relay.tls.cert=a.pem relay.tls.client_ca=b.pem telemetry.ca=e.pem \
                    tenants.acme.routes.tls.tls.ca=/f.pem tenants.acme.routes.tls.tls.cert=g.pem ";
    assert_eq!(certificates(&read(CERTIFICATES, Role::Relay), base), format!("{of_all}{of_relay}"));
    assert_eq!(
        certificates(&read(CERTIFICATES, Role::Ingress), base),
        format!("{of_all}telemetry.ca=e.pem ")
    );
    // Those of a setting that needs a restart stay until then.
    let newer =
        Settings::read("bus: embedded\nrelay: {tls: {cert: z.pem, key: z.key}}\n", later, Role::Relay);
    let in_force = newer.with_older("bus", &read(CERTIFICATES, Role::Relay));
    assert_eq!(certificates(&in_force, base), format!("{of_all}relay.tls.cert=/later/z.pem "));
}
