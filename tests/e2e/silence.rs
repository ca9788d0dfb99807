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

#[test]
fn commands_give_up_a_silent_relay_and_warn_of_unknown_outcomes() {
    let url = silent();
    let asks: [&[&str]; 5] = [&["status"], &["explain", "job-1"], &["replays"], &["actions"], &["watch"]];
    let intervenes: [&[&str]; 4] = [
        &["pause", "acme", "--as", "ana"],
        &["resume", "acme", "--as", "ana"],
        &["cancel", DELIVERY, "--as", "ana"],
        &["replay", DELIVERY, "--as", "ana"],
    ];
    thread::scope(|scope| {
        let running: Vec<_> = asks
            .into_iter()
            .map(|args| (args, false))
            .chain(intervenes.into_iter().map(|args| (args, true)))
            .map(|(args, may_be_done)| {
                let args = [args, &["--relay", &url][..]].concat();
                (args.clone(), may_be_done, scope.spawn(move || run(Path::new("."), &args)))
            })
            .collect();
        for (args, may_be_done, output) in running {
            let Output { status, stderr, .. } = output.join().unwrap();
            let said = String::from_utf8(stderr).unwrap();
            assert_eq!(status.code(), Some(5), "{args:?}: {said}");
            assert!(said.contains("the relay takes connections and does not answer"), "{args:?}: {said}");
            assert_eq!(said.contains("it may still be done"), may_be_done, "{args:?}: {said}");
        }
    });
}
