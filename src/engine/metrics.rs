//! The counters of an engine as text that Prometheus and its kin read.

use std::fmt::{Display, Write as _};

use super::Engine;
use super::collection::Collection;
use super::stats::{self, CollectionStats, ShardStats};

/// Families of metrics in the text exposition format, version 0.0.4.
#[derive(Default)]
struct Exposition {
    text: String,
}

/// Names and values of labels.
type Labels<'a> = &'a [(&'a str, &'a dyn Display)];

impl Exposition {
    /// Begins a family: what follows has its name.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing into a string does not fail.
        let _ = writeln!(self.text, "# HELP vecino_{name} {help}\n# TYPE vecino_{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: Labels<'_>, value: u64) {
        let _ = write!(self.text, "vecino_{name}");
        for (at, (label, text)) in labels.iter().enumerate() {
            let text = text.to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{}{label}=\"{text}\"", if at == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }
}

/// A metric of each collection: name, kind, help, value.
type OfCollection = (&'static str, &'static str, &'static str, fn(&CollectionStats) -> u64);

const OF_COLLECTION: [OfCollection; 8] = [
    ("collection_records", "gauge", "Visible records.", |c| c.rows as u64),
    ("collection_tail_rows", "gauge", "Rows that every search scans until they are indexed.", |c| {
        c.tail as u64
    }),
    ("collection_dead_rows", "gauge", "Dead rows that are not unlinked yet.", |c| c.dead as u64),
    ("collection_generation", "counter", "The newest generation.", |c| c.generation.0),
    ("collection_seq", "counter", "The last write that is visible.", |c| c.seq.0),
    ("collection_accepted_seq", "counter", "The last write that was accepted.", |c| c.last_seq.0),
    ("collection_searches_total", "counter", "Searches answered.", |c| c.searches),
    ("collection_distances_total", "counter", "Distances computed by searches.", |c| c.distances),
];

/// A metric of each shard: name, kind, help, value.
type OfShard = (&'static str, &'static str, &'static str, fn(&ShardStats) -> u64);

const OF_SHARD: [OfShard; 6] = [
    ("shard_indexed_rows", "gauge", "Rows in the index, dead ones included.", |s| s.indexed as u64),
    ("shard_tail_rows", "gauge", "Rows of the shard's tail.", |s| s.tail as u64),
    ("shard_pending_writes", "gauge", "Writes taken from the mailbox and not applied yet.", |s| {
        s.pending as u64
    }),
    ("shard_free_places", "gauge", "Places of dead rows that wait for new records.", |s| {
        s.free_places as u64
    }),
    ("shard_views_held", "gauge", "Views that somebody holds, the published one included.", |s| {
        s.views_held as u64
    }),
    ("shard_batches_total", "counter", "Batches that the index took in.", |s| s.batches),
];

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
        let collections: Vec<(String, CollectionStats)> = self
            .collections_by_name()
            .values()
            .map(|collection: &Collection| (collection.name().to_owned(), stats::of_collection(collection)))
            .collect();
        let mut exposition = Exposition::default();
        self.describe_engine(&mut exposition);
        describe_collections(&collections, &mut exposition);
        exposition.text
    }

    fn describe_engine(&self, to: &mut Exposition) {
        let stats = self.stats();
        to.family("info", "gauge", "Always 1.");
        let version = env!("CARGO_PKG_VERSION");
        to.sample("info", &[("version", &version), ("isa", &stats.isa)], 1);
        let of_workers = [
            (
                "mailbox_requests",
                "Requests in a worker's mailbox, or being worked on.",
                &stats.mailbox_depths,
            ),
            ("mailbox_limit", "Requests that the mailbox takes at present.", &stats.mailbox_limits),
            ("mailbox_bytes", "Bytes of these requests.", &stats.mailbox_bytes),
        ];
        for (name, help, values) in of_workers {
            to.family(name, "gauge", help);
            values
                .iter()
                .enumerate()
                .for_each(|(worker, value)| to.sample(name, &[("worker", &worker)], *value as u64));
        }
        let depth = stats.coordinator_depth as u64;
        to.single("coordinator_requests", "gauge", "Searches through the workers, and waits.", depth);
        to.single(
            "writes_refused_total",
            "counter",
            "Writes that found a mailbox full.",
            stats.writes_refused,
        );
        let refused = stats.searches_refused;
        to.single("searches_refused_total", "counter", "Searches through the workers refused.", refused);
    }
}

fn describe_collections(collections: &[(String, CollectionStats)], to: &mut Exposition) {
    for (name, kind, help, value) in OF_COLLECTION {
        to.family(name, kind, help);
        for (collection, stats) in collections {
            to.sample(name, &[("collection", collection)], value(stats));
        }
    }
    to.family("collection_bytes", "gauge", "Memory by what it holds.");
    for (collection, stats) in collections {
        let bytes = stats.bytes;
        let parts = [
            ("vectors", bytes.vectors),
            ("rows", bytes.rows),
            ("index", bytes.index),
            ("directory", bytes.directory),
        ];
        for (part, bytes) in parts {
            let labels: Labels<'_> = &[("collection", collection), ("part", &part)];
            to.sample("collection_bytes", labels, bytes as u64);
        }
    }
    for (name, kind, help, value) in OF_SHARD {
        to.family(name, kind, help);
        for (collection, stats) in collections {
            for (shard, of) in stats.shards.iter().enumerate() {
                to.sample(name, &[("collection", collection), ("shard", &shard)], value(of));
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
        let engine = Engine::builder().workers(2).build().unwrap();
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
}
