//! Files that earlier versions wrote are read by this one, and this one still
//! writes them so.
//!
//! `VECINO_WRITE_FIXTURES=1 cargo test --test behaviour fixtures::` writes `tests/fixtures`
//! anew: only for another format version, with the old files kept beside.

use std::path::{Path, PathBuf};

use vecino::{
    Collection, CollectionConfig, Engine, GraphConfig, HnswConfig, IndexSpec, Metric, Query, Record, Snapshot,
};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
/// The format version that is written, and all that are read.
const FORMAT: u32 = 4;
const FORMATS: [u32; 4] = [1, 2, 3, 4];

const DIM: usize = 6;

/// Small whole numbers: distances are the same on every machine.
fn vector(id: u64) -> Vec<f32> {
    (0..DIM as u64).map(|at| ((id * 31 + at * 7 + id * id * at) % 17) as f32 + 1.0).collect()
}

fn records(ids: std::ops::Range<u64>) -> impl Iterator<Item = Record> {
    ids.map(|id| {
        if id % 5 == 0 { Record::new(format!("id-{id}"), vector(id)) } else { Record::new(id, vector(id)) }
    })
}

/// What backups and folders are of, and the first versions of both that there are files of.
fn configs() -> [(&'static str, CollectionConfig, [u32; 2]); 5] {
    let graph = GraphConfig::default().degree(32);
    let hnsw = HnswConfig::default().m(4);
    [
        ("flat", CollectionConfig::new(DIM, Metric::Dot).index(IndexSpec::Flat), [1, 1]),
        ("graph", CollectionConfig::new(DIM, Metric::Cosine).index(IndexSpec::Graph(graph)), [1, 1]),
        ("hnsw", CollectionConfig::new(DIM, Metric::L2).index(IndexSpec::Hnsw(hnsw)), [1, 1]),
        // Until 3 without links by inner product.
        ("dot-graph", CollectionConfig::new(DIM, Metric::Dot).index(IndexSpec::Graph(graph)), [3, 4]),
        ("dot-hnsw", CollectionConfig::new(DIM, Metric::Dot).index(IndexSpec::Hnsw(hnsw)), [3, 4]),
    ]
}

/// 60 records, 10 of them deleted, indexes in order; then a few more writes.
fn fill(items: &Collection, checkpoint: &dyn Fn()) {
    items.upsert_batch(records(0..60)).unwrap();
    items.delete_batch(20..30u64).unwrap();
    items.optimize().unwrap();
    checkpoint();
    items.upsert_batch(records(60..66)).unwrap();
    items.delete(61).unwrap().wait().unwrap();
}

fn expected(id: u64) -> bool {
    let is_number = !id.is_multiple_of(5);
    !(is_number && (20..30).contains(&id) || id == 61)
}

fn check(snapshot: &Snapshot, ids: u64) {
    for id in 0..ids {
        let found = if id.is_multiple_of(5) { snapshot.get(format!("id-{id}")) } else { snapshot.get(id) };
        let found = found.unwrap();
        assert_eq!(found.map(|record| record.vector().to_vec()), expected(id).then(|| vector(id)), "{id}");
    }
    let query = vector(7);
    let exact = snapshot.search(&Query::new(&query).top(5).exact()).unwrap();
    let found = snapshot.search(&Query::new(&query).top(5)).unwrap();
    let distances =
        |answer: &vecino::Answer| answer.hits().iter().map(|hit| hit.distance).collect::<Vec<_>>();
    assert_eq!(distances(&found), distances(&exact));
    assert!(snapshot.verify().unwrap().is_sound());
}

/// A place for a test, removed at its end.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let path = std::env::temp_dir().join(format!("vecino-fixtures-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Place(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn write_all(to: &Path) {
    let engine =
        Engine::builder().workers(2).pool_threads(1).open(to.join(format!("folder-{FORMAT}"))).unwrap();
    for (name, config, _) in configs() {
        let items = engine.create_collection(name, config).unwrap();
        fill(&items, &|| engine.checkpoint().unwrap());
    }
    engine.close().unwrap();
    let engine = Engine::builder().pool_threads(1).build().unwrap();
    for (name, config, _) in configs() {
        let items = engine.create_collection(name, config).unwrap();
        fill(&items, &|| {});
        items.snapshot().checkpoint(to.join(format!("{name}-{FORMAT}.backup"))).unwrap();
    }
}

#[test]
fn folders_of_earlier_versions_are_opened() {
    if std::env::var_os("VECINO_WRITE_FIXTURES").is_some() {
        let folder = Path::new(FIXTURES).join(format!("folder-{FORMAT}"));
        let _ = std::fs::remove_dir_all(&folder);
        write_all(Path::new(FIXTURES));
        std::fs::remove_file(folder.join("lock")).unwrap();
    }
    FORMATS.into_iter().for_each(open_folder);
}

fn open_folder(format: u32) {
    let place = Place::new(&format!("folder-{format}"));
    for entry in std::fs::read_dir(Path::new(FIXTURES).join(format!("folder-{format}"))).unwrap().flatten() {
        std::fs::copy(entry.path(), place.0.join(entry.file_name())).unwrap();
    }
    assert!(Engine::inspect(&place.0).unwrap().is_sound());
    for _ in 0..2 {
        let engine = Engine::builder().pool_threads(1).open(&place.0).unwrap();
        assert!(engine.recovery().given_up.is_empty());
        for (name, config, _) in configs().into_iter().filter(|(_, _, [_, since])| *since <= format) {
            let items = engine.collection(name).unwrap();
            assert_eq!(items.config(), config);
            // What wrote format 4 has shards take the codes of the first when it optimizes: three writes more.
            let writes = if format >= 4 && name == "graph" { 9 } else { 6 };
            assert_eq!(items.snapshot().seq().0, writes, "{name} of format {format}");
            check(&items.snapshot(), 66);
        }
        engine.close().unwrap();
    }
}

#[test]
fn backups_of_earlier_versions_are_read() {
    let all =
        FORMATS.into_iter().flat_map(|format| configs().map(|(name, _, [since, _])| (format, name, since)));
    for (format, name, _) in all.filter(|(format, _, since)| since <= format) {
        let path = Path::new(FIXTURES).join(format!("{name}-{format}.backup"));
        check(&Snapshot::open(&path).unwrap(), 66);
        for workers in [1, 2] {
            let engine = Engine::builder().workers(workers).pool_threads(1).build().unwrap();
            let items = engine.load("copy", &path).unwrap();
            check(&items.snapshot(), 66);
            // What an earlier version built is gone on with.
            items.upsert_batch(records(70..90)).unwrap();
            items.delete_batch([1, 2, 71u64]).unwrap();
            items.optimize().unwrap();
            assert!(items.snapshot().verify().unwrap().is_sound(), "{name} of format {format}");
        }
    }
}

/// A format that changes without another version number would go unnoticed.
#[test]
fn the_same_records_are_the_same_bytes_as_before() {
    let place = Place::new("bytes");
    write_all(&place.0);
    for (name, ..) in configs() {
        let file = format!("{name}-{FORMAT}.backup");
        let before = std::fs::read(Path::new(FIXTURES).join(&file)).unwrap();
        let now = std::fs::read(place.0.join(&file)).unwrap();
        let first = before.iter().zip(&now).position(|(before, now)| before != now);
        assert_eq!((before.len(), first), (now.len(), None), "{file}");
    }
}
