//! Inverted lists: rows are kept in lists by the centre that is nearest to
//! them, and a search looks through the lists whose centres are nearest to the
//! query (IVF; Sivic, Zisserman: ICCV 2003; with product codes IVFADC, Jégou,
//! Douze, Schmid: TPAMI 2011).
//!
//! * Until there are rows enough to train on, searches compare with all.
//! * Centres ([`coarse`]) and codes are trained on the rows themselves, again
//!   when their number has grown enough, they were turned over, or they have
//!   [drifted](drift), and when the index is optimized; a training makes new
//!   lists of all rows, [a part with each batch](renewal) but when optimized.
//! * Without codes the rows of a list are measured as they are stored. With
//!   codes ([`quant`](crate::quant)) or rounded copies those best by estimate are.
//! * One list for all rows is the exhaustive scan of codes.
//!
//! With residuals a code stands for what a row differs from its centre by. The
//! estimate is then `|q-c|^2 + (2<c,r> + |r|^2) - 2<q,r>`: the second part is
//! kept with the row, so that one table a query serves all lists.

use std::sync::Arc;

use super::cow::{Epoch, Left, SharedMemory, Versions};
use super::{
    Batch, Defect, Effort, Executor, Index, IndexVersion, Plan, Points, Request, Saved, Scratch, Settling,
};
use crate::bits::RowSet;
use crate::codec::{Decoder, Encoder, Malformed};
use crate::id::{Row, mix};
use crate::lease::Lease;
use crate::memory;
use crate::neighbor::{Neighbor, TopK};
use crate::quant::{ProductQuantizer, Signs};
use crate::vector::Rounded;

mod change;
mod coarse;
mod drift;
mod earlier;
mod lists;
mod renewal;
mod search;
mod tiles;

use change::Change;
pub(crate) use change::{LEAST_FILED, ROWS_A_LIST};
use coarse::Coarse;
pub(crate) use coarse::{MEETING_DIM, ROWS_A_LIST as TRAINED_A_LIST};
use drift::Drift;
use earlier::Earlier;
use lists::{Fresh, Lists, ListsView};
pub(crate) use lists::{GROUP as LIST_BLOCK, ListStorage};
use renewal::{Renewal, Step};
pub(super) use search::IvfScratch;

/// Lists at most: of more the centres alone would be an index.
pub(crate) const MAX_LISTS: usize = 1 << 16;

/// How files tell what follows: lists, or lists and a training under way.
const FILED: u8 = 1;
const FILED_ANEW: u8 = 2;

/// How lists are made and searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IvfOptions {
    /// Lists; none: by the number of rows. 1: all rows in one, and the breadth
    /// of a search is not that of lists but of rows that are re-ranked.
    pub(crate) nlist: Option<usize>,
    /// What lists hold of rows.
    pub(crate) storage: ListStorage,
    /// Whether codes stand for differences from centres.
    pub(crate) residual: bool,
    /// Rows that are re-ranked, for each that is wanted; none: by the breadth of the search.
    pub(crate) oversample: Option<usize>,
    /// Seed of all that is drawn.
    pub(crate) seed: u64,
}

impl IvfOptions {
    fn is_exhaustive(&self) -> bool {
        self.nlist == Some(1)
    }

    /// Whether codes stand for differences from centres: signs do, always.
    fn is_residual(&self) -> bool {
        self.residual || matches!(self.storage, ListStorage::Signs { .. })
    }

    /// What makes the codes, if that need not be trained.
    fn untrained(&self) -> Option<Coder> {
        match self.storage {
            ListStorage::Vectors => Some(Coder::None),
            ListStorage::Rounded(rounded) => Some(Coder::Rounded(rounded)),
            ListStorage::Signs { dim } => Some(Coder::Signs(Signs::new(dim, self.seed))),
            ListStorage::Product(_) => None,
        }
    }

    /// The centre of the only list.
    fn one_centre(&self, points: Points<'_>, rows: &[Row]) -> Coarse {
        match self.storage {
            // Signs say most around the mean.
            ListStorage::Signs { .. } => Coarse::mean(points, rows),
            _ => Coarse::single(points.space.dim()),
        }
    }
}

/// What makes the codes of rows.
enum Coder {
    /// There are none.
    None,
    Product(ProductQuantizer),
    Signs(Signs),
    Rounded(Rounded),
}

impl Coder {
    fn bytes(&self) -> usize {
        match self {
            Coder::None | Coder::Rounded(_) => 0,
            Coder::Product(product) => product.bytes(),
            Coder::Signs(signs) => signs.bytes(),
        }
    }
}

/// What was trained; it never changes.
struct Trained {
    coarse: Arc<Coarse>,
    coder: Coder,
}

impl Trained {
    fn save(&self, out: &mut Encoder) {
        self.coarse.save(out);
        if let Coder::Product(product) = &self.coder {
            product.save(out);
        }
    }

    fn load(options: &IvfOptions, dim: usize, input: &mut Decoder<'_>) -> Result<Trained, Malformed> {
        let coarse = Arc::new(Coarse::load(dim, MAX_LISTS, input)?);
        let coder = match (options.untrained(), options.storage) {
            (None, ListStorage::Product(shape)) => Coder::Product(ProductQuantizer::load(dim, shape, input)?),
            (coder, _) => coder.unwrap_or(Coder::None),
        };
        Ok(Trained { coarse, coder })
    }
}

/// The lists of a version, by what they were made with.
#[derive(Clone)]
struct Filed {
    trained: Arc<Trained>,
    drift: Drift,
    lists: ListsView,
}

/// The index as of one moment.
struct IvfVersion {
    options: IvfOptions,
    held: RowSet,
    /// None while there are few rows.
    filed: Option<Filed>,
    /// What is to take the place of `filed`.
    renewal: Option<Renewal>,
    lease: Lease,
}

/// The writer's side.
pub(crate) struct Ivf {
    versions: Versions,
    lists: Option<Lists>,
    /// Those of a training under way, once rows go over to them.
    coming: Option<Lists>,
    newest: Arc<IvfVersion>,
    /// What only older versions keep, since all was filed anew.
    left: Left,
    /// They keep what was trained before, too.
    earlier: Earlier,
}

fn order(a: &Neighbor, b: &Neighbor) -> std::cmp::Ordering {
    a.order(b)
}

impl Ivf {
    /// Of no rows.
    pub(crate) fn new(options: IvfOptions) -> Ivf {
        let mut versions = Versions::default();
        versions.begin();
        let lease = versions.publish();
        let held = RowSet::default();
        let newest = Arc::new(IvfVersion { options, held, filed: None, renewal: None, lease });
        let (left, earlier) = (Left::default(), Earlier::default());
        Ivf { versions, lists: None, coming: None, newest, left, earlier }
    }

    /// The lists that were saved of `held` rows, over vectors of `dim` numbers.
    pub(crate) fn load(
        options: IvfOptions,
        dim: usize,
        saved: &Saved<'_>,
        input: &mut Decoder<'_>,
    ) -> Result<Ivf, Malformed> {
        let mut ivf = Ivf::new(options);
        let (held, epoch) = (saved.held.clone(), ivf.versions.begin());
        let (mut filed, mut renewal) = (None, None);
        let tag = input.u8()?;
        if tag == FILED || tag == FILED_ANEW {
            let drift = Drift::load(input)?;
            let trained = Arc::new(Trained::load(&options, dim, input)?);
            let mut lists = Lists::load(options.storage, trained.coarse.lists(), &held, input, epoch)?;
            let view = lists.publish(epoch, &ivf.versions);
            filed = Some(Filed { trained, drift, lists: view });
            ivf.lists = Some(lists);
        }
        if tag == FILED_ANEW {
            let place = (epoch, &ivf.versions);
            let (read, lists) = Renewal::load(&options, dim, &held, input, place)?;
            (renewal, ivf.coming) = (Some(read), lists);
        }
        ivf.show(held, filed, renewal);
        Ok(ivf)
    }

    fn show(&mut self, held: RowSet, filed: Option<Filed>, renewal: Option<Renewal>) {
        let options = self.newest.options;
        let lease = self.versions.publish();
        self.earlier.add(&self.newest);
        self.newest = Arc::new(IvfVersion { options, held, filed, renewal, lease });
    }

    /// Shows all lists as they are now; none of them where `filed` is none.
    fn publish(
        &mut self,
        held: RowSet,
        mut filed: Option<Filed>,
        mut renewal: Option<Renewal>,
        epoch: Epoch,
    ) {
        match (&mut self.lists, &mut filed) {
            (Some(lists), Some(filed)) => filed.lists = lists.publish(epoch, &self.versions),
            _ => {
                let before = self.lists.take();
                self.left.add(before.iter().flat_map(Lists::shared));
                renewal = None;
            }
        }
        match (&mut self.coming, &mut renewal) {
            (Some(lists), Some(renewal)) => renewal.show(lists.publish(epoch, &self.versions)),
            _ => {
                let before = self.coming.take();
                self.left.add(before.iter().flat_map(Lists::shared));
            }
        }
        self.show(held, filed, renewal);
    }

    /// What a batch did for the training that is under way; gives it as it is
    /// then, and what its lists are with if they take over.
    fn step(
        &mut self,
        step: Step,
        (forget, since): (&[Row], usize),
        epoch: Epoch,
    ) -> (Option<Renewal>, Option<Filed>) {
        match step {
            Step::Rests => (None, None),
            Step::Trains(renewal) => (Some(renewal), None),
            Step::Opens { began, trained } => {
                let options = &self.newest.options;
                let (renewal, lists) = Renewal::open(options, (began, trained), epoch, &self.versions);
                self.coming = Some(lists);
                (Some(renewal), None)
            }
            Step::Carries { fresh, renewal, ends } => {
                let Some(lists) = &mut self.coming else { return (None, None) };
                lists.change(forget, &fresh, epoch);
                if !ends {
                    return (Some(renewal), None);
                }
                let view = lists.publish(epoch, &self.versions);
                let filed = renewal.outcome(since, &view);
                let filed = filed.map(|(trained, drift)| Filed { trained, drift, lists: view });
                let before = std::mem::replace(&mut self.lists, self.coming.take());
                self.left.add(before.iter().flat_map(Lists::shared));
                (None, filed)
            }
        }
    }
}

impl Index for Ivf {
    fn version(&self) -> Arc<dyn IndexVersion> {
        Arc::clone(&self.newest) as Arc<dyn IndexVersion>
    }

    fn commit(&mut self, plan: Plan) {
        let Ok(change) = plan.0.downcast::<Change>() else { return };
        let epoch = self.versions.begin_after(&mut self.newest, |newest| &mut newest.lease);
        let before = Arc::clone(&self.newest);
        let (held, filed, renewal) = match *change {
            Change::Set { absorb, forget } => (before.held.after(&forget, &absorb), None, None),
            Change::Filed { fresh, forget, step } => {
                let held = before.held.after(&forget, &fresh.rows);
                if let Some(lists) = &mut self.lists {
                    lists.change(&forget, &fresh, epoch);
                }
                let filed = before.filed.clone();
                let filed = filed
                    .map(|filed| Filed { drift: filed.drift.after(fresh.rows.len(), fresh.errors), ..filed });
                let since = filed.as_ref().map_or(0, |filed| filed.drift.training.since);
                let (renewal, renewed) = self.step(*step, (&forget, since), epoch);
                (held, renewed.or(filed), renewal)
            }
            Change::Trained { trained, drift, lists, absorb, forget } => {
                let held = before.held.after(&forget, &absorb);
                let mut lists = *lists;
                let view = lists.publish(epoch, &self.versions);
                let before = self.lists.replace(lists);
                self.left.add(before.iter().flat_map(Lists::shared));
                (held, Some(Filed { trained, drift, lists: view }), None)
            }
        };
        // Nothing is held any more: no more memory is needed than at first.
        let filed = filed.filter(|_| held.len() > 0);
        self.publish(held, filed, renewal, epoch);
    }

    fn settle(&mut self) -> Settling {
        let all = self.lists.iter().chain(&self.coming);
        if all.into_iter().all(Lists::is_settled) {
            return self.versions.settled();
        }
        if !self.versions.is_newest_alone() {
            return Settling::Waiting;
        }
        let (before, epoch) = (Arc::clone(&self.newest), self.versions.begin());
        self.publish(before.held.clone(), before.filed.clone(), before.renewal.clone(), epoch);
        Settling::Stepped
    }

    fn bytes(&self) -> usize {
        let later = self.newest.renewal.as_ref().map_or(0, Renewal::bytes);
        let trained = self.earlier.bytes(&self.newest);
        let lists: usize = self.lists.iter().chain(&self.coming).map(Lists::bytes).sum();
        self.newest.held.bytes() + lists + self.left.bytes() + trained + later
    }

    fn shared(&self) -> SharedMemory {
        let lists = self.lists.iter().chain(&self.coming).flat_map(Lists::shared);
        memory::collect(lists.chain(self.left.iter()))
    }

    fn kind(&self) -> &'static str {
        match self.newest.options.storage {
            _ if !self.newest.options.is_exhaustive() => "ivf",
            ListStorage::Product(_) => "pq",
            _ => "flat",
        }
    }
}

impl IndexVersion for IvfVersion {
    fn len(&self) -> usize {
        self.held.len()
    }

    fn counts_lists(&self) -> bool {
        !self.options.is_exhaustive()
    }

    fn search(
        &self,
        points: Points<'_>,
        request: &Request<'_>,
        scratch: &mut Scratch,
        found: &mut TopK,
    ) -> Effort {
        search::search(self, points, request, scratch, found)
    }

    fn plan(&self, points: Points<'_>, batch: &Batch<'_>, executor: &dyn Executor) -> Plan {
        Plan(Box::new(change::change(self, points, batch, executor)))
    }

    fn audit(&self, expected: &mut dyn Iterator<Item = Row>) -> Vec<Defect> {
        let mut defects = super::flat::membership(&self.held, expected);
        if let Some(filed) = &self.filed {
            filed.lists.audit(&self.held, &mut defects);
        }
        if let Some(renewal) = &self.renewal {
            renewal.audit(&self.held, &mut defects);
        }
        defects
    }

    fn save(&self, out: &mut Encoder) -> Option<RowSet> {
        out.u8(match (&self.filed, &self.renewal) {
            (None, _) => 0,
            (Some(_), None) => FILED,
            (Some(_), Some(_)) => FILED_ANEW,
        });
        if let Some(Filed { trained, drift, lists }) = &self.filed {
            drift.save(out);
            trained.save(out);
            lists.save(out);
            if let Some(renewal) = &self.renewal {
                renewal.save(&self.options, out);
            }
        }
        Some(self.held.clone())
    }

    #[cfg(test)]
    fn is_renewing(&self) -> bool {
        self.renewal.is_some()
    }

    fn digest(&self) -> u64 {
        let filed = self.filed.as_ref().map_or(0, |filed| {
            mix(filed.lists.digest() ^ filed.trained.coarse.digest() ^ filed.drift.training.rows as u64)
        });
        let filed = self.renewal.as_ref().map_or(filed, |renewal| mix(filed ^ renewal.digest()));
        self.held.iter().fold(filed, |hash, row| mix(hash ^ u64::from(row)))
    }
}
