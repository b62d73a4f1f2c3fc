//! Searches that the workers are answering: one part from each shard, merged
//! when the last has come.

use std::sync::Arc;

use crate::error::SearchError;
use crate::query::{Answer, Completeness};
use crate::shard::{Permit, SearchOrder};
use crate::snapshot::{Published, Sight, merge_answers};

/// A search under way.
pub(super) struct Gather {
    order: Arc<SearchOrder>,
    published: Arc<Published>,
    /// From each shard: its part, or that it has not come.
    parts: Vec<Part>,
    /// An error was answered already.
    failed: bool,
    /// What the answer lacks, for a query that allows it.
    lacks: Option<SearchError>,
    /// Held until the answer is sent: bounds the searches under way.
    _permit: Permit,
}

/// What came from a shard.
#[derive(Clone)]
enum Part {
    Awaited,
    Came(Answer),
    Lost,
}

impl Gather {
    /// A search of all shards.
    pub(super) fn new(order: Arc<SearchOrder>, published: Arc<Published>, permit: Permit) -> Gather {
        let parts = vec![Part::Awaited; published.shards.len()];
        Gather { order, published, parts, failed: false, lacks: None, _permit: permit }
    }

    /// Something will not be in the answer: that is one if the query allows it,
    /// else an error. The parts that are under way are waited for all the same:
    /// until then the search takes a place.
    pub(super) fn lack(&mut self, error: SearchError) {
        if self.order.query.allows_partial() {
            self.lacks.get_or_insert(error);
        } else {
            self.fail(error);
        }
    }

    fn fail(&mut self, error: SearchError) {
        if !std::mem::replace(&mut self.failed, true) {
            self.order.reply.send(Err(error));
        }
    }

    pub(super) fn is_over(&self) -> bool {
        !self.parts.iter().any(|part| matches!(part, Part::Awaited))
    }

    /// An error was answered: what comes now is for nobody.
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// The part of one shard will not come, if it has not yet.
    pub(super) fn lose(&mut self, shard: usize, error: SearchError) {
        if matches!(self.parts.get(shard), Some(Part::Awaited)) {
            self.add(shard, Err(error));
        }
    }

    /// Takes in the part of one shard.
    pub(super) fn add(&mut self, shard: usize, part: Result<Answer, SearchError>) {
        let Some(place) = self.parts.get_mut(shard) else { return };
        match part {
            Ok(part) => *place = Part::Came(part),
            Err(error) => {
                *place = Part::Lost;
                self.lack(error);
            }
        }
        if self.is_over() && !self.failed {
            self.answer();
        }
    }

    /// Answers with what has come; with an error when that is nothing.
    fn answer(&mut self) {
        let came = |part| match part {
            Part::Came(answer) => Some(answer),
            Part::Awaited | Part::Lost => None,
        };
        let parts: Vec<Answer> = self.parts.drain(..).filter_map(came).collect();
        match self.lacks.take() {
            Some(error) if parts.is_empty() => self.fail(error),
            lacks => {
                let all = Sight::of_all(&self.published);
                let answer = merge_answers(all, &self.order.query, parts).map(|answer| match lacks {
                    Some(_) => Answer { completeness: Completeness::Partial, ..answer },
                    None => answer,
                });
                self.order.reply.send(answer);
            }
        }
    }
}
