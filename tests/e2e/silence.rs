//! Relays that accept connections and never answer.

use std::{net::TcpListener, path::Path, process::Output, thread};
use talaria_tests::binary::run;

/// Accepts connections and never answers. Returns the URL.
fn silent() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    // Until the test's process ends.
    thread::spawn(move || listener.incoming().collect::<Vec<_>>());
    url
}

/// A whole id: of a beginning the relay would be asked first, and nothing would be done yet.
const DELIVERY: &str = "dlv_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const JOB: &str = "job_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

#[test]
fn commands_give_up_a_silent_relay_and_warn_of_unknown_outcomes() {
    let url = silent();
    let asks: [&[&str]; 9] = [
        &["status"],
        &["stats"],
        &["explain", "job-1"],
        &["replays"],
        &["actions"],
        &["watch"],
        &["models", "--tenant", "acme"],
        &["jobs"],
        &["costs"],
    ];
    let may_be_done = "it may still be done";
    let intervenes: [(&[&str], &str); 7] = [
        (&["pause", "acme", "--as", "ana"], may_be_done),
        (&["resume", "acme", "--as", "ana"], may_be_done),
        (&["cancel", DELIVERY, "--as", "ana"], may_be_done),
        (&["replay", DELIVERY, "--as", "ana"], may_be_done),
        (&["stop-job", JOB, "--as", "ana"], may_be_done),
        (&["track", "gen-vid-1", "--tenant", "acme", "--as", "ana"], "can be tracked again without harm"),
        (
            &["submit", "--model", "m", "a cat", "--tenant", "acme", "--request-id", "r-1", "--as", "ana"],
            "a job may have been made; --request-id r-1 asks again, and is never a second job",
        ),
    ];
    thread::scope(|scope| {
        let running: Vec<_> = asks
            .into_iter()
            .map(|args| (args, ""))
            .chain(intervenes)
            .map(|(args, says)| {
                let args = [args, &["--relay", &url][..]].concat();
                (args.clone(), says, scope.spawn(move || run(Path::new("."), &args)))
            })
            .collect();
        for (args, says, output) in running {
            let Output { status, stderr, .. } = output.join().unwrap();
            let said = String::from_utf8(stderr).unwrap();
            assert_eq!(status.code(), Some(5), "{args:?}: {said}");
            assert!(said.contains("the relay takes connections and does not answer"), "{args:?}: {said}");
            assert!(said.contains(says), "{args:?}: {said}");
            assert_eq!(said.contains(may_be_done), says == may_be_done, "{args:?}: {said}");
        }
    });
}
