//! The same work on many items, spread over an executor.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Executor, Task};
use crate::memory::{collect, list, push};
use crate::pause::pause;

/// Runs of items that a task takes: enough of them to end together.
const RUNS_PER_TASK: usize = 8;

/// Neighbouring items are often alike: up to so many stay with one task.
const LONGEST_RUN: usize = 16;

/// `work(item)` for all items below `count`, in their order. Every task owns
/// one of `states`; which task takes which item depends on time, so `work` may
/// use its state as working memory only. Threads that give way pause after each item.
pub(super) fn parallel_map<S: Send, T: Send>(
    executor: &dyn Executor,
    count: usize,
    states: &mut [S],
    work: impl Fn(usize, &mut S) -> T + Sync,
) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let (next, work) = (&next, &work);
    let run = (count / (states.len() * RUNS_PER_TASK).max(1)).clamp(1, LONGEST_RUN);
    let mut parts: Vec<Vec<(usize, T)>> = states.iter().map(|_| Vec::new()).collect();
    let tasks = states.iter_mut().zip(&mut parts).map(|(state, part)| -> Task<'_> {
        Box::new(move || {
            loop {
                let first = next.fetch_add(run, Ordering::Relaxed);
                if first >= count {
                    return;
                }
                for item in first..count.min(first + run) {
                    push(part, (item, work(item, state)));
                    pause();
                }
            }
        })
    });
    executor.run(tasks.collect());
    let mut all: Vec<(usize, T)> = list(parts.iter().map(Vec::len).sum());
    all.extend(parts.into_iter().flatten());
    all.sort_unstable_by_key(|(item, _)| *item);
    collect(all.into_iter().map(|(_, result)| result))
}

/// Items of a task in a wave.
const WAVE: usize = 16;

/// The same in waves of some items for each task: what is made of them is taken,
/// in their order, before the next ones are begun. So large results never stand
/// there twice.
pub(super) fn parallel_waves<S: Send, T: Send>(
    executor: &dyn Executor,
    count: usize,
    states: &mut [S],
    work: impl Fn(usize, &mut S) -> T + Sync,
    mut take: impl FnMut(T),
) {
    let wave = WAVE * states.len().max(1);
    for first in (0..count).step_by(wave) {
        let results =
            parallel_map(executor, wave.min(count - first), states, |item, state| work(first + item, state));
        results.into_iter().for_each(&mut take);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Sequential;
    use super::*;
    use crate::pause::pauses_of;

    #[test]
    fn results_stand_in_the_order_of_the_items() {
        let squares = parallel_map(&Sequential, 5, &mut [(), ()], |item, ()| item * item);
        assert_eq!(squares, [0, 1, 4, 9, 16]);
        assert!(parallel_map(&Sequential, 0, &mut [()], |item, ()| item).is_empty());
    }

    #[test]
    fn threads_that_give_way_may_do_so_after_each_item() {
        let paused = pauses_of(|| drop(parallel_map(&Sequential, 5, &mut [()], |item, ()| item)));
        assert_eq!(paused, 5);
    }

    #[test]
    fn waves_give_all_results_in_the_order_of_the_items() {
        for count in [0, 1, 2 * WAVE, 5 * WAVE + 3] {
            let mut taken = Vec::new();
            parallel_waves(&Sequential, count, &mut [(), ()], |item, ()| item, |item| taken.push(item));
            assert!(taken.into_iter().eq(0..count), "{count}");
        }
    }
}
