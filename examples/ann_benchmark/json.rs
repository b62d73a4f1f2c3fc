//! Results as JSON lines, on the screen and in a file.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use super::Result;

/// One JSON object, built field by field.
#[derive(Clone, Default)]
pub(super) struct Line(String);

impl Line {
    pub(super) fn new() -> Line {
        Line::default()
    }

    fn field(mut self, name: &str, value: &str) -> Line {
        let comma = if self.0.is_empty() { "" } else { ", " };
        self.0.push_str(&format!("{comma}\"{name}\": {value}"));
        self
    }

    pub(super) fn text(self, name: &str, value: &str) -> Line {
        let escaped: String = value.chars().flat_map(escape).collect();
        self.field(name, &format!("\"{escaped}\""))
    }

    pub(super) fn whole(self, name: &str, value: usize) -> Line {
        self.field(name, &value.to_string())
    }

    /// A number with so many decimals; null when it is not finite.
    pub(super) fn number(self, name: &str, value: f64, decimals: usize) -> Line {
        if value.is_finite() {
            self.field(name, &format!("{value:.decimals$}"))
        } else {
            self.field(name, "null")
        }
    }

    pub(super) fn object(self, name: &str, value: Line) -> Line {
        self.field(name, &format!("{{{}}}", value.0))
    }

    /// Appends the line to a file, if there is one, and shows it.
    pub(super) fn emit(self, out: Option<&Path>) -> Result<()> {
        let line = format!("{{{}}}", self.0);
        println!("{line}");
        if let Some(path) = out {
            let file = OpenOptions::new().create(true).append(true).open(path);
            let written = file.and_then(|mut file| writeln!(file, "{line}"));
            written.map_err(|fault| format!("{}: {fault}", path.display()))?;
        }
        Ok(())
    }
}

fn escape(c: char) -> Vec<char> {
    match c {
        '"' | '\\' => vec!['\\', c],
        c if c.is_control() => format!("\\u{:04x}", c as u32).chars().collect(),
        c => vec![c],
    }
}
