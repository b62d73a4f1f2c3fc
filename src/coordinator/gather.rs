//! Searches that the workers are answering: one part from each shard, merged
//! when the last has come.

use std::sync::Arc;

use crate::error::SearchError;
use crate::query::Answer;
use crate::shard::{Permit, SearchOrder};
use crate::snapshot::{Published, merge_answers};

/// A search under way.
pub(super) struct Gather {
    pub(super) order: Arc<SearchOrder>,
    pub(super) published: Arc<Published>,
    parts: Vec<Option<Answer>>,
    missing: usize,
    /// Held until the answer is sent: bounds the searches under way.
    _permit: Permit,
}

impl Gather {
    pub(super) fn new(order: Arc<SearchOrder>, published: Arc<Published>, permit: Permit) -> Gather {
        let shards = published.shards.len();
        Gather { order, published, parts: vec![None; shards], missing: shards, _permit: permit }
    }

    /// Takes in the part of one shard; true when the search is over.
    pub(super) fn add(&mut self, shard: usize, part: Result<Answer, SearchError>) -> bool {
        let part = match part {
            Ok(part) => part,
            Err(error) => {
                self.order.reply.send(Err(error));
                return true;
            }
        };
        if let Some(place @ None) = self.parts.get_mut(shard) {
            *place = Some(part);
            self.missing -= 1;
        }
        if self.missing == 0 {
            let parts = self.parts.drain(..).flatten().collect();
            let answer = merge_answers(&self.published, self.order.query.k(), parts);
            self.order.reply.send(Ok(answer));
        }
        self.missing == 0
    }
}
