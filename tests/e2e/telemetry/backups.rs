//! When the last backup was made.

use super::scrape::{look, look_until};
use jiff::Timestamp;
use talaria_tests::{binary::run, nats, scrape::Scrape, sink::Sink, stack::stack};

const METRIC: &str = "talaria_last_backup_timestamp_seconds";

fn shown(scrape: &Scrape) -> Option<f64> {
    scrape.series.iter().find(|it| it.name == METRIC).map(|it| it.value)
}

#[expect(clippy::cast_precision_loss, reason = "as metrics are")]
fn now() -> f64 {
    Timestamp::now().as_second() as f64
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_the_last_backup_is_shown_once_there_was_one() {
    let (server, prefix) = (nats::shared().await, format!("backups-{:016x}", rand::random::<u64>()));
    let on_nats = format!("bus: {{nats: {{servers: [\"{server}\"], prefix: {prefix}}}}}");
    let sink = Sink::start().await;
    for bus in ["bus: embedded", &on_nats] {
        let stack = stack().with(bus).tenant("acme", |t| t.route("r", &sink.url("r"), "")).start().await;
        look_until("the streams", &stack, |scrape| scrape.types.contains_key("talaria_stream_entries")).await;
        assert_eq!(shown(&look(&stack).await), None, "{bus}");
        let mut before = now();
        for copy in ["first", "second"] {
            let made = run(stack.written.path(), &["backup", copy]);
            assert!(made.status.success(), "{bus}: {}", String::from_utf8_lossy(&made.stderr));
            let scrape =
                look_until("the backup", &stack, |scrape| shown(scrape).is_some_and(|at| at >= before)).await;
            assert!(shown(&scrape) <= Some(now()), "{bus}");
            before = now();
        }
    }
}
