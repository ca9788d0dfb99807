use super::{budget::refusal, poll, *};
use proptest::prelude::*;
use talaria_core::config::Budget;
use talaria_proto::v1::{Ended, Polled, polled};

const SETTINGS: Poll = Poll {
    first: Duration::from_secs(90),
    every: Duration::from_secs(30),
    slowest: Duration::from_secs(300),
    give_up: Duration::from_secs(10_800),
};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_777_000_000 + seconds).unwrap()
}

fn submitting() -> Job {
    let job = Job {
        id: "job_x".into(),
        tenant: "acme".into(),
        request_id: "r1".into(),
        model: "google/veo-3.1".into(),
        callback_token: "token".into(),
        ..Job::default()
    };
    begun(job, &SETTINGS, at(0))
}

fn made() -> Outcome {
    Outcome::Made(Made { openrouter_id: "or1".into(), status: "pending".into() })
}

fn running() -> Job {
    outcome(&made())
}

/// A job that was being submitted, after this outcome.
fn outcome(outcome: &Outcome) -> Job {
    submitted(&submitting(), outcome, None, &SETTINGS, at(3), 0.5).unwrap()
}

fn unknown() -> Job {
    outcome(&Outcome::Unknown("cut".into()))
}

fn event(status: &str, source: EventSource) -> Event {
    Event {
        id: format!("evt_{status}"),
        tenant: "acme".into(),
        r#type: format!("video.generation.{status}"),
        job_id: "or1".into(),
        status: status.into(),
        cost_micros: Some(500_000),
        source: source.into(),
        ..Event::default()
    }
}

fn answer(outcome: polled::Outcome) -> Polled {
    Polled { outcome: Some(outcome), retry_after_ms: 0 }
}

#[test]
fn a_submit_has_three_outcomes_and_a_lost_answer_is_never_a_refusal() {
    let job = running();
    assert_eq!((job.state(), job.openrouter_id.as_str()), (JobState::Running, "or1"));
    assert_eq!(due(&job), Some(at(93)));
    for (refusal, try_again) in
        [(Outcome::Refused("no".into()), false), (Outcome::NotSent("no".into()), true)]
    {
        let refused = outcome(&refusal);
        assert_eq!((refused.state(), due(&refused), refused.try_again), (JobState::Refused, None, try_again));
    }
    assert_eq!((unknown().state(), due(&unknown())), (JobState::Unknown, Some(at(10_800))));
    assert_eq!(interrupted(&submitting(), at(3)).state(), JobState::Unknown);
}

#[test]
fn an_id_that_another_job_has_is_no_answer_to_a_submit() {
    let twice = submitted(&submitting(), &made(), Some("job_y"), &SETTINGS, at(3), 0.5).unwrap();
    assert_eq!((twice.state(), twice.openrouter_id.as_str()), (JobState::Unknown, ""));
    assert!(twice.reason.contains("the id or1, which job_y has already"), "{}", twice.reason);
    let own = Event { job_id: "or2".into(), ..event("completed", EventSource::Unspecified) };
    let claimed = joined(&twice, &own, at(60)).unwrap();
    assert_eq!((claimed.state(), claimed.openrouter_id.as_str()), (JobState::Completed, "or2"));
    let refused = Outcome::Refused("no".into());
    let refused = submitted(&submitting(), &refused, Some("job_y"), &SETTINGS, at(3), 0.5).unwrap();
    assert_eq!(refused.state(), JobState::Refused);
}

#[test]
fn a_reason_is_short() {
    let long = outcome(&Outcome::Refused("é".repeat(301))).reason;
    assert!(long.chars().count() == 300 && long.ends_with("é…"), "{long}");
    let fits = "é".repeat(300);
    assert_eq!(outcome(&Outcome::Refused(fits.clone())).reason, fits);
}

#[test]
fn a_callback_that_comes_before_the_answer_ends_the_job() {
    let done = joined(&submitting(), &event("completed", EventSource::Unspecified), at(2)).unwrap();
    assert_eq!((done.state(), done.openrouter_id.as_str()), (JobState::Completed, "or1"));
    for late in [made(), Outcome::Unknown("cut".into())] {
        assert_eq!(submitted(&done, &late, None, &SETTINGS, at(3), 0.5), None);
    }
}

#[test]
fn a_callback_claims_a_job_whose_answer_was_lost_and_a_late_one_a_job_that_was_given_up() {
    let unknown = unknown();
    let failed = joined(&unknown, &event("failed", EventSource::Unspecified), at(60)).unwrap();
    assert_eq!((failed.state(), failed.openrouter_id.as_str()), (JobState::Failed, "or1"));
    assert_eq!(overdue(&unknown, at(10_799)), None);
    let given_up = overdue(&unknown, at(10_800)).unwrap();
    assert_eq!(given_up.state(), JobState::Abandoned);
    assert!(given_up.reason.contains("google/veo-3.1"), "{}", given_up.reason);
    let late = joined(&given_up, &event("completed", EventSource::Unspecified), at(20_000)).unwrap();
    assert_eq!(late.state(), JobState::Completed);
}

#[test]
fn stopping_says_that_the_cost_stays() {
    let job = stopped(&running(), "ann", "too slow", at(100)).unwrap();
    assert_eq!(job.state(), JobState::Stopped);
    assert!(job.reason.contains("ann stopped waiting: too slow") && job.reason.contains("cost stays"));
    assert_eq!(stopped(&job, "ann", "", at(101)), None);
    assert_eq!(stopped(&submitting(), "ann", "", at(1)), None);
    assert_eq!(due(&job), None);
}

#[test]
fn polls_come_soon_and_then_more_rarely() {
    let every = |age: u64| poll::pause(&SETTINGS, Duration::from_secs(age), 0.5).as_secs();
    assert_eq!([0, 299, 600, 1800, 7200].map(every), [30, 30, 60, 180, 300]);
    for random in [0.0, 1.0] {
        let pause = poll::pause(&SETTINGS, Duration::ZERO, random);
        assert!((27..=33).contains(&pause.as_secs()), "{pause:?}");
    }
}

#[test]
fn an_unknown_job_is_looked_for_for_ten_minutes() {
    let not_found = answer(polled::Outcome::NotFound("OpenRouter does not know the job (404): no".into()));
    let (soon, _) = poll::polled(&running(), &not_found, &SETTINGS, at(100), 0.5).unwrap();
    assert_eq!(soon.state(), JobState::Running);
    assert_eq!(
        soon.reason,
        "OpenRouter does not know the job (404): no; a new job may appear after some minutes"
    );
    let (late, _) = poll::polled(&running(), &not_found, &SETTINGS, at(700), 0.5).unwrap();
    assert_eq!(late.state(), JobState::Abandoned);
    assert_eq!(late.reason, "OpenRouter does not know the job (404): no; it is not looked for any more");
}

#[test]
fn a_refused_key_fails_no_job_and_asks_for_a_pause_of_its_tenant() {
    let why = "OpenRouter refuses the key (401): User not found; compare openrouter.api_key";
    let denied = answer(polled::Outcome::Denied(why.into()));
    let (job, is_denied) = poll::polled(&running(), &denied, &SETTINGS, at(100), 0.5).unwrap();
    assert!(is_denied && job.state() == JobState::Running);
    assert_eq!(due(&job), Some(at(400)));
    assert_eq!(job.reason, why);
}

#[test]
fn jobs_that_were_put_off_together_are_due_one_after_another() {
    let put_off = |number: u32| {
        let job = Job { id: format!("job_{number}"), ..running() };
        due(&poll::put_off(&job, "the key is refused", at(400), at(100))).unwrap()
    };
    let mut times: Vec<_> = (0..100).map(put_off).collect();
    assert!((0..100).map(put_off).eq(times.iter().copied()), "an id decides its time");
    times.sort();
    assert!(times[0] >= at(400) && times[99] <= at(460), "{times:?}");
    assert!(times[25] < times[50] && times[50] < times[75], "{times:?}");
    times.dedup();
    assert!(times.len() > 90, "{times:?}");
}

#[test]
fn openrouter_may_ask_for_a_longer_pause_within_bounds() {
    let failed =
        |retry_after_ms| Polled { outcome: Some(polled::Outcome::Failed("429".into())), retry_after_ms };
    let next = |ms| due(&poll::polled(&running(), &failed(ms), &SETTINGS, at(100), 0.5).unwrap().0).unwrap();
    assert_eq!(next(0), at(130));
    assert_eq!(next(120_000), at(220));
    assert_eq!(next(u64::MAX), at(400));
}

#[test]
fn a_job_that_ended_by_a_poll_waits_ten_minutes_for_its_callback() {
    let done = joined(&running(), &event("completed", EventSource::Poll), at(120)).unwrap();
    assert_eq!((done.source(), done.callback_at), (JobSource::Poll, None));
    assert_eq!(due(&done), Some(at(720)));
    let missing = overdue(&done, at(720)).unwrap();
    assert!(missing.callback_missing && missing.state() == JobState::Completed);
    assert_eq!(due(&missing), None);
    let came = joined(&missing, &event("completed", EventSource::Unspecified), at(900)).unwrap();
    assert!(came.callback_at.is_some() && came.source() == JobSource::Poll);
}

#[test]
fn a_tracked_job_is_polled_at_once_and_owes_no_callback() {
    let tracked = begun(Job { openrouter_id: "or1".into(), ..Job::default() }, &SETTINGS, at(0));
    assert_eq!((tracked.state(), due(&tracked)), (JobState::Running, Some(at(0))));
    let done = joined(&tracked, &event("completed", EventSource::Poll), at(1)).unwrap();
    assert_eq!(due(&done), None);
}

#[test]
fn a_job_of_a_tenant_that_only_polls_owes_no_callback() {
    let job = Job { callback_token: String::new(), ..running() };
    let done = joined(&job, &event("completed", EventSource::Poll), at(120)).unwrap();
    assert_eq!((due(&done), overdue(&done, at(10_000))), (None, None));
    let unknown = Job { callback_token: String::new(), ..unknown() };
    let given_up = overdue(&unknown, at(10_800)).unwrap();
    assert!(given_up.reason.starts_with("its tenant only polls"), "{}", given_up.reason);
}

#[test]
fn an_event_that_is_no_end_changes_nothing() {
    assert_eq!(joined(&running(), &event("progress", EventSource::Unspecified), at(9)), None);
    let dead = joined(&running(), &event("dead", EventSource::Poll), at(9)).unwrap();
    assert_eq!(dead.state(), JobState::Failed);
}

#[test]
fn budgets_refuse_with_the_sums_and_the_reset() {
    let budget = Budget { per_job: Some(2_000_000), per_day: Some(5_000_000) };
    let costing = |estimate, cost, state: JobState| Job {
        estimate_micros: Some(estimate),
        cost_micros: cost,
        created_at: Some(to_proto(at(0))),
        state: state.into(),
        ..Job::default()
    };
    let jobs = [
        costing(1_000_000, Some(2_100_000), JobState::Completed),
        costing(1_500_000, None, JobState::Running),
        costing(9_000_000, None, JobState::Refused),
    ];
    let refused = |estimate, without| refusal(&budget, jobs.iter(), estimate, without, at(60));
    assert_eq!(refused(Some(1_400_000), false), None);
    assert_eq!(
        refused(Some(1_400_001), false).unwrap(),
        "$3.60 of openrouter.budget.per_day ($5.00) are spent or expected to be, and it would cost about $1.400001; a new day \
         begins at 2026-04-25T00:00:00Z"
    );
    assert!(refused(Some(2_000_001), false).unwrap().contains("openrouter.budget.per_job is $2.00"));
    assert!(refused(None, false).unwrap().contains("not understood"));
    assert_eq!(refused(None, true), None);
    assert_eq!(refusal(&budget, jobs.iter(), Some(1_900_000), false, at(86_400 * 2)), None, "another day");
    assert_eq!(refusal(&Budget::default(), jobs.iter(), None, false, at(0)), None);
}

#[derive(Clone, Debug)]
enum Happens {
    Callback,
    PollEvent,
    Polled(polled::Outcome),
    Overdue,
    Stop,
}

fn happens() -> impl Strategy<Value = Happens> {
    let ended = Ended { status: "completed".into(), event_id: "evt_completed".into() };
    prop_oneof![
        Just(Happens::Callback),
        Just(Happens::PollEvent),
        prop_oneof![
            Just(polled::Outcome::Running("pending".into())),
            Just(polled::Outcome::Ended(ended)),
            Just(polled::Outcome::NotFound("no".into())),
            Just(polled::Outcome::Denied("no".into())),
            Just(polled::Outcome::Failed("no".into())),
        ]
        .prop_map(Happens::Polled),
        Just(Happens::Overdue),
        Just(Happens::Stop),
    ]
}

proptest! {
    /// Whatever the order of callbacks, polls, operators and time: the job ends as its event says, and keeps that end.
    #[test]
    fn an_event_ends_its_job_in_any_order(
        steps in prop::collection::vec((happens(), 0..4_000_i64), 1..24),
        start in prop::sample::select(vec![0, 1, 2]),
    ) {
        let mut job = match start {
            0 => submitting(),
            1 => running(),
            _ => unknown(),
        };
        let (mut now, mut had_event) = (3, false);
        for (step, later) in steps {
            now += later;
            let next = match step {
                Happens::Callback => { had_event = true; joined(&job, &event("completed", EventSource::Unspecified), at(now)) }
                Happens::PollEvent => { had_event = true; joined(&job, &event("completed", EventSource::Poll), at(now)) }
                Happens::Polled(outcome) => poll::polled(&job, &answer(outcome), &SETTINGS, at(now), 0.5).map(|(job, _)| job),
                Happens::Overdue => overdue(&job, at(now)),
                Happens::Stop => stopped(&job, "ann", "", at(now)),
            };
            job = next.unwrap_or(job);
            prop_assert_eq!(job.state() == JobState::Completed, had_event);
            prop_assert_eq!(has_ended(&job), had_event);
            prop_assert_eq!(is_open(&job), job.ended_at.is_none());
            prop_assert!(!is_open(&job) || due(&job).is_some(), "an open job is always looked at again");
            prop_assert!(is_open(&job) || job.next_poll_at.is_none());
        }
        let given_up = overdue(&job, at(now + 20_000)).unwrap_or(job);
        prop_assert!(!is_open(&given_up), "every job ends");
    }
}
