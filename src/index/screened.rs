//! Any index, with codes beside it that make exact searches fast.
//!
//! The codes are those of the exact index ([`sift`](super::sift)): they rule
//! rows out for certain, so answers are those of a scan, bit for bit. They are
//! made only when exact searches are wanted often, because they take memory,
//! and a piece at a time, because they take time: rows that have none yet are
//! measured. What is made when may depend on when readers asked; answers do
//! not, and [`IndexVersion::digest`] leaves it out.

use std::sync::Arc;

use super::cow::{Left, SharedMemory, Versions};
use super::sift;
use super::sifted::{
    FreshCodes, GROWTH, LEAST_DIM, LEAST_ROWS, SETTLED, Sifted, SiftedBlocks, encode, train,
};
use super::{
    Batch, Defect, Effort, Executor, Flat, Index, IndexVersion, Plan, Points, Request, Saved, Scratch,
    Settling, Trip, flat,
};
use crate::bits::RowSet;
use crate::codec::Encoder;
use crate::id::Row;
use crate::lease::Lease;
use crate::memory;
use crate::neighbor::TopK;
use crate::quant::Codec;

/// Rows that get codes in one piece of upkeep: some 20 milliseconds for 784
/// dimensions, as long as a bulk batch takes.
const PIECE: usize = 1_024;

/// The inner version and the codes beside it.
struct ScreenedVersion {
    inner: Arc<dyn IndexVersion>,
    /// Exact searches are wanted often.
    wanted: bool,
    held: RowSet,
    /// Rows that have codes: some of those held.
    coded: RowSet,
    /// None until they are wanted.
    sifted: Option<Sifted>,
    lease: Lease,
}

/// What happens to the codes.
enum CodeChange {
    Keep,
    Add(FreshCodes),
    /// Others, which only these rows have so far.
    Begin(Box<SiftedBlocks>, FreshCodes),
    Drop,
}

/// A plan of the inner index, or none, and what happens to the codes.
struct ScreenedPlan {
    inner: Option<Plan>,
    absorb: Vec<Row>,
    forget: Vec<Row>,
    codes: CodeChange,
}

/// The writer's side.
pub(crate) struct Screened {
    inner: Box<dyn Index>,
    versions: Versions,
    codes: Option<SiftedBlocks>,
    newest: Arc<ScreenedVersion>,
    /// What an unshared version has in place of the inner one while that changes.
    nothing: Arc<dyn IndexVersion>,
    /// Codes that only older versions keep.
    left: Left,
}

impl Screened {
    /// Gives the rows that have codes then.
    fn replace_codes(&mut self, codes: Option<SiftedBlocks>) -> RowSet {
        let before = std::mem::replace(&mut self.codes, codes);
        self.left.add(before.iter().flat_map(SiftedBlocks::shared));
        RowSet::default()
    }

    /// An index that holds no rows yet.
    pub(crate) fn new(inner: Box<dyn Index>) -> Screened {
        let mut versions = Versions::default();
        versions.begin();
        let newest = Arc::new(ScreenedVersion {
            inner: inner.version(),
            wanted: false,
            held: RowSet::default(),
            coded: RowSet::default(),
            sifted: None,
            lease: versions.publish(),
        });
        let (codes, nothing, left) = (None, Flat::default().version(), Left::default());
        Screened { inner, versions, codes, newest, nothing, left }
    }

    /// Around an index that was loaded; its codes are made anew when exact
    /// searches want them.
    pub(crate) fn loaded(inner: Box<dyn Index>, saved: &Saved<'_>) -> Screened {
        let mut screened = Screened::new(inner);
        screened.show(false, saved.held.clone(), RowSet::default(), None);
        screened
    }

    /// Makes a version of what the inner index and the codes are now.
    fn show(&mut self, wanted: bool, held: RowSet, coded: RowSet, fresh: Option<&FreshCodes>) {
        let epoch = self.versions.begin_after(&mut self.newest, |newest| &mut newest.lease);
        if let (Some(codes), Some(fresh)) = (&mut self.codes, fresh) {
            codes.write(fresh, epoch);
        }
        let sifted = self.codes.as_mut().map(|codes| codes.publish(epoch, &self.versions));
        let (inner, lease) = (self.inner.version(), self.versions.publish());
        self.newest = Arc::new(ScreenedVersion { inner, wanted, held, coded, sifted, lease });
    }
}

impl Index for Screened {
    fn version(&self) -> Arc<dyn IndexVersion> {
        Arc::clone(&self.newest) as Arc<dyn IndexVersion>
    }

    fn commit(&mut self, plan: Plan) {
        let Ok(plan) = plan.0.downcast::<ScreenedPlan>() else { return };
        if let Some(newest) = Arc::get_mut(&mut self.newest) {
            newest.inner = Arc::clone(&self.nothing);
        }
        if let Some(inner) = plan.inner {
            self.inner.commit(inner);
        }
        let ScreenedVersion { wanted, held, coded, .. } = &*self.newest;
        let (wanted, mut held, mut coded) = (*wanted, held.clone(), coded.clone());
        for row in &plan.forget {
            held.remove(*row);
            coded.remove(*row);
        }
        plan.absorb.iter().for_each(|row| _ = held.insert(*row));
        let fresh = match plan.codes {
            CodeChange::Keep => None,
            CodeChange::Add(fresh) => Some(fresh),
            CodeChange::Begin(codes, fresh) => {
                coded = self.replace_codes(Some(*codes));
                Some(fresh)
            }
            CodeChange::Drop => {
                coded = self.replace_codes(None);
                None
            }
        };
        fresh.iter().flat_map(|fresh| &fresh.rows).for_each(|row| _ = coded.insert(*row));
        self.show(wanted, held, coded, fresh.as_ref());
    }

    fn settle(&mut self) -> Settling {
        let is_settled = self.codes.as_ref().is_none_or(SiftedBlocks::is_settled);
        let own = if is_settled {
            Settling::Settled
        } else if self.versions.is_newest_alone() {
            Settling::Stepped
        } else {
            Settling::Waiting
        };
        let settling = match (self.inner.settle(), own) {
            (Settling::Settled, own) => own,
            (Settling::Waiting, Settling::Settled) => Settling::Waiting,
            (Settling::Waiting, own) => own,
            (Settling::Stepped, _) => Settling::Stepped,
        };
        if settling == Settling::Stepped {
            let ScreenedVersion { wanted, held, coded, .. } = &*self.newest;
            self.show(*wanted, held.clone(), coded.clone(), None);
        }
        settling
    }

    fn want_exact(&mut self) -> bool {
        if self.newest.wanted {
            return false;
        }
        let (held, coded) = (self.newest.held.clone(), self.newest.coded.clone());
        self.show(true, held, coded, None);
        true
    }

    fn bytes(&self) -> usize {
        let sets = self.newest.held.bytes() + self.newest.coded.bytes();
        let codes = self.codes.as_ref().map_or(0, SiftedBlocks::bytes) + self.left.bytes();
        self.inner.bytes() + sets + codes
    }

    fn shared(&self) -> SharedMemory {
        let codes = self.codes.iter().flat_map(SiftedBlocks::shared);
        memory::collect(self.inner.shared().into_iter().chain(codes).chain(self.left.iter()))
    }

    fn kind(&self) -> &'static str {
        self.inner.kind()
    }
}

impl ScreenedVersion {
    /// Whether codes fit the rows, or are none because these are few.
    fn has_right_sieve(&self) -> bool {
        let (held, trained) = (self.held.len(), self.sifted.as_ref().map_or(0, |sifted| sifted.trained));
        let outgrown = trained < SETTLED && held >= trained.saturating_mul(GROWTH);
        held < LEAST_ROWS || !outgrown
    }

    /// The first held rows without codes.
    fn uncoded(&self, most: usize) -> Vec<Row> {
        memory::collect(self.held.iter().filter(|row| !self.coded.contains(*row)).take(most))
    }

    /// What a batch does to the codes. New rows get theirs with it; so many
    /// rows gone that codes do not pay give their memory back.
    fn change(&self, points: Points<'_>, batch: &Batch<'_>, executor: &dyn Executor) -> CodeChange {
        let Some(sifted) = &self.sifted else { return CodeChange::Keep };
        if self.held.len() + batch.absorb.len() - batch.forget.len() < LEAST_ROWS / 2 {
            return CodeChange::Drop;
        }
        CodeChange::Add(encode(&sifted.sieve, points, memory::copied(batch.absorb), executor))
    }
}

impl IndexVersion for ScreenedVersion {
    fn len(&self) -> usize {
        self.inner.len()
    }

    fn save(&self, out: &mut Encoder) -> Option<RowSet> {
        self.inner.save(out)
    }

    fn search(
        &self,
        points: Points<'_>,
        request: &Request<'_>,
        scratch: &mut Scratch,
        found: &mut TopK,
    ) -> Effort {
        self.inner.search(points, request, scratch, found)
    }

    fn search_many(&self, points: Points<'_>, trips: &mut [Trip<'_>]) {
        self.inner.search_many(points, trips);
    }

    fn search_among(
        &self,
        points: Points<'_>,
        request: &Request<'_>,
        rows: &mut dyn Iterator<Item = Row>,
        scratch: &mut Scratch,
        found: &mut TopK,
    ) -> Option<Effort> {
        self.inner.search_among(points, request, rows, scratch, found)
    }

    fn search_exact(
        &self,
        points: Points<'_>,
        request: &Request<'_>,
        scratch: &mut Scratch,
        found: &mut TopK,
    ) -> Option<Effort> {
        let sifted = self.sifted.as_ref()?;
        let distances = sift::search(sifted, &self.coded, points, request, &mut scratch.sift, found);
        let distances = distances?
            + if self.coded.len() == self.held.len() {
                0
            } else {
                let others = self.held.iter().filter(|row| !self.coded.contains(*row));
                flat::scan_rows(others, points, request, scratch, found)
            };
        Some(Effort { distances, hops: 0 })
    }

    fn plan(&self, points: Points<'_>, batch: &Batch<'_>, executor: &dyn Executor) -> Plan {
        Plan(Box::new(ScreenedPlan {
            inner: Some(self.inner.plan(points, batch, executor)),
            absorb: memory::copied(batch.absorb),
            forget: memory::copied(batch.forget),
            codes: self.change(points, batch, executor),
        }))
    }

    fn codec(&self) -> Option<&Codec> {
        self.inner.codec()
    }

    fn adopt(&self, points: Points<'_>, codec: Codec, executor: &dyn Executor) -> Option<Plan> {
        let inner = Some(self.inner.adopt(points, codec, executor)?);
        let codes = CodeChange::Keep;
        Some(Plan(Box::new(ScreenedPlan { inner, absorb: Vec::new(), forget: Vec::new(), codes })))
    }

    fn takes_long(&self, rows: usize) -> bool {
        self.inner.takes_long(rows)
    }

    fn needs_upkeep(&self, dim: usize) -> bool {
        let is_worth_it = self.wanted && dim >= LEAST_DIM && self.held.len() >= LEAST_ROWS;
        is_worth_it && (!self.has_right_sieve() || self.coded.len() < self.held.len())
    }

    fn upkeep(&self, points: Points<'_>, executor: &dyn Executor) -> Option<Plan> {
        let codes = match self.sifted.as_ref().filter(|_| self.has_right_sieve()) {
            Some(sifted) => CodeChange::Add(encode(&sifted.sieve, points, self.uncoded(PIECE), executor)),
            None => {
                let held: Vec<Row> = memory::collect(self.held.iter());
                let sieve = Arc::new(train(points, &held));
                let fresh =
                    encode(&sieve, points, memory::collect(held.iter().copied().take(PIECE)), executor);
                CodeChange::Begin(Box::new(SiftedBlocks::empty(sieve, held.len())), fresh)
            }
        };
        Some(Plan(Box::new(ScreenedPlan { inner: None, absorb: Vec::new(), forget: Vec::new(), codes })))
    }

    fn audit(&self, expected: &mut dyn Iterator<Item = Row>) -> Vec<Defect> {
        let expected: Vec<Row> = memory::collect(expected);
        let mut defects = self.inner.audit(&mut expected.iter().copied());
        memory::extend(&mut defects, flat::membership(&self.held, &mut expected.into_iter()));
        let strangers = self.coded.iter().filter(|row| !self.held.contains(*row));
        memory::extend(&mut defects, strangers.map(Defect::Membership));
        defects
    }

    #[cfg(test)]
    fn is_renewing(&self) -> bool {
        self.inner.is_renewing()
    }

    fn digest(&self) -> u64 {
        self.inner.digest()
    }

    fn is_exact(&self) -> bool {
        self.inner.is_exact()
    }

    fn counts_lists(&self) -> bool {
        self.inner.counts_lists()
    }
}
