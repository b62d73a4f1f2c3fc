//! Rust source as text: what a rule needs to know of a file, without a parser.
//!
//! Comments, strings and character literals are blanked out first (line by
//! line, lengths kept), so that a word found afterwards is code.

use std::fs;
use std::path::{Path, PathBuf};

/// One file.
pub struct Source {
    /// Path from the package root, with forward slashes.
    pub path: String,
    /// The lines as they stand.
    pub raw: Vec<String>,
    /// The lines with comments and literals blanked out.
    pub code: Vec<String>,
    /// Line (from 0) at which the test module at the end starts: 0 when the
    /// whole file is one, the number of lines when there is none.
    pub tests_at: usize,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Source {
        let raw: Vec<String> = text.lines().map(str::to_owned).collect();
        let code: Vec<String> = blank(text).lines().map(str::to_owned).collect();
        let opens_tests = |two: &[String]| two[0] == "#[cfg(test)]" && two[1].starts_with("mod ");
        let tests_at = if path.contains("/tests/") || path.ends_with("/tests.rs") {
            0
        } else {
            code.windows(2).rposition(opens_tests).unwrap_or(code.len())
        };
        Source { path: path.to_owned(), raw, code, tests_at }
    }

    /// `path:line`, as an editor understands it; `at` counts from 0.
    pub fn place(&self, at: usize) -> String {
        format!("{}:{}", self.path, at + 1)
    }

    /// The module right under the crate root that the file belongs to; `None`
    /// for lib.rs.
    pub fn module(&self) -> Option<&str> {
        let inner = self.path.strip_prefix("src/")?;
        let first = inner.split('/').next()?;
        let name = first.strip_suffix(".rs").unwrap_or(first);
        (name != "lib").then_some(name)
    }

    /// Modules between the crate root and this file's own items.
    pub fn depth(&self) -> usize {
        let parts = self.path.trim_start_matches("src/").split('/').count();
        parts - usize::from(self.path.ends_with("/mod.rs"))
    }

    /// Modules opened in the file itself around a line.
    pub fn modules_around(&self, at: usize) -> usize {
        let mut open = Vec::new();
        for line in &self.code[..at] {
            for (column, c) in line.char_indices() {
                match c {
                    '{' => open.push(line[..column].split_whitespace().rev().nth(1) == Some("mod")),
                    '}' => drop(open.pop()),
                    _ => {}
                }
            }
        }
        open.into_iter().filter(|is_module| *is_module).count()
    }

    /// True inside the block of an `impl Trait for Type`.
    pub fn implements_a_trait(&self, at: usize) -> bool {
        let indent = |line: &str| line.len() - line.trim_start().len();
        let own = indent(&self.code[at]);
        let mut outer = self.code[..at].iter().rev().filter(|l| !l.trim().is_empty() && indent(l) < own);
        outer.next().is_some_and(|line| {
            let line = line.trim_start();
            (line.starts_with("impl") || line.starts_with("unsafe impl")) && line.contains(" for ")
        })
    }

    /// Every place where `word` stands as a whole identifier: (line, column).
    pub fn words(&self, word: &str) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        for (at, line) in self.code.iter().enumerate() {
            for (column, _) in line.match_indices(word) {
                let before = line[..column].chars().next_back();
                let after = line[column + word.len()..].chars().next();
                if !before.is_some_and(is_word) && !after.is_some_and(is_word) {
                    found.push((at, column));
                }
            }
        }
        found
    }

    /// The first segments of all paths that begin with `root::`, those of
    /// `root::{a::b, c}` included: (line, segment).
    pub fn paths(&self, root: &str) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for (at, column) in self.words(root) {
            let rest = &self.code[at][column + root.len()..];
            let Some(rest) = rest.strip_prefix("::") else { continue };
            if !rest.starts_with('{') {
                found.push((at, rest.chars().take_while(|c| is_word(*c)).collect()));
                continue;
            }
            let later = self.code[at + 1..].iter().map(String::as_str);
            found.extend(first_segments(std::iter::once(rest).chain(later), at));
        }
        found
    }

    /// All functions: (name, first line, last line).
    pub fn functions(&self) -> Vec<(String, usize, usize)> {
        let mut found = Vec::new();
        for (at, column) in self.words("fn") {
            let rest = self.code[at][column + 2..].trim_start();
            let name: String = rest.chars().take_while(|c| is_word(*c)).collect();
            if let Some(end) = self.end_of_body(at, column).filter(|_| !name.is_empty()) {
                found.push((name, at, end));
            }
        }
        found
    }

    /// The line that closes the braces opened after a place; `None` when a
    /// semicolon comes first (no body).
    fn end_of_body(&self, from: usize, column: usize) -> Option<usize> {
        let (mut braces, mut others) = (0_i32, 0_i32);
        for at in from..self.code.len() {
            let line = &self.code[at][if at == from { column } else { 0 }..];
            for c in line.chars() {
                match c {
                    '(' | '[' => others += 1,
                    ')' | ']' => others -= 1,
                    ';' if braces == 0 && others == 0 => return None,
                    '{' => braces += 1,
                    '}' => braces -= 1,
                    _ => continue,
                }
                if c == '}' && braces == 0 {
                    return Some(at);
                }
            }
        }
        None
    }
}

/// All Rust files under a folder of the package, sorted; none if it is absent.
pub fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    collect(&root.join(folder), &mut paths);
    paths.sort();
    let source = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let inner = path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/");
        Source::new(&inner, &text)
    };
    paths.iter().map(source).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|e| e == "rs") {
            paths.push(path);
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// First segments inside the group that `lines` begin with: `{a::b, c}`.
fn first_segments<'a>(lines: impl Iterator<Item = &'a str>, first: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let (mut depth, mut fresh) = (0, true);
    for (at, line) in lines.enumerate() {
        let mut word = String::new();
        for c in line.chars().chain(std::iter::once('\n')) {
            if is_word(c) {
                word.push(c);
                continue;
            }
            let segment = std::mem::take(&mut word);
            if fresh && !segment.is_empty() {
                found.push((first + at, segment));
                fresh = false;
            }
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => fresh = true,
                _ => {}
            }
            if depth == 0 {
                return found;
            }
        }
    }
    found
}

/// Replaces comments and the contents of literals by spaces.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = skip(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// Where the comment or literal that starts at `at` ends; `at` itself when
/// none starts there.
fn skip(chars: &[char], at: usize) -> usize {
    let rest = &chars[at..];
    let word_before = at > 0 && is_word(chars[at - 1]);
    match rest {
        ['/', '/', ..] => at + rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
        ['/', '*', ..] => at + block_comment(rest),
        ['"', ..] => at + string(rest),
        ['r', '"' | '#', ..] if !word_before => at + raw_string(rest),
        ['b', 'r', '"' | '#', ..] if !word_before => at + 1 + raw_string(&rest[1..]),
        ['\'', '\\', ..] => at + 3 + rest[3..].iter().position(|c| *c == '\'').unwrap_or(0) + 1,
        ['\'', _, '\'', ..] => at + 3,
        _ => at,
    }
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn string(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// `r"..."` or `r#"..."#`; 0 for a raw identifier such as `r#type`.
fn raw_string(rest: &[char]) -> usize {
    let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return 0;
    }
    let body = 2 + hashes;
    let closes =
        |at: &usize| rest[*at] == '"' && rest[*at + 1..].iter().take_while(|c| **c == '#').count() >= hashes;
    (body..rest.len()).find(closes).map_or(rest.len(), |at| at + 1 + hashes)
}

#[test]
fn text_in_comments_and_literals_is_not_code() {
    let text = "let a = \"rayon \\\" x\"; // rayon\n/* rayon /* x */ rayon */ let b = r#\"rayon\"#;\nlet c = ('\"', '\\'', &'static str, rayon);";
    let source = Source::new("src/a.rs", text);
    assert_eq!(source.words("rayon").iter().map(|w| w.0).collect::<Vec<_>>(), [2]);
    assert_eq!(source.code.len(), 3);
}

#[test]
fn grouped_uses_give_all_first_segments() {
    let text = "use crate::{\n    id::{Row, Seq},\n    metric,\n};\nfn f() -> crate::bits::RowSet {}";
    let paths = Source::new("src/a.rs", text).paths("crate");
    let paths: Vec<_> = paths.iter().map(|(line, name)| (*line, name.as_str())).collect();
    assert_eq!(paths, [(1, "id"), (2, "metric"), (4, "bits")]);
}

#[test]
fn functions_are_measured_from_name_to_closing_brace() {
    let text = "trait T { fn a(&self) -> [u8; 2]; }\nfn b(x: [u8; 3])\nwhere\n{\n    if x {}\n}\nfn c() {}";
    let functions = Source::new("src/a.rs", text).functions();
    let functions: Vec<_> = functions.iter().map(|f| (f.0.as_str(), f.1, f.2)).collect();
    assert_eq!(functions, [("b", 1, 5), ("c", 6, 6)]);
}
