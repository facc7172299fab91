//! What the driver is told to do besides sending: by the layer above, by requests of the peer, by the application.

use std::time::{Duration, Instant};

use crate::frame::{Close, Frame, Hello, Poll as PollFrame, Role, Seq};
use crate::session::{Greeting, Return, Via};
use crate::transport::Transport;

use super::super::command::{BeginStream, Command, PushAnswer};
use super::super::supervisor::Notice;
use super::{Driver, State};

impl Driver {
    pub(super) fn obey(&mut self, now: Instant, command: Command) {
        match command {
            Command::Hello { hello, transport, behind, expires, offer } => {
                if self.greet(now, &hello, transport, behind) {
                    offer.into_iter().for_each(|config| self.session.offer(config));
                    self.session.grant(now, expires);
                }
            }
            Command::Return { received, begin, expires } => self.welcome_back(now, received, begin, expires),
            Command::Poll { poll, transport } => self.take_poll(now, &poll, transport),
            Command::Push { attachment, frames, malformed, answer } => {
                if let Some(close) = self.session.expiry() {
                    let _ = answer.send(PushAnswer::Close(close));
                    return;
                }
                for frame in frames {
                    self.session.handle_frame(now, attachment, Via::Push, frame);
                }
                if let Some(error) = malformed {
                    self.session.handle_malformed(now, attachment, &error);
                }
                let answered = match self.session.end() {
                    Some(close) => PushAnswer::Close(close.clone()),
                    None => PushAnswer::Ack(self.session.push_answer(attachment)),
                };
                // Nobody there any more: the client repeats what was not answered.
                let _ = answer.send(answered);
            }
            Command::AcceptAuth { expires_ms } => self.session.accept_auth(now, expires_ms),
            Command::Introduce { transport, intent, auth } => {
                let kind = transport.kind();
                if let Some(attachment) = self.session.introduce(now, kind, intent, auth) {
                    self.drain_events(now);
                    self.carriers.bind(&self.session, attachment, transport, now);
                    self.tell(Notice::Introduced { attachment });
                }
            }
            Command::RefreshAuth(token) => self.session.refresh_auth(token),
            Command::Waiting { reason, retry_at } => self.state = State::Reconnecting { reason, retry_at },
            Command::Move(ask) => match self.session.role() {
                Role::Server => self.session.ask_move(ask),
                Role::Client => self.tell(Notice::MoveAsked(ask)),
            },
            Command::Withdraw(attachment) => self.session.withdraw(now, attachment),
            Command::Learn(lesson) => self.session.learn(lesson),
            Command::NetworkChanged => {
                self.session.check_path(now);
                self.tell(Notice::NetworkChanged);
            }
            Command::Cut => {
                for attachment in self.carriers.cut() {
                    self.session.handle_detach(now, attachment);
                }
            }
            Command::Abort(close) => self.session.abort(now, close),
        }
    }

    /// Says whether the transport was bound.
    fn greet(
        &mut self,
        now: Instant,
        hello: &Hello,
        transport: Box<dyn Transport>,
        behind: Vec<Frame>,
    ) -> bool {
        match self.session.handle_hello(now, hello) {
            Greeting::Bound(attachment) => {
                self.drain_events(now);
                self.carriers.bind(&self.session, attachment, transport, now);
                for frame in behind {
                    self.session.handle_frame(now, attachment, Via::Carrier, frame);
                }
                true
            }
            Greeting::Refused(close) => {
                self.refuse(now, transport, close);
                false
            }
        }
    }

    fn welcome_back(&mut self, now: Instant, received: Seq, begin: BeginStream, expires: Option<Duration>) {
        match self.session.handle_return(now, received) {
            Ok(Return { attachment, from, lost }) => {
                self.session.grant(now, expires);
                self.drain_events(now);
                self.carriers.bind(&self.session, attachment, begin(from, lost), now);
            }
            Err(close) => self.refuse(now, begin(received, false), close),
        }
    }

    fn take_poll(&mut self, now: Instant, poll: &PollFrame, transport: Box<dyn Transport>) {
        match self.session.handle_poll(now, poll) {
            Greeting::Bound(attachment) => {
                self.drain_events(now);
                self.carriers.bind(&self.session, attachment, transport, now);
            }
            Greeting::Refused(close) => self.refuse(now, transport, close),
        }
    }

    fn refuse(&mut self, now: Instant, transport: Box<dyn Transport>, close: Close) {
        self.drain_events(now);
        self.carriers.dismiss(transport, Some(close), now);
    }
}
