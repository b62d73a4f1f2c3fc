//! Shows what is in an engine's folder and checks every byte of it.
//!
//!     cargo run --release --example inspect -- memory.vecino
//!     cargo run --release --example inspect -- --quick
//!
//! Nothing is changed. `--quick` makes a small folder of its own in the
//! directory for temporary files, and removes it. Ends with 1 when something
//! is damaged: `Engine::builder().repair(true)` opens such a folder.

#![allow(clippy::print_stdout, reason = "an example shows its results")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use vecino::{CollectionConfig, Durability, Engine, FolderReport, Metric, Record};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<ExitCode> {
    let asked = std::env::args().nth(1).ok_or("which folder? (or --quick)")?;
    let is_quick = asked == "--quick";
    let folder = if is_quick { small_folder()? } else { PathBuf::from(asked) };
    let report = Engine::inspect(&folder)?;
    show(&folder, &report);
    if is_quick {
        std::fs::remove_dir_all(&folder)?;
    }
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A folder with two collections, one of them with a checkpoint.
fn small_folder() -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("vecino-inspect-{}", std::process::id()));
    let engine = Engine::builder().workers(2).durability(Durability::Logged).open(&folder)?;
    let songs = engine.create_collection("songs", CollectionConfig::new(8, Metric::Cosine))?;
    songs.upsert_batch((1..=500).map(|id| Record::new(id, [id as f32; 8])))?.wait()?;
    engine.checkpoint()?;
    songs.delete(7)?.wait()?;
    let notes = engine.create_collection("notes", CollectionConfig::new(2, Metric::L2))?;
    notes.durability(Durability::Synced).upsert(Record::new("first", [0.5, 1.0]))?.wait()?;
    engine.close()?;
    Ok(folder)
}

fn show(folder: &Path, report: &FolderReport) {
    println!("{}: {} workers", folder.display(), report.workers);
    println!("\n  collection              at write  checkpoint at  records in it");
    for collection in &report.collections {
        let (name, seq) = (&collection.name, collection.seq.0);
        match &collection.checkpoint {
            None => println!("  {name:<22} {seq:>9}"),
            Some(checkpoint) => {
                let at = checkpoint.seq.0;
                match &checkpoint.records {
                    Ok(records) => println!("  {name:<22} {seq:>9}  {at:>13}  {records:>13}"),
                    Err(fault) => println!("  {name:<22} {seq:>9}  {at:>13}  {fault}"),
                }
            }
        }
    }
    println!("\n  file                        bytes  kind");
    for file in &report.files {
        println!("  {:<22} {:>10}  {:?}", file.name, file.bytes, file.kind);
    }
    for part in &report.given_up {
        println!("  {}: {} bytes from {} on: {:?}", part.file, part.bytes, part.offset, part.reason);
    }
    println!("\n  {}", if report.is_sound() { "every byte is as it was written" } else { "damaged" });
}
