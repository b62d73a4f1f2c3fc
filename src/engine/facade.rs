//! The same counters for the `metrics` facade: whatever recorder a program has
//! installed (for Prometheus, StatsD, OpenTelemetry, ...) gets them.

use metrics::{Key, KeyName, Label, Level, Metadata, with_recorder};

use super::Engine;
use super::counters::{Family, Kind, Labels, PREFIX, Sink};

const METADATA: Metadata<'_> = Metadata::new("vecino", Level::INFO, Some("vecino"));

/// Hands every number to the recorder of the program.
struct Facade;

fn full_name(family: Family) -> String {
    format!("{PREFIX}{}", family.name)
}

impl Sink for Facade {
    fn family(&mut self, family: Family) {
        let name = KeyName::from(full_name(family));
        with_recorder(|recorder| match family.kind {
            Kind::Gauge => recorder.describe_gauge(name, None, family.help.into()),
            Kind::Counter => recorder.describe_counter(name, None, family.help.into()),
        });
    }

    fn sample(&mut self, family: Family, labels: Labels<'_>, value: u64) {
        let label =
            |(name, text): &(&'static str, &dyn std::fmt::Display)| Label::new(*name, text.to_string());
        let key = Key::from_parts(full_name(family), labels.iter().map(label).collect::<Vec<_>>());
        with_recorder(|recorder| match family.kind {
            Kind::Gauge => recorder.register_gauge(&key, &METADATA).set(value as f64),
            Kind::Counter => recorder.register_counter(&key, &METADATA).absolute(value),
        });
    }
}

impl Engine {
    /// Hands all counters of [`Engine::metrics_text`], with the same names and
    /// labels, to the recorder of the `metrics` facade that the program has
    /// installed; nothing happens when there is none. Call it every few seconds,
    /// or before each export. Asking delays nobody. (With the feature `metrics`.)
    ///
    /// ```
    /// # use vecino::{CollectionConfig, Engine, Metric};
    /// let engine = Engine::builder().build()?;
    /// engine.create_collection("items", CollectionConfig::new(2, Metric::L2))?;
    /// engine.record_metrics();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn record_metrics(&self) {
        self.tell(&mut Facade);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use metrics::{
        Counter, CounterFn, Gauge, GaugeFn, Histogram, Recorder, SharedString, Unit, with_local_recorder,
    };

    use super::*;
    use crate::engine::CollectionConfig;
    use crate::metric::Metric;
    use crate::snapshot::Record;

    /// What was recorded: by name and labels, as the text form writes them.
    #[derive(Clone, Default)]
    struct Recorded(Arc<Mutex<BTreeMap<String, u64>>>);

    struct Cell {
        recorded: Recorded,
        key: String,
    }

    impl Cell {
        fn put(&self, value: u64) {
            self.recorded.0.lock().unwrap().insert(self.key.clone(), value);
        }
    }

    impl CounterFn for Cell {
        fn increment(&self, _value: u64) {
            panic!("the counters of an engine are absolute");
        }

        fn absolute(&self, value: u64) {
            self.put(value);
        }
    }

    impl GaugeFn for Cell {
        fn increment(&self, _value: f64) {
            panic!("the gauges of an engine are set");
        }

        fn decrement(&self, _value: f64) {
            panic!("the gauges of an engine are set");
        }

        fn set(&self, value: f64) {
            self.put(value as u64);
        }
    }

    impl Recorded {
        fn cell(&self, key: &Key) -> Arc<Cell> {
            let label = |label: &Label| format!("{}=\"{}\"", label.key(), label.value());
            let labels: Vec<String> = key.labels().map(label).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            Arc::new(Cell { recorded: self.clone(), key: format!("{}{labels}", key.name()) })
        }
    }

    impl Recorder for Recorded {
        fn describe_counter(&self, _key: KeyName, _unit: Option<Unit>, _help: SharedString) {}
        fn describe_gauge(&self, _key: KeyName, _unit: Option<Unit>, _help: SharedString) {}
        fn describe_histogram(&self, _key: KeyName, _unit: Option<Unit>, _help: SharedString) {}

        fn register_counter(&self, key: &Key, _metadata: &Metadata<'_>) -> Counter {
            Counter::from_arc(self.cell(key))
        }

        fn register_gauge(&self, key: &Key, _metadata: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(self.cell(key))
        }

        fn register_histogram(&self, _key: &Key, _metadata: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[test]
    fn a_recorder_gets_what_the_text_says() {
        let engine = Engine::builder().workers(2).memory_budget(1 << 30).build().unwrap();
        let items = engine.create_collection("items", CollectionConfig::new(2, Metric::L2)).unwrap();
        items.upsert_batch((0..100).map(|id| Record::new(id, [id as f32, 1.0]))).unwrap().wait().unwrap();
        items.optimize().unwrap();
        engine.close().unwrap();
        let recorded = Recorded::default();
        with_local_recorder(&recorded, || engine.record_metrics());
        let text = engine.metrics_text();
        let samples = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (key, value) = line.rsplit_once(' ').unwrap();
            (key.to_owned(), value.parse::<u64>().unwrap())
        });
        assert_eq!(*recorded.0.lock().unwrap(), samples.collect::<BTreeMap<_, _>>());
    }
}
