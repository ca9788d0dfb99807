//! The files of a completed job whose tenant keeps them: when they are fetched, and how long deliveries wait for them.

use super::{because, changed};
use jiff::Timestamp;
use std::time::Duration;
use talaria_core::time::after;
use talaria_proto::{
    time::{from_proto, to_proto},
    v1::{Event, FilesState, Job, JobFiles, KeptFiles, kept::Outcome},
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

/// Until when the deliveries of the job's end wait; `None` if they do not.
pub(crate) fn wait(job: &Job, now: Timestamp) -> Option<Timestamp> {
    let until = from_proto(fetching(job)?.wait_until.as_ref());
    (until > now).then_some(until)
}

/// The job after a try. `None` if the try goes on, or came too late.
pub(crate) fn tried(job: &Job, outcome: &Outcome, now: Timestamp) -> Option<Job> {
    let mut files = fetching(job)?.clone();
    let (why, is_final) = match outcome {
        Outcome::UnderWay(_) => return None,
        Outcome::Files(KeptFiles { files: kept }) => {
            files.set_state(FilesState::Kept);
            files.kept.clone_from(kept);
            files.reason.clear();
            files.next_try_at = None;
            files.ended_at = Some(to_proto(now));
            return Some(Job { files: Some(files), ..changed(job, now) });
        }
        Outcome::Failed(why) => (why, false),
        Outcome::Refused(why) => (why, true),
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

/// What a prompt may say of files that are not there; empty if they are.
pub(crate) fn note(files: &JobFiles) -> String {
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

    #[test]
    fn files_are_fetched_at_once_and_waited_for() {
        for (urls, count) in [(0, 1), (3, 3), (100, 16)] {
            assert_eq!(files(&job(urls)).count, count);
        }
        let job = job(1);
        assert_eq!((due(&job), wait(&job, at(119)), wait(&job, at(120))), (Some(at(0)), Some(at(120)), None));
        assert_eq!((due(&Job::default()), wait(&Job::default(), at(0))), (None, None));
    }

    #[test]
    fn kept_files_are_waited_for_no_longer() {
        let kept = vec![KeptFile { size: 5, ..KeptFile::default() }];
        let job = tried(&job(1), &Outcome::Files(KeptFiles { files: kept.clone() }), at(3)).unwrap();
        assert_eq!((files(&job).state(), &files(&job).kept), (FilesState::Kept, &kept));
        assert_eq!((due(&job), wait(&job, at(4)), note(files(&job))), (None, None, String::new()));
        assert_eq!(tried(&job, &Outcome::Failed("late".into()), at(5)), None);
    }

    #[test]
    fn a_failed_try_is_repeated_with_longer_pauses_and_given_up() {
        let mut job = job(1);
        assert_eq!(tried(&job, &Outcome::UnderWay(7), at(1)), None);
        let mut now = at(0);
        for pause in PAUSES {
            job = tried(&job, &Outcome::Failed("502".into()), now).unwrap();
            assert_eq!(due(&job), Some(after(now, pause)));
            assert!(note(files(&job)).contains("not here yet: 502"), "{}", note(files(&job)));
            now = after(now, pause);
        }
        job = tried(&job, &Outcome::Failed("502".into()), now).unwrap();
        assert_eq!((files(&job).state(), due(&job), files(&job).tries), (FilesState::NotKept, None, 8));
        assert!(note(files(&job)).contains("could not be kept: 502"));
    }

    #[test]
    fn what_is_refused_is_not_tried_again() {
        let job = tried(&job(1), &Outcome::Refused("too long".into()), at(1)).unwrap();
        assert_eq!((files(&job).state(), due(&job), wait(&job, at(1))), (FilesState::NotKept, None, None));
    }
}
