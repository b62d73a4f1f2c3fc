//! Runbooks of the streaming track of big-ann-benchmarks: steps of insert,
//! delete, replace and search, in their order.
//!
//! ```yaml
//! dataset-name:
//!   max_pts: 30000
//!   1:
//!     operation: "insert"
//!     start: 0
//!     end: 1000
//!   2:
//!     operation: "search"
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use vecino::{Query, Record};

use super::arguments::Arguments;
use super::load::Result;
use super::load::check;
use super::load::collection::UnderLoad;
use super::setup;

/// Queries of a search step that are asked.
const QUERIES: usize = 1_000;
/// Of these, compared with an exact search.
const JUDGED: usize = 100;

/// One step: its operation, and its numbers by name.
#[derive(Debug, Default, PartialEq)]
struct Step {
    number: u64,
    operation: String,
    numbers: BTreeMap<String, u64>,
}

impl Step {
    fn range(&self, from: &str, to: &str) -> Result<std::ops::Range<u64>> {
        let number = |name: &str| {
            let missing = || format!("step {} ({}) has no {name}", self.number, self.operation);
            self.numbers.get(name).copied().ok_or_else(missing)
        };
        Ok(number(from)?..number(to)?)
    }
}

/// The steps of the first data set of a runbook, in their order.
fn parse(text: &str) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    let mut sets = 0;
    for line in text.lines() {
        let content = line.split('#').next().unwrap_or_default();
        let Some((name, value)) = content.split_once(':') else { continue };
        let (name, value) = (name.trim().trim_matches('"'), value.trim().trim_matches(['"', '\'']));
        if !content.starts_with([' ', '\t']) {
            sets += 1;
        }
        match (name.parse::<u64>(), value.is_empty()) {
            _ if sets > 1 => break,
            (Ok(number), true) => steps.push(Step { number, ..Step::default() }),
            (Err(_), false) => {
                let Some(step) = steps.last_mut() else { continue };
                if name == "operation" {
                    step.operation = value.to_owned();
                } else if let Ok(number) = value.parse() {
                    step.numbers.insert(name.to_owned(), number);
                }
            }
            _ => {}
        }
    }
    if steps.is_empty() {
        return Err("the runbook has no steps".into());
    }
    steps.sort_by_key(|step| step.number);
    Ok(steps)
}

/// Runs a runbook and shows each step.
pub(super) fn run(arguments: &Arguments, file: &Path) -> Result<()> {
    setup::expect_vecino(arguments, "runbook")?;
    let steps = parse(&fs::read_to_string(file).map_err(|fault| format!("{}: {fault}", file.display()))?)?;
    let data = setup::data(arguments)?;
    let target = setup::empty(arguments, &data)?;
    let mut recalls = Vec::new();
    for step in &steps {
        let started = Instant::now();
        let recall = take(step, &target)?;
        let seconds = started.elapsed().as_secs_f64();
        let found = recall.map(|recall| format!(", recall {recall:.4}")).unwrap_or_default();
        say!(
            "step {:>4} {:<8} {seconds:>8.3} s, {} records{found}",
            step.number,
            step.operation,
            target.items.len()
        );
        recalls.extend(recall);
    }
    let mean = recalls.iter().sum::<f64>() / recalls.len().max(1) as f64;
    let report = target.items.verify()?;
    say!("mean recall {mean:.4} over {} searches; verify sound: {}", recalls.len(), report.is_sound());
    target.engine.close()?;
    if report.is_sound() { Ok(()) } else { Err(format!("verify: {:?}", report.findings).into()) }
}

fn take(step: &Step, target: &UnderLoad<'_>) -> Result<Option<f64>> {
    let (items, data) = (target.items.backpressure(vecino::Backpressure::Wait), target.data);
    match step.operation.as_str() {
        "insert" => setup::fill(&items, data, step.range("start", "end")?)?,
        "delete" => drop(items.delete_batch(step.range("start", "end")?)?.wait()?),
        "replace" => {
            let ids = step.range("tags_start", "tags_end")?;
            let rows = step.range("ids_start", "ids_end")?;
            let records = ids.zip(rows).map(|(id, row)| Record::new(id, data.row(row)));
            items.upsert_batch(records)?.wait()?;
        }
        "search" => return search(target).map(Some),
        other => return Err(format!("step {}: no such operation: {other}", step.number).into()),
    }
    Ok(None)
}

/// Asks the queries; gives the recall of some of them.
fn search(target: &UnderLoad<'_>) -> Result<f64> {
    let snapshot = target.items.snapshot();
    let (mut found, mut wanted) = (0, 0);
    for at in 0..target.data.query_count().min(QUERIES) {
        let mut query = Query::new(target.data.query(at as u64)).top(target.asking.k);
        if let Some(params) = target.asking.params {
            query = query.params(params);
        }
        let answer = snapshot.search(&query)?;
        if at < JUDGED {
            let truth = snapshot.search(&query.exact())?;
            found += check::found(&answer, &truth);
            wanted += truth.len();
        }
    }
    Ok(if wanted == 0 { 1.0 } else { found as f64 / wanted as f64 })
}
