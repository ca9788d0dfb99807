//! The cost of single decisions: verify, normalize, render.

use criterion::{Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use secrecy::SecretString;
use std::{hint::black_box, time::Duration};
use talaria_core::{
    hermes::template::Template,
    json::{Text, parse},
    openrouter::{
        event::Envelope,
        signature::{self, Signature},
    },
};

/// The documented payload of a finished video.
const BODY: &[u8] = br#"{"type":"video.generation.completed","created_at":"2026-04-24T12:00:00.000Z","data":{"id":"job-abc123","status":"completed","generation_id":"gen-xyz789","model":"google/veo-3.1","unsigned_urls":["https://openrouter.ai/api/v1/videos/job-abc123/content?index=0"],"usage":{"cost":0.5,"is_byok":false}}}"#;
const PROMPT: &str = "Video {data.id} by {data.model} is {data.status}: {data.unsigned_urls}\n{data.usage}";
const TOLERANCE: Duration = Duration::from_secs(300);

fn verify(criterion: &mut Criterion) {
    let secrets = [SecretString::from("a secret that is as long as a secret should be")];
    let now = Timestamp::UNIX_EPOCH;
    let header = signature::sign(&secrets[0], now, BODY);
    let verify = || {
        let signature = Signature::parse(black_box(&header));
        signature.and_then(|signature| signature.verify(&secrets, TOLERANCE, now, black_box(BODY)))
    };
    assert!(verify().is_ok());
    criterion.bench_function("verify", |bencher| bencher.iter(verify));
}

fn normalize(criterion: &mut Criterion) {
    assert!(Envelope::read(BODY).is_ok());
    criterion.bench_function("normalize", |bencher| bencher.iter(|| Envelope::read(black_box(BODY))));
}

fn render(criterion: &mut Criterion) {
    let (template, route) = (Template::new(&Text::from(PROMPT)), Text::from("video"));
    let kind = Text::from("video.generation.completed");
    let render = || {
        let payload = parse(black_box(BODY)).ok()?;
        Some(template.render(payload.root(), &kind, &route))
    };
    assert!(render().is_some());
    criterion.bench_function("render", |bencher| bencher.iter(render));
}

criterion_group!(benches, verify, normalize, render);
criterion_main!(benches);
