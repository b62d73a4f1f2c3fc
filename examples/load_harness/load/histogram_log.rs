//! Histograms over time in the form that HdrHistogram's tools read.

use std::time::Duration;

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use super::mix::Operation;
use super::window::Window;

/// Largest times in the log are in milliseconds, as is the custom.
const NS_PER_MS: f64 = 1e6;

/// The log, as text in memory: a few kilobytes a stretch.
pub(crate) struct HistogramLog {
    text: Vec<u8>,
    serializer: V2DeflateSerializer,
}

impl Default for HistogramLog {
    fn default() -> Self {
        HistogramLog { text: Vec::new(), serializer: V2DeflateSerializer::new() }
    }
}

impl HistogramLog {
    /// Adds the times of every operation in a stretch, and from the acknowledgement
    /// of writes until they could be found (`fresh`). Writing to memory does
    /// not fail; a histogram that cannot be serialized is left out.
    pub(crate) fn add(&mut self, start_s: f64, seconds: f64, window: &Window) {
        let mut builder = IntervalLogWriterBuilder::new();
        builder.with_max_value_divisor(NS_PER_MS);
        if self.text.is_empty() {
            builder.add_comment("vecino load_harness: nanoseconds from the intended start, by operation");
        }
        let (start, length) = (Duration::from_secs_f64(start_s.max(0.0)), Duration::from_secs_f64(seconds));
        let Ok(mut writer) = builder.begin_log_with(&mut self.text, &mut self.serializer) else { return };
        let of = |(operation, name): (Operation, &'static str)| {
            (&window.operations[operation as usize].latency, name)
        };
        for (times, name) in Operation::ALL.map(of).into_iter().chain([(&window.fresh, "fresh")]) {
            if let Some(times) = times.histogram() {
                let _ = writer.write_histogram(times, start, length, Tag::new(name));
            }
        }
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.text
    }
}
