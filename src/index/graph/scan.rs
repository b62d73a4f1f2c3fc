//! Searching a small graph: all codes are read, and nothing is walked through.
//!
//! A walk waits for what it reads next; codes that stand one after the other are there when they are wanted.
//! Of few rows all are estimated in the time in which a walk looks at a few hundred, and no near one is overlooked.

use super::search::{Ground, HIDDEN_DIVISOR, SPARE, Stage};
use crate::index::{Effort, Request, Scratch};
use crate::kernel::Arch;
use crate::memory;
use crate::metric::Metric;
use crate::quant::{CodeQuery, Interleaved};

/// Words that are read one after the other in the time of a hop of a walk, words of two codes a byte counted twice: 5,600 on
/// GloVe (codes of bytes), 6,900 on MiniLM (two in a byte), with AVX-512.
const WORDS_A_HOP: usize = if cfg!(test) { 500 } else { 6_000 };

/// Hops that a walk takes beside the breadth of the search.
const HOPS_BESIDE: usize = 12;

impl<'a, A: Arch> Ground<'a, A> {
    /// The codes to read for a request; none where a walk may do less than all.
    fn codes_to_read(&self, request: &Request<'_>) -> Option<&'a Interleaved> {
        let all = self.version.derived.read_whole(request.shards)?;
        let held = self.version.graph.held.len() as u64;
        let wants_all = request.filter.is_none() && request.ends.reach.is_none();
        (wants_all && request.ends.allow(held)).then_some(all)
    }

    /// Estimates all rows that may be near and keeps the best that are admitted, as many as a walk would; none where a walk is
    /// the better way.
    #[inline(always)]
    pub(super) fn scan(
        &self,
        request: &Request<'_>,
        query: &CodeQuery,
        scratch: &mut Scratch,
        effort: &mut Effort,
    ) -> Option<Stage> {
        let all = self.codes_to_read(request)?;
        let work = (request.ef + HOPS_BESIDE) * WORDS_A_HOP;
        let is_dot = self.points.space.metric() == Metric::Dot;
        if !is_dot && all.work() > work {
            return None;
        }
        let mut kept = self.limits(request).kept;
        if request.admit.is_some() {
            kept += kept.div_ceil(HIDDEN_DIVISOR);
        }
        let mut looking = all.look(self.arch, query, kept);
        // Only now is known how long a row must be.
        if is_dot && looking.work() > work {
            return None;
        }
        let Scratch { pool, candidates, .. } = &mut *scratch;
        pool.reset(kept);
        while let Some((rows, estimates)) = looking.next(pool.bound()) {
            pool.insert_all(self.arch, rows, estimates);
        }
        effort.distances += looking.estimated;
        candidates.clear();
        memory::extend(candidates, pool.iter());
        if let Some(admit) = request.admit {
            candidates.retain(|near| admit(near.row));
            if candidates.len() < request.k + SPARE / 2 {
                return None;
            }
        }
        Some(self.rerank_rows(request, scratch))
    }
}
