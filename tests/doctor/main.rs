//! The example `doctor`, both ends as processes: what it prints is what programs are promised.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests say what they expect by panicking")]

#[cfg(all(feature = "proxy", feature = "tls"))]
mod corporate;
#[cfg(all(feature = "proxy", feature = "tls"))]
#[path = "../proxies/office.rs"]
mod office;
#[cfg(all(feature = "proxy", feature = "tls"))]
#[path = "../support/secure.rs"]
mod secure;
#[path = "../support/mod.rs"]
mod support;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use support::within;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// How many messages go each way, over how many seconds: one more than the silence in their middle.
const COUNT: &str = "20";
const SECONDS: &str = "7";

/// The example as it was built beside this test, built now if it was not.
async fn doctor() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let profile = here.parent().and_then(Path::parent).unwrap();
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--example", "doctor", "--target-dir"]).arg(profile.parent().unwrap());
    if profile.ends_with("release") {
        build.arg("--release");
    }
    let features = [
        ("http2", cfg!(feature = "http2")),
        ("proxy", cfg!(feature = "proxy")),
        ("testing", cfg!(feature = "testing")),
        ("tls", cfg!(feature = "tls")),
    ];
    for (feature, _) in features.into_iter().filter(|(_, on)| *on) {
        build.args(["--features", feature]);
    }
    let built =
        within(600, "the doctor is built", build.current_dir(env!("CARGO_MANIFEST_DIR")).status()).await;
    assert!(built.unwrap().success());
    profile.join("examples").join("doctor")
}

/// A doctor who serves on a free port of the loopback, and its URL.
async fn serve(doctor: &Path) -> (Child, String) {
    let mut command = Command::new(doctor);
    command.args(["serve", "127.0.0.1:0", COUNT, SECONDS]).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = within(30, "it listens", lines.next_line()).await.unwrap().unwrap();
    let url = line.split_whitespace().last().unwrap().to_owned();
    (child, url)
}

/// What a caller prints, line by line, and whether it says that all went well.
async fn call(doctor: &Path, args: &[&str]) -> (Vec<Value>, bool) {
    call_with(doctor, args, &[]).await
}

/// The same with variables of the environment: nothing of the machine's own is to be in the way.
async fn call_with(
    doctor: &Path,
    args: &[impl AsRef<OsStr>],
    variables: &[(&str, String)],
) -> (Vec<Value>, bool) {
    let (text, well) = print(doctor, args, variables).await;
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}")));
    (lines.collect(), well)
}

/// What a caller prints.
async fn print(doctor: &Path, args: &[impl AsRef<OsStr>], variables: &[(&str, String)]) -> (String, bool) {
    let mut command = Command::new(doctor);
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    let output = command.arg("call").args(args).kill_on_drop(true).output();
    let output = within(60, "the call ends", output).await.unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.success())
}

/// The numbers that events of a kind bear under a name, in their order.
fn numbers(lines: &[Value], event: &str, name: &str) -> Vec<u64> {
    lines.iter().filter(|line| line["ev"] == event).map(|line| line[name].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn each_transport_brings_every_message_once_and_in_order_both_ways() {
    let doctor = doctor().await;
    let (_serving, url) = serve(&doctor).await;
    let kinds =
        [("auto", "websocket"), ("websocket", "websocket"), ("sse", "sse"), ("long-polling", "long-polling")];
    let calls = kinds.map(|(asked, expected)| {
        let (doctor, url) = (doctor.clone(), url.clone());
        tokio::spawn(async move { (expected, call(&doctor, &[&url, asked, COUNT, SECONDS]).await) })
    });
    let all: Vec<u64> = (0..COUNT.parse().unwrap()).collect();
    for called in calls {
        let (transport, (lines, well)) = called.await.unwrap();
        assert!(well, "{lines:?}");
        assert_eq!(lines[0], json!({"ev": "open", "transport": transport}));
        assert_eq!(*lines.last().unwrap(), json!({"ev": "end"}));
        assert_eq!(numbers(&lines, "down", "n"), all, "{transport}");
        assert_eq!(numbers(&lines, "up", "n"), all, "{transport}");
        assert_eq!(numbers(&lines, "up", "i"), all, "{transport}");
        let known = ["open", "down", "up", "end"];
        assert!(lines.iter().all(|line| known.iter().any(|ev| line["ev"] == *ev)), "{lines:?}");
    }
}

#[tokio::test]
async fn where_nobody_answers_there_is_one_typed_error_and_an_end() {
    let doctor = doctor().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (url, code) in
        [(format!("http://{free}/"), "unreachable"), ("ftp://localhost/".to_owned(), "invalid_url")]
    {
        let (lines, well) = call(&doctor, &[&url, "auto", COUNT, SECONDS]).await;
        assert!(!well);
        assert_eq!(lines, [json!({"ev": "error", "code": code}), json!({"ev": "end"})]);
    }
}

#[cfg(feature = "testing")]
#[tokio::test]
async fn a_report_tells_what_was_tried_and_settled_on_and_why_and_what_could_be_changed() {
    use throughline::testing::{Rough, Rule};
    let doctor = doctor().await;
    let (_serving, url) = serve(&doctor).await;
    let server = url.trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
    let network = Rough::to(server).await.unwrap();
    network.add(Rule::StripUpgrade);
    let url = network.url("/");
    let (text, well) = print(&doctor, &[&url, "auto", COUNT, SECONDS, "--report"], &[]).await;
    assert!(well, "{text}");
    for told in [
        "websocket does not: a box on the way took the header Upgrade away",
        "sse works: ",
        "long-polling works: ",
        "    sse carried the session after ",
        "20 of 20 messages came down, 20 of 20 were answered",
        "Settled on sse. Why not websocket: a box on the way took the header Upgrade away",
        "WebSockets are stopped: whoever runs the proxy can forward",
    ] {
        assert!(text.contains(told), "{told:?} is not in:\n{text}");
    }
}
