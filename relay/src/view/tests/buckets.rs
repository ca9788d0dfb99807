//! Buckets: their sums, their removal, and queries of them.

use super::{
    folding::{carried, random},
    series::{HOUR, MINUTE, SeriesFilter, add, series},
    *,
};
use crate::decisions::classify::Next;
use proptest::prelude::*;
use talaria_proto::v1::{AttemptOutcome, SeriesBucket, SeriesCounts, record::What};

/// All buckets of a width, by tenant and route.
async fn sums(view: &View, width: i64) -> BTreeMap<(String, String), SeriesCounts> {
    view.write(|connection| series::merge(connection)).await.unwrap();
    let read = move |connection: &Connection| {
        let mut statement = connection.prepare("SELECT tenant, route, counts FROM series WHERE width = ?")?;
        let rows = statement.query_map([width], |row| {
            Ok(((row.get(0)?, row.get(1)?), schema::message::<SeriesCounts>(row, 2)?))
        })?;
        let mut sums: BTreeMap<_, SeriesCounts> = BTreeMap::new();
        for row in rows {
            let (of, counts) = row?;
            add(sums.entry(of).or_default(), &counts);
        }
        Ok(sums)
    };
    view.read(read).await.unwrap()
}

/// The counts of a history's records, without latencies.
fn account(history: &TestHistory) -> BTreeMap<(String, String), SeriesCounts> {
    let mut counts: BTreeMap<(String, String), SeriesCounts> = BTreeMap::new();
    let mut states = BTreeMap::new();
    for record in history.commits.iter().flat_map(|commit| &commit.commit.records) {
        let (delivery, status, attempt) = match record.what.as_ref().unwrap() {
            What::EventPlanned(planned) => {
                let tenant = &planned.event.as_ref().unwrap().tenant;
                let unmatched = u64::from(planned.routes.is_empty());
                let event = SeriesCounts { events: 1, unmatched, ..SeriesCounts::default() };
                for (tenant, route) in [(tenant.as_str(), ""), ("", "")] {
                    add(counts.entry((tenant.into(), route.into())).or_default(), &event);
                }
                for route in &planned.routes {
                    counts.entry((tenant.clone(), route.clone())).or_default().events += 1;
                    states.insert((record.event_seq, route.clone()), DeliveryState::Waiting);
                }
                continue;
            }
            What::AttemptFinished(it) => (&it.delivery, &it.status, it.attempt.as_ref()),
            What::DeliveryMoved(it) => (&it.delivery, &it.status, None),
            _ => continue,
        };
        let (delivery, state) = (delivery.as_ref().unwrap(), status.as_ref().unwrap().state());
        let before = states.insert((record.event_seq, delivery.route.clone()), state);
        let is_now = |of| u64::from(state == of && before != Some(of));
        let failed = attempt.is_some_and(|attempt| {
            [AttemptOutcome::Failed, AttemptOutcome::RouteFault].contains(&attempt.outcome())
        });
        let more = SeriesCounts {
            delivered: is_now(DeliveryState::Delivered),
            ignored: is_now(DeliveryState::Ignored),
            parked: is_now(DeliveryState::Parked),
            ambiguous: is_now(DeliveryState::Ambiguous),
            failed_attempts: failed.into(),
            ..SeriesCounts::default()
        };
        for (tenant, route) in
            [(delivery.tenant.as_str(), delivery.route.as_str()), (&delivery.tenant, ""), ("", "")]
        {
            add(counts.entry((tenant.into(), route.into())).or_default(), &more);
        }
    }
    counts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Minutes and hours add up to the account, also if commits are applied again.
    #[test]
    fn buckets_add_up_to_the_account(choices in prop::collection::vec(any::<u8>(), 1..40), batch in 1_usize..20) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let history = random(&choices);
            let (_kept, view) = view_in(&history.commits, batch).await;
            view.apply(&history.commits.as_slice().into()).await.unwrap();
            let (minutes, hours) = (sums(&view, MINUTE).await, sums(&view, HOUR).await);
            assert_eq!(minutes, hours);
            let mut of_routes = BTreeMap::new();
            for ((_, route), counts) in &minutes {
                let latencies: u64 = counts.latencies.values().sum();
                assert!(latencies <= counts.delivered);
                *of_routes.entry(!route.is_empty()).or_insert(0) += latencies;
            }
            let [all, routes] = [false, true].map(|is_route| of_routes.get(&is_route).copied().unwrap_or(0));
            assert_eq!(all, 2 * routes, "those of tenants, and those of partitions");
            let without = minutes.into_iter().map(|(of, counts)| {
                (of, SeriesCounts { latencies: BTreeMap::new(), ..counts })
            });
            assert_eq!(without.collect::<BTreeMap<_, _>>(), account(&history));
        });
    }
}

#[tokio::test]
async fn a_carried_event_counts_once() {
    let (mut known, carried) = carried();
    known.record("acme", at(99), 1, What::EventCarried(carried.clone()));
    let mut unknown = TestHistory::default();
    unknown.record("acme", at(99), 1, What::EventCarried(carried));
    for history in [known, unknown] {
        let (_kept, view) = view_of(&history).await;
        let sums = sums(&view, HOUR).await;
        let counts = |route: &str| {
            let counts = &sums[&("acme".to_owned(), route.to_owned())];
            (counts.events, counts.delivered, counts.latencies.len())
        };
        assert_eq!(
            [counts(""), counts("a"), counts("b"), counts("c")],
            [(1, 1, 1), (1, 0, 0), (1, 0, 0), (1, 1, 1)]
        );
    }
}

#[tokio::test]
async fn old_buckets_are_removed_in_steps() {
    let mut history = TestHistory::default();
    history.event("acme", &["a"]);
    let (_kept, view) = view_of(&history).await;
    // Each minute and each hour of two days, and none of a partition that is not there.
    let fill = "WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 2879)
                INSERT INTO series SELECT 0, 60, n * 60, 'old', '', x'' FROM n
                UNION ALL SELECT 0, 3600, n * 3600, 'old', '', x'' FROM n WHERE n < 48";
    view.write(move |connection| connection.execute(fill, ())).await.unwrap();
    let now = Timestamp::from_second(2 * 86_400).unwrap();
    let count = async |width: i64| {
        let select = "SELECT count(*) FROM series WHERE tenant = 'old' AND width = ?";
        view.read(move |c| c.query_row(select, [width], |row| row.get::<_, i64>(0))).await.unwrap()
    };
    let times = (86_400, 86_400);
    let step = view.write(move |connection| remove::expired_series(connection, times)).await.unwrap();
    assert_eq!((step, count(MINUTE).await), (false, 2_380));
    view.expire(now, Duration::from_secs(47 * 3_600)).await.unwrap();
    assert_eq!((count(MINUTE).await, count(HOUR).await), (1_440, 47));
    view.expire(now, Duration::from_secs(3_600)).await.unwrap();
    assert_eq!((count(MINUTE).await, count(HOUR).await), (60, 1), "no minute is older than the retention");
    while !view.remove(partition(0)).await.unwrap() {}
    assert_eq!(rows(&view, "series").await, 0);
}

#[tokio::test]
async fn series_are_of_all_of_a_tenant_or_of_a_route() {
    let mut history = TestHistory { elsewhere: "other", ..TestHistory::default() };
    for (tenant, routes) in [("acme", &["a", "b"][..]), ("acme", &["a"]), ("other", &["a"]), ("acme", &[])] {
        for task in history.event(tenant, routes).1 {
            history.attempt(&task, Next::Delivered);
        }
    }
    let (_kept, view) = view_of(&history).await;
    let first = series::start(at(0).as_second(), HOUR);
    let filter = |tenant: Option<&str>, route: Option<&str>, by_route| SeriesFilter {
        partitions: vec![0, 1],
        tenant: tenant.map(Into::into),
        route: route.map(Into::into),
        by_route,
        width: HOUR,
        first,
        end: first + 2 * HOUR,
    };
    let found = async |filter: SeriesFilter, most| -> Vec<(String, String, u64, u64)> {
        let buckets = view.read(move |connection| series(connection, &filter, most)).await.unwrap();
        let counts = |SeriesBucket { tenant, route, counts, .. }| {
            let counts = counts.unwrap();
            (tenant, route, counts.events, counts.delivered)
        };
        buckets.into_iter().map(counts).collect()
    };
    let row = |tenant: &str, route: &str, events, delivered| (tenant.into(), route.into(), events, delivered);
    assert_eq!(
        found(filter(None, None, false), 9).await,
        [row("", "", 3, 3), row("", "", 1, 1)],
        "a row for each partition"
    );
    assert_eq!(found(filter(Some("acme"), None, false), 9).await, [row("acme", "", 3, 3)]);
    assert_eq!(found(filter(Some("acme"), Some("b"), false), 9).await, [row("acme", "b", 1, 1)]);
    let of_acme = [row("acme", "", 3, 3), row("acme", "a", 2, 2), row("acme", "b", 1, 1)];
    assert_eq!(found(filter(Some("acme"), None, true), 9).await, of_acme);
    assert_eq!(found(filter(Some("acme"), Some("b"), true), 9).await, of_acme[2..]);
    let mut all = of_acme.to_vec();
    all.extend([row("other", "", 1, 1), row("other", "a", 1, 1)]);
    assert_eq!(found(filter(None, None, true), 9).await, all);
    // Until here from the last batch, and from here on from rows.
    view.write(|connection| series::merge(connection)).await.unwrap();
    assert_eq!(rows(&view, "series_added").await, 0);
    assert_eq!(found(filter(None, None, true), 9).await, all);
    assert_eq!(found(filter(Some("acme"), Some("b"), true), 9).await, of_acme[2..]);
    assert_eq!(found(filter(None, None, false), 9).await, [row("", "", 3, 3), row("", "", 1, 1)]);
    assert_eq!(found(filter(None, None, true), 3).await.len(), 4, "one more says that there are too many");
    let earlier = SeriesFilter { first: first - HOUR, end: first, ..filter(None, None, true) };
    assert!(found(earlier, 9).await.is_empty());
}
