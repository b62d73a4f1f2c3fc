//! Files that were damaged: every bit of a small folder, and every length.
//!
//! What was written is there, or the file is named; only a torn tail, which
//! nothing vouches for, may be cut, and then the collection is as it was after
//! an earlier write.

use std::sync::Arc;

use super::machine::{Asked, LOG_BYTES, Outcome};
use super::script::{Random, WORKERS};
use super::{Machine, Model, Plant, scale};
use crate::durability::Durability;
use crate::engine::config::{CollectionConfig, IndexSpec};
use crate::error::FileError;
use crate::id::Seq;
use crate::metric::Metric;
use crate::payload::{Payload, Timestamp};
use crate::persist::simulator::Simulator;
use crate::persist::{FolderOptions, forge};
use crate::rows::{Mutation, NewExpiry, NewRow, Reindex};

/// Writes of collection `b`; the last one is known to be durable to nobody.
const WRITES: u64 = 6;

/// A folder with everything that there is: two collections, one with another
/// index since, a checkpoint, logs of several files, a manifest with changes; as
/// a kill left it.
fn small_folder() -> (Simulator, Model) {
    let (folder, mut model) = (Simulator::new(3), Model::default());
    let mut machine = Machine::open(&folder, WORKERS, Plant::None).unwrap();
    let mut random = Random::new(9);
    machine.create("a", CollectionConfig::new(2, Metric::L2).index(IndexSpec::hnsw()), &mut model).unwrap();
    write(&mut machine, &mut model, "a", 12, Durability::Logged, &mut random);
    machine.checkpoint("a").unwrap();
    machine.create("b", CollectionConfig::new(2, Metric::Cosine).index(IndexSpec::Flat), &mut model).unwrap();
    let spec: Arc<[u8]> = CollectionConfig::new(2, Metric::Cosine).index(IndexSpec::hnsw()).encode().into();
    for number in 0..WRITES {
        let durability = if number % 2 == 0 { Durability::Synced } else { Durability::Logged };
        let id = (number % 4).into();
        let expiry = NewExpiry { id, now: Timestamp(1), expires: Timestamp(10 + number as i64), gain: None };
        let more = match number {
            2 => vec![Mutation::Reindex(Reindex::Carry(Arc::clone(&spec))), Mutation::Expiry(expiry)],
            3 => vec![Mutation::Expiry(expiry), Mutation::Reindex(Reindex::Finish(Arc::clone(&spec)))],
            4 => vec![Mutation::Sweep { now: Timestamp(12), most: u64::MAX }, Mutation::Expiry(expiry)],
            _ => Vec::new(),
        };
        write_and(&mut machine, &mut model, ("b", 14, durability), more, &mut random);
    }
    drop(machine);
    (folder.kill(), model)
}

fn write(
    machine: &mut Machine,
    model: &mut Model,
    name: &str,
    records: u64,
    durability: Durability,
    random: &mut Random,
) {
    write_and(machine, model, (name, records, durability), Vec::new(), random);
}

fn write_and(
    machine: &mut Machine,
    model: &mut Model,
    (name, records, durability): (&str, u64, Durability),
    more: Vec<Mutation>,
    random: &mut Random,
) {
    let new = |id: u64, random: &mut Random| {
        let vector = Box::new([1.0 + random.below(100) as f32, random.below(100) as f32]);
        let scale = crate::vector::Space::new(Metric::Cosine, 2).check(&*vector).unwrap();
        Mutation::Upsert(NewRow {
            id: id.into(),
            vector,
            scale: if name == "a" { 1.0 } else { scale },
            payload: Payload::new().expiring(Timestamp(5 + id as i64)),
        })
    };
    let mutations = (0..records).map(|id| new(id, random)).chain(more).collect();
    machine.write(vec![Asked { collection: name.to_owned(), durability, mutations }], model).unwrap();
}

/// The states that collections come back with; an error when one is not a
/// state that the collection was in.
fn states(machine: &mut Machine, model: &Model) -> Result<(Seq, Seq), String> {
    let (contents, indexes) = (machine.contents(), machine.indexes());
    for (name, (seq, content)) in &contents {
        let known = model.collections.get(name).ok_or("an unknown collection")?;
        if indexes[name].iter().any(|spec| spec.as_deref() != known.switched(*seq)) {
            return Err(format!("{name} has not the index that it had after write {seq}"));
        }
        if *content != known.at(*seq) {
            return Err(format!("{name} is not as it was after write {seq}"));
        }
    }
    let state = |name| contents.get(name).map(|(seq, _)| *seq).unwrap_or_default();
    Ok((state("a"), state("b")))
}

/// A copy of a folder with another content of a file. Elsewhere: on another
/// machine, which does not know what was durable.
fn with(folder: &Simulator, name: &str, bytes: Vec<u8>, elsewhere: bool) -> Simulator {
    let copy = folder.copy(1);
    copy.put(name, bytes);
    if elsewhere { copy.cut_power() } else { copy }
}

fn names(fault: &FileError, file: &str) -> bool {
    match fault {
        FileError::Damaged { file: named, .. }
        | FileError::Newer { file: named, .. }
        | FileError::Missing { file: named } => named == file,
        FileError::Failed { .. } => false,
    }
}

/// Opens a damaged folder; `least` is what must have come back of `b`.
fn judge(folder: &Simulator, model: &Model, file: &str, least: Seq) -> Result<(), String> {
    match Machine::open(folder, WORKERS, Plant::None) {
        Err(fault) if names(&fault, file) => Ok(()),
        Err(fault) => Err(format!("the error does not name the file: {fault:?}")),
        Ok(mut machine) => {
            let (a, b) = states(&mut machine, model)?;
            let is_told = b == Seq(WRITES) || machine.given_up.iter().any(|part| part.file == file);
            if a == Seq(1) && b >= least && is_told { Ok(()) } else { Err(format!("{a} and {b} came back")) }
        }
    }
}

fn files(folder: &Simulator) -> Vec<(String, Vec<u8>)> {
    folder.files().into_iter().map(|name| (name.clone(), folder.read(&name))).collect()
}

#[test]
fn every_flipped_bit_changes_nothing_or_names_its_file() {
    let (folder, model) = small_folder();
    let kinds = |prefix| folder.files().iter().filter(|name| name.starts_with(prefix)).count();
    assert!(kinds("log-") >= 4 && kinds("checkpoint-") == 1 && kinds("manifest") == 1);
    for (name, bytes) in files(&folder) {
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let copy = with(&folder, &name, damaged.clone(), false);
            let judged = judge(&copy, &model, &name, Seq(WRITES));
            assert_eq!(judged, Ok(()), "bit {bit} of {name}");
            // Elsewhere nothing vouches for the last write, and for nothing else.
            let copy = with(&folder, &name, damaged, true);
            let judged = judge(&copy, &model, &name, Seq(WRITES - 1));
            assert_eq!(judged, Ok(()), "bit {bit} of {name}, on another machine");
        }
    }
}

#[test]
fn a_file_that_is_cut_anywhere_is_named_or_comes_back_as_it_was_after_an_earlier_write() {
    let (folder, model) = small_folder();
    for (name, bytes) in files(&folder) {
        for length in 0..bytes.len() {
            for elsewhere in [false, true] {
                let copy = with(&folder, &name, bytes[..length].to_vec(), elsewhere);
                match Machine::open(&copy, WORKERS, Plant::None) {
                    Err(fault) => assert!(names(&fault, &name), "{name} cut at {length}: {fault:?}"),
                    Ok(mut machine) => {
                        let judged = states(&mut machine, &model).map(drop);
                        assert_eq!(judged, Ok(()), "{name} cut at {length}");
                        let is_tail = name.starts_with("log-") || name == "manifest";
                        assert!(is_tail, "{name} cut at {length} was taken for whole");
                    }
                }
            }
        }
    }
}

/// Opens in spite of damage, says what that cost, and opens again without.
fn repair(folder: &Simulator) -> Outcome<bool> {
    let options = FolderOptions { workers: WORKERS, log_bytes: LOG_BYTES, repair: true };
    let mut machine = Machine::open_with(folder, options, Plant::None)?;
    let is_told = !machine.given_up.is_empty();
    machine.names().iter().try_for_each(|name| machine.checkpoint(name))?;
    let repaired = machine.contents();
    machine.close()?;
    let mut machine = Machine::open(folder, WORKERS, Plant::None)?;
    assert_eq!(machine.contents(), repaired);
    Ok(is_told)
}

/// The log that its worker was writing last.
fn is_newest(folder: &Simulator, name: &str) -> bool {
    let number = |file: &str| file.rsplit('-').next().and_then(|text| text.parse::<u64>().ok());
    let worker = name.get(..6).filter(|_| name.starts_with("log-"));
    let others =
        folder.files().into_iter().filter(|file| worker.is_some_and(|worker| file.starts_with(worker)));
    worker.is_some() && others.filter_map(|file| number(&file)).max() == number(name)
}

#[test]
fn a_repair_opens_what_is_damaged_says_what_it_gave_up_and_leaves_a_sound_folder() {
    let (folder, _) = small_folder();
    for (name, bytes) in files(&folder) {
        // Whoever loses the manifest has lost the collections: that is no repair.
        // In a log that was only begun there is nothing to lose.
        if name == "manifest" || bytes.len() <= 64 {
            continue;
        }
        for byte in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[byte] ^= 0x55;
            let copy = with(&folder, &name, damaged, false);
            assert!(repair(&copy).unwrap(), "byte {byte} of {name}");
        }
        let copy = folder.copy(1);
        crate::persist::Storage::remove(&copy, &name).unwrap();
        let is_told = repair(&copy).unwrap();
        // Nothing names the newest log of a worker that was begun since the
        // folder was opened.
        assert!(is_told || is_newest(&folder, &name), "{name} was removed");
    }
}

#[test]
fn spliced_files_are_read_as_they_were_or_named() {
    let (folder, model) = small_folder();
    let mut random = Random::new(77);
    let all = files(&folder);
    for round in 0..3_000 * scale() {
        let (name, bytes) = &all[random.below(all.len() as u64) as usize];
        let (_, other) = &all[random.below(all.len() as u64) as usize];
        if bytes.is_empty() || other.is_empty() {
            continue;
        }
        let mut spliced = bytes.clone();
        let at = random.below(bytes.len() as u64) as usize;
        let from = random.below(other.len() as u64) as usize;
        let count = (1 + random.below(200) as usize).min(other.len() - from);
        let end = (at + random.below(200) as usize).min(bytes.len());
        spliced.splice(at..end, other[from..from + count].iter().copied());
        let copy = with(&folder, name, spliced, round % 2 == 0);
        // A splice can end the file in the middle of a frame: a torn tail.
        match Machine::open(&copy, WORKERS, Plant::None) {
            Err(fault) => assert!(names(&fault, name), "round {round}, {name}: {fault:?}"),
            Ok(mut machine) => {
                assert_eq!(states(&mut machine, &model).map(drop), Ok(()), "round {round}, {name}")
            }
        }
    }
}

/// A file whose checksums are right and whose content is not: nobody writes
/// such a thing by accident, but no reader may end by it.
#[test]
fn forged_files_with_right_checksums_are_errors_or_some_content_and_never_a_panic() {
    let (folder, _) = small_folder();
    let mut random = Random::new(5);
    let all: Vec<_> = files(&folder).into_iter().filter(|(_, bytes)| bytes.len() > 64).collect();
    let mut opened = 0;
    let rounds = 6_000 * scale();
    for _ in 0..rounds {
        let (name, _) = &all[random.below(all.len() as u64) as usize];
        let chosen = random.below(8) as usize;
        let mut change = |number: usize, content: &mut Vec<u8>| {
            if number == chosen || random.below(12) == 0 {
                distort(content, &mut random);
            }
        };
        let forged = forge(&folder, name, &mut change).unwrap();
        let copy = with(&folder, name, forged, false);
        if let Ok(mut machine) = Machine::open(&copy, WORKERS, Plant::None) {
            machine.exercise();
            opened += 1;
        }
    }
    assert!(opened > rounds / 20, "only {opened} were opened at all");
}

/// Another byte, another number, a shorter or a longer end.
fn distort(content: &mut Vec<u8>, random: &mut Random) {
    let place = random.below(content.len().max(1) as u64) as usize;
    match random.below(5) {
        0 | 1 => content.iter_mut().skip(place).take(1).for_each(|byte| *byte = random.below(256) as u8),
        2 => {
            let numbers = [0, 1, 2, 255, 1 << 31, u64::from(u32::MAX), 1 << 63, u64::MAX];
            let number = numbers[random.below(8) as usize].to_le_bytes();
            content.iter_mut().skip(place).zip(number).for_each(|(byte, new)| *byte = new);
        }
        3 => content.truncate(place),
        _ => content.extend_from_within(place..),
    }
}
