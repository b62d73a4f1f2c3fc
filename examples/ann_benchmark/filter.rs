//! Searches of which few records pass the filter.

use std::time::{Duration, Instant};

use vecino::{Answer, Collection, Filter, Query};

use super::arguments::Arguments;
use super::data::Data;
use super::machine::{self, median};
use super::{Result, create, fill, line};

/// The field that filters ask for.
pub(super) const FIELD: &str = "a";

/// Numbers that pass, of 1,000; all of them: without a filter.
const SHARES: [u32; 5] = [1_000, 500, 100, 10, 1];

/// Breadths, until the recall is enough.
const BREADTHS: [usize; 6] = [10, 16, 24, 40, 80, 160];
const ENOUGH: f64 = 0.99;

const PASSES: usize = 3;
const LONG: Duration = Duration::from_secs(5);

/// The number of a record: SplitMix64 (Steele, Lea, Flood 2014) of its row, as
/// the other libraries are given it.
pub(super) fn attribute(row: usize) -> u32 {
    let mut mixed = (row as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) % 1_000) as u32
}

pub(super) fn run(arguments: &Arguments, data: &Data) -> Result<()> {
    let (engine, items) = create(arguments, data)?;
    fill(&items, data, data.rows(), true)?;
    for share in SHARES {
        let truth = data.exact(&|row| attribute(row) < share, arguments.k, arguments.threads);
        for breadth in BREADTHS {
            if point(arguments, data, &items, share, breadth, &truth)? >= ENOUGH {
                break;
            }
        }
    }
    engine.close()?;
    Ok(())
}

/// Measures one breadth; gives the recall.
fn point(
    arguments: &Arguments,
    data: &Data,
    items: &Collection,
    share: u32,
    breadth: usize,
    truth: &[Vec<u32>],
) -> Result<f64> {
    let filter = Filter::lt(FIELD, share);
    let query = |at: usize| {
        let query = Query::new(data.query(at)).top(arguments.k).ef_search(breadth);
        let query = query.without_payload();
        if share < 1_000 { query.filter(filter.clone()) } else { query }
    };
    machine::pin_process(machine::ONE);
    for at in 0..data.queries().min(50) {
        items.search(&query(at))?;
    }
    let (mut rates, mut answers): (Vec<f64>, Vec<Answer>) = (Vec::new(), Vec::new());
    let mut worked = Vec::new();
    while rates.len() < PASSES {
        answers.clear();
        let before = machine::worked_seconds();
        let started = Instant::now();
        for at in 0..data.queries() {
            answers.push(items.search(&query(at))?);
        }
        worked.push((machine::worked_seconds() - before) * 1e6 / data.queries() as f64);
        rates.push(data.queries() as f64 / started.elapsed().as_secs_f64());
        if started.elapsed() > LONG {
            break;
        }
    }
    machine::pin_process(machine::BOTH);
    let recall = data.recall_of(truth, &answers, arguments.k);
    let stats = answers.last().and_then(|answer| answer.stats().filter).unwrap_or_default();
    line("filter", arguments, data)
        .number("sel", f64::from(share) / 1_000.0, 4)
        .whole("matching", stats.matching)
        .text("plan", &format!("{:?}", stats.plan))
        .whole("ef", breadth)
        .whole("visited", stats.visited as usize)
        .number("recall", recall, 4)
        .number("qps", median(rates), 1)
        .number("cpu_us", median(worked), 2)
        .emit(arguments.out.as_deref())?;
    Ok(recall)
}
