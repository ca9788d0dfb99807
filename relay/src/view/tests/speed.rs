//! What folding costs. Run with `cargo test --release -p talaria-relay --lib view::tests::speed -- --ignored --nocapture`.

use super::*;
use std::{fmt::Write as _, time::Duration};
use talaria_bus::time::{duration_to_proto, to_proto};
use talaria_core::id::{DeliveryId, EventId};
use talaria_proto::v1::{
    Attempt, AttemptFinished, AttemptOutcome, AttemptStarted, Commit, DeliveryRef, DeliveryStatus, Event,
    EventPlanned, Record, Timings, record::What,
};

/// Processor time of this thread.
fn used() -> Duration {
    let statistics = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(statistics.split(' ').next().unwrap().parse().unwrap())
}

/// Events of some tenants, each to one route, in commits of so many: planned and started in one, delivered in the next.
fn commits(first: u64, count: u64, group: u64, tenants: u64) -> Vec<Committed> {
    let (mut done, mut commits) = (Vec::new(), Vec::new());
    let mut seq = first * 2;
    let mut append = |records: Vec<Record>| {
        seq += 1;
        commits.push(Committed { seq, partition: partition(0), commit: Arc::new(Commit { records }) });
    };
    for event_seq in first..first + count {
        let (tenant, job) = (format!("tenant-{}", event_seq % tenants), format!("gen_{event_seq:016x}"));
        let id = EventId::new(&tenant, &job, "video.generation.completed");
        let time = at(event_seq / 1_000);
        let event = Event {
            id: id.to_string(),
            tenant: tenant.clone(),
            r#type: "video.generation.completed".into(),
            status: "completed".into(),
            generation_id: Some(job.clone()),
            model: Some("openai/sora-2-pro".into()),
            created_at: Some("2026-04-24T03:06:40Z".into()),
            unsigned_urls: vec![format!("https://openrouter.ai/api/v1/videos/{job}/content?index=0")],
            received_at: Some(to_proto(time)),
            idempotency_key: Some(format!("{job}-completed")),
            idempotency_key_matches: true,
            payload_sha256: vec![7; 32].into(),
            payload_size: 700,
            traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
            job_id: job,
            ..Event::default()
        };
        let route = "videos".to_owned();
        let delivery = DeliveryId::new(id, &route);
        let named = DeliveryRef { id: delivery.to_string(), tenant, route: route.clone() };
        let record = |what| Record { at: Some(to_proto(time)), event_seq, what: Some(what) };
        let planned = record(What::EventPlanned(EventPlanned { event: Some(event), routes: vec![route] }));
        let started =
            AttemptStarted { delivery: Some(named.clone()), number: 1, generation: 1, paced: false };
        let millis = |millis| Some(duration_to_proto(Duration::from_millis(millis)));
        let attempt = Attempt {
            number: 1,
            generation: 1,
            idempotency_key: delivery.idempotency_key(1),
            started_at: Some(to_proto(time)),
            duration: millis(12),
            outcome: AttemptOutcome::Accepted.into(),
            http_status: Some(202),
            detail: "Hermes accepted it for the agent".into(),
            timings: Some(Timings {
                first_byte: millis(11),
                total: millis(12),
                reused_connection: true,
                ..Timings::default()
            }),
            ..Attempt::default()
        };
        let status = DeliveryStatus {
            step: 1,
            state: DeliveryState::Delivered.into(),
            reason: attempt.detail.clone(),
            generation: 1,
            attempts: 1,
            ..DeliveryStatus::default()
        };
        let finished = AttemptFinished {
            delivery: Some(named),
            attempt: Some(attempt),
            status: Some(status),
            task: None,
        };
        done.push((planned, record(What::AttemptStarted(started)), record(What::AttemptFinished(finished))));
        if done.len() as u64 == group {
            let (mut begun, mut ended) = (Vec::new(), Vec::new());
            for (planned, started, finished) in done.drain(..) {
                begun.extend([planned, started]);
                ended.push(finished);
            }
            append(begun);
            append(ended);
        }
    }
    commits
}

#[test]
#[ignore = "it measures"]
fn folding_a_delivery() {
    let mut report = String::new();
    for (batch, tenants) in [(1_280_u64, 1_u64), (1_280, 1_000), (128, 1), (128, 1_000)] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(FILE);
        let mut connection = file::open(&file, &journal(u64::MAX >> 1)).unwrap();
        for round in 0..4 {
            let (mut took, count) = (Duration::ZERO, 128_000);
            for first in (0..count).step_by(usize::try_from(batch).unwrap()) {
                let commits = commits(1 + round * count + first, batch, 64, tenants);
                let before = used();
                apply::apply(&mut connection, &commits).unwrap();
                took += used() - before;
            }
            let each = took.as_secs_f64() * 1e6 / count as f64;
            let size = fs::metadata(&file).unwrap().len() / ((round + 1) * count);
            let _ = write!(
                report,
                "{batch:>5} a batch, {tenants:>4} tenants, {round}: {each:.2} µs, {size} bytes\n"
            );
        }
    }
    println!("{report}");
}
