//! Whether a stream may have something to read.
//!
//! A driver looks at its transports whenever anything wakes it, most often because there is something to write. To
//! ask the whole stack of a WebSocket then, down to the runtime, costs about as much as to write. So reads have a
//! waker of their own, which remembers that it was woken; until it is, there is nothing to read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};

/// What wakes the reader.
#[derive(Debug, Default)]
struct Bell {
    rung: AtomicBool,
    /// The task that reads.
    reader: Mutex<Option<Waker>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Before the task runs: it looks at this first.
        self.rung.store(true, Ordering::Release);
        // A panic while the lock was held cannot leave a waker broken.
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner).clone();
        reader.into_iter().for_each(Waker::wake);
    }
}

/// The reader's end.
#[derive(Debug)]
pub(super) struct Tidings {
    bell: Arc<Bell>,
    /// Rings the bell: what to read with.
    pub(super) waker: Waker,
    /// Whom the bell wakes.
    reader: Option<Waker>,
}

impl Default for Tidings {
    fn default() -> Self {
        let bell = Arc::<Bell>::default();
        Self { waker: Waker::from(Arc::clone(&bell)), bell, reader: None }
    }
}

impl Tidings {
    /// Whether to read at all; whoever asks is woken when that changes.
    #[inline]
    pub(super) fn has_any(&mut self, cx: &Context<'_>) -> bool {
        if self.reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
            return self.bell.rung.load(Ordering::Acquire);
        }
        // Asked by a new task: what the old one was woken for counts for nothing.
        *self.bell.reader.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
        self.reader = Some(cx.waker().clone());
        true
    }

    /// Notes that a read begins. What is announced from here on is announced for the next one.
    #[inline]
    pub(super) fn heed(&mut self) {
        // One step: an announcement is either seen by the read that follows, or still there after it.
        self.bell.rung.swap(false, Ordering::AcqRel);
    }

    /// Notes that a read brought something: there may be more.
    #[inline]
    pub(super) fn expect_more(&mut self) {
        self.bell.rung.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Task(AtomicBool);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_read_that_finds_nothing_is_not_repeated_until_the_stream_wakes() {
        let task = Arc::<Task>::default();
        let waker = Waker::from(Arc::clone(&task));
        let cx = Context::from_waker(&waker);
        let mut tidings = Tidings::default();
        assert!(tidings.has_any(&cx), "the first look is free");
        tidings.heed();
        assert!(!tidings.has_any(&cx));
        tidings.waker.wake_by_ref();
        assert!(task.0.load(Ordering::SeqCst));
        assert!(tidings.has_any(&cx) && tidings.has_any(&cx), "until somebody reads");
        tidings.heed();
        tidings.expect_more();
        assert!(tidings.has_any(&cx));
    }

    #[test]
    fn another_task_looks_for_itself_and_is_woken_from_then_on() {
        let tasks: [Arc<Task>; 2] = Default::default();
        let wakers = tasks.clone().map(Waker::from);
        let mut tidings = Tidings::default();
        for (task, waker) in tasks.iter().zip(&wakers) {
            assert!(tidings.has_any(&Context::from_waker(waker)));
            tidings.heed();
            tidings.waker.wake_by_ref();
            assert!(task.0.swap(false, Ordering::SeqCst));
            tidings.heed();
        }
        assert!(!tasks[0].0.load(Ordering::SeqCst));
    }

    #[test]
    fn what_is_announced_during_a_read_is_read_next() {
        let waker = Waker::noop();
        let cx = Context::from_waker(waker);
        let mut tidings = Tidings::default();
        assert!(tidings.has_any(&cx));
        tidings.heed();
        tidings.waker.wake_by_ref();
        assert!(tidings.has_any(&cx));
    }
}
