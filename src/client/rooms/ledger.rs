//! What a client keeps of its rooms: positions, by the stream alone.

use std::collections::{HashMap, VecDeque};

use crate::frame::{Json, Seq};
use crate::room::payload::{Begin, Join, Notice, Position, Refusal};

/// A room whose stream has begun and not ended.
#[derive(Debug)]
struct Stream {
    position: Position,
    /// The client has asked to leave: it is not taken up again.
    leaving: bool,
}

/// How a room was joined last: presence, and what the client tells of itself.
#[derive(Debug)]
pub(super) struct Asked {
    join: Join,
    /// Where its stream will begin: it was answered, and has not begun.
    awaited: Option<Position>,
    begun: bool,
}

/// What a client keeps of its rooms. It is kept by what came in the stream, in its order, and not by answers, which may be
/// read before what came earlier: of these it keeps only what a session that is lost leaves behind.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    streams: HashMap<String, Stream>,
    asked: HashMap<String, Asked>,
    /// How many joins were named.
    names: u64,
    /// The last message that was kept for this principal.
    kept: Option<Position>,
}

impl Ledger {
    pub(super) fn position(&self, room: &str) -> Option<Position> {
        self.streams.get(room).map(|stream| stream.position)
    }

    /// The client asks to join: gives the join a name, if it has none, by which its stream is known. Gives what it asked before.
    pub(super) fn ask(&mut self, join: &mut Join) -> Option<Asked> {
        if let Some(stream) = self.streams.get_mut(&join.room) {
            stream.leaving = false;
        }
        self.names += 1;
        join.reference.get_or_insert_with(|| self.names.to_string());
        let asked = Asked { join: join.clone(), awaited: None, begun: false };
        self.asked.insert(join.room.clone(), asked)
    }

    /// What was asked last of a room, if it is this.
    fn latest(&mut self, join: &Join) -> Option<&mut Asked> {
        self.asked.get_mut(&join.room).filter(|asked| asked.join.reference == join.reference)
    }

    /// The server has answered it: should the session be lost before the stream has begun, it is taken up from there.
    pub(super) fn answered(&mut self, join: &Join, begin: &Begin) {
        if let Some(asked) = self.latest(join).filter(|asked| !asked.begun) {
            asked.awaited = Some(asked.join.since.unwrap_or(begin.position()));
        }
    }

    /// The server has refused it: a stream that stands goes on as it was asked for before.
    pub(super) fn refused(&mut self, join: &Join, before: Option<Asked>) {
        if self.latest(join).is_none() {
            return;
        }
        let stands = self.streams.contains_key(&join.room);
        match before.filter(|before| stands || before.awaited.is_some()) {
            Some(before) => self.asked.insert(join.room.clone(), before),
            None => self.asked.remove(&join.room),
        };
    }

    /// The client tells something else of itself. Gives what it told before.
    pub(super) fn ask_meta(&mut self, room: &str, meta: Option<&Json>) -> Option<Json> {
        let asked = self.asked.get_mut(room)?;
        std::mem::replace(&mut asked.join.meta, meta.cloned())
    }

    /// The client asks to leave.
    pub(super) fn ask_leave(&mut self, room: &str) {
        self.asked.remove(room);
        if let Some(stream) = self.streams.get_mut(room) {
            stream.leaving = true;
        }
    }

    /// Notes what came. False: it is a repeat, or of a stream that has ended, and nobody is to see it.
    pub(super) fn note(&mut self, notice: &Notice) -> bool {
        let offset = match notice {
            Notice::Begin(begin) => {
                let leaving = self.streams.get(&begin.room).is_some_and(|stream| stream.leaving);
                let stream = Stream { position: begin.position(), leaving };
                self.streams.insert(begin.room.clone(), stream);
                let asked = self.asked.get_mut(&begin.room);
                if let Some(asked) = asked.filter(|asked| asked.join.reference == begin.reference) {
                    (asked.begun, asked.awaited) = (true, None);
                }
                return true;
            }
            Notice::Left(refusal) => {
                let stood = self.streams.remove(&refusal.room).is_some();
                // A join that has not begun is of the stream that follows.
                let begun = self.asked.get(&refusal.room).is_some_and(|asked| asked.begun);
                return stood | (begun && self.asked.remove(&refusal.room).is_some());
            }
            Notice::Kept { at, .. } => {
                let is_repeat = |kept: Position| kept.epoch == at.epoch && at.offset <= kept.offset;
                let is_new = !self.kept.is_some_and(is_repeat);
                if is_new {
                    self.kept = Some(*at);
                }
                return is_new;
            }
            Notice::Said(said) => said.at,
            Notice::Missed(missed) => missed.to,
            _ => return true,
        };
        self.advance(notice.room(), offset)
    }

    fn advance(&mut self, room: &str, offset: Seq) -> bool {
        let Some(stream) = self.streams.get_mut(room) else { return false };
        let is_new = offset > stream.position.offset;
        stream.position.offset = stream.position.offset.max(offset);
        is_new
    }

    /// The session was lost: who had asked to leave a room has left it.
    pub(super) fn left_with_session(&mut self) -> Vec<Notice> {
        let left = self.streams.iter().filter(|(_, stream)| stream.leaving).map(|(room, _)| room.clone());
        let left: Vec<String> = left.collect();
        self.streams.retain(|_, stream| !stream.leaving);
        let said = |room| Refusal { room, code: "asked".into(), message: String::new() };
        left.into_iter().map(|room| Notice::Left(said(room))).collect()
    }

    /// The rooms to be taken up in a new session.
    pub(super) fn to_join_again(&self) -> VecDeque<String> {
        let stand = self.streams.iter().filter(|(_, stream)| !stream.leaving).map(|(room, _)| room);
        let awaited = self.asked.iter().filter(|(_, asked)| asked.awaited.is_some()).map(|(room, _)| room);
        awaited.filter(|room| !self.streams.contains_key(*room)).chain(stand).cloned().collect()
    }

    /// How to take up a room from where it stands, or will.
    pub(super) fn join_again(&self, room: &str) -> Option<Join> {
        let stream = self.streams.get(room).filter(|stream| !stream.leaving);
        let asked = self.asked.get(room);
        let awaited = asked.and_then(|asked| asked.awaited);
        let since = Some(awaited.or(stream.map(|stream| stream.position))?);
        let join = asked.map(|asked| asked.join.clone()).unwrap_or_default();
        Some(Join { room: room.to_owned(), since, ..join })
    }

    /// The server has refused to take it up again.
    pub(super) fn drop_room(&mut self, room: &str) {
        self.streams.remove(room);
        self.asked.remove(room);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Body, Epoch};
    use crate::room::payload::Said;

    fn seq(number: u64) -> Seq {
        Seq::new(number).unwrap()
    }

    fn begin(at: u64) -> Notice {
        let epoch = Epoch::from_bytes([1; 8]);
        Notice::Begin(Begin { room: "r".into(), epoch, at: seq(at), recovered: false, reference: None })
    }

    fn said(at: u64) -> Notice {
        Notice::Said(Said { room: "r".into(), at: seq(at), key: None, by: None, body: Body::from("x") })
    }

    fn left() -> Notice {
        Notice::Left(Refusal { room: "r".into(), code: String::new(), message: String::new() })
    }

    #[test]
    fn repeats_and_what_follows_the_end_of_a_stream_are_dropped() {
        let mut ledger = Ledger::default();
        assert!(!ledger.note(&said(1)), "no stream has begun");
        let kept = [begin(4), said(5), said(5), said(4), said(7), left(), said(8), begin(2), said(3)]
            .map(|notice| ledger.note(&notice));
        assert_eq!(kept, [true, true, false, false, true, true, false, true, true]);
        assert_eq!(ledger.position("r").unwrap().offset, seq(3));
    }

    #[test]
    fn a_room_that_is_being_left_is_not_taken_up_again() {
        let mut ledger = Ledger::default();
        let join = Join { room: "r".into(), presence: true, last: Some(7), ..Join::default() };
        ledger.ask(&mut join.clone());
        ledger.note(&begin(4));
        ledger.note(&said(5));
        let again = ledger.join_again("r").unwrap();
        assert_eq!((again.presence, again.last, again.since.unwrap().offset), (true, Some(7), seq(5)));
        ledger.ask_leave("r");
        assert!(ledger.to_join_again().is_empty());
        ledger.ask(&mut join.clone());
        assert!(ledger.left_with_session().is_empty());
        assert_eq!(ledger.to_join_again(), ["r"]);
        ledger.ask_leave("r");
        let Some(Notice::Left(left)) = ledger.left_with_session().pop() else { panic!("it has left") };
        assert_eq!((ledger.position("r"), &*left.code), (None, "asked"));
    }

    #[test]
    fn a_refusal_leaves_what_stands_as_it_was_asked_for() {
        let join = |presence| Join { room: "r".into(), presence, ..Join::default() };
        let mut ledger = Ledger::default();
        let mut refused = join(true);
        let before = ledger.ask(&mut refused);
        ledger.refused(&refused, before);
        assert!(ledger.asked.is_empty(), "nothing stands");
        ledger.ask(&mut join(false));
        ledger.note(&begin(4));
        let mut refused = join(true);
        let before = ledger.ask(&mut refused);
        ledger.refused(&refused, before);
        assert!(!ledger.join_again("r").unwrap().presence);
    }

    #[test]
    fn who_joins_anew_before_it_hears_that_it_has_left_is_taken_up_as_it_asked() {
        for code in ["asked", "kicked"] {
            let mut ledger = Ledger::default();
            let join = Join { room: "r".into(), presence: true, ..Join::default() };
            ledger.ask(&mut join.clone());
            ledger.note(&begin(4));
            ledger.ask_leave("r");
            ledger.ask(&mut join.clone());
            let refusal = Refusal { room: "r".into(), code: code.into(), message: String::new() };
            assert!(ledger.note(&Notice::Left(refusal)));
            ledger.note(&begin(4));
            assert!(ledger.join_again("r").unwrap().presence);
        }
    }

    #[test]
    fn what_an_answer_promised_is_taken_up_though_the_session_is_lost_before_it_begins() {
        let mut ledger = Ledger::default();
        let mut join = Join { room: "r".into(), last: Some(7), ..Join::default() };
        ledger.ask(&mut join);
        assert!(ledger.to_join_again().is_empty(), "who asked hears that it was lost");
        let named = |at| match begin(at) {
            Notice::Begin(begin) => Begin { reference: join.reference.clone(), ..begin },
            _ => unreachable!(),
        };
        ledger.answered(&join, &named(4));
        // Made a member meanwhile.
        ledger.note(&begin(9));
        assert_eq!(ledger.to_join_again(), ["r"]);
        ledger.streams.clear();
        assert_eq!(ledger.to_join_again(), ["r"]);
        let again = ledger.join_again("r").unwrap();
        assert_eq!((again.since.unwrap().offset, &again.reference), (seq(4), &join.reference));
        ledger.note(&Notice::Begin(named(4)));
        ledger.note(&said(5));
        assert_eq!(ledger.join_again("r").unwrap().since.unwrap().offset, seq(5));
        // An answer that comes behind its stream says nothing new.
        ledger.answered(&join, &named(4));
        ledger.note(&left());
        assert_eq!(ledger.join_again("r"), None);
        ledger.ask(&mut Join { reference: None, ..join.clone() });
        ledger.drop_room("r");
        assert_eq!((ledger.to_join_again().len(), ledger.join_again("r")), (0, None));
    }
}
