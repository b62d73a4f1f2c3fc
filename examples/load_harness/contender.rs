//! What can be loaded, filled and ready: vecino or a peer, asked in the same ways.

use vecino::Query;

use super::arguments::Arguments;
use super::load::Result;
use super::load::check::Judge;
use super::load::collection::UnderLoad;
use super::load::data::Data;
use super::load::peers::PeerUnderLoad;
use super::load::peers::oracle::distance;
use super::load::target::Target;

/// Breadths that are tried to reach a recall...
const BREADTHS: [usize; 12] = [10, 16, 24, 32, 48, 64, 100, 160, 256, 400, 640, 1_000];
/// ...by so many queries.
const QUERIES: usize = 200;

pub(super) trait Contender<'d> {
    fn target(&self) -> &dyn Target;

    fn judge(&self) -> &Judge<'d>;

    /// Searches as these arguments say from now on.
    fn search_as(&mut self, arguments: &Arguments);

    /// The keys of the nearest.
    fn find(&self, query: &[f32], k: usize) -> Result<Vec<u64>>;

    /// Waits until nothing is left of what was sent.
    fn settle(&self) -> Result<()>;

    /// Looks at it for the last time.
    ///
    /// # Errors
    /// When it is not whole.
    fn end(self: Box<Self>) -> Result<()>;
}

impl<'d> Contender<'d> for UnderLoad<'d> {
    fn target(&self) -> &dyn Target {
        self
    }

    fn judge(&self) -> &Judge<'d> {
        &self.judge
    }

    fn search_as(&mut self, arguments: &Arguments) {
        self.asking.params = arguments.params();
        self.items = self.items.backpressure(arguments.full);
        (self.asking.judge_every, self.asking.watch_every) = (arguments.judge_every, arguments.watch_every);
        (self.asking.selectivity, self.asking.k) = (arguments.selectivity, arguments.k);
    }

    fn find(&self, query: &[f32], k: usize) -> Result<Vec<u64>> {
        let query = Query::new(query).top(k);
        let query = self.asking.params.map_or(query.clone(), |params| query.params(params));
        Ok(self.items.search(&query)?.hits().iter().filter_map(|hit| hit.id.as_num()).collect())
    }

    fn settle(&self) -> Result<()> {
        self.items.flush()?;
        Ok(())
    }

    fn end(self: Box<Self>) -> Result<()> {
        self.items.flush()?;
        let sound = self.items.verify()?;
        say!("verify: {} records, sound: {}", sound.records, sound.is_sound());
        self.engine.close()?;
        if sound.is_sound() { Ok(()) } else { Err(format!("verify: {:?}", sound.findings).into()) }
    }
}

impl<'d> Contender<'d> for PeerUnderLoad<'d> {
    fn target(&self) -> &dyn Target {
        self
    }

    fn judge(&self) -> &Judge<'d> {
        &self.judge
    }

    fn search_as(&mut self, arguments: &Arguments) {
        if let Some(ef) = arguments.ef {
            self.peer.set_ef(ef);
        }
        (self.asking.judge_every, self.asking.watch_every) = (arguments.judge_every, arguments.watch_every);
        (self.asking.selectivity, self.asking.k) = (arguments.selectivity, arguments.k);
    }

    fn find(&self, query: &[f32], k: usize) -> Result<Vec<u64>> {
        self.peer.search(query, k, None)
    }

    fn settle(&self) -> Result<()> {
        Ok(())
    }

    fn end(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// How far the k-th nearest of the rows that were loaded is, for some queries.
pub(super) fn farthest(arguments: &Arguments, data: &Data, loaded: u64) -> Vec<f32> {
    let of = |query: usize| {
        let query = data.query(query as u64);
        let mut all: Vec<f32> = (0..loaded).map(|key| distance(data.metric, query, data.row(key))).collect();
        let last = arguments.k.min(all.len()).max(1) - 1;
        *all.select_nth_unstable_by(last, f32::total_cmp).1
    };
    (0..data.query_count().min(QUERIES)).map(of).collect()
}

/// The least breadth with which a contender reaches the recall, or the largest
/// that was tried; and the recall with it. Before rows change.
pub(super) fn breadth_for<'d>(
    arguments: &Arguments,
    contender: &mut dyn Contender<'d>,
    data: &Data,
    farthest: &[f32],
) -> Result<(usize, f64)> {
    let mut reached = (arguments.k, 0.0);
    for ef in BREADTHS.into_iter().filter(|ef| *ef >= arguments.k) {
        contender.search_as(&arguments.with_ef(ef));
        let mut near = 0;
        for (at, farthest) in farthest.iter().enumerate() {
            let query = data.query(at as u64);
            let far = |key: &u64| distance(data.metric, query, data.row(*key));
            let limit = super::load::check::limit(*farthest);
            near += contender.find(query, arguments.k)?.iter().filter(|key| far(key) <= limit).count();
        }
        reached = (ef, near as f64 / (farthest.len() * arguments.k).max(1) as f64);
        if reached.1 >= arguments.recall {
            break;
        }
    }
    Ok(reached)
}
