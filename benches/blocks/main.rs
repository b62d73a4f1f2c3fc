//! Looking up persistent blocks: what stands beside the alternatives.
//!
//! `cargo bench --features internals --bench blocks -- [--quick] [key=value ...]`
//!
//! A walk like that of a graph: each step looks up 32 random keys that follow
//! from what the step before read, asks for the first two cache lines of every
//! block, then reads it. Some of the blocks are away from home. All layouts
//! are walked in turn, round after round; printed are the medians, and their
//! ratio to a layout without any check or table.
//!
//! Keys: keys, away (percent; lists with commas), rounds, steps, layout (part of
//! a name: only those, to count instructions).

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::atomic::AtomicU32;

use vecino::internals::kernel::prefetch;

mod layouts;

use layouts::{Contiguous, Direct, Each, Layout, SlotTable, SmallPages, Stands};

/// Blocks of a step.
const HOP: usize = 32;
/// Words of the two cache lines that are asked for.
const ASKED: usize = 32;

/// Turns huge pages off and on for the memory that this process touches from
/// now on.
fn set_huge(on: bool) {
    #[cfg(target_os = "linux")]
    {
        let nothing: libc::c_ulong = 0;
        let off = libc::c_ulong::from(!on);
        // SAFETY: this call takes numbers and changes how later pages are
        // taken, nothing else.
        unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, off, nothing, nothing, nothing) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = on;
}

/// Nanoseconds that this thread has had a processor, so that a busy machine
/// changes the figures less; the time of day where there is no such clock.
fn now() -> f64 {
    #[cfg(target_os = "linux")]
    {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is a place for the answer.
        unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
        time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
    }
    #[cfg(not(target_os = "linux"))]
    {
        static START: std::sync::LazyLock<std::time::Instant> =
            std::sync::LazyLock::new(std::time::Instant::now);
        START.elapsed().as_nanos() as f64
    }
}

fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (value ^ (value >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 8
}

fn contents(key: u32, words: &mut [u32]) {
    for (at, word) in words.iter_mut().enumerate() {
        *word = mix(u64::from(key) << 10 | at as u64) as u32;
    }
}

/// The sum of the words, as a kernel would read them: not one by one.
#[inline(always)]
fn total(block: &[AtomicU32]) -> u32 {
    // SAFETY: the same memory and layout; nobody writes it meanwhile.
    let words = unsafe { std::slice::from_raw_parts(block.as_ptr().cast::<u32>(), block.len()) };
    words.iter().fold(0, |sum, word| sum.wrapping_add(*word))
}

#[inline(always)]
fn next_keys(seed: u32, keys: u32) -> [u32; HOP] {
    let mut state = u64::from(seed) | 1;
    std::array::from_fn(|_| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (((state >> 32) * u64::from(keys)) >> 32) as u32
    })
}

/// Walks `steps` steps and gives what was read, the same for every layout.
#[inline(never)]
fn walk<L: Layout>(layout: &L, keys: u32, words: usize, steps: usize, seed: u32) -> u32 {
    let mut hop = next_keys(seed, keys);
    let mut blocks: [&[AtomicU32]; HOP] = [&[]; HOP];
    let mut sum = 0u32;
    for _ in 0..steps {
        layout.find(&hop, |at, block| {
            prefetch(&block[..ASKED.min(words)]);
            blocks[at] = &block[..words];
        });
        // The next keys are known when half of the blocks were read: time to
        // ask for whatever table says where they are.
        let (first, second) = blocks.split_at(HOP / 2);
        sum = first.iter().fold(sum, |sum, block| sum.wrapping_add(total(block)));
        hop = next_keys(sum, keys);
        layout.ask(&hop);
        let rest = second.iter().fold(0u32, |sum, block| sum.wrapping_add(total(block)));
        black_box(rest);
    }
    sum
}

/// One layout with what its walks took, in nanoseconds a step.
struct Runner<'a> {
    name: &'static str,
    walk: Box<dyn Fn(usize, usize, u32) -> u32 + 'a>,
    times: Vec<f64>,
}

fn runner<'a, L: Layout + 'a>(name: &'static str, layout: L, keys: u32) -> Runner<'a> {
    let walk = move |words, steps, seed| walk(&layout, keys, words, steps, seed);
    Runner { name, walk: Box::new(walk), times: Vec::new() }
}

fn runners<'a>(keys: u32, stride: u32, percent: u64) -> Vec<Runner<'a>> {
    let moved: Vec<u32> = (0..keys).filter(|key| mix(u64::from(*key) ^ 0x5eed) % 100 < percent).collect();
    vec![
        runner("(d) no check", Direct::new(keys, stride), keys),
        runner("(a) pages of 4,096 keys", SmallPages::new(keys, stride, &moved), keys),
        runner("(b) what stands", Stands::new(keys, stride, &moved), keys),
        runner("(b) ... each()", Each::new(keys, stride, &moved), keys),
        runner("(b) contiguous, flat bits", Contiguous::new(keys, stride, &moved), keys),
        runner("(c) slot table", SlotTable::new(keys, stride, &moved, false), keys),
        runner("(c) ... asked for ahead", SlotTable::new(keys, stride, &moved, true), keys),
    ]
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

/// How long to measure.
#[derive(Clone, Copy)]
struct Effort {
    rounds: usize,
    steps: usize,
}

/// Walks all layouts in turn; small pages and huge ones in the same rounds.
#[expect(clippy::print_stdout, reason = "the report is the product")]
fn compare(sets: &mut [Vec<Runner<'_>>; 2], words: usize, effort: Effort) {
    for round in 0..=effort.rounds {
        let mut read = None;
        for runner in sets.iter_mut().flatten() {
            let start = now();
            let sum = (runner.walk)(words, effort.steps, 7 + round as u32);
            let nanoseconds = (now() - start) / effort.steps as f64;
            assert_eq!(*read.get_or_insert(sum), sum, "{} reads something else", runner.name);
            // The first round warms the caches up.
            if round > 0 {
                runner.times.push(nanoseconds);
            }
        }
    }
    let mut floors = [0.0; 2];
    let [small, huge] = sets;
    for (small, huge) in small.iter_mut().zip(huge) {
        let medians = [median(&mut small.times), median(&mut huge.times)];
        small.times.clear();
        huge.times.clear();
        if floors[0] == 0.0 {
            floors = medians;
        }
        let [small, with_huge] = medians;
        println!(
            "    {:<26} {small:>7.0} {:>6.2} {with_huge:>9.0} {:>6.2}",
            huge.name,
            small / floors[0],
            with_huge / floors[1],
        );
    }
}

#[expect(clippy::print_stdout, reason = "the report is the product")]
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let quick = arguments.iter().any(|word| word == "--quick");
    let options: HashMap<&str, &str> = arguments.iter().filter_map(|word| word.split_once('=')).collect();
    let number =
        |key: &str, default: usize| options.get(key).and_then(|text| text.parse().ok()).unwrap_or(default);
    let effort = Effort {
        rounds: number("rounds", if quick { 1 } else { 9 }),
        steps: number("steps", if quick { 500 } else { 5_000 }),
    };
    let keys = options.get("keys").copied().unwrap_or(if quick { "20000" } else { "60000,400000,1000000" });
    let away = options.get("away").copied().unwrap_or("0,1,10");
    let named = options.get("layout").copied().unwrap_or("");
    println!("ns a step of {HOP} blocks, and ratio to (d): on small pages, on huge pages");
    for keys in keys.split(',').filter_map(|text| text.parse::<u32>().ok()) {
        for percent in away.split(',').filter_map(|text| text.parse().ok()) {
            for (stride, reads) in [(32, [16, 32].as_slice()), (48, &[48])] {
                set_huge(false);
                let small = runners(keys, stride, percent);
                set_huge(true);
                let mut sets = [small, runners(keys, stride, percent)];
                sets.iter_mut().for_each(|set| set.retain(|runner| runner.name.contains(named)));
                for words in reads {
                    println!(
                        "{keys} keys, {percent} % away, {} of {} bytes",
                        words * size_of::<u32>(),
                        stride as usize * size_of::<u32>()
                    );
                    compare(&mut sets, *words, effort);
                }
            }
        }
    }
}
