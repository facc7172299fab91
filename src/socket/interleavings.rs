//! The hand-over of commands to a driver, in every interleaving: one that is about to sleep is woken, and one that is
//! about to finish leaves no command that is neither obeyed nor given up.
//!
//! What is not shown here: `note_taken` against `press`, two atomics that need one total order, which loom does not
//! model.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use loom::future::block_on;
use loom::thread;
use tokio::sync::oneshot::{self, error::TryRecvError};

use crate::frame::{Ack, Attachment, Epoch, SessionId};
use crate::session::Session;

use super::command::{Command, NotTaken, PushAnswer};
use super::shared::{Identity, Shared};

type Answer = oneshot::Receiver<PushAnswer>;

fn shared() -> Arc<Shared> {
    let (id, epoch) = (SessionId::from_bytes([1; 16]), Epoch::from_bytes([2; 8]));
    Shared::new(&Session::server(Arc::default(), id, epoch, Instant::now()), Identity::default(), None)
}

/// Gives the driver a command as the server's door does. None: it has finished.
fn deposit(shared: &Shared) -> Option<Answer> {
    let (answer, answered) = oneshot::channel();
    let push = Command::Push { attachment: Attachment::FIRST, frames: Vec::new(), malformed: None, answer };
    match shared.deposit(push) {
        Ok(()) => Some(answered),
        Err(NotTaken::Finished(_)) => None,
        Err(NotTaken::Full(_)) => panic!("there is room"),
    }
}

/// Has turns as the driver does until it has obeyed so many commands, and finishes.
fn drive(shared: &Shared, commands: usize) {
    let mut obeyed = 0;
    block_on(poll_fn(|cx| {
        loop {
            let taken = shared.lock().begin_turn();
            for command in taken {
                let Command::Push { answer, .. } = command else { panic!("a push") };
                obeyed += 1;
                let _ = answer.send(PushAnswer::Ack(Ack::default()));
            }
            if obeyed >= commands {
                return Poll::Ready(());
            }
            if !shared.lock().end_turn(cx.waker(), false) {
                return Poll::Pending;
            }
        }
    }));
    let left = shared.lock().finish();
    drop(left);
}

/// Two who deposit while a driver has its turns: what was shared, and their answers.
fn meet(commands: usize) -> (Arc<Shared>, [Option<Answer>; 2]) {
    let shared = shared();
    let others = [Arc::clone(&shared), Arc::clone(&shared)];
    let others = others.map(|shared| thread::spawn(move || deposit(&shared)));
    drive(&shared, commands);
    (shared, others.map(|other| other.join().unwrap()))
}

#[test]
fn a_driver_that_goes_to_sleep_misses_no_command() {
    // A wake-up that is lost is a driver that sleeps for ever, which loom reports.
    loom::model(|| {
        for answer in meet(2).1 {
            assert!(answer.unwrap().try_recv().is_ok());
        }
    });
}

#[test]
fn a_driver_that_finishes_leaves_nobody_waiting() {
    loom::model(|| {
        // What is shared outlives the driver: what lies in it does too.
        let (_shared, answers) = meet(1);
        let obeyed = answers.into_iter().flatten().map(|mut answer| answer.try_recv());
        let obeyed: Vec<_> =
            obeyed.inspect(|answer| assert!(!matches!(answer, Err(TryRecvError::Empty)))).collect();
        assert!(obeyed.iter().any(Result::is_ok));
    });
}
