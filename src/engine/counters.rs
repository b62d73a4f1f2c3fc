//! The counters of an engine, by name and with their labels: as text that
//! Prometheus and its kin read, and for whoever else takes them (`facade`).

use std::fmt::{Display, Write as _};
use std::time::Duration;

use super::Engine;
use super::collection::Collection;
use super::stats::{self, BudgetStats, CollectionStats, ShardStats};
use crate::shard::Refusals;

/// What all names begin with.
pub(super) const PREFIX: &str = "vecino_";

/// How the values of a family go on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Gauge,
    /// Never falls while the engine lives.
    Counter,
}

/// Metrics of one name; `name` is without the prefix.
#[derive(Clone, Copy)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, help }
}

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Counter, help }
}

/// Names and values of labels.
pub(super) type Labels<'a> = &'a [(&'static str, &'a dyn Display)];

/// Takes all counters, family by family.
pub(super) trait Sink {
    /// Begins a family: the samples that follow are its own.
    fn family(&mut self, family: Family);

    fn sample(&mut self, family: Family, labels: Labels<'_>, value: u64);
}

fn single(to: &mut dyn Sink, family: Family, value: u64) {
    to.family(family);
    to.sample(family, &[], value);
}

/// The text exposition format, version 0.0.4.
#[derive(Default)]
struct Exposition {
    text: String,
}

impl Sink for Exposition {
    fn family(&mut self, Family { name, kind, help }: Family) {
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        // Writing into a string does not fail.
        let _ = writeln!(self.text, "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}");
    }

    fn sample(&mut self, family: Family, labels: Labels<'_>, value: u64) {
        let _ = write!(self.text, "{PREFIX}{}", family.name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let text = text.to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{}{label}=\"{text}\"", if at == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

/// A metric of each collection, and its value.
type OfCollection = (Family, fn(&CollectionStats) -> u64);

const OF_COLLECTION: [OfCollection; 10] = [
    (gauge("collection_records", "Visible records."), |c| c.rows as u64),
    (gauge("collection_tail_rows", "Rows that every search scans until they are indexed."), |c| {
        c.tail as u64
    }),
    (gauge("collection_dead_rows", "Dead rows that are not unlinked yet."), |c| c.dead as u64),
    (counter("collection_generation", "The newest generation."), |c| c.generation.0),
    (counter("collection_seq", "The last write that is visible."), |c| c.seq.0),
    (counter("collection_accepted_seq", "The last write that was accepted."), |c| c.last_seq.0),
    (counter("collection_searches_total", "Searches answered."), |c| c.searches),
    (counter("collection_rebuilt_shards_total", "Times that a shard was made anew after a defect."), |c| {
        c.rebuilt
    }),
    (gauge("collection_left_out_writes", "Writes that met a defect again and were left out."), |c| {
        c.left_out.len() as u64
    }),
    (counter("collection_distances_total", "Distances computed by searches."), |c| c.distances),
];

/// A metric of each shard, and its value.
type OfShard = (Family, fn(&ShardStats) -> u64);

const OF_SHARD: [OfShard; 6] = [
    (gauge("shard_indexed_rows", "Rows in the index, dead ones included."), |s| s.indexed as u64),
    (gauge("shard_tail_rows", "Rows of the shard's tail."), |s| s.tail as u64),
    (gauge("shard_pending_writes", "Writes taken from the mailbox and not applied yet."), |s| {
        s.pending as u64
    }),
    (gauge("shard_free_places", "Places of dead rows that wait for new records."), |s| s.free_places as u64),
    (gauge("shard_views_held", "Views that somebody holds, the published one included."), |s| {
        s.views_held as u64
    }),
    (counter("shard_batches_total", "Batches that the index took in."), |s| s.batches),
];

/// A metric of a memory budget, and its value where it has one.
type OfBudget = (Family, fn(&BudgetStats) -> Option<usize>);

impl Engine {
    /// The counters of [`Engine::stats`] and [`Collection::stats`] in the text
    /// format that Prometheus and its kin read; [operating](crate::operating) says what
    /// each means and what to do when it rises. Asking delays nobody.
    ///
    /// ```
    /// # use vecino::{CollectionConfig, Engine, Metric, Record};
    /// let engine = Engine::builder().build()?;
    /// let items = engine.create_collection("items", CollectionConfig::new(2, Metric::L2))?;
    /// items.upsert(Record::new(1, [0.0, 1.0]))?.wait()?;
    /// let text = engine.metrics_text();
    /// assert!(text.contains("vecino_collection_records{collection=\"items\"} 1\n"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn metrics_text(&self) -> String {
        let mut exposition = Exposition::default();
        self.tell(&mut exposition);
        exposition.text
    }

    /// Tells all counters.
    pub(super) fn tell(&self, to: &mut dyn Sink) {
        let all = self.all_collections();
        let told = |collection: &Collection| (collection.name().to_owned(), stats::of_collection(collection));
        let collections: Vec<(String, CollectionStats)> = all.iter().map(told).collect();
        self.tell_of_engine(to);
        tell_of_collections(&collections, to);
    }

    fn tell_of_engine(&self, to: &mut dyn Sink) {
        let stats = self.stats();
        let info = gauge("info", "Always 1.");
        to.family(info);
        let version = env!("CARGO_PKG_VERSION");
        to.sample(info, &[("version", &version), ("isa", &stats.isa)], 1);
        let work: Vec<usize> = stats.mailbox_work.iter().map(|work| micros(*work) as usize).collect();
        let of_workers = [
            (
                gauge("mailbox_requests", "Requests in a worker's mailbox, or being worked on."),
                &stats.mailbox_depths,
            ),
            (gauge("mailbox_limit", "Requests that the mailbox takes at present."), &stats.mailbox_limits),
            (gauge("mailbox_bytes", "Bytes of these requests."), &stats.mailbox_bytes),
            (gauge("mailbox_work_microseconds", "What these requests will take of the worker."), &work),
        ];
        for (family, values) in of_workers {
            to.family(family);
            for (worker, value) in values.iter().enumerate() {
                to.sample(family, &[("worker", &worker)], *value as u64);
            }
        }
        let depth = stats.coordinator_depth as u64;
        single(to, gauge("coordinator_requests", "Searches through the workers, and waits."), depth);
        let work = gauge("search_work_microseconds", "What accepted searches will take of each worker.");
        single(to, work, micros(stats.search_work));
        let limit = gauge("work_limit_microseconds", "Work of writes, and of searches, that may wait.");
        single(to, limit, micros(stats.mailbox_work_limit));
        let refused = counter("writes_refused_total", "Writes that found a mailbox full, by what of.");
        tell_of_refusals(refused, &stats.writes_refused_for, to);
        let refused = counter("searches_refused_total", "Searches through the workers refused, by why.");
        tell_of_refusals(refused, &stats.searches_refused_for, to);
        let used = gauge("budget_used_bytes", "What counts against the engine's memory budget.");
        single(to, used, stats.budget.used as u64);
        // Without a budget there is no limit to tell.
        if let Some(limit) = stats.budget.limit {
            single(to, gauge("budget_limit_bytes", "The engine's memory budget."), limit as u64);
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn tell_of_refusals(family: Family, refusals: &Refusals, to: &mut dyn Sink) {
    to.family(family);
    let reasons = [
        ("requests", refusals.requests),
        ("bytes", refusals.bytes),
        ("work", refusals.work),
        ("turn", refusals.turn),
    ];
    for (reason, count) in reasons {
        to.sample(family, &[("reason", &reason)], count);
    }
}

fn tell_of_collections(collections: &[(String, CollectionStats)], to: &mut dyn Sink) {
    for (family, value) in OF_COLLECTION {
        to.family(family);
        for (collection, stats) in collections {
            to.sample(family, &[("collection", collection)], value(stats));
        }
    }
    tell_of_memory(collections, to);
    for (family, value) in OF_SHARD {
        to.family(family);
        for (collection, stats) in collections {
            for (shard, of) in stats.shards.iter().enumerate() {
                to.sample(family, &[("collection", collection), ("shard", &shard)], value(of));
            }
        }
    }
}

fn tell_of_memory(collections: &[(String, CollectionStats)], to: &mut dyn Sink) {
    let family = gauge("collection_bytes", "Memory by what it holds.");
    to.family(family);
    for (collection, stats) in collections {
        let bytes = stats.bytes;
        let parts = [
            ("vectors", bytes.vectors),
            ("kept", bytes.kept),
            ("rows", bytes.rows),
            ("payload", bytes.payload),
            ("index", bytes.index),
            ("directory", bytes.directory),
        ];
        for (part, bytes) in parts {
            to.sample(family, &[("collection", collection), ("part", &part)], bytes as u64);
        }
    }
    let used = gauge("collection_budget_used_bytes", "What counts against the collection's memory budget.");
    let limit = gauge("collection_budget_limit_bytes", "The collection's memory budget, if it has one.");
    let of: [OfBudget; 2] = [(used, |budget| Some(budget.used)), (limit, |budget| budget.limit)];
    for (family, value) in of {
        to.family(family);
        for (collection, stats) in collections {
            if let Some(value) = value(&stats.budget) {
                to.sample(family, &[("collection", collection)], value as u64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::CollectionConfig;
    use crate::metric::Metric;
    use crate::snapshot::Record;

    fn engine() -> Engine {
        let engine = Engine::builder().workers(2).memory_budget(1 << 30).build().unwrap();
        for name in ["plain", "odd \"name\"\\\n"] {
            let items = engine.create_collection(name, CollectionConfig::new(2, Metric::L2)).unwrap();
            items.upsert_batch((0..100).map(|id| Record::new(id, [id as f32, 1.0]))).unwrap().wait().unwrap();
        }
        engine
    }

    #[test]
    fn every_sample_belongs_to_the_family_above_it_and_is_a_number() {
        let text = engine().metrics_text();
        let mut family = "";
        for line in text.lines() {
            if let Some(head) = line.strip_prefix("# TYPE ") {
                family = head.split(' ').next().unwrap();
            } else if !line.starts_with('#') {
                let (name, value) = line.rsplit_once(' ').unwrap();
                assert_eq!(name.split('{').next(), Some(family), "{line}");
                value.parse::<u64>().unwrap();
            }
        }
        assert!(text.contains("vecino_collection_records{collection=\"plain\"} 100\n"), "{text}");
        assert!(text.contains("collection=\"odd \\\"name\\\"\\\\\\n\",shard=\"1\"}"), "{text}");
    }

    #[test]
    fn every_metric_is_explained() {
        let explained = include_str!("../operating.md");
        let text = engine().metrics_text();
        let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        let missing: Vec<&str> = names.filter(|name| !explained.contains(&format!("`{name}`"))).collect();
        assert!(missing.is_empty(), "operating.md does not explain {missing:?}");
    }

    #[test]
    fn the_dashboard_asks_only_for_metrics_that_exist() {
        let dashboard = include_str!("../../examples/metrics/grafana.json");
        let text = engine().metrics_text();
        let is_of_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let mut asked = 0;
        for (at, _) in dashboard.match_indices(PREFIX) {
            let name: String = dashboard[at..].chars().take_while(|letter| is_of_name(*letter)).collect();
            assert!(text.contains(&format!("# TYPE {name} ")), "there is no {name}");
            asked += 1;
        }
        assert!(asked >= 20, "{asked} metrics are shown");
    }
}
