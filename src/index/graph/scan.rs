//! Searching a small graph: all codes are read, and nothing is walked through.
//!
//! A walk waits for what it reads next; codes that stand one after the other are there when they are wanted.
//! Of few rows all are estimated in the time in which a walk looks at a few hundred, and no near one is overlooked.

use super::search::{Ground, HIDDEN_DIVISOR, SPARE, Stage};
use crate::index::{Effort, Request, Scratch};
use crate::kernel::Arch;
use crate::memory;
use crate::quant::{CodeQuery, Interleaved};

/// Words that are read one after the other in the time of a hop of a walk, words of two codes a byte counted twice: 5,600 on
/// GloVe (codes of bytes), 6,900 on MiniLM (two in a byte), with AVX-512.
const WORDS_A_HOP: usize = if cfg!(test) { 500 } else { 6_000 };

/// Hops that a walk takes beside the breadth of the search.
const HOPS_BESIDE: usize = 12;

impl<'a, A: Arch> Ground<'a, A> {
    /// The codes to read for a request, and how many candidates to keep; none where a walk is the better way, or may do
    /// less than all.
    fn codes_to_read(&self, request: &Request<'_>) -> Option<(&'a Interleaved, usize)> {
        let held = self.version.graph.held.len();
        let all = self.version.derived.read_whole(&self.codes.codec, held, request.shards)?;
        let mut kept = self.limits(request).kept;
        if request.admit.is_some() {
            kept += kept.div_ceil(HIDDEN_DIVISOR);
        }
        let wants_all = request.filter.is_none() && request.ends.reach.is_none();
        let is_less = all.work() <= (request.ef + HOPS_BESIDE) * WORDS_A_HOP;
        (wants_all && is_less && request.ends.allow((held + kept) as u64)).then_some((all, kept))
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
        let (all, kept) = self.codes_to_read(request)?;
        let mut looking = all.look(self.arch, query, kept);
        let Scratch { pool, candidates, .. } = &mut *scratch;
        pool.reset(kept);
        while let Some((rows, estimates)) = looking.next(pool.bound()) {
            if !rows.is_empty() {
                pool.insert_all(self.arch, rows, estimates);
            }
            if request.ends.are_due(effort.distances + looking.estimated) {
                break;
            }
        }
        effort.distances += looking.estimated;
        candidates.clear();
        memory::extend(candidates, pool.iter());
        if let Some(admit) = request.admit {
            candidates.retain(|near| admit(near.row));
            let are_enough = candidates.len() >= request.k + SPARE / 2;
            if !are_enough && !request.ends.are_due(effort.distances) {
                return None;
            }
        }
        Some(self.rerank_rows(request, scratch))
    }
}
