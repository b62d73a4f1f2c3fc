//! A folder of `tests/fixtures`, of which one file was changed: it is opened, or
//! refused with the place, as it is and for repair. The first byte says which file, the
//! second whether it is cut; each three after them where a byte is changed, and how.
#![no_main]

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use vecino::{Engine, Query};

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/folder-3");

static FOLDER: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("vecino-fuzz-folder-{}", std::process::id())));

/// The names of its files, in their order, and what they hold.
static FILES: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(|| {
    let files = std::fs::read_dir(FIXTURE).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
});

fn lay(folder: &Path, replaced: usize, content: &[u8]) {
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir(folder).unwrap();
    for (at, (name, whole)) in FILES.iter().enumerate() {
        std::fs::write(folder.join(name), if at == replaced { content } else { whole }).unwrap();
    }
}

fn changed(content: &mut Vec<u8>, cuts: bool, changes: &[u8]) {
    for (number, change) in changes.chunks_exact(3).enumerate() {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % content.len().max(1);
        match content.get_mut(at) {
            Some(_) if cuts && number == 0 => content.truncate(at),
            Some(byte) => *byte ^= change[2],
            None => return,
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let [which, cuts, changes @ ..] = input else { return };
    let which = *which as usize % FILES.len();
    let mut content = FILES[which].1.clone();
    changed(&mut content, *cuts > 127, changes);
    lay(&FOLDER, which, &content);
    for repair in [false, true] {
        let builder = Engine::builder().workers(2).pool_threads(1).repair(repair);
        let Ok(engine) = builder.open(&*FOLDER) else { continue };
        for name in engine.collections() {
            let Ok(items) = engine.collection(&name) else { continue };
            let snapshot = items.snapshot();
            let _ = snapshot.verify();
            let Ok(page) = snapshot.scroll(None, 20) else { continue };
            for record in page.records {
                let _ = snapshot.search(&Query::new(record.vector()).top(5));
            }
        }
        let _ = engine.close();
    }
});
