//! The files of a completed job whose tenant keeps them: when they are fetched, and how long deliveries wait for them.

use super::{because, changed};
use jiff::Timestamp;
use std::time::Duration;
use talaria_core::time::after;
use talaria_proto::{
    time::{from_proto, to_proto},
    v1::{Event, FilesState, Job, JobFiles, Kept, kept::Outcome},
};

/// The pauses before further tries. After the last one, the files are given up.
const PAUSES: [Duration; 7] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(120),
    Duration::from_secs(600),
    Duration::from_secs(1_800),
    Duration::from_secs(3_600),
];

/// The most files of a job, as links have.
const MOST: usize = 16;

/// Why a delivery waits.
pub(crate) const WAITING: &str = "waiting for the file of its job";

/// The job when its event has ended it: its files are to be fetched, and deliveries wait for them at most so long.
pub(crate) fn begun(job: Job, event: &Event, wait: Duration, now: Timestamp) -> Job {
    let count = event.unsigned_urls.len().clamp(1, MOST);
    let files = JobFiles {
        state: FilesState::Fetching.into(),
        count: u32::try_from(count).unwrap_or(1),
        next_try_at: Some(to_proto(now)),
        wait_until: Some(to_proto(after(now, wait))),
        ..JobFiles::default()
    };
    Job { files: Some(files), ..job }
}

fn fetching(job: &Job) -> Option<&JobFiles> {
    job.files.as_ref().filter(|files| files.state() == FilesState::Fetching)
}

/// When the next try begins; `None` if none does.
pub(crate) fn due(job: &Job) -> Option<Timestamp> {
    fetching(job)?.next_try_at.as_ref().map(|at| from_proto(Some(at)))
}

/// Until when a delivery of the job's end waits; `None` if it does not. It waits for half of its longest age at most, so that the rest
/// is there for its attempts.
pub(crate) fn wait(job: &Job, age_from: Timestamp, max_age: Duration, now: Timestamp) -> Option<Timestamp> {
    let until = from_proto(fetching(job)?.wait_until.as_ref()).min(after(age_from, max_age / 2));
    (until > now).then_some(until)
}

/// Until when deliveries of the job's end wait at most; `None` if they do not.
pub(crate) fn longest_wait(job: &Job) -> Option<Timestamp> {
    fetching(job)?.wait_until.as_ref().map(|until| from_proto(Some(until)))
}

/// The job after a try. `None` if the try goes on, or came too late.
pub(crate) fn tried(job: &Job, Kept { files: kept, outcome }: &Kept, now: Timestamp) -> Option<Job> {
    let mut files = fetching(job)?.clone();
    files.kept.clone_from(kept);
    let (why, is_final) = match outcome {
        Some(Outcome::UnderWay(_)) | None => return None,
        Some(Outcome::All(_)) => {
            files.set_state(FilesState::Kept);
            files.reason.clear();
            files.next_try_at = None;
            files.ended_at = Some(to_proto(now));
            return Some(Job { files: Some(files), ..changed(job, now) });
        }
        Some(Outcome::Failed(why)) => (why, false),
        Some(Outcome::Refused(why)) => (why, true),
    };
    files.reason = because(why);
    let pause = PAUSES.get(files.tries as usize).filter(|_| !is_final);
    files.tries += 1;
    files.next_try_at = pause.map(|pause| to_proto(after(now, *pause)));
    if pause.is_none() {
        files.set_state(FilesState::NotKept);
        files.ended_at = Some(to_proto(now));
    }
    Some(Job { files: Some(files), ..changed(job, now) })
}

/// What a prompt may say of files that are not there; empty if they are. `None`: they are not to be kept.
pub(crate) fn note(files: Option<&JobFiles>) -> String {
    let Some(files) = files else { return "The file is not kept. The link fetches it.".to_owned() };
    let why = if files.reason.is_empty() { String::new() } else { format!(": {}", files.reason) };
    match files.state() {
        FilesState::Kept => String::new(),
        FilesState::Fetching | FilesState::Unspecified => {
            format!("The file is not here yet{why}. The link fetches it.")
        }
        FilesState::NotKept => format!("The file could not be kept{why}. The link fetches it."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use talaria_proto::v1::KeptFile;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_777_000_000 + seconds).unwrap()
    }

    fn job(urls: usize) -> Job {
        let event = Event { unsigned_urls: vec!["u".into(); urls], ..Event::default() };
        begun(Job::default(), &event, Duration::from_secs(120), at(0))
    }

    fn files(job: &Job) -> &JobFiles {
        job.files.as_ref().unwrap()
    }

    /// A try, after which one file of this size is kept.
    fn answer(size: u64, outcome: Outcome) -> Kept {
        let files = (size > 0).then(|| KeptFile { size, ..KeptFile::default() });
        Kept { files: files.into_iter().collect(), outcome: Some(outcome) }
    }

    fn failed(why: &str) -> Kept {
        answer(0, Outcome::Failed(why.into()))
    }

    #[test]
    fn files_are_fetched_at_once_and_waited_for() {
        for (urls, count) in [(0, 1), (3, 3), (100, 16)] {
            assert_eq!(files(&job(urls)).count, count);
        }
        let (job, day) = (job(1), Duration::from_secs(86_400));
        let waits = |now| wait(&job, at(0), day, now);
        assert_eq!((due(&job), waits(at(119)), waits(at(120))), (Some(at(0)), Some(at(120)), None));
        assert_eq!((due(&Job::default()), wait(&Job::default(), at(0), day, at(0))), (None, None));
    }

    #[test]
    fn a_delivery_waits_for_half_of_its_longest_age() {
        let (job, age) = (job(1), Duration::from_secs(60));
        assert_eq!(wait(&job, at(-10), age, at(0)), Some(at(20)));
        assert_eq!(wait(&job, at(-10), age, at(20)), None);
        assert_eq!(longest_wait(&job), Some(at(120)));
    }

    #[test]
    fn kept_files_are_waited_for_no_longer() {
        let job = tried(&job(1), &answer(5, Outcome::All(true)), at(3)).unwrap();
        assert_eq!((files(&job).state(), files(&job).kept[0].size), (FilesState::Kept, 5));
        assert_eq!((due(&job), longest_wait(&job), note(job.files.as_ref())), (None, None, String::new()));
        assert_eq!(tried(&job, &failed("late"), at(5)), None);
    }

    #[test]
    fn a_failed_try_is_repeated_with_longer_pauses_and_given_up() {
        let mut job = job(1);
        assert_eq!(tried(&job, &answer(0, Outcome::UnderWay(7)), at(1)), None);
        let mut now = at(0);
        for pause in PAUSES {
            job = tried(&job, &failed("502"), now).unwrap();
            assert_eq!(due(&job), Some(after(now, pause)));
            assert!(note(job.files.as_ref()).contains("not here yet: 502"));
            now = after(now, pause);
        }
        job = tried(&job, &failed("502"), now).unwrap();
        assert_eq!((files(&job).state(), due(&job), files(&job).tries), (FilesState::NotKept, None, 8));
        assert!(note(job.files.as_ref()).contains("could not be kept: 502"));
        assert!(note(None).starts_with("The file is not kept."));
    }

    #[test]
    fn what_is_refused_is_not_tried_again_and_what_is_kept_stays() {
        let refused = Outcome::Refused("too long".into());
        let job = tried(&job(2), &answer(5, refused), at(1)).unwrap();
        assert_eq!((files(&job).state(), due(&job), longest_wait(&job)), (FilesState::NotKept, None, None));
        assert_eq!(files(&job).kept[0].size, 5);
    }
}
