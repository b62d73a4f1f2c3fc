//! Searches that the workers are answering: one part from each shard, merged
//! when the last has come.

use std::sync::Arc;

use crate::error::SearchError;
use crate::query::Answer;
use crate::shard::{Permit, SearchOrder};
use crate::snapshot::{Published, Sight, merge_answers};

/// A search under way.
pub(super) struct Gather {
    order: Arc<SearchOrder>,
    published: Arc<Published>,
    parts: Vec<Option<Answer>>,
    /// Parts that were asked for and have not come.
    missing: usize,
    /// An error was answered already.
    failed: bool,
    /// Held until the answer is sent: bounds the searches under way.
    _permit: Permit,
}

impl Gather {
    /// A search of which `sent` shards were asked.
    pub(super) fn new(
        order: Arc<SearchOrder>,
        published: Arc<Published>,
        permit: Permit,
        sent: usize,
    ) -> Gather {
        let shards = published.shards.len();
        Gather { order, published, parts: vec![None; shards], missing: sent, failed: false, _permit: permit }
    }

    /// Answers with an error. The parts that are under way are waited for all
    /// the same: until then the search takes a place.
    pub(super) fn fail(&mut self, error: SearchError) {
        if !std::mem::replace(&mut self.failed, true) {
            self.order.reply.send(Err(error));
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.missing == 0
    }

    /// Takes in the part of one shard.
    pub(super) fn add(&mut self, shard: usize, part: Result<Answer, SearchError>) {
        self.missing -= 1;
        match (part, self.parts.get_mut(shard)) {
            (Ok(part), Some(place)) => *place = Some(part),
            (Ok(_), None) => {}
            (Err(error), _) => self.fail(error),
        }
        if self.missing == 0 && !self.failed {
            let parts = self.parts.drain(..).flatten().collect();
            let answer = merge_answers(Sight::of_all(&self.published), &self.order.query, parts);
            self.order.reply.send(Ok(answer));
        }
    }
}
