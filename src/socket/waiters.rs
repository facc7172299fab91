//! Who waits for what becomes of a message: its receipt, or its reply.

use std::collections::{BTreeMap, VecDeque};

use tokio::sync::oneshot;

use crate::frame::Body;
use crate::session::{Ended, SendError, Ticket};

use super::RequestError;

/// Who waits for the fate of a message.
#[derive(Debug)]
pub(super) enum Waiter {
    /// For its receipt; `Err` tells whether its fate is unknown.
    Receipt(oneshot::Sender<Result<(), bool>>),
    /// For its reply.
    Reply(oneshot::Sender<Result<Body, RequestError>>),
}

impl Waiter {
    /// The message was not accepted. Whoever asked may have stopped waiting, here and below.
    pub(super) fn refuse(self, refused: SendError) {
        match self {
            Self::Receipt(waiter) => {
                let _ = waiter.send(Err(false));
            }
            Self::Reply(waiter) => {
                let error = match refused {
                    SendError::TooManyRequests => RequestError::TooMany,
                    _ => RequestError::Lost,
                };
                let _ = waiter.send(Err(error));
            }
        }
    }

    /// The session has ended, and with it any hope.
    fn fail(self, unknown: bool) {
        match self {
            Self::Receipt(waiter) => {
                let _ = waiter.send(Err(unknown));
            }
            Self::Reply(waiter) => {
                let _ = waiter.send(Err(RequestError::Lost));
            }
        }
    }
}

/// All who wait on one session. What is bounded by the send buffer and the number of requests bounds it.
///
/// Many sessions never have one.
#[derive(Debug, Default)]
pub(super) struct Waiters(Option<Box<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    /// In the order of the tickets.
    receipts: VecDeque<(Ticket, Waiter)>,
    replies: BTreeMap<Ticket, Waiter>,
}

impl Waiters {
    pub(super) fn add(&mut self, ticket: Ticket, waiter: Waiter) {
        let waiting = self.0.get_or_insert_default();
        match waiter {
            Waiter::Receipt(_) => waiting.receipts.push_back((ticket, waiter)),
            Waiter::Reply(_) => {
                waiting.replies.insert(ticket, waiter);
            }
        }
    }

    /// The messages up to `acked` have been received.
    pub(super) fn settle(&mut self, acked: Ticket) {
        let Some(waiting) = &mut self.0 else { return };
        while waiting.receipts.front().is_some_and(|(ticket, _)| *ticket <= acked) {
            if let Some((_, Waiter::Receipt(waiter))) = waiting.receipts.pop_front() {
                let _ = waiter.send(Ok(()));
            }
        }
    }

    /// A request was answered: by a reply or, as `Err`, a failure.
    pub(super) fn answer(&mut self, ticket: Ticket, answer: Result<Body, Body>) {
        let asked = self.0.as_mut().and_then(|waiting| waiting.replies.remove(&ticket));
        let Some(Waiter::Reply(waiter)) = asked else { return };
        let answer = answer.map_err(|body| {
            let failure = body.to::<serde_json::Value>().unwrap_or_default();
            let text = |field: &str| {
                failure.get(field).and_then(|text| text.as_str()).unwrap_or_default().to_owned()
            };
            RequestError::Failed { code: text("code"), message: text("message") }
        });
        let _ = waiter.send(answer);
    }

    /// Takes who waits for one message.
    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Waiter> {
        let waiting = self.0.as_mut()?;
        let at = waiting.receipts.iter().position(|(of, _)| *of == ticket);
        let receipt = at.and_then(|at| waiting.receipts.remove(at)).map(|(_, waiter)| waiter);
        receipt.or_else(|| waiting.replies.remove(&ticket))
    }

    /// The session has ended: nobody who still waits gets what they wait for.
    pub(super) fn fail(&mut self, ended: &Ended) {
        let Some(waiting) = self.0.take() else { return };
        for (ticket, waiter) in waiting.receipts {
            let lost = ended.undelivered.iter().find(|message| message.ticket == ticket);
            waiter.fail(lost.is_none_or(|message| message.is_unknown()));
        }
        waiting.replies.into_values().for_each(|waiter| waiter.fail(true));
    }
}
