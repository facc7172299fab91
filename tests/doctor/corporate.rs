//! The doctor behind a proxy, before a server with a certificate of the company's own.

use std::net::SocketAddr;

use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::office::{Office, Rules};
use crate::secure::{acceptor, certificate};
use crate::{COUNT, SECONDS, call_with, doctor, numbers, serve};

/// Ends TLS before a server, until it is dropped.
async fn in_front(server: SocketAddr) -> (u16, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, tls, mut tasks) =
        (listener.local_addr().unwrap().port(), acceptor("server", &[]), JoinSet::new());
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            let tls = tls.clone();
            connections.spawn(async move {
                let Ok(mut client) = tls.accept(client).await else { return };
                let Ok(mut server) = TcpStream::connect(server).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (port, tasks)
}

/// Options, variables of the environment, what it ends with, and whether the proxy is asked. `KNOWN` is its URL with the
/// right user, `NOBODY` the same without any, `CA` a file.
type Case = (&'static [&'static str], &'static [(&'static str, &'static str)], Option<&'static str>, bool);

const CASES: &[Case] = &[
    (&["--proxy", "KNOWN", "--ca", "CA"], &[], None, true),
    (&["--ca", "CA"], &[("HTTPS_PROXY", "KNOWN")], None, true),
    (&["--ca", "CA"], &[("HTTPS_PROXY", "NOBODY"), ("NO_PROXY", "localhost")], None, false),
    (&["--proxy", "NOBODY", "--ca", "CA"], &[("NO_PROXY", "*")], Some("proxy_auth_required"), true),
    (&["--proxy", "KNOWN"], &[], Some("certificate_untrusted"), true),
    (&[], &[("ALL_PROXY", "ftp://localhost")], Some("invalid_setup"), false),
];

#[tokio::test]
async fn proxies_and_roots_are_heeded_or_end_in_an_error_of_their_own() {
    let doctor = doctor().await;
    let (_serving, plain) = serve(&doctor).await;
    let server = plain.trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
    let (port, _tls) = in_front(server).await;
    let url = format!("https://localhost:{port}/");
    let mut calls = JoinSet::new();
    for (options, variables, code, asks) in CASES.iter().copied() {
        let office = Office::new(Rules { wants_user: true, ..Rules::default() }).await;
        let fill = |text: &str| {
            let ca = certificate("authority.pem").display().to_string();
            let known = office.url("http", "me:secret@");
            text.replace("CA", &ca).replace("KNOWN", &known).replace("NOBODY", &office.url("http", ""))
        };
        let args = ["TARGET", "auto", COUNT, SECONDS].iter().chain(options.iter()).map(|arg| match *arg {
            "TARGET" => url.clone(),
            arg => fill(arg),
        });
        let args: Vec<_> = args.collect();
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, fill(value))).collect();
        let doctor = doctor.clone();
        calls.spawn(async move {
            // All of it, or it ends before it is asked.
            let office = office;
            let (lines, well) = call_with(&doctor, &args, &variables).await;
            assert_eq!(office.asked.any("CONNECT"), asks, "{args:?} {variables:?}");
            match code {
                None => {
                    assert!(well, "{args:?} {variables:?}: {lines:?}");
                    let all: Vec<u64> = (0..COUNT.parse().unwrap()).collect();
                    assert_eq!(
                        (numbers(&lines, "down", "n"), numbers(&lines, "up", "i")),
                        (all.clone(), all)
                    );
                }
                Some(code) => {
                    assert!(!well);
                    assert_eq!(lines, [json!({"ev": "error", "code": code}), json!({"ev": "end"})]);
                }
            }
        });
    }
    calls.join_all().await;
}
