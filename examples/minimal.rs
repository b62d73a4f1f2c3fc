//! The README's first program: put vectors in, find the nearest.
#![allow(clippy::print_stdout, reason = "an example shows its results")]

use vecino::{CollectionConfig, Engine, Metric, Query, Record};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::builder().build()?;
    let items = engine.create_collection("items", CollectionConfig::new(3, Metric::Cosine))?;

    let write = items.upsert_batch([
        Record::new("apple", [0.9, 0.1, 0.0]),
        Record::new("pear", [0.8, 0.2, 0.1]),
        Record::new("hammer", [0.0, 0.1, 0.9]),
    ])?;

    // From the newest snapshot that shows that write.
    let answer = items.search(&Query::new(&[1.0, 0.1, 0.0]).top(2).at_least(write.seq()))?;
    for hit in &answer {
        println!("{} {:.3}", hit.id, hit.distance);
    }
    engine.close()?;
    Ok(())
}
