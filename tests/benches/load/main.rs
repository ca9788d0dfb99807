//! quick
#![allow(missing_docs, clippy::all, clippy::pedantic,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    dead_code)]

mod bare;
mod generator;
mod measure;

use std::{io::BufRead as _, process::{Command, Stdio}, time::Duration};
use talaria_tests::stack::{openrouter_secret, stack};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.iter().any(|a| a == "bare-server") { bare::serve(&openrouter_secret("acme")).await; return; }
    let secs: u64 = std::env::var("SECS").ok().and_then(|s| s.parse().ok()).unwrap_or(5);
    let conns: Vec<usize> = std::env::var("CONNS").map(|s| s.split(',').map(|x| x.parse().unwrap()).collect()).unwrap_or(vec![64, 256]);
    let mode = std::env::var("MODE").unwrap_or("none".into());
    let mut child = Command::new(std::env::current_exe().unwrap()).arg("bare-server").stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let bare: std::net::SocketAddr = line.trim().parse().unwrap();
    let t = stack().with("data_dir: /tmp/talaria-bench-data");
    let _ = std::fs::remove_dir_all("/tmp/talaria-bench-data");
    let s = match mode.as_str() {
        "none" => t.tenant("acme", |t| t),
        "paced" => t.tenant("acme", |t| t.route("r", "http://127.0.0.1:1/webhooks/r", "")),
        _ => panic!(),
    }.start().await;
    println!("idle rss {:.1}", measure::memory(s.pid()));
    for c in conns {
        for round in 0..2 {
            for (name, addr, pid) in [("bare", bare, child.id()), ("talaria", s.ingress(), s.pid())] {
                let before = measure::cpu(pid);
                let n = format!("{c}-{round}");
                let mut r = generator::run(addr, "acme", &openrouter_secret("acme"), &n, c, move |_, t| t > Duration::from_secs(secs)).await;
                println!("{c} {name}: {:.0}/s p50 {:?} p99 {:?} cpu/req {:.1}us rss {:.1}", r.rate(), r.percentile(50), r.percentile(99), (measure::cpu(pid)-before).as_micros() as f64 / r.acknowledged.len() as f64, measure::memory(pid));
            }
        }
    }
    child.kill().unwrap(); child.wait().unwrap();
}
