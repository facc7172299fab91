//! Both ends of a session in one process, over transports in memory: for tests of what is built on sockets.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::frame::{Epoch, Frame, SessionId, SessionKey, TransportKind};
use crate::session::{Config, Ended, Intent, Session};
use crate::transport::{Pipe, Received, Transport, pipe};

use super::*;

/// What a test supervisor heard, and what it is to ask.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    pub(crate) attached: Vec<bool>,
    pub(crate) commands: VecDeque<Command>,
    pub(crate) renew: Option<Session>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct TestSupervisor(pub(crate) Arc<Mutex<Desk>>);

impl TestSupervisor {
    pub(crate) fn attached(&self) -> Vec<bool> {
        self.0.lock().unwrap().attached.clone()
    }
}

impl Supervisor for TestSupervisor {
    fn notice(&mut self, notice: Notice<'_>) {
        let mut desk = self.0.lock().unwrap();
        match notice {
            Notice::Attached { resumed, .. } => desk.attached.push(resumed),
            Notice::Auth(_) => desk.commands.push_back(Command::AcceptAuth { expires_ms: 1 }),
            _ => {}
        }
    }

    fn poll_command(&mut self, _cx: &mut Context<'_>, _: &Session) -> Poll<Command> {
        let mut desk = self.0.lock().unwrap();
        desk.commands.pop_front().map_or(Poll::Pending, Poll::Ready)
    }

    fn ended(&mut self, _ended: &Ended, _now: Instant) -> Option<Session> {
        self.0.lock().unwrap().renew.take()
    }
}

pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

pub(crate) fn config() -> Arc<Config> {
    Arc::new(Config::default())
}

pub(crate) fn client_session(seed: u8) -> Session {
    let (id, key) = (SessionId::from_bytes([seed; 16]), SessionKey::from_bytes([seed; 32]));
    Session::client(config(), id, key, now())
}

/// Both ends of a session, each with its driver running.
pub(crate) struct Ends {
    pub(crate) client: Socket,
    pub(crate) server: Socket,
    pub(crate) client_link: Arc<Shared>,
    pub(crate) server_link: Arc<Shared>,
    pub(crate) at_client: TestSupervisor,
    pub(crate) at_server: TestSupervisor,
}

pub(crate) fn run(session: Session, patience: Option<Duration>) -> (Arc<Shared>, TestSupervisor) {
    run_as(session, patience, None)
}

fn run_as(
    session: Session,
    patience: Option<Duration>,
    principal: Option<Principal>,
) -> (Arc<Shared>, TestSupervisor) {
    let supervisor = TestSupervisor::default();
    let (shared, driver) =
        launch(Launch { session, identity: principal.into(), patience }, |_| Box::new(supervisor.clone()));
    drop(tokio::spawn(driver));
    (shared, supervisor)
}

pub(crate) fn ends() -> Ends {
    ends_of([1; 16], None, config())
}

/// Those of a session of a principal.
pub(crate) fn ends_of(id: [u8; 16], principal: Option<Principal>, config: Arc<Config>) -> Ends {
    let id = SessionId::from_bytes(id);
    let server = Session::server(Arc::clone(&config), id, Epoch::from_bytes([1; 8]), now());
    let client = Session::client(config, id, SessionKey::from_bytes([1; 32]), now());
    let patience = Some(Duration::from_secs(30));
    let (client_link, at_client) = run(client, patience);
    let (server_link, at_server) = run_as(server, patience, principal);
    let (client, server) = (client_link.socket(), server_link.socket());
    Ends { client, server, client_link, server_link, at_client, at_server }
}

impl Ends {
    /// Dials a transport in memory and, as a server's door would, hands over what says hello.
    pub(crate) async fn dial(&self, kind: TransportKind, intent: Intent) {
        dial(&self.client_link, &self.server_link, kind, intent).await;
    }

    pub(crate) async fn connected(&self, kind: TransportKind) {
        let mut watch = self.client.watch();
        let mut state = watch.state();
        while state != (State::Connected { transport: kind }) {
            state = watch.changed().await;
        }
    }
}

/// See [`Ends::dial`].
pub(crate) async fn dial(client: &Shared, server: &Shared, kind: TransportKind, intent: Intent) {
    let (near, mut far) = pipe(kind);
    let introduce = Command::Introduce { transport: Box::new(near), intent, auth: None };
    client.deposit(introduce).unwrap();
    let hello = first_frame(&mut far).await;
    let Frame::Hello(hello) = hello else { panic!("expected hello, got {hello:?}") };
    let (behind, transport) = (Vec::new(), Box::new(far));
    let command = Command::Hello { hello, transport, behind, expires: None, offer: None };
    server.deposit(command).unwrap();
}

pub(crate) async fn first_frame(transport: &mut Pipe) -> Frame {
    match poll_fn(|cx| transport.poll_recv(cx)).await.unwrap() {
        Received::Frame(frame) => frame,
        other => panic!("expected a frame, got {other:?}"),
    }
}
