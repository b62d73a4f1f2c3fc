//! What an executor does when a future is woken is its own affair: it may poll
//! the future at once, drop it, panic, or end the engine.

#![allow(missing_docs, unreachable_pub, reason = "a test has no readers of its interface")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may fail loudly"
)]

mod common;

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use common::{eventually, watchdog};
use vecino::{
    Backpressure, Collection, CollectionConfig, Engine, IndexSpec, Metric, Query, Record, WriteError,
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Habit {
    Polls,
    Drops,
    Panics,
    Closes,
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A future, and what is done with it when it is woken.
struct Woken {
    habit: Habit,
    task: Mutex<Option<Task>>,
    engine: Engine,
    times: AtomicUsize,
}

impl Woken {
    /// Polls; what is not ready is kept.
    fn poll(self: &Arc<Self>) {
        let waker = Waker::from(Arc::clone(self));
        let Some(mut task) = self.task.lock().unwrap().take() else { return };
        if task.as_mut().poll(&mut Context::from_waker(&waker)) == Poll::Pending {
            *self.task.lock().unwrap() = Some(task);
        }
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.times.fetch_add(1, Ordering::SeqCst);
        match self.habit {
            Habit::Polls => self.poll(),
            Habit::Drops => drop(self.task.lock().unwrap().take()),
            Habit::Panics => panic!("a waker that panics, on purpose"),
            Habit::Closes => self.engine.close().unwrap(),
        }
    }
}

/// Waits for a write, or searches through the workers, on an executor of such a habit.
fn wake(habit: Habit, future: impl FnOnce(Collection) -> Task) {
    let _watchdog = watchdog(60);
    let engine = Engine::builder().workers(2).publish_interval(Duration::from_millis(200)).build().unwrap();
    let config = CollectionConfig::new(2, Metric::L2).index(IndexSpec::Flat);
    let items = engine.create_collection("items", config).unwrap();
    items.upsert(Record::new(1, [0.0, 0.0])).unwrap().wait().unwrap();
    // It is shown when the interval is over.
    let task = Mutex::new(Some(future(items.clone())));
    let woken = Arc::new(Woken { habit, task, engine: engine.clone(), times: AtomicUsize::new(0) });
    woken.poll();
    eventually("it was woken", || woken.times.load(Ordering::SeqCst) > 0);
    if habit == Habit::Closes {
        eventually("the engine is closed", || items.upsert(Record::new(2, [0.0, 0.0])).is_err());
    } else {
        // Everything goes on.
        let write = items.upsert(Record::new(3, [1.0, 0.0])).unwrap();
        write.wait_timeout(Duration::from_secs(50)).unwrap();
        assert_eq!(items.search(&Query::new(&[0.0, 0.0])).unwrap().len(), items.len());
    }
    engine.close().unwrap();
}

#[test]
fn a_waker_may_do_what_it_likes() {
    for habit in [Habit::Polls, Habit::Drops, Habit::Panics, Habit::Closes] {
        wake(habit, |items| {
            let write = items.upsert(Record::new(7, [0.0, 0.0])).unwrap();
            Box::pin(async move { drop(write.wait_async().await) })
        });
        wake(habit, |items| {
            let _ = items.upsert(Record::new(7, [0.0, 0.0])).unwrap();
            Box::pin(async move { drop(items.search_async(Query::new(vec![0.0, 0.0])).await) })
        });
    }
}

/// A write that nobody sees for long, and a future that waits for it; whoever wakes it closes the engine.
fn waiting(engine: &Engine) -> Arc<Woken> {
    let config = CollectionConfig::new(2, Metric::L2).index(IndexSpec::Flat);
    let items = engine.create_collection("items", config).unwrap();
    items.upsert(Record::new(1, [0.0, 0.0])).unwrap().wait().unwrap();
    let write = items.upsert(Record::new(2, [0.0, 0.0])).unwrap();
    let task: Task = Box::pin(async move { drop(write.wait_async().await) });
    let (task, times) = (Mutex::new(Some(task)), AtomicUsize::new(0));
    let woken = Arc::new(Woken { habit: Habit::Closes, task, engine: engine.clone(), times });
    woken.poll();
    woken
}

#[test]
fn a_waker_may_close_the_engine_while_another_thread_does() {
    let _watchdog = watchdog(60);
    for _ in 0..20 {
        let engine = Engine::builder().publish_interval(Duration::from_secs(10)).build().unwrap();
        let woken = waiting(&engine);
        // The future is told that nothing comes any more, on a thread of the engine.
        engine.close().unwrap();
        eventually("it was woken", || woken.times.load(Ordering::SeqCst) > 0);
    }
}

#[test]
fn a_folder_that_a_waker_closed_opens_with_all_that_was_visible() {
    let _watchdog = watchdog(60);
    for round in 0..5 {
        let path = std::env::temp_dir().join(format!("vecino-wakers-{}-{round}", std::process::id()));
        let interval = Duration::from_secs(1);
        let engine = Engine::builder().publish_interval(interval).open(&path).unwrap();
        let woken = waiting(&engine);
        eventually("it was woken", || woken.times.load(Ordering::SeqCst) > 0);
        let mut again = None;
        eventually("the folder is free", || {
            again = Engine::builder().open(&path).ok();
            again.is_some()
        });
        let items = again.as_ref().and_then(|engine| engine.collection("items").ok()).unwrap();
        assert_eq!(items.len(), 2);
        again.unwrap().close().unwrap();
        std::fs::remove_dir_all(&path).unwrap();
    }
}

/// A collection that is full to its budget, and the first record for which there is no room.
fn full(engine: &Engine) -> (Collection, Record) {
    const DIM: usize = 64;
    let config = CollectionConfig::new(DIM, Metric::L2).index(IndexSpec::Flat).memory_budget(4 << 20);
    let items = engine.create_collection("items", config).unwrap();
    let impatient = items.backpressure(Backpressure::Reject);
    for id in 0.. {
        let record = || Record::new(id, vec![id as f32; DIM]);
        match impatient.upsert(record()) {
            Ok(_) => {}
            Err(WriteError::Budget { .. }) => {
                items.flush().unwrap();
                if let Err(WriteError::Budget { .. }) = impatient.upsert(record()) {
                    return (items, record());
                }
            }
            Err(WriteError::Full { .. }) => _ = items.flush().unwrap(),
            Err(other) => panic!("{other}"),
        }
    }
    unreachable!("a budget has an end")
}

#[test]
fn a_waker_of_a_write_that_waits_for_memory_may_do_what_it_likes() {
    for habit in [Habit::Polls, Habit::Drops, Habit::Panics, Habit::Closes] {
        let _watchdog = watchdog(60);
        let engine = Engine::builder().workers(2).build().unwrap();
        let (items, record) = full(&engine);
        let (id, writer) = (record.id().clone(), items.clone());
        let task: Task = Box::pin(async move { drop(writer.upsert_async(record).await) });
        let (task, times) = (Mutex::new(Some(task)), AtomicUsize::new(0));
        let woken = Arc::new(Woken { habit, task, engine: engine.clone(), times });
        woken.poll();
        let _ = items.delete_batch(0..1_500u64);
        eventually("it was woken", || woken.times.load(Ordering::SeqCst) > 0);
        match habit {
            Habit::Polls => eventually("it was written", || items.get(id.clone()).unwrap().is_some()),
            Habit::Closes => eventually("the engine is closed", || items.delete(3u64).is_err()),
            _ => _ = items.flush().unwrap(),
        }
        if habit != Habit::Closes {
            assert_eq!(items.stats().rebuilt, 0);
        }
        engine.close().unwrap();
    }
}
