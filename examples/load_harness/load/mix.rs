//! What is asked for, and how often.

use super::rng::Rng;

/// What a request does. To add one: a variant here, its name in `ALL`, and an
/// arm in each target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// The k nearest to a query vector.
    Search,
    /// A record with an id that never was there.
    Insert,
    /// Another vector for a record that is there.
    Upsert,
    /// The oldest record goes.
    Delete,
    /// Many inserts that become visible together.
    Batch,
    /// A snapshot is pinned and a page of it read.
    Page,
    /// The k nearest of the records that pass a filter.
    Filtered,
    /// Another payload for a record, its vector stays.
    Update,
    /// A record that expires soon.
    Lapse,
}

impl Operation {
    pub(crate) const COUNT: usize = 9;

    pub(crate) const ALL: [(Operation, &'static str); Operation::COUNT] = [
        (Operation::Search, "search"),
        (Operation::Insert, "insert"),
        (Operation::Upsert, "upsert"),
        (Operation::Delete, "delete"),
        (Operation::Batch, "batch"),
        (Operation::Page, "page"),
        (Operation::Filtered, "filtered"),
        (Operation::Update, "update"),
        (Operation::Lapse, "lapse"),
    ];

    pub(crate) fn name(self) -> &'static str {
        Operation::ALL[self as usize].1
    }
}

/// Operations by weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Mix {
    weights: [f64; Operation::COUNT],
}

impl Mix {
    /// `search=95,upsert=5`: weights, in any scale.
    pub(crate) fn parse(text: &str) -> Option<Mix> {
        let mut weights = [0.0; Operation::COUNT];
        for part in text.split(',') {
            let (name, weight) = part.trim().split_once('=')?;
            let (operation, _) = Operation::ALL.iter().find(|(_, known)| *known == name)?;
            weights[*operation as usize] =
                weight.parse().ok().filter(|w: &f64| w.is_finite() && *w >= 0.0)?;
        }
        (weights.iter().sum::<f64>() > 0.0).then_some(Mix { weights })
    }

    /// The operations that may be drawn.
    pub(crate) fn used(&self) -> impl Iterator<Item = (Operation, &'static str)> {
        Operation::ALL.into_iter().filter(|(operation, _)| self.weights[*operation as usize] > 0.0)
    }

    /// The text that `parse` reads.
    pub(crate) fn describe(&self) -> String {
        let part =
            |(operation, name): (Operation, &str)| format!("{name}={}", self.weights[operation as usize]);
        let parts: Vec<String> = self.used().map(part).collect();
        parts.join(",")
    }

    pub(crate) fn draw(&self, rng: &mut Rng) -> Operation {
        let mut left = rng.unit() * self.weights.iter().sum::<f64>();
        let mut drawn = Operation::Search;
        for (operation, _) in Operation::ALL {
            let weight = self.weights[operation as usize];
            if weight > 0.0 {
                drawn = operation;
                if left <= weight {
                    break;
                }
                left -= weight;
            }
        }
        drawn
    }
}
