//! The tasks that the server owns: greetings, drivers and handlers.

use std::future::{Future, poll_fn};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Owns tasks until they have ended.
#[derive(Debug)]
pub(super) struct Tasks {
    running: Mutex<JoinSet<()>>,
    /// Who waits for the end: a set wakes only one, so that the others wait for that one.
    turn: Semaphore,
}

impl Default for Tasks {
    fn default() -> Self {
        Self { running: Mutex::default(), turn: Semaphore::new(1) }
    }
}

impl Tasks {
    fn lock(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a task, and lets go of those that have ended: until then they keep their memory.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.lock();
        Self::let_go(&mut tasks);
        tasks.spawn(task);
    }

    /// Lets go of those that have ended, so that they do not pile up. A later call does it if this is not a good
    /// moment: a runtime that is going down drops what is spawned while it is spawned.
    pub(super) fn reap(&self) {
        if let Ok(mut tasks) = self.running.try_lock() {
            Self::let_go(&mut tasks);
        }
    }

    /// Each that has ended keeps its memory until then.
    fn let_go(tasks: &mut JoinSet<()>) {
        // A panic was reported when it happened, and ended no more than its task.
        while tasks.try_join_next().is_some() {}
    }

    /// Waits until none runs. Any number may wait.
    pub(super) async fn idle(&self) {
        // Given on when this wait ends or is dropped. It is never closed.
        let _turn = self.turn.acquire().await;
        poll_fn(|cx| {
            let mut tasks = self.lock();
            while let Poll::Ready(ended) = tasks.poll_join_next(cx) {
                if ended.is_none() {
                    return Poll::Ready(());
                }
            }
            Poll::Pending
        })
        .await;
    }

    /// Ends all at once.
    pub(super) fn abort(&self) {
        self.lock().abort_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tasks_that_have_ended_do_not_pile_up_where_only_tasks_are_spawned() {
        let tasks = Tasks::default();
        for _ in 0..100 {
            tasks.spawn(async {});
            tokio::task::yield_now().await;
        }
        assert!(tasks.lock().len() <= 2, "{} are kept", tasks.lock().len());
    }
}
