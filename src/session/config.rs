//! What a session is allowed and when it loses patience.

use std::time::Duration;

use super::inbox::Delays;
use crate::frame::{Limits, Role, SessionId, TransportKind, Window};

/// Whether the peer acknowledges what it receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipts {
    /// It does, as the protocol asks: a message is kept until then.
    Given,
    /// It cannot (a plain `EventSource`): the newest messages within the send buffer are kept, older ones
    /// dropped, no window holds anything back, and silence is no sign of death.
    Absent,
}

/// The bounds and times of a session. The same type serves both roles; each field says whose it is.
///
/// Every size and count is a bound on memory: raising it raises what one peer can make this process hold.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// How much is held for the application here: told to the peer, which stays within it.
    /// Default: 256 messages and 1 MiB. At least 1 message; at least `limits.max_message_bytes` bytes.
    pub window: Window,
    /// How much may wait to be sent or acknowledged. Default: 1024 messages and 2 MiB.
    pub send_buffer: Window,
    /// What is taken from the peer at most. Default: see [`Limits`].
    pub limits: Limits,
    /// How many requests may wait for their answer at once. Default: 256. So many answers may be held besides the
    /// window, for they take themselves.
    pub max_requests: usize,
    /// Whether the peer acknowledges. Default: it does.
    pub receipts: Receipts,
    /// The longest that a receipt waits for company when it matters: when it is about more than a little, or the peer
    /// may have to hold back. Default: 50 ms.
    pub ack_delay: Duration,
    /// The longest that it waits while it is about little: less than a sixteenth of the window's messages and a
    /// sixty-fourth of its bytes. So much longer does a peer keep so little; one that needs to know asks. Each session
    /// takes three quarters of it or more, by its id, so that many do not tell at once. Default: 2 s.
    pub light_ack_delay: Duration,
    /// The longest from `close` to the peer's answer. Default: 10 s.
    pub close_timeout: Duration,
    /// Server: the time between pings; both ends give the other up after one and a half times this.
    /// Default: 20 s, under the 30 s that is the lowest idle limit of common proxies.
    pub heartbeat: Duration,
    /// Server: how long a session lives with nothing that carries it. Default: 120 s.
    pub resume_window: Duration,
    /// Server: how long a session lives that was introduced and never attached. Default: 10 s.
    pub first_attach_within: Duration,
    /// Server: how long a candidate lives after its `welcome`. Default: 15 s.
    pub candidate_lifetime: Duration,
    /// Server: the longest that a poll is held, whatever the client asks. Default: 25 s.
    pub max_hold: Duration,
    /// Server: what it offers, best first. Default: all.
    pub transports: Vec<TransportKind>,
    /// Client: how long to ask a poll to be held at first; it is lengthened by half each time that it works, up to
    /// 25 s, and shortened where polls are cut. Default: 2 s, so that a box that swallows polls is soon found out.
    pub hold: Duration,
    /// What may be sent behind the first `hello`, before the server told its window (client), and is taken though
    /// the window be smaller (server). Default: the protocol's 64 messages and 64 KiB. A server must not lower it.
    pub early_window: Window,
    /// Client: the longest from `hello` to `welcome`. Default: 10 s.
    pub welcome_within: Duration,
    /// Client: the most that is waited for what takes one round trip: the proof that a path carries both ways, the
    /// answer to a `ping`. Within it four round trips, at least 1 s; but where three of the shorter of the last two take longer,
    /// so long, up to 15 s. Default: 3 s.
    pub prove_within: Duration,
    /// Client: the longest from `attach` to its answer, where `prove_within` does not end it before. Default: 5 s.
    pub attach_within: Duration,
    /// Client: after messages went out behind a `hello` that nobody answered, how long until the session is
    /// given up. The server must remember ended sessions for longer. Default: 60 s.
    pub unanswered_within: Duration,
    /// Client: the first pause before a `push` that made no progress is repeated; it doubles, up to 5 s.
    /// Default: 250 ms.
    pub push_retry: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            window: Window { messages: 256, bytes: 1 << 20 },
            send_buffer: Window { messages: 1024, bytes: 2 << 20 },
            limits: Limits::default(),
            max_requests: 256,
            receipts: Receipts::Given,
            ack_delay: Duration::from_millis(50),
            light_ack_delay: Duration::from_secs(2),
            close_timeout: Duration::from_secs(10),
            heartbeat: Duration::from_secs(20),
            resume_window: Duration::from_secs(120),
            first_attach_within: Duration::from_secs(10),
            candidate_lifetime: Duration::from_secs(15),
            max_hold: Duration::from_secs(25),
            transports: TransportKind::ALL.to_vec(),
            hold: Duration::from_secs(2),
            early_window: Window { messages: 64, bytes: 64 << 10 },
            welcome_within: Duration::from_secs(10),
            prove_within: Duration::from_secs(3),
            attach_within: Duration::from_secs(5),
            unanswered_within: Duration::from_secs(60),
            push_retry: Duration::from_millis(250),
        }
    }
}

/// A value that no session can work with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {rule}")]
pub struct InvalidConfig {
    /// The field.
    pub field: &'static str,
    /// What it must be.
    pub rule: &'static str,
}

impl Config {
    /// How much is taken from the peer: more than it is told only where it cannot know.
    pub(super) fn receivable(&self, role: Role) -> Window {
        let early = self.early_window;
        match role {
            Role::Client => self.window,
            Role::Server => Window {
                messages: self.window.messages.max(early.messages),
                bytes: self.window.bytes.max(early.bytes),
            },
        }
    }

    /// How long receipts of a session wait for company.
    ///
    /// Many sessions hear the same thing at once. So that their receipts do not come at once too, each is up to a
    /// quarter before its time, by its id.
    pub(super) fn ack_delays(&self, id: SessionId) -> Delays {
        let [earlier, ..] = *id.as_bytes();
        Delays { usual: self.ack_delay, light: self.light_ack_delay, earlier }
    }

    /// Refuses what no session can work with.
    ///
    /// # Errors
    /// Names the first such field.
    pub fn check(&self) -> Result<(), InvalidConfig> {
        let message = self.limits.max_message_bytes as u64;
        let second = Duration::from_secs(1);
        let day = Duration::from_secs(86_400);
        let rules = [
            ("window.messages", "must be at least 1", self.window.messages >= 1),
            ("window.bytes", "must hold the largest message", self.window.bytes >= message),
            ("send_buffer.messages", "must be at least 1", self.send_buffer.messages >= 1),
            ("send_buffer.bytes", "must hold the largest message", self.send_buffer.bytes >= message),
            ("limits.max_message_bytes", "must be at least 1 KiB", message >= 1 << 10),
            (
                "limits.max_batch_bytes",
                "must hold the largest message in base64, and 4 KiB",
                self.limits.max_batch_bytes as u64
                    >= message.div_ceil(3).saturating_mul(4).saturating_add(4 << 10),
            ),
            ("limits.max_batch_frames", "must be at least 2", self.limits.max_batch_frames >= 2),
            ("heartbeat", "must be 1 s to 1 day", (second..=day).contains(&self.heartbeat)),
            ("resume_window", "must be at most 1 day", self.resume_window <= day),
            ("max_hold", "must be at most 1 day", self.max_hold <= day),
            ("transports", "must name at least one", !self.transports.is_empty()),
        ];
        match rules.into_iter().find(|(_, _, holds)| !holds) {
            Some((field, rule, _)) => Err(InvalidConfig { field, rule }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn an_impossible_value_is_refused_by_name() {
        let config = Config { heartbeat: Duration::ZERO, ..Config::default() };
        assert_eq!(config.check().unwrap_err().field, "heartbeat");
        let limits = Limits { max_batch_bytes: 600 << 10, ..Limits::default() };
        assert_eq!(
            Config { limits, ..Config::default() }.check().unwrap_err().field,
            "limits.max_batch_bytes"
        );
    }
}
