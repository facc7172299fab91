//! Describes a hub.

use std::sync::Arc;

use super::authorize::{Authorize, Seam};
use super::directory::Directory;
use super::inbox::{self, Inbox};
use super::pace::OperationRate;
use super::stats::Counters;
use super::table::{Shape, Table};
use super::{Hub, Inner, RoomConfig};

/// Describes a hub: how its rooms are kept, who may do what, and how many rooms there may be.
///
/// ```
/// use std::time::Duration;
/// use throughline::hub::{Hub, Keep, RoomConfig, Slow};
///
/// let hub = Hub::builder()
///     .rooms(|name| {
///         let mut config = RoomConfig::default();
///         if name.starts_with("prices/") {
///             config.slow = Slow::Conflate;
///         } else {
///             config.history = Keep { messages: 100, bytes: 1 << 20, age: Duration::from_secs(3600) };
///         }
///         config
///     })
///     .max_rooms(10_000)
///     .build();
/// ```
#[derive(Debug)]
#[must_use]
pub struct Builder {
    shape: Shape,
    authorize: Option<Seam>,
    inbox: Option<inbox::Seam>,
    max_rooms: usize,
    max_joined: usize,
    rate: OperationRate,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            shape: Shape::default(),
            authorize: None,
            inbox: None,
            max_rooms: 100_000,
            max_joined: 128,
            rate: OperationRate::default(),
        }
    }
}

impl Builder {
    /// How a room is kept, by its name. Asked once in each life of a room. Default: [`RoomConfig::default`].
    pub fn rooms(mut self, shape: impl Fn(&str) -> RoomConfig + Send + Sync + 'static) -> Self {
        self.shape = Shape::new(shape);
        self
    }

    /// Who decides what clients may do. Default: nobody, and they may do all.
    pub fn authorize(mut self, authorize: impl Authorize) -> Self {
        self.authorize = Some(Seam(Arc::new(authorize)));
        self
    }

    /// Where messages are kept for principals who have no session ([`Hub::deliver`]). Default: nowhere.
    pub fn inbox(mut self, inbox: impl Inbox) -> Self {
        self.inbox = Some(inbox::Seam(Arc::new(inbox)));
        self
    }

    /// How many rooms there may be at once. Default: 100,000. What they keep is multiplied by it.
    pub fn max_rooms(mut self, rooms: usize) -> Self {
        self.max_rooms = rooms;
        self
    }

    /// How many rooms one session may have joined by the layer at once. Default: 128.
    pub fn max_joined(mut self, rooms: usize) -> Self {
        self.max_joined = rooms;
        self
    }

    /// How often one session may ask for operations. Default: 500 at once, and 100 in each second.
    pub fn operation_rate(mut self, rate: OperationRate) -> Self {
        self.rate = rate;
        self
    }

    /// Makes the hub.
    pub fn build(self) -> Hub {
        let inner = Inner {
            table: Table::new(self.shape, self.max_rooms),
            directory: Directory::default(),
            authorize: self.authorize,
            inbox: self.inbox,
            max_joined: self.max_joined,
            rate: self.rate,
            counters: Counters::default(),
        };
        Hub { inner: Arc::new(inner) }
    }
}
