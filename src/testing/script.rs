//! The rules that hold now, and how often they have acted.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use super::Rule;

/// A rule, and on which of its occasions it acts.
#[derive(Debug)]
struct Entry {
    rule: Rule,
    /// Acts on each occasion that this divides.
    every: u32,
    /// How many occasions there were.
    occasions: u32,
    /// How often it may still act; `None` is for ever.
    left: Option<u32>,
}

/// What all connections of a network share.
#[derive(Debug)]
pub(super) struct Script {
    entries: Mutex<Vec<Entry>>,
    /// Raised by each change of the rules.
    pub(super) changes: watch::Sender<u64>,
    /// Raised by each general cut.
    pub(super) cuts: watch::Sender<u64>,
    /// Raised each time that a rule acts.
    pub(super) acted: watch::Sender<u64>,
    /// For rules by which one request waits for another.
    place: Arc<Semaphore>,
    /// When the last request passed of those that are to keep a distance.
    passed: Mutex<Option<Instant>>,
}

impl Script {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            entries: Mutex::default(),
            changes: watch::Sender::new(0),
            cuts: watch::Sender::new(0),
            acted: watch::Sender::new(0),
            place: Arc::new(Semaphore::new(1)),
            passed: Mutex::default(),
        })
    }

    pub(super) fn add(&self, rule: Rule, every: u32, left: Option<u32>) {
        self.change(|entries| entries.push(Entry { rule, every: every.max(1), occasions: 0, left }));
    }

    pub(super) fn replace(&self, rules: impl IntoIterator<Item = Rule>) {
        let entry = |rule| Entry { rule, every: 1, occasions: 0, left: None };
        let new: Vec<_> = rules.into_iter().map(entry).collect();
        self.change(|entries| *entries = new);
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Entry>)) {
        change(&mut self.entries.lock().unwrap_or_else(PoisonError::into_inner));
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// What the rules that still hold say to a question, each its own; no occasion is counted.
    pub(super) fn all<T>(&self, ask: impl FnMut(Rule) -> Option<T>) -> Vec<T> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.iter().filter(|entry| entry.left != Some(0)).map(|entry| entry.rule).filter_map(ask).collect()
    }

    /// An occasion: what the first rule that has an answer and acts this time says. It has acted then.
    pub(super) fn act<T>(&self, mut ask: impl FnMut(Rule) -> Option<T>) -> Option<T> {
        let answer = {
            let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            entries.iter_mut().filter(|entry| entry.left != Some(0)).find_map(|entry| {
                let answer = ask(entry.rule)?;
                entry.occasions = entry.occasions.wrapping_add(1);
                if entry.occasions % entry.every != 0 {
                    return None;
                }
                entry.left = entry.left.map(|left| left.saturating_sub(1));
                Some(answer)
            })
        }?;
        self.acted.send_modify(|acted| *acted += 1);
        Some(answer)
    }

    /// Whether a request comes too soon after another. If not, it passes.
    pub(super) fn is_too_soon(&self, every: Duration) -> bool {
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let too_soon = passed.is_some_and(|at| at.elapsed() < every);
        if !too_soon {
            *passed = Some(Instant::now());
        }
        too_soon
    }

    /// Waits for the only place, behind all who came before.
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.place).acquire_owned().await.ok()
    }

    /// An occasion of one rule.
    pub(super) fn acts(&self, rule: Rule) -> bool {
        self.act(|found| (found == rule).then_some(())).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_acts_on_every_nth_of_its_occasions_and_on_no_others() {
        let script = Script::new();
        script.add(Rule::SwallowPost, 3, None);
        let acted: Vec<_> = (0..7).map(|_| script.acts(Rule::SwallowPost)).collect();
        assert_eq!(acted, [false, false, true, false, false, true, false]);
        assert!(!script.acts(Rule::DropResponse));
        assert_eq!(*script.acted.borrow(), 2);
    }

    #[test]
    fn a_rule_that_has_acted_often_enough_is_no_longer_there() {
        let script = Script::new();
        script.add(Rule::DropResponse, 1, Some(2));
        let acted: Vec<_> = (0..4).map(|_| script.acts(Rule::DropResponse)).collect();
        assert_eq!(acted, [true, true, false, false]);
        assert!(script.all(Some).is_empty());
    }

    #[test]
    fn new_rules_take_the_place_of_all_before() {
        let script = Script::new();
        script.add(Rule::DropResponse, 1, None);
        script.replace([Rule::StripUpgrade]);
        assert_eq!(script.all(Some), [Rule::StripUpgrade]);
    }
}
