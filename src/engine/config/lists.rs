//! Parameters of indexes that keep rows in lists, or codes in one list.

use super::{IndexSpec, bounded, choice};
use crate::engine::defaults;
use crate::error::CollectionError;
use crate::index::{IvfOptions, ListStorage, MAX_LISTS};
use crate::quant::ProductShape;
use crate::vector::Rounded;

/// What the lists of an [`IvfConfig`] hold of a record, beside its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IvfStorage {
    /// Nothing: the stored vectors are measured.
    Flat,
    /// Halves: see [`Quantization::F16`](crate::Quantization::F16). Codes of
    /// this and the following kinds lie side by side in a list; the best by code
    /// are measured by their stored vectors.
    F16,
    /// A byte a number: see [`Quantization::Sq8`](crate::Quantization::Sq8).
    Sq8,
    /// A bit a number (RaBitQ; Gao, Long, 2024): the signs of what a vector
    /// differs from the centre of its list by, after a random rotation.
    RaBitQ,
    /// A product code (Jégou, Douze, Schmid, 2011); the best by code are
    /// measured by their stored vectors.
    Pq {
        /// Parts that a vector is cut into: 1 to 1,024, at most its dimension.
        num_subquantizers: usize,
        /// 4 (16 centres a part, looked up by shuffles) or 8 (256 centres).
        bits_per_code: usize,
    },
}

/// Parameters of an inverted file: records are kept in lists by the nearest of
/// some centres, and a search looks through the lists nearest to it.
///
/// ```
/// use vecino::{CollectionConfig, IndexSpec, IvfConfig, IvfStorage, Metric};
/// let codes = IvfStorage::Pq { num_subquantizers: 96, bits_per_code: 4 };
/// let lists = IvfConfig::default().nlist(1_024).nprobe(16).storage(codes);
/// let config = CollectionConfig::new(768, Metric::Cosine).index(IndexSpec::Ivf(lists));
/// ```
///
/// Centres and codes are trained on the records: first when a shard has 1,024
/// of them (until then searches compare with all), again whenever their number
/// has grown fourfold (sixteenfold, where that gives no more lists and vectors have more than 128 numbers),
/// they were turned over or have drifted, and by
/// [`Collection::optimize`](crate::Collection::optimize). Where a shard has more
/// than 2,048 records and nobody asked for it, training goes on a few steps
/// with each batch of writes, while searches use the lists that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IvfConfig {
    pub(in crate::engine) nlist: Option<usize>,
    pub(in crate::engine) nprobe: usize,
    pub(in crate::engine) storage: IvfStorage,
    pub(in crate::engine) residual: bool,
    pub(in crate::engine) oversample: Option<usize>,
    pub(in crate::engine) seed: u64,
}

impl Default for IvfConfig {
    fn default() -> Self {
        IvfConfig {
            nlist: None,
            nprobe: defaults::NPROBE,
            storage: IvfStorage::Flat,
            residual: true,
            oversample: None,
            seed: defaults::SEED,
        }
    }
}

impl IvfConfig {
    /// Lists of short vectors that take the least memory.
    pub(super) fn lean(dimension: usize) -> IvfConfig {
        let codes = IvfStorage::Pq { num_subquantizers: dimension / 2, bits_per_code: 4 };
        let storage = if dimension < defaults::LEAN_CODES_FROM { IvfStorage::Flat } else { codes };
        IvfConfig::default().storage(storage).nprobe(defaults::NPROBE_LEAN)
    }

    /// Lists of a shard: 2 to 65,536, fewer while there are not 32 records for
    /// each. Default: four times the root of the number of records at the time
    /// of the training.
    #[must_use]
    pub fn nlist(mut self, nlist: usize) -> Self {
        self.nlist = Some(nlist);
        self
    }

    /// Lists that a search looks through when it does not say it
    /// ([`Query::nprobe`](crate::Query::nprobe)). Default 16.
    #[must_use]
    pub fn nprobe(mut self, nprobe: usize) -> Self {
        self.nprobe = nprobe;
        self
    }

    /// What lists hold. Default: [`IvfStorage::Flat`].
    #[must_use]
    pub fn storage(mut self, storage: IvfStorage) -> Self {
        self.storage = storage;
        self
    }

    /// Whether product codes stand for the difference of a vector from the centre
    /// of its list (the default: they err less) or for the vector itself.
    #[must_use]
    pub fn residual(mut self, residual: bool) -> Self {
        self.residual = residual;
        self
    }

    /// Records that are measured at most, for each that is wanted, when lists
    /// hold codes: 1 to 10,000. Measuring ends earlier when what the codes err by leaves no doubt.
    ///
    /// Default: 10, and with product codes more in searches of more than 30 lists of a shard: twice the root of
    /// their number (20 for 100, 40 for 400), since who searches that many wants what codes would miss, too.
    /// Collections that were saved when the default was 10 throughout keep it, until they are reindexed.
    #[must_use]
    pub fn oversample(mut self, oversample: usize) -> Self {
        self.oversample = Some(oversample);
        self
    }

    /// Seed of all that is drawn at random. Default 42.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    pub(super) fn check(&self, dimension: usize) -> Result<(), CollectionError> {
        bounded("nlist", self.nlist.unwrap_or(2), 2, MAX_LISTS)?;
        bounded("nprobe", self.nprobe, 1, MAX_LISTS)?;
        bounded("oversample", self.oversample.unwrap_or(1), 1, defaults::OVERSAMPLE_MOST)?;
        match self.storage {
            IvfStorage::Flat | IvfStorage::F16 | IvfStorage::Sq8 | IvfStorage::RaBitQ => Ok(()),
            IvfStorage::Pq { num_subquantizers, bits_per_code } => {
                check_codes(num_subquantizers, bits_per_code, dimension)
            }
        }
    }

    pub(super) fn options(self, dimension: usize) -> IvfOptions {
        let storage = match self.storage {
            IvfStorage::Flat => ListStorage::Vectors,
            IvfStorage::F16 => ListStorage::Rounded(Rounded::half(dimension)),
            IvfStorage::Sq8 => ListStorage::Rounded(Rounded::bytes(dimension)),
            IvfStorage::RaBitQ => ListStorage::Signs { dim: dimension },
            IvfStorage::Pq { num_subquantizers, bits_per_code } => {
                ListStorage::Product(ProductShape { num_subquantizers, bits_per_code })
            }
        };
        let IvfConfig { nlist, residual, oversample, seed, .. } = self;
        IvfOptions { nlist, storage, residual, oversample, seed }
    }
}

/// Parameters of an exhaustive scan of product codes: the least memory beside
/// the records, and recall that hardly depends on how they lie.
///
/// ```
/// use vecino::{CollectionConfig, IndexSpec, Metric, PqConfig};
/// let codes = PqConfig::new(96).bits_per_code(4).ef_search(200);
/// let config = CollectionConfig::new(768, Metric::Cosine).index(IndexSpec::Pq(codes));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PqConfig {
    pub(in crate::engine) num_subquantizers: usize,
    pub(in crate::engine) bits_per_code: usize,
    pub(in crate::engine) ef_search: usize,
    pub(in crate::engine) seed: u64,
}

impl PqConfig {
    /// Codes of so many parts: 1 to 1,024, at most the dimension. Half a byte
    /// each.
    #[must_use]
    pub fn new(num_subquantizers: usize) -> PqConfig {
        PqConfig {
            num_subquantizers,
            bits_per_code: 4,
            ef_search: defaults::PQ_EF_SEARCH,
            seed: defaults::SEED,
        }
    }

    /// 4 (the default) or 8.
    #[must_use]
    pub fn bits_per_code(mut self, bits: usize) -> Self {
        self.bits_per_code = bits;
        self
    }

    /// Records that are measured at most by a search that does not say it
    /// ([`Query::ef_search`](crate::Query::ef_search)). Default 100.
    #[must_use]
    pub fn ef_search(mut self, ef_search: usize) -> Self {
        self.ef_search = ef_search;
        self
    }

    /// Seed of all that is drawn at random. Default 42.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    pub(super) fn check(&self, dimension: usize) -> Result<(), CollectionError> {
        bounded("ef_search", self.ef_search, 1, defaults::EF_SEARCH_MOST)?;
        check_codes(self.num_subquantizers, self.bits_per_code, dimension)
    }

    pub(super) fn options(self) -> IvfOptions {
        let PqConfig { num_subquantizers, bits_per_code, seed, .. } = self;
        let storage = ListStorage::Product(ProductShape { num_subquantizers, bits_per_code });
        IvfOptions { nlist: Some(1), storage, residual: false, oversample: Some(1), seed }
    }
}

pub(super) fn check_codes(
    num_subquantizers: usize,
    bits_per_code: usize,
    dimension: usize,
) -> Result<(), CollectionError> {
    bounded("num_subquantizers", num_subquantizers, 1, dimension.min(defaults::SUBQUANTIZERS_MOST))?;
    match bits_per_code {
        4 | 8 => Ok(()),
        bits => Err(choice("bits_per_code", bits, "4 or 8")),
    }
}

impl IndexSpec {
    /// An inverted file with its default parameters.
    #[must_use]
    pub fn ivf() -> IndexSpec {
        IndexSpec::Ivf(IvfConfig::default())
    }
}
