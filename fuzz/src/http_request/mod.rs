//! Any sequence of requests to the service, in paused time and without a socket.

mod making;

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use http::{Method, Request};
use http_body::Body as _;
use throughline::frame::{Limits, SessionId, SessionKey, Window};
use throughline::server::{Attempt, Denied, Grant};
use throughline::{Hub, Server, Socket};
use tokio::task::JoinHandle;
use tower_service::Service as _;

use making::{Me, Piece, Pieces, request};

const MAX_SESSIONS: usize = 6;
const PLACES: usize = 4;
const BODY_DEADLINE: Duration = Duration::from_secs(2);

/// Longer than all that a session waits for, one thing after the other.
const WINDOWS: Duration = Duration::from_secs(60);

/// What an answer may say: the statuses of the table of close codes, and those of HTTP itself.
const STATUSES: [u16; 19] =
    [200, 204, 400, 401, 403, 404, 405, 406, 408, 409, 410, 413, 415, 421, 426, 429, 500, 501, 503];

thread_local! {
    /// Panics of this thread: those of tasks would go unseen.
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            before(info);
        }));
    });
}

type People = Arc<Mutex<Vec<Me>>>;

/// Any requests, some of them of this protocol: nothing panics, every answer has a status of ours, sessions stay
/// within their number, and when all have gone nothing is left.
pub fn http_request(data: &[u8]) {
    watch_panics();
    PANICS.set(0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let Ok(runtime) = runtime else { return };
    runtime.block_on(async {
        let world = World::new();
        // When the bytes are used up the play is over.
        let _ = world.play(&mut Unstructured::new(data)).await;
    });
    drop(runtime);
    assert_eq!(PANICS.get(), 0, "a task panicked");
}

struct World {
    server: Server,
    handlers: Arc<AtomicUsize>,
    people: People,
}

async fn echo(mut socket: Socket, running: Arc<AtomicUsize>) {
    while let Ok(message) = socket.recv().await {
        let order = message.body.to::<String>().unwrap_or_default();
        match order.as_str() {
            "leave" => break,
            "sleep" => drop(socket.closed().await),
            _ if socket.send(message.body).await.is_err() => break,
            _ => {}
        }
    }
    running.fetch_sub(1, SeqCst);
}

impl World {
    fn new() -> Self {
        let handlers = Arc::new(AtomicUsize::new(0));
        let running = Arc::clone(&handlers);
        let limits = Limits { max_message_bytes: 1024, max_batch_bytes: 8192, max_batch_frames: 16 };
        let server = Server::builder()
            .limits(limits)
            .window(Window { messages: 64, bytes: 64 << 10 })
            .send_buffer(Window { messages: 16, bytes: 8 << 10 })
            .send_patience(Duration::from_secs(3))
            .max_sessions(MAX_SESSIONS)
            .max_ended(64)
            .max_unattached(PLACES)
            .heartbeat(Duration::from_secs(1))
            .resume_window(Duration::from_secs(5))
            .max_hold(Duration::from_secs(2))
            .body_deadline(BODY_DEADLINE)
            .auth_deadline(Duration::from_secs(2))
            .allow_origin("https://app.example")
            .authenticator(|attempt: &Attempt<'_>| {
                let token = attempt.auth().and_then(|auth| auth.to::<String>().ok()).unwrap_or_default();
                async move {
                    match token.as_str() {
                        "no" => Err(Denied::Unauthorized("no".into())),
                        "never" => std::future::pending().await,
                        "slow" => {
                            tokio::time::sleep(Duration::from_millis(500)).await;
                            Ok(Grant::anonymous())
                        }
                        "short" => Ok(Grant::anonymous().expires_in(Duration::from_millis(700))),
                        "alice" => Ok(Grant::to("alice")),
                        _ => Ok(Grant::anonymous()),
                    }
                }
            })
            .serve(move |socket: Socket, _: Hub| {
                running.fetch_add(1, SeqCst);
                echo(socket, Arc::clone(&running))
            });
        let server = server.unwrap_or_else(|error| unreachable!("{error}"));
        let people = (1..=4).map(|index| Me {
            session: SessionId::from_bytes([index; 16]),
            key: SessionKey::from_bytes([index; 32]),
            epoch: None,
            sent: 0,
        });
        Self { server, handlers, people: Arc::new(Mutex::new(people.collect())) }
    }

    async fn play(&self, data: &mut Unstructured<'_>) -> Result<()> {
        let mut open: VecDeque<(Method, JoinHandle<()>)> = VecDeque::new();
        let mut steps = 0;
        while !data.is_empty() && steps < 48 {
            steps += 1;
            match data.int_in_range(0..=7)? {
                0 => tokio::time::sleep(Duration::from_millis(data.int_in_range(0..=4000)?)).await,
                1 if !open.is_empty() => {
                    let at = data.choose_index(open.len())?;
                    if let Some((_, gone)) = open.remove(at) {
                        gone.abort();
                    }
                }
                _ => {
                    let made = request(data, &mut self.people.lock().unwrap_or_else(PoisonError::into_inner));
                    let Ok((who, request)) = made else { break };
                    open.push_back((request.method().clone(), self.ask(who, request)));
                }
            }
            tokio::task::yield_now().await;
            assert!(self.server.sessions() <= MAX_SESSIONS, "{} sessions", self.server.sessions());
        }
        // Either all have hung up, or all is answered; only a plain stream of events goes on while somebody reads.
        let hung_up = data.arbitrary().unwrap_or(false);
        if !hung_up {
            tokio::time::sleep(WINDOWS).await;
        }
        for (method, answer) in open {
            assert!(hung_up || method == Method::GET || answer.is_finished(), "an answer that never ends");
            answer.abort();
            if let Err(error) = answer.await {
                assert!(error.is_cancelled(), "{error}");
            }
        }
        tokio::time::sleep(WINDOWS).await;
        self.check_empty().await;
        Ok(())
    }

    async fn check_empty(&self) {
        assert_eq!(self.server.sessions(), 0, "sessions are left");
        assert_eq!(self.handlers.load(SeqCst), 0, "handlers are left");
        // Every place is free.
        let waiting: Vec<_> = (0..PLACES)
            .map(|_| {
                let mut request = Request::new(Pieces::new([Piece::Pause(BODY_DEADLINE * 2)]));
                *request.method_mut() = Method::POST;
                let answering = self.server.service().call(request);
                tokio::spawn(async move {
                    let Ok(answer) = answering.await;
                    answer.status().as_u16()
                })
            })
            .collect();
        for status in waiting {
            assert_eq!(status.await.unwrap_or(0), 408, "a place is not given back");
        }
    }

    /// Asks, reads the whole answer, and learns of it.
    fn ask(&self, who: usize, request: Request<Pieces>) -> JoinHandle<()> {
        let (mut service, people) = (self.server.service(), Arc::clone(&self.people));
        tokio::spawn(async move {
            let Ok(answer) = service.call(request).await;
            let (head, body) = answer.into_parts();
            assert!(STATUSES.contains(&head.status.as_u16()), "{}", head.status);
            let mut body = std::pin::pin!(body);
            while let Some(piece) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
                let Ok(piece) = piece;
                if let Ok(bytes) = piece.into_data() {
                    learn(&people, who, &bytes);
                }
            }
        })
    }
}

/// Remembers the epoch that a welcome tells.
fn learn(people: &People, who: usize, bytes: &[u8]) {
    const BEFORE: &[u8] = b"\"epoch\":\"";
    let Some(at) = bytes.windows(BEFORE.len()).position(|window| window == BEFORE) else { return };
    let text = bytes.get(at + BEFORE.len()..).and_then(|rest| rest.get(..11));
    let epoch = text.and_then(|text| std::str::from_utf8(text).ok()).and_then(|text| text.parse().ok());
    if let (Some(epoch), Some(me)) =
        (epoch, people.lock().unwrap_or_else(PoisonError::into_inner).get_mut(who))
    {
        me.epoch = Some(epoch);
    }
}
