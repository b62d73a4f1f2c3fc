//! A checkpoint is read and searched, or refused. Seeds: `tests/fixtures/*.backup`.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use vecino::{Query, Snapshot};

static FILE: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("vecino-fuzz-checkpoint-{}", std::process::id())));

fuzz_target!(|input: &[u8]| {
    std::fs::write(&*FILE, input).unwrap();
    let Ok(snapshot) = Snapshot::open(&*FILE) else { return };
    let _ = snapshot.verify();
    let Ok(page) = snapshot.scroll(None, 100) else { return };
    for record in page.records {
        assert!(snapshot.get(record.id().clone()).is_ok());
        let found = snapshot.search(&Query::new(record.vector()).top(5));
        let exact = snapshot.search(&Query::new(record.vector()).top(5).exact());
        for answer in [found, exact].into_iter().flatten() {
            assert!(answer.hits().iter().all(|hit| !hit.distance.is_nan()));
        }
    }
});
