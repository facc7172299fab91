//! Real boxes: nginx, HAProxy, Squid, Apache, lighttpd, Varnish, tinyproxy and Privoxy, as Debian sets them up and as administrators do. Behind each of them, each
//! transport by itself brings everything through, once and in order and both ways, or ends with one typed error; all
//! together (`auto`) bring everything through wherever anybody may.
//!
//! `./test.sh` installs the boxes and runs this. What a run shows with `--nocapture` is the table of `docs/NETWORKS.md`.
//! `BOX=<part of its name>` before it makes only such runs.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests say what they expect by panicking")]

mod apache;
mod boxes;
mod conversation;
mod forward;
mod haproxy;
mod lighttpd;
mod nginx;
#[path = "../support/secure.rs"]
mod secure;
mod squid;
#[path = "../support/mod.rs"]
mod support;
mod varnish;

use std::sync::Arc;

use throughline::client::{Backoff, Builder};
use throughline::testing::{Rough, Rule};
use throughline::{Client, TransportKind};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use boxes::Origin;
use conversation::{Load, Outcome, converse};
use secure::{Secure, certificate};
use support::Served;

/// How many conversations go at once.
const AT_ONCE: usize = 24;

/// How often one that never begins is tried.
const ATTEMPTS: u32 = 3;

/// A box, set up in some way, and how a client gets to it.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub name: String,
    url: String,
    proxy: Option<String>,
    barred: bool,
    load: Load,
}

impl Case {
    pub(crate) fn new(name: impl Into<String>, url: impl Into<String>) -> Self {
        Self { name: name.into(), url: url.into(), proxy: None, barred: false, load: Load::Usual }
    }

    pub(crate) fn proxy(self, url: String) -> Self {
        Self { proxy: Some(url), ..self }
    }

    /// Nobody may pass.
    pub(crate) fn barred(self) -> Self {
        Self { barred: true, ..self }
    }

    /// Messages are larger than bodies may be.
    pub(crate) fn heavy(self) -> Self {
        Self { load: Load::Heavy, ..self }
    }

    fn client(&self, transports: &[TransportKind]) -> Builder {
        let builder = Client::builder(&self.url)
            .transports(transports.iter().copied())
            .ca_file(certificate("authority.pem"))
            .backoff(Backoff::default())
            .max_attempts(ATTEMPTS);
        match &self.proxy {
            Some(url) => builder.proxy(url),
            None => builder.no_proxy(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_repeated_or_reordered_behind_real_boxes() {
    let server = conversation::server();
    let served = Served::new(&server).await;
    let rough = Rough::to(served.address).await.unwrap();
    rough.every(4, Rule::DropResponse);
    let secure = Secure::serving(&server, "server", &["h2", "http/1.1"], true).await;
    let origin = Origin { server: served.address, losing: rough.address() };
    let (_nginx, mut cases) = nginx::start(origin).await;
    let (_haproxy, more) = haproxy::start(origin).await;
    cases.extend(more);
    let (_squid, more) = squid::start(origin, secure.address).await;
    cases.extend(more);
    let (_apache, more) = apache::start(origin).await;
    cases.extend(more);
    let (_lighttpd, more) = lighttpd::start(origin).await;
    cases.extend(more);
    let (_varnish, more) = varnish::start(origin).await;
    cases.extend(more);
    let (_forward, more) = forward::start(origin).await;
    cases.extend(more);
    if let Ok(part) = std::env::var("BOX") {
        cases.retain(|case| case.name.contains(&part));
        assert!(!cases.is_empty(), "no box is called {part}");
    }
    let (places, mut running) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
    for (at, case) in cases.into_iter().enumerate() {
        let mut ways = vec![("auto", TransportKind::ALL.to_vec())];
        ways.extend(TransportKind::ALL.map(|kind| (kind.as_str(), vec![kind])));
        for (way, transports) in ways {
            let (case, places) = (case.clone(), Arc::clone(&places));
            running.spawn(async move {
                let _place = places.acquire().await.unwrap();
                let outcome = converse(case.client(&transports), case.load).await;
                (at, case, way, outcome)
            });
        }
    }
    let mut outcomes = running.join_all().await;
    outcomes.sort_by_key(|(at, _, way, _)| (*at, *way));
    for (_, case, way, outcome) in &outcomes {
        println!("{:<40} {way:<13} {outcome}", case.name);
    }
    let bad = outcomes.iter().filter(|(_, case, way, outcome)| match outcome {
        Outcome::Broken(_) => true,
        Outcome::Failed { .. } => *way == "auto" && !case.barred,
        Outcome::Passed { .. } => case.barred,
    });
    let bad: Vec<_> = bad.map(|(_, case, way, outcome)| format!("{} {way}: {outcome}", case.name)).collect();
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}
