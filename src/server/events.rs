//! `GET` for an event stream: sessions of clients without a library, which only receive.
//!
//! It implements `docs/PROTOCOL.md`, "Plain SSE". The token is the session's id and key; with the number of the last
//! message it is the id of each event, which a browser sends back as `Last-Event-ID`.

use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use http::{HeaderMap, HeaderName};
use tokio::sync::oneshot;

use crate::frame::{Close, CloseCode, Hello, Scope, Seq, SessionId, SessionKey, TransportKind};
use crate::session::Receipts;
use crate::socket::Command;
use crate::transport::{Extent, Form, PlainEvents, ResponseHead, ResponseStart, Transport, media, response};

use super::answer;
use super::answering::Outcome;
use super::door::{Arrival, Sort, Visitor};
use super::registry::Claim;
use super::{Inner, now, websocket};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Where a stream was when it broke off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    session: SessionId,
    key: SessionKey,
    received: Seq,
}

/// Whether a stream goes on, or begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Begin,
    GoOn(Place),
    /// From where is not known here.
    Lost,
}

impl Wish {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let Some(value) = headers.get(LAST_EVENT_ID) else { return Self::Begin };
        match value.to_str().ok() {
            // A browser that was never told an id says so in this way.
            Some("") => Self::Begin,
            text => text.and_then(Place::parse).map_or(Self::Lost, Self::GoOn),
        }
    }
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let (session, key, seq) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let received = Seq::new(seq.parse().ok()?)?;
        Some(Self { session: session.parse().ok()?, key: key.parse().ok()?, received })
    }
}

fn token(session: SessionId, key: &SessionKey) -> String {
    format!("{session}.{}", BASE64URL_NOPAD.encode_display(key.expose_bytes()))
}

impl Inner {
    /// Judges a `GET` for events.
    pub(super) async fn events(self: Arc<Self>, wish: Wish, visitor: Visitor) -> Outcome {
        let answer = match self.open_events(wish, &visitor).await {
            // Whatever it begins with: an `EventSource` comes back after nothing but 200.
            Ok(start) => answer::written(start.body, media::EVENT_STREAM),
            // What passes by itself must not end an `EventSource` for good either.
            Err(close) if close.code.scope() == Scope::Transport => answer::come_back(&close),
            Err(close) => websocket::refusal(&close),
        };
        answer.into()
    }

    async fn open_events(self: &Arc<Self>, wish: Wish, visitor: &Visitor) -> Result<ResponseStart, Close> {
        if !self.settings.plain_events {
            return Err(Close::new(CloseCode::NotAcceptable, "plain event streams are not served here"));
        }
        let _place = self.place()?;
        let lost = match wish {
            Wish::GoOn(place) => match self.go_on(place, visitor).await? {
                Some(start) => return Ok(start),
                None => true,
            },
            Wish::Lost => true,
            Wish::Begin => false,
        };
        Ok(self.begin(lost, visitor).await?.await)
    }

    /// Goes on with a session, if it is still there and this visitor's.
    async fn go_on(&self, place: Place, visitor: &Visitor) -> Result<Option<ResponseStart>, Close> {
        self.check_draining()?;
        let Place { session, key, received } = place;
        let granted = self.authenticate(&visitor.presented, session, None).await?;
        let (identity, expires) = granted.into_parts();
        let claim = Claim { id: session, key: &key, epoch: None, receipts: Receipts::Absent };
        let Ok(shared) = self.registry.find(now(), claim) else { return Ok(None) };
        if shared.principal() != identity.principal.as_ref() {
            return Err(Close::new(CloseCode::Forbidden, "the session is another principal's"));
        }
        let (begun, head) = oneshot::channel();
        let (token, limits) = (token(session, &key), self.settings.session.limits);
        let begin = Box::new(move |from, lost| -> Box<dyn Transport> {
            let events = PlainEvents::new(token, from);
            let form = Form::PlainEvents(if lost { events.lost() } else { events });
            let (transport, head) = response(TransportKind::Sse, form, Extent::Stream, limits);
            // Nobody waits any more: then the transport notices that too.
            let _ = begun.send(head);
            Box::new(transport)
        });
        if shared.deposit(Command::Return { received, begin, expires }).is_err() {
            return Ok(None);
        }
        let Ok(head) = head.await else { return Ok(None) };
        let start = head.await;
        // A session that is over has no more for anybody.
        Ok(start.close.is_none().then_some(start))
    }

    /// Begins a new session.
    async fn begin(self: &Arc<Self>, lost: bool, visitor: &Visitor) -> Result<ResponseHead, Close> {
        let hello: Box<Hello> = websocket::hello_of_plain(TransportKind::Sse)?;
        let events = PlainEvents::new(token(hello.session, &hello.key), Seq::ZERO);
        let form = Form::PlainEvents(if lost { events.lost() } else { events });
        let limits = self.settings.session.limits;
        let (transport, head) = response(TransportKind::Sse, form, Extent::Stream, limits);
        let arrival = Arrival { hello, transport: Box::new(transport), behind: Vec::new() };
        match self.let_in(visitor, Sort::Events, arrival).await {
            Ok(()) => Ok(head),
            Err(refused) => Err(refused.close),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_survives_its_text() {
        let (session, key) = (SessionId::from_bytes([1; 16]), SessionKey::from_bytes([2; 32]));
        let text = format!("{}.17", token(session, &key));
        let place = Place { session, key, received: Seq::new(17).unwrap() };
        assert_eq!(Place::parse(&text), Some(place));
        for wrong in ["", "a.b.1", &text[1..], &format!("{text}.1"), &format!("{text}x")] {
            assert_eq!(Place::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_id_that_is_not_ours_is_lost_and_none_is_a_beginning() {
        let mut headers = HeaderMap::new();
        assert_eq!(Wish::of(&headers), Wish::Begin);
        headers.insert(LAST_EVENT_ID, "17".parse().unwrap());
        assert_eq!(Wish::of(&headers), Wish::Lost);
        headers.insert(LAST_EVENT_ID, "".parse().unwrap());
        assert_eq!(Wish::of(&headers), Wish::Begin);
    }
}
