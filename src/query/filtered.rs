//! What a search under a filter did.

/// How the rows that pass a filter were searched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FilterPlan {
    /// All rows that pass were compared, many of them by their codes first; by
    /// their vectors alone, and so exactly, in exact searches and where few pass.
    #[default]
    Scan,
    /// The index was walked, and let only rows that pass into the answer.
    Walk,
    /// The index was walked, and gave fewer rows than were asked for; then all
    /// rows that pass were compared.
    WalkThenScan,
}

/// What a search did with its filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FilterStats {
    /// How it searched; of several shards, the last in the order of the plans.
    pub plan: FilterPlan,
    /// Rows that there are, those included that wait to be used again.
    pub rows: usize,
    /// Rows that pass, as the plan had it: from the payloads alone, so it may
    /// count rows that were just replaced or deleted.
    pub estimated: usize,
    /// Records that pass: exact when all were compared, else the estimate.
    pub matching: usize,
    /// Rows that were compared with, by code or by vector.
    pub visited: u64,
}

impl FilterStats {
    /// The share of the rows that pass, as the plan had it.
    #[must_use]
    pub fn estimated_selectivity(&self) -> f64 {
        self.estimated as f64 / self.rows.max(1) as f64
    }

    /// The share of the rows that pass.
    #[must_use]
    pub fn selectivity(&self) -> f64 {
        self.matching as f64 / self.rows.max(1) as f64
    }

    /// Takes in what was done in another shard.
    pub(crate) fn add(&mut self, other: FilterStats) {
        self.plan = self.plan.max(other.plan);
        self.rows += other.rows;
        self.estimated += other.estimated;
        self.matching += other.matching;
        self.visited += other.visited;
    }
}
