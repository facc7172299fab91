//! Which transport to try next.
//!
//! It ranks, remembers what failed in this round, and demotes what opens and does not last. It is sans-IO: time comes
//! in. It knows nothing of dialling; how many are tried at once is its user's affair.

use std::time::{Duration, Instant, SystemTime};

use crate::frame::TransportKind;

use super::verdicts::{FINDINGS_HOLD, Findings, instant_of, moment_of};

/// A transport that ends within this time of its opening was short-lived.
pub(super) const SHORT_LIFE: Duration = Duration::from_secs(5);

/// After so many short lives in a row a transport is demoted (`docs/PROTOCOL.md`, "Switching").
const SHORT_LIVES: u8 = 2;

/// Which transports to try, in which order.
///
/// A round begins with the best and goes down until one carries or all have failed.
#[derive(Debug)]
pub(super) struct Plan {
    /// What the application allows, best first.
    allowed: Vec<TransportKind>,
    /// The same as the server ranks it, once that is known.
    ranked: Vec<TransportKind>,
    /// What was asked for by a move that succeeded: it stands before all ranks.
    preferred: Option<TransportKind>,
    /// What has failed in this round.
    failed: Vec<TransportKind>,
    /// What was turned down for now in this round.
    put_off: Vec<TransportKind>,
    records: Vec<Record>,
    /// What was demoted and not told yet.
    demoted: Vec<TransportKind>,
}

#[derive(Debug)]
struct Record {
    kind: TransportKind,
    short_lives: u8,
    demoted_until: Option<Instant>,
    /// Whether the latest demotion was for want of any proof.
    distrusted: bool,
}

impl Plan {
    /// A plan over what the application allows, best first.
    pub(super) fn new(allowed: Vec<TransportKind>) -> Self {
        Self {
            ranked: allowed.clone(),
            allowed,
            preferred: None,
            failed: Vec::new(),
            put_off: Vec::new(),
            records: Vec::new(),
            demoted: Vec::new(),
        }
    }

    /// Takes the server's word: its order, and only what it offers and the application allows.
    pub(super) fn rank(&mut self, offered: &[TransportKind]) {
        let mut ranked = Vec::new();
        for kind in offered {
            if self.allowed.contains(kind) && !ranked.contains(kind) {
                ranked.push(*kind);
            }
        }
        // A server that offers nothing of what is allowed was reached all the same.
        self.ranked = if ranked.is_empty() { self.allowed.clone() } else { ranked };
    }

    /// Whether a transport may be used at all.
    pub(super) fn allows(&self, kind: TransportKind) -> bool {
        self.allowed.contains(&kind)
    }

    /// Whether there is only one to try.
    pub(super) fn has_one(&self) -> bool {
        self.ranked.len() == 1
    }

    /// Puts a transport first from now on.
    pub(super) fn prefer(&mut self, kind: TransportKind) {
        self.preferred = Some(kind);
    }

    /// The next to try in this round; `None` when all have failed.
    pub(super) fn next(&self, now: Instant) -> Option<TransportKind> {
        let preferred = self.preferred.filter(|kind| self.allows(*kind));
        let order = || preferred.into_iter().chain(self.ranked.iter().copied());
        let open = |kind: &TransportKind| self.is_open(*kind);
        let demoted = || order().filter(open).min_by_key(|kind| self.distrusted_until(*kind));
        order().filter(open).find(|kind| !self.is_demoted(*kind, now)).or_else(demoted)
    }

    /// The next to try in this round beside those that are under way.
    pub(super) fn next_beside(&self, under_way: &[TransportKind], now: Instant) -> Option<TransportKind> {
        let open = |kind: &TransportKind| self.is_open(*kind) && !under_way.contains(kind);
        let order = || self.ranked.iter().copied().filter(open);
        let demoted = || order().min_by_key(|kind| self.distrusted_until(*kind));
        order().find(|kind| !self.is_demoted(*kind, now)).or_else(demoted)
    }

    /// Notes that a transport failed, for reasons of its own, in this round.
    pub(super) fn failed(&mut self, kind: TransportKind) {
        if !self.failed.contains(&kind) {
            self.failed.push(kind);
        }
    }

    /// Notes that a transport was turned down for now: it stands aside in this round, and keeps its rank.
    pub(super) fn put_off(&mut self, kind: TransportKind) {
        self.put_off.push(kind);
    }

    /// Takes up what was turned down before: it is no worse than the others, which were turned down too.
    pub(super) fn take_up(&mut self) {
        self.put_off.clear();
    }

    /// Whether a transport was not tried in vain in this round.
    fn is_open(&self, kind: TransportKind) -> bool {
        !self.failed.contains(&kind) && !self.put_off.contains(&kind)
    }

    /// Begins a new round.
    pub(super) fn restart(&mut self) {
        self.failed.clear();
        self.put_off.clear();
    }

    /// Notes that a transport carries the session: what failed in this round is worse than it, not the network, and
    /// is demoted.
    pub(super) fn carried(&mut self, kind: TransportKind, now: Instant) {
        self.put_off.clear();
        for failed in std::mem::take(&mut self.failed) {
            if failed != kind {
                self.distrust(failed, now);
            }
        }
    }

    /// Notes that a transport carried for so long: long enough, it is demoted no more.
    pub(super) fn lived(&mut self, kind: TransportKind, life: Duration) {
        if life >= SHORT_LIFE {
            let record = self.record(kind);
            (record.short_lives, record.demoted_until) = (0, None);
        }
    }

    /// The same for one that has ended not by anybody's decision: two short lives in a row demote it.
    pub(super) fn ended_after(&mut self, kind: TransportKind, life: Duration, now: Instant) {
        self.lived(kind, life);
        let record = self.record(kind);
        if life >= SHORT_LIFE {
            return;
        }
        record.short_lives += 1;
        if record.short_lives >= SHORT_LIVES {
            self.demote(kind, now);
        }
    }

    /// Puts a transport behind all others for a while.
    pub(super) fn demote(&mut self, kind: TransportKind, now: Instant) {
        self.demoted.push(kind);
        let record = self.record(kind);
        (record.short_lives, record.distrusted) = (0, false);
        record.demoted_until = now.checked_add(FINDINGS_HOLD);
    }

    /// The same for what did not open, or was never proved: where all are demoted it stands behind those that were, and
    /// behind what was distrusted before.
    pub(super) fn distrust(&mut self, kind: TransportKind, now: Instant) {
        self.demote(kind, now);
        self.record(kind).distrusted = true;
    }

    /// What was demoted since this was asked last.
    pub(super) fn take_demoted(&mut self) -> Vec<TransportKind> {
        std::mem::take(&mut self.demoted)
    }

    /// What ranks above a transport, best first: what was demoted may have come to work.
    pub(super) fn better_than(&self, kind: TransportKind) -> Vec<TransportKind> {
        let preferred = self.preferred.filter(|kind| self.allows(*kind));
        preferred.into_iter().chain(self.ranked.iter().copied()).take_while(|other| *other != kind).collect()
    }

    /// Takes up what is known of a network, in place of what was.
    pub(super) fn recall(&mut self, findings: &Findings, now: Instant) {
        let clock = SystemTime::now();
        let records = findings.iter().map(|finding| Record {
            kind: finding.transport,
            short_lives: 0,
            distrusted: false,
            demoted_until: finding.demoted_until.map(|until| {
                // A clock that was set back must not make it last.
                instant_of(until, clock, now).min(now + FINDINGS_HOLD)
            }),
        });
        self.records = records.collect();
    }

    /// Says what is known of a network.
    pub(super) fn tell(&self, findings: &mut Findings, now: Instant) {
        let clock = SystemTime::now();
        for record in &self.records {
            findings.of(record.kind).demoted_until =
                record.demoted_until.map(|until| moment_of(until, clock, now));
        }
    }

    pub(super) fn is_demoted(&self, kind: TransportKind, now: Instant) -> bool {
        let record = self.records.iter().find(|record| record.kind == kind);
        record.and_then(|record| record.demoted_until).is_some_and(|until| until > now)
    }

    fn distrusted_until(&self, kind: TransportKind) -> Option<Instant> {
        self.records.iter().find(|record| record.kind == kind && record.distrusted)?.demoted_until
    }

    fn record(&mut self, kind: TransportKind) -> &mut Record {
        let at = self.records.iter().position(|record| record.kind == kind).unwrap_or_else(|| {
            self.records.push(Record { kind, short_lives: 0, demoted_until: None, distrusted: false });
            self.records.len() - 1
        });
        &mut self.records[at]
    }
}

#[cfg(test)]
mod tests {
    use super::TransportKind::{LongPolling, Sse, WebSocket};
    use super::*;

    fn all() -> (Plan, Instant) {
        (Plan::new(TransportKind::ALL.to_vec()), Instant::now())
    }

    /// The order in which everything is tried when everything fails.
    fn round(plan: &mut Plan, now: Instant) -> Vec<TransportKind> {
        plan.restart();
        let mut order = Vec::new();
        while let Some(kind) = plan.next(now) {
            order.push(kind);
            plan.failed(kind);
        }
        plan.restart();
        order
    }

    #[test]
    fn a_round_goes_down_the_list_and_begins_anew_with_the_best() {
        let (mut plan, now) = all();
        assert_eq!(round(&mut plan, now), [WebSocket, Sse, LongPolling]);
        assert_eq!(plan.next(now), Some(WebSocket));
    }

    #[test]
    fn beside_what_is_under_way_the_next_best_is_tried() {
        let (mut plan, now) = all();
        assert_eq!(plan.next_beside(&[WebSocket], now), Some(Sse));
        plan.failed(Sse);
        assert_eq!(plan.next_beside(&[WebSocket], now), Some(LongPolling));
        assert_eq!(plan.next_beside(&[WebSocket, LongPolling], now), None);
    }

    #[test]
    fn what_was_turned_down_for_now_stands_aside_and_keeps_its_rank() {
        let (mut plan, now) = all();
        plan.put_off(WebSocket);
        assert_eq!(plan.next(now), Some(Sse));
        assert_eq!(plan.next_beside(&[Sse], now), Some(LongPolling));
        plan.take_up();
        assert_eq!(plan.next(now), Some(WebSocket));
        plan.put_off(WebSocket);
        plan.carried(Sse, now);
        assert!(!plan.is_demoted(WebSocket, now));
        assert_eq!(plan.next(now), Some(WebSocket));
    }

    #[test]
    fn the_servers_ranking_counts_within_what_is_allowed() {
        let mut plan = Plan::new(vec![WebSocket, LongPolling]);
        let now = Instant::now();
        plan.rank(&[Sse, LongPolling, LongPolling, WebSocket]);
        assert_eq!(round(&mut plan, now), [LongPolling, WebSocket]);
        plan.rank(&[Sse]);
        assert_eq!(round(&mut plan, now), [WebSocket, LongPolling]);
    }

    #[test]
    fn two_short_lives_in_a_row_demote_for_a_while() {
        let (mut plan, now) = all();
        let (short, long) = (SHORT_LIFE - Duration::from_millis(1), SHORT_LIFE);
        plan.ended_after(WebSocket, short, now);
        plan.ended_after(WebSocket, long, now);
        plan.ended_after(WebSocket, short, now);
        assert_eq!(plan.next(now), Some(WebSocket));
        plan.ended_after(WebSocket, short, now);
        assert_eq!(round(&mut plan, now), [Sse, LongPolling, WebSocket]);
        assert_eq!(round(&mut plan, now + FINDINGS_HOLD), [WebSocket, Sse, LongPolling]);
    }

    #[test]
    fn what_failed_where_another_works_is_tried_last_the_next_time() {
        let (mut plan, now) = all();
        plan.failed(WebSocket);
        plan.carried(Sse, now);
        assert_eq!(round(&mut plan, now), [Sse, LongPolling, WebSocket]);
    }

    #[test]
    fn what_failed_where_nothing_works_keeps_its_rank() {
        let (mut plan, now) = all();
        round(&mut plan, now);
        plan.carried(WebSocket, now);
        assert_eq!(round(&mut plan, now), [WebSocket, Sse, LongPolling]);
    }

    #[test]
    fn a_preferred_transport_goes_first_until_it_is_demoted() {
        let (mut plan, now) = all();
        plan.prefer(LongPolling);
        assert_eq!(round(&mut plan, now), [LongPolling, WebSocket, Sse]);
        plan.demote(LongPolling, now);
        assert_eq!(round(&mut plan, now), [WebSocket, Sse, LongPolling]);
    }

    #[test]
    fn when_all_are_demoted_those_go_first_that_were_proved_once() {
        let (mut plan, now) = all();
        plan.failed(WebSocket);
        plan.carried(Sse, now);
        plan.distrust(Sse, now);
        plan.demote(LongPolling, now);
        assert_eq!(plan.next_beside(&[], now), Some(LongPolling));
        assert_eq!(round(&mut plan, now), [LongPolling, WebSocket, Sse]);
        plan.demote(WebSocket, now);
        assert_eq!(round(&mut plan, now), [WebSocket, LongPolling, Sse]);
        for (seconds, kind) in [WebSocket, LongPolling, Sse, WebSocket].into_iter().enumerate() {
            plan.distrust(kind, now + Duration::from_secs(seconds as u64));
        }
        assert_eq!(round(&mut plan, now), [LongPolling, Sse, WebSocket], "in turn");
    }

    #[test]
    fn when_all_are_demoted_alike_the_ranks_count_again() {
        let (mut plan, now) = all();
        TransportKind::ALL.into_iter().for_each(|kind| plan.demote(kind, now));
        assert_eq!(round(&mut plan, now), [WebSocket, Sse, LongPolling]);
    }
}
