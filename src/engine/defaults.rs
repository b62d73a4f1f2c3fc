//! Every number that an engine or a collection has when nothing is said, and
//! the bounds of what may be said, each with its reason.

use std::time::Duration;

/// Shards cost search work (each is a graph of its own) and buy write
/// parallelism; absorbing already uses the whole pool with one.
pub(super) const WORKERS: usize = 1;

/// More shards than this make every search slower and no write faster on any
/// machine known today.
pub(super) const WORKERS_MOST: usize = crate::persist::checkpoint::SHARDS_MOST;

/// Requests that may wait for one worker: milliseconds of work when they are
/// single writes.
pub(super) const MAILBOX_CAPACITY: usize = 1_024;

/// A queue of a million requests is memory without use.
pub(super) const MAILBOX_CAPACITY_MOST: usize = 1 << 20;

/// Bytes of the requests that may wait for one worker, and at most one request
/// more: some thousand vectors of any model.
pub(super) const MAILBOX_BYTES: usize = 64 << 20;

/// The work that may wait for one worker, of writes and of searches each, as
/// the time that it will take, and at most one request more: cheap requests are
/// bounded by their number before that (1,024 searches of 50 us are half of it),
/// and whoever comes last does not wait for longer than a person notices.
pub(super) const MAILBOX_WORK: Duration = Duration::from_millis(100);

/// More is no queue for which anybody waits.
pub(super) const MAILBOX_WORK_MOST_US: usize = 3_600_000_000;

/// Bytes of the searches through the workers that may be under way.
pub(super) const SEARCH_BYTES: usize = 64 << 20;

/// Searches through the workers that may be under way at a time.
pub(super) const SEARCHES: usize = 1_024;

/// Writes that may be waited for at a time, beside the searches: each is an
/// entry in a map, and whoever waits must not be kept out by searches that are
/// refused and come again.
pub(super) const WAITS: usize = 1 << 14;

/// A place in a worker's queue of searches is given back a moment after its
/// search was answered: so the queue has room for twice as many.
pub(super) const SEARCH_PLACES: usize = 2 * SEARCHES;

/// Threads of the pool are bounded by what a machine can have.
pub(super) const POOL_THREADS_MOST: usize = 1_024;

/// Every drained batch is published at once: a swap costs microseconds.
pub(super) const PUBLISH_INTERVAL: Duration = Duration::ZERO;

/// Longer than this is not a pace but a stop.
pub(super) const PUBLISH_INTERVAL_MOST_MS: usize = 10_000;

/// Records of one batch: its part of the mailbox is not bounded by the number
/// of messages, so it has a bound of its own.
pub(super) const BATCH_RECORDS_MOST: usize = 1_000_000;

/// Larger vectors than any model gives; the kernels' sums stay accurate up to it.
pub(super) const DIMENSION_MOST: usize = 1 << 16;

/// Bytes of a log file: written in well under a second, read in less.
pub(super) const LOG_BYTES: u64 = 64 << 20;

/// Shorter ones would be more header than log.
pub(super) const LOG_BYTES_LEAST: usize = 4 << 10;

/// The bytes of a collection's name.
pub(super) const NAME_BYTES_MOST: usize = 255;

/// How long `at_least` waits: far longer than a healthy engine needs.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// The paper's M: 16 suits dimensions from tens to a thousand.
pub(super) const M: usize = 16;
pub(super) const M_LEAST: usize = 2;
pub(super) const M_MOST: usize = 512;

/// hnswlib's customary value: more builds slower and finds little better.
pub(super) const EF_CONSTRUCTION: usize = 200;
pub(super) const EF_CONSTRUCTION_MOST: usize = 10_000;

/// What Vamana graphs are customarily built with (64 to 128); all measurements
/// in the README are with it.
pub(super) const GRAPH_EF_CONSTRUCTION: usize = 128;

/// Links of a row of the graph. At recall 0.99 lists of 64 searched 1.28 times
/// as fast as lists of 32 on 100,000 text embeddings, 1.1 times on 390,000 word
/// vectors, at 0.95 as fast; they build in the same time, since lists overflow
/// and are pruned less often.
pub(super) const GRAPH_DEGREE: usize = 64;

/// Where memory counts more than speed at high recalls.
pub(super) const GRAPH_DEGREE_LEAN: usize = 32;

/// Two of its cache lines for codes: more would be a large part of it.
pub(super) const GRAPH_LEAN_CODE_LINES: usize = 2;

/// A leaner graph is worth its speed when so many times as many records fit:
/// five for four.
pub(super) const LEAN_FIT: usize = 5;
pub(super) const ROOMY_FIT: usize = 4;

/// Two cache lines...
pub(super) const GRAPH_DEGREE_STEP: usize = 32;

/// ...and at most sixteen: from 96 on every search was slower.
pub(super) const GRAPH_DEGREE_MOST: usize = 256;

/// Records from which on a graph is used where the index follows their number.
/// Of so many an exact search takes 10 us (50 numbers), 18 (384) or 33 (784), one
/// on a graph 13 to 16; of 2,048 it is 17 to 35, of 512 not slower at all. The
/// exact index is there at once, misses nothing, and takes half the memory.
pub(super) const EXACT_BELOW: usize = 1_024;
/// Exact searches of more take milliseconds.
pub(super) const EXACT_BELOW_MOST: usize = 1_000_000;

/// Codes are whole cache lines...
pub(super) const CODE_LINE: usize = 64;

/// ...two of them when only the bits of a coordinate were said...
pub(super) const CODE_BYTES: usize = 128;

/// ...and at most 1,000 coordinates of 4 bits.
pub(super) const CODE_BYTES_MOST: usize = 512;

/// Recall of about 0.99 for 10 hits on most real data.
pub(super) const EF_SEARCH: usize = 64;
pub(super) const EF_SEARCH_MOST: usize = 1 << 20;

/// Lists that a search looks through: recall of about 0.95 to 0.99 for 10 hits
/// of four times the root of the number of rows.
pub(super) const NPROBE: usize = 16;

/// Lists that a search in the lean preset looks through: nearly as good a recall as that of a
/// graph at its usual breadth (GloVe, 50 numbers: 0.979, the graph 0.986).
pub(super) const NPROBE_LEAN: usize = 64;

/// Numbers of a vector below which the lean preset has lists: 32 links and a code are 256 bytes,
/// more than so many numbers of a byte.
pub(super) const LEAN_LISTS_BELOW: usize = 256;

/// Numbers of a vector from which on its lists have codes: two bits a number tell apart
/// what has many of them.
pub(super) const LEAN_CODES_FROM: usize = 32;

/// Rows that are measured for each that is wanted, at most, by a scan of product codes: as by lists of them.
pub(super) const OVERSAMPLE: usize = 10;
/// Codes of a byte or two a number hardly err: the others are spare.
pub(super) const OVERSAMPLE_ROUNDED: usize = 2;
/// Walks keep more than is wanted as it is.
pub(super) const OVERSAMPLE_WALKED: usize = 1;
/// By product codes and by signs the nearest may stand farther back: with
/// these, recall is 0.95 and more where the breadth says nothing else.
pub(super) const OVERSAMPLE_WALKED_PQ: usize = 8;
pub(super) const OVERSAMPLE_WALKED_SIGNS: usize = 10;
/// One bit errs most.
pub(super) const OVERSAMPLE_SIGNS: usize = 20;
/// More would be the exact search of a list.
pub(super) const OVERSAMPLE_MOST: usize = 10_000;

/// Rows that a scan of all codes measures, for the same reason.
pub(super) const PQ_EF_SEARCH: usize = 100;

/// Sums of looked-up bytes stay fine enough up to it.
pub(super) const SUBQUANTIZERS_MOST: usize = 1_024;

/// Any fixed number: the same log then builds the same graph.
pub(super) const SEED: u64 = 42;
