//! The rules that keep the crate in layers, held by reading its source as text.
//!
//! Each rule is one table and one test; a failure names file and line. Code in
//! test modules obeys the same rules as the rest.

#![allow(missing_docs, unreachable_pub, reason = "a test has no readers of its interface")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may fail loudly"
)]

#[path = "architecture/source.rs"]
mod source;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use source::{Source, sources};

/// The root's window for benches: the only module that may stand outside the
/// order, because nothing uses it.
const EXEMPT: &str = "internals";

/// Where something may be used.
enum Home {
    Anywhere,
    /// Files whose path starts with one of these.
    Paths(&'static [&'static str]),
    /// The module of this name and those declared after it.
    From(&'static str),
}

/// Outside dependencies and the corners of std that have one home, so that
/// replacing one, or checking its use, means reading one file.
const HOMES: &[(&str, Home)] = &[
    ("crc32fast", Home::Paths(&["src/persist/"])),
    ("arc_swap", Home::Paths(&["src/snapshot/cell.rs"])),
    ("crossbeam_channel", Home::Paths(&["src/shard/mailbox.rs"])),
    ("crossbeam_utils", Home::Anywhere),
    ("dashmap", Home::Paths(&["src/coordinator/directory.rs"])),
    ("event_listener", Home::Paths(&["src/shard/places.rs", "src/shard/budget.rs", "src/shard/wakes.rs"])),
    ("loom", Home::Paths(&["src/lease.rs", "src/memory/words.rs", "src/index/cow"])),
    ("flume", Home::Paths(&["src/shard/mailbox.rs"])),
    // Optional: one of the ways out for the counters.
    ("metrics", Home::Paths(&["src/engine/facade.rs"])),
    ("rayon", Home::Paths(&["src/coordinator/pool.rs"])),
    // Optional: JSON is one way in, and no file of ours is JSON.
    ("serde_json", Home::Paths(&["src/payload/json.rs"])),
    ("rustix", Home::Paths(&["src/memory/mapping.rs", "src/coordinator/thread.rs"])),
    ("thiserror", Home::Anywhere),
    ("tracing", Home::From("shard")),
    ("std::alloc", Home::Paths(&["src/memory/"])),
    ("std::arch", Home::Paths(&["src/kernel/"])),
    ("core::arch", Home::Paths(&["src/kernel/"])),
    // In tests: where files may be, and how long crash tests and fuzzing run.
    (
        "std::env",
        Home::Paths(&[
            "src/kernel/isa.rs",
            "src/persist/storage/disk.rs",
            "src/engine/tests/",
            "src/codec/fuzz.rs",
        ]),
    ),
    (
        "thread_local",
        Home::Paths(&["src/snapshot/", "src/coordinator/yielding.rs", "src/stats.rs", "src/pause.rs"]),
    ),
];

/// Below this module the code is deterministic: no threads, no locks, no
/// clock, no I/O. Atomics and `Arc` are allowed; types that only describe
/// (`Duration`, `io::Error`) are no clock and no I/O. Tests may use threads and
/// locks, to show that a result does not depend on them, but no clock.
const FIRST_WITH_THREADS: &str = "shard";
/// Shards log what they are asked before they do it, so files stand below them,
/// behind a seam: in a test the disk is a simulator that crashes.
const SEAM: &str = "src/persist/storage/";
const ABOVE_ONLY: &[&str] = &["std::fs", "std::net", "std::process", "Instant", "SystemTime"];
const ABOVE_OR_IN_TESTS: &[&str] = &[
    "std::thread",
    "mpsc",
    "Mutex",
    "RwLock",
    "Condvar",
    "Barrier",
    "OnceLock",
    "LazyLock",
    "stdin",
    "stdout",
    "stderr",
];

/// Where unsafe code may stand, and why. Test modules elsewhere may call into
/// it (to fill a matrix), with the same notes.
const UNSAFE: &[(&str, &str)] = &[
    ("src/kernel/", "intrinsics: vector instructions and prefetching"),
    ("src/memory/", "raw memory: allocated, mapped, and seen as atomic words"),
    ("src/index/cow.rs", "blocks that nobody writes any more, seen as bytes by the kernels"),
    ("src/vector/aligned.rs", "floats in such memory, written while other parts of it are read"),
    ("src/vector/matrix.rs", "hands out and fills the rows of that allocation"),
    ("src/rows/cells.rs", "cells that are written once and read by many, without a lock"),
    ("src/internals/index.rs", "a bare index for benches fills a matrix that nobody else knows"),
    ("src/rows/store.rs", "fills rows and cells that no reader has been shown yet"),
];
/// A SAFETY note stands at most this far above its `unsafe`.
const SAFETY_LINES: usize = 6;

const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 70;
const DEPENDENCIES: usize = 40;

/// What the top level holds, besides dot-files.
const TOP_LEVEL: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "design.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    "src",
    "benches",
    "tests",
    "examples",
];

/// Fails with one line for each fault.
fn expect_none(rule: &str, faults: Vec<String>) {
    assert!(faults.is_empty(), "{rule}\n  {}\n", faults.join("\n  "));
}

/// The modules that lib.rs declares, in order.
fn declared() -> Vec<String> {
    let all = sources("src");
    let lib = all.iter().find(|s| s.path == "src/lib.rs").expect("src/lib.rs");
    let declaration = |line: &String| {
        let end = line.trim_end().strip_suffix(';')?;
        let (before, name) = end.rsplit_once("mod ")?;
        ["", "pub ", "pub(crate) "].contains(&before).then(|| name.to_owned())
    };
    lib.code.iter().filter_map(declaration).collect()
}

/// Floor of a module; the root and the exempt stand above all.
fn floor(order: &[String], module: Option<&str>) -> usize {
    let of = |m: &str| order.iter().position(|o| o == m).filter(|_| m != EXEMPT);
    module.and_then(of).unwrap_or(order.len())
}

#[test]
fn every_file_belongs_to_a_declared_module() {
    let order = declared();
    let strays =
        sources("src").into_iter().filter(|s| s.module().is_some_and(|m| !order.iter().any(|o| o == m)));
    expect_none("lib.rs declares no module for:", strays.map(|s| s.path).collect());
}

#[test]
fn modules_use_only_what_is_declared_before_them() {
    let order = declared();
    let mut faults = Vec::new();
    for file in sources("src") {
        let own = floor(&order, file.module());
        for (at, used) in file.paths("crate") {
            let fault = match order.iter().position(|m| *m == used) {
                Some(floor) if floor <= own => continue,
                Some(_) => format!("uses `{used}`, which lib.rs declares after it"),
                None => format!("uses `crate::{used}`: name the module it lives in"),
            };
            faults.push(format!("{} {fault}", file.place(at)));
        }
        faults.extend(climbs_to_the_root(&file));
    }
    expect_none("a module uses only modules declared before it:", faults);
}

/// `super::` chains that leave the file's top module: they hide a use of
/// another module from the rule above.
fn climbs_to_the_root(file: &Source) -> Vec<String> {
    let depth = if file.module().is_some() { file.depth() } else { return Vec::new() };
    let climbs = |(at, column): &(usize, usize)| {
        let chain = &file.code[*at][*column..];
        let is_first = !file.code[*at][..*column].ends_with("::");
        let supers = chain.split("::").take_while(|s| *s == "super").count();
        is_first && supers >= depth + file.modules_around(*at)
    };
    let found = file.words("super").into_iter().filter(climbs);
    found.map(|(at, _)| format!("{} climbs to the root: write `crate::`", file.place(at))).collect()
}

/// Lines on which a file uses `name`: a crate, a macro, or `root::module`.
fn uses(file: &Source, name: &str) -> Vec<usize> {
    match name.split_once("::") {
        Some((root, module)) => {
            file.paths(root).into_iter().filter(|(_, m)| m == module).map(|(at, _)| at).collect()
        }
        None => file.words(name).into_iter().map(|(at, _)| at).collect(),
    }
}

#[test]
fn dependencies_are_used_only_in_their_homes() {
    let order = declared();
    let mut faults = Vec::new();
    for file in sources("src") {
        for (name, home) in HOMES {
            let (allowed, place) = match home {
                Home::Anywhere => continue,
                Home::Paths(paths) => (paths.iter().any(|p| file.path.starts_with(p)), paths.join(", ")),
                Home::From(module) => {
                    let least = order.iter().position(|m| m == module).unwrap_or(order.len());
                    (floor(&order, file.module()) >= least, format!("`{module}` and the modules after it"))
                }
            };
            if !allowed {
                let found = uses(&file, name);
                faults.extend(
                    found.iter().map(|at| format!("{} uses {name}: only in {place}", file.place(*at))),
                );
            }
        }
    }
    expect_none("each dependency has a home:", faults);
}

#[test]
fn every_dependency_has_a_home() {
    let manifest = include_str!("../Cargo.toml");
    let section = manifest.split("\n[dependencies]\n").nth(1).expect("a [dependencies] section");
    let names = section.lines().take_while(|l| !l.starts_with('[')).filter_map(|l| l.split_once('='));
    let homeless = names.map(|(name, _)| name.trim().replace('-', "_"));
    let homeless = homeless.filter(|name| !HOMES.iter().any(|(known, _)| known == name));
    expect_none("Cargo.toml has dependencies that HOMES in this file does not list:", homeless.collect());
}

#[test]
fn lower_floors_have_no_threads_locks_clock_or_input_and_output() {
    let order = declared();
    let first = order.iter().position(|m| m == FIRST_WITH_THREADS).unwrap_or(order.len());
    let mut faults = Vec::new();
    let below = |file: &&Source| floor(&order, file.module()) < first && !file.path.starts_with(SEAM);
    for file in sources("src").iter().filter(below) {
        for name in ABOVE_ONLY {
            faults.extend(uses(file, name).iter().map(|at| format!("{} uses {name}", file.place(*at))));
        }
        for name in ABOVE_OR_IN_TESTS {
            let found = uses(file, name).into_iter().filter(|at| *at < file.tests_at);
            faults.extend(found.map(|at| format!("{} uses {name}", file.place(at))));
        }
    }
    expect_none(&format!("only from `{FIRST_WITH_THREADS}` upward:"), faults);
}

#[test]
fn unsafe_stands_only_where_listed_and_says_why_it_is_sound() {
    let mut faults = Vec::new();
    for file in sources("src") {
        let listed = UNSAFE.iter().any(|(path, _)| file.path.starts_with(path));
        for (at, column) in file.words("unsafe") {
            // A pointer type, `unsafe fn(`, has nothing to argue.
            if file.code[at][column..].starts_with("unsafe fn(") {
                continue;
            }
            if !listed && at < file.tests_at {
                faults.push(format!("{} is not listed for unsafe code", file.place(at)));
            }
            // The contract of a method stands at its trait.
            if file.code[at][column..].starts_with("unsafe fn ") && file.implements_a_trait(at) {
                continue;
            }
            let above = &file.raw[note_starts(&file, at)..=at];
            if !above.iter().any(|l| l.contains("// SAFETY:") || l.contains("/// # Safety")) {
                faults.push(format!("{} has no SAFETY note above it", file.place(at)));
            }
        }
    }
    expect_none("unsafe code is rare and argued:", faults);
}

/// The first line in which a note for line `at` may stand: `SAFETY_LINES`
/// above, or as far as comments and attributes reach without a gap.
fn note_starts(file: &Source, at: usize) -> usize {
    let belongs = |line: &String| line.trim_start().starts_with("//") || line.trim_start().starts_with("#[");
    let mut start = at;
    while start > 0 && belongs(&file.raw[start - 1]) {
        start -= 1;
    }
    start.min(at.saturating_sub(SAFETY_LINES))
}

#[test]
fn files_and_functions_stay_small() {
    let mut faults = Vec::new();
    for file in ["src", "tests", "benches", "examples"].into_iter().flat_map(sources) {
        let lines = file.code[..file.tests_at].iter().filter(|l| !l.trim().is_empty()).count();
        if lines > FILE_LINES {
            faults.push(format!("{} has {lines} lines of code, at most {FILE_LINES}", file.path));
        }
        for (name, first, last) in file.functions() {
            let lines = last - first + 1;
            if lines > FUNCTION_LINES {
                faults.push(format!(
                    "{} `{name}` has {lines} lines, at most {FUNCTION_LINES}",
                    file.place(first)
                ));
            }
        }
    }
    expect_none("small files, small functions:", faults);
}

#[test]
fn nothing_is_left_for_later() {
    let mut faults = Vec::new();
    for file in ["src", "benches", "examples"].into_iter().flat_map(sources) {
        for (at, line) in file.raw.iter().enumerate() {
            let left = ["TODO", "FIXME", "XXX", "todo!", "unimplemented!", "#[ignore"];
            if let Some(word) = left.iter().find(|w| line.contains(**w)) {
                faults.push(format!("{} says {word}", file.place(at)));
            }
        }
    }
    expect_none("finish it or leave it out:", faults);
}

#[test]
fn the_top_level_stays_short() {
    let strays = top_level().into_iter().filter(|n| !n.starts_with('.') && !TOP_LEVEL.contains(&n.as_str()));
    expect_none("the top level holds what TOP_LEVEL in this file lists; not:", strays.collect());
}

/// Names at the top of the repository: tracked ones, or without git all.
fn top_level() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output();
    if let Ok(output) = listed
        && output.status.success()
        && !output.stdout.is_empty()
    {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        return text.split_terminator('\0').filter_map(|p| p.split('/').next()).map(str::to_owned).collect();
    }
    let entries = std::fs::read_dir(root).expect("the package root").flatten();
    // A published package holds the manifest twice; builds leave `target`.
    let made = ["target", "Cargo.toml.orig"];
    entries
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|n| !made.contains(&n.as_str()))
        .collect()
}

#[test]
fn the_dependency_budget_is_kept() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "-e", "normal", "--prefix", "none"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    let Some(tree) = tree.ok().filter(|t| t.status.success()) else {
        eprintln!("note: `cargo tree --offline` failed here; the dependency budget was not checked");
        return;
    };
    let text = String::from_utf8_lossy(&tree.stdout).into_owned();
    let of_line = |l: &str| l.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let crates: BTreeSet<String> = text.lines().filter(|l| !l.is_empty()).map(of_line).collect();
    let count = crates.len() - usize::from(crates.iter().any(|c| c.starts_with("vecino ")));
    let names = crates.into_iter().collect::<Vec<_>>().join(", ");
    assert!(count <= DEPENDENCIES, "{count} crates, at most {DEPENDENCIES}: {names}");
}
