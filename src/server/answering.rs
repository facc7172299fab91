//! Answers on their way: judged at once, after a body was read, or written by a session.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;

use crate::frame::Encoding;
use crate::transport::{ResponseHead, ResponseStart};

use super::answer::{self, Answer, AnswerBody};
use super::origin;

/// An answer on its way.
///
/// What is left of a request while it is parked is kept small: most long-polling sessions are one.
#[must_use = "a future does nothing unless polled"]
pub struct Answering {
    stage: Stage,
    from: origin::From,
}

enum Stage {
    Judging(Pin<Box<dyn Future<Output = Outcome> + Send>>),
    Judged(Outcome),
}

/// What a request came to.
pub(super) enum Outcome {
    /// Boxed: it is not to take its room in a request that is parked. None once it was taken.
    Answer(Option<Box<Answer>>),
    /// The session writes the answer.
    Await(Awaited),
}

impl From<Answer> for Outcome {
    fn from(answer: Answer) -> Self {
        Self::Answer(Some(Box::new(answer)))
    }
}

/// An answer that a session writes.
pub(super) struct Awaited {
    pub(super) head: ResponseHead,
    pub(super) media: &'static str,
    /// Of the close that may come instead.
    pub(super) encoding: Encoding,
}

impl Future for Awaited {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        Pin::new(&mut self.head).poll(cx).map(|start| match start {
            // No stream begins: the close is one answer, with its status.
            ResponseStart { close: Some(close), .. } => answer::close(&close, self.encoding),
            ResponseStart { body, .. } => answer::written(body, self.media),
        })
    }
}

impl Answering {
    pub(super) fn judged(outcome: Outcome, from: origin::From) -> Self {
        Self { stage: Stage::Judged(outcome), from }
    }

    pub(super) fn judging(
        judging: impl Future<Output = Outcome> + Send + 'static,
        from: origin::From,
    ) -> Self {
        Self { stage: Stage::Judging(Box::pin(judging)), from }
    }
}

impl std::fmt::Debug for Answering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Answering")
    }
}

impl Future for Answering {
    type Output = Result<Response<AnswerBody>, Infallible>;

    /// Polled again after it was ready, it stays pending.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let outcome = match &mut this.stage {
            Stage::Judged(outcome) => outcome,
            Stage::Judging(judging) => {
                this.stage = Stage::Judged(ready!(judging.as_mut().poll(cx)));
                return self.poll(cx);
            }
        };
        let mut answer = match outcome {
            Outcome::Await(awaited) => ready!(Pin::new(awaited).poll(cx)),
            Outcome::Answer(answer) => match answer.take() {
                Some(answer) => *answer,
                None => return Poll::Pending,
            },
        };
        answer::share(&mut answer, &this.from);
        Poll::Ready(Ok(answer))
    }
}
