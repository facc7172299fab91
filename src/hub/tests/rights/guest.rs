//! A guest of the model, and what it is to be told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::frame::{SessionId, TransportKind};
use crate::room::payload::{Change, Notice};
use crate::socket::{Shared, Socket};

pub(super) const ROOMS: [&str; 3] = ["a", "b", "c"];

/// What a member is to be told, beside differences of presence.
#[derive(Debug, PartialEq)]
pub(super) enum Told {
    Begin { at: u64, recovered: bool },
    Said(u64),
    List,
    Left(&'static str),
}

pub(super) struct Guest {
    pub(super) id: SessionId,
    pub(super) client: Socket,
    pub(super) client_link: Arc<Shared>,
    pub(super) server_link: Arc<Shared>,
    pub(super) who: String,
    pub(super) served: tokio::task::JoinHandle<()>,
    pub(super) kind: TransportKind,
    /// The rooms that it is in, and whether it is told who comes and goes.
    pub(super) rooms: BTreeMap<&'static str, bool>,
    pub(super) due: BTreeMap<&'static str, VecDeque<Told>>,
    /// Where it may be told of differences of presence that came before what is read now.
    pub(super) watched: BTreeSet<&'static str>,
}

impl Guest {
    /// Holds what it was told against what was due.
    pub(super) fn hear(&mut self, notice: Notice) {
        let room = ROOMS.into_iter().find(|room| *room == notice.room()).unwrap();
        let told = match notice {
            Notice::Begin(begin) => Told::Begin { at: begin.at.value(), recovered: begin.recovered },
            Notice::Said(said) => {
                assert_eq!(said.body.to::<u64>().unwrap(), said.at.value());
                Told::Said(said.at.value())
            }
            Notice::Present(list) => {
                assert!(list.first && list.last);
                Told::List
            }
            Notice::Left(left) if left.code == "asked" => Told::Left("asked"),
            Notice::Left(left) => {
                assert_eq!(left.code, "forbidden");
                Told::Left("forbidden")
            }
            Notice::Change(Change::Joined { .. } | Change::Updated { .. } | Change::Gone { .. }) => {
                assert!(
                    self.watched.contains(room),
                    "a difference of {room} is told to who may not watch it"
                );
                return;
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(Some(told), self.due.entry(room).or_default().pop_front(), "in {room}");
    }
}
