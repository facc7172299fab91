//! What a rough network does to those who use it.

use std::time::Duration;

/// A way, as the client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// What a rough network does.
///
/// Each rule has its occasions, which its line names: an upgrade, a request, a response, a connection, a piece of
/// bytes. [`Rough::every`](super::Rough::every) counts these. Where two rules have the same occasion, the one that was
/// added first acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rule {
    /// Upgrade: answered with this status, and not passed on.
    RefuseUpgrade {
        /// 400 to 599; whatever else is given goes out as it is.
        status: u16,
    },
    /// Upgrade: taken, not passed on, and never answered.
    SwallowUpgrade,
    /// Upgrade: passed on without its headers, so that the server sees a plain GET.
    StripUpgrade,
    /// Upgrade: the server's 101 passes, and nothing behind it, either way.
    CarryNothing,
    /// Upgrade: the server's 101 passes, and behind it only what goes this way.
    OneWay(Direction),
    /// Connection: cut so long after it was accepted, whatever is under way.
    CutAfter(Duration),
    /// Connection: cut once so many bytes have passed one way. Those before pass.
    CutAfterBytes {
        /// Which way.
        direction: Direction,
        /// How many.
        bytes: u64,
    },
    /// Response: its body waits until there are so many bytes, then they pass, then it waits for as many again. What
    /// is left when the body ends passes then; `None` waits for the end.
    HoldBody {
        /// The size of the block that is waited for.
        bytes: Option<u64>,
        /// Whether the head waits with the first block.
        head: bool,
    },
    /// Response: the server has done what was asked, and the connection ends instead of telling. Of a body without an
    /// end (a stream) the head is waited for only.
    DropResponse,
    /// Request with a body: made, its response thrown away as by [`Rule::DropResponse`], and made again on another
    /// connection; the second response passes.
    ReplayRequest,
    /// Request by POST: taken, not passed on, and never answered.
    SwallowPost,
    /// Connection: closed once no byte has passed for so long, either way.
    CloseIdle(Duration),
    /// Connection: dead once no byte has passed for so long, either way, and nobody is told: what is said from then on
    /// vanishes.
    DropIdle(Duration),
    /// Connection: closed at this age, but between two exchanges: a response that is under way goes to its end.
    CloseOld(Duration),
    /// Piece: kept for so long before it passes. What comes meanwhile waits behind it, so this limits the rate too.
    Delay(Duration),
    /// Piece: passed at so many bytes a second, each way of each connection.
    Throttle {
        /// At least 1; 0 is taken as 1.
        bytes_per_second: u64,
    },
    /// Request with a body that is longer than this: answered 413 by the box itself. Of one in chunks the length is not known.
    LimitBody {
        /// How many bytes pass.
        bytes: u64,
    },
    /// Request that passes: waits until those before it, on whatever connections, have been answered to the end. Where
    /// requests are answered by a stream, that is for long.
    OneAtATime {
        /// Whether a client that has gone makes room at once. If not, its request is made all the same, and keeps its place
        /// until the answer has come to its end or something is to be passed to who has gone.
        notices: bool,
    },
    /// Request: answered with this status by the box itself when the last one that passed came less than this long before,
    /// on whatever connection.
    OneEach {
        /// The least time between two that pass.
        every: Duration,
        /// 429 or 503, as boxes are set up.
        status: u16,
    },
    /// Request: answered 200 with a page that wants somebody to log in.
    CaptivePortal,
    /// Request: answered with this status by the box itself. With 407 it asks for credentials.
    Refuse {
        /// 400 to 599; whatever else is given goes out as it is.
        status: u16,
    },
}
