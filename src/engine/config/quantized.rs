//! Codes beside the vectors, for indexes that need none.

use super::lists::check_codes;
use super::{IndexSpec, bounded};
use crate::engine::defaults;
use crate::error::CollectionError;
use crate::index::{Copying, IvfOptions, ListStorage};
use crate::quant::{ProductShape, SingleShape};
use crate::vector::Rounded;

/// Small codes that an index keeps beside the vectors: searches go by the
/// codes, and the best by these are measured by their vectors, so distances in
/// answers are always exact.
///
/// | codes | bytes a record | errs by | with |
/// |---|---|---|---|
/// | [`None`](Quantization::None) | 0 | | flat, HNSW |
/// | [`F16`](Quantization::F16) | 2 d + 8 | 11 binary digits of each number | flat, HNSW |
/// | [`Sq8`](Quantization::Sq8) | d + 16 | half of a 255th of the span of a vector's numbers | flat, HNSW |
/// | [`Pq`](Quantization::Pq) | parts x bits / 8 + 8 | what the centres leave | flat, HNSW |
/// | [`Binary`](Quantization::Binary) | d / 8 + 12 | about 1 / √d of the distance | flat, HNSW |
///
/// It is another matter how the vectors themselves are stored:
/// [`VectorStorage`](crate::VectorStorage). With [`Byte`](crate::VectorStorage::Byte)
/// there are nothing but codes of a byte a number, and nothing is measured again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Quantization {
    /// No codes.
    #[default]
    None,
    /// Halves, over a power of two of each vector's own: two bytes a number.
    F16,
    /// A byte a number: 256 steps from the least number of a vector to its
    /// largest. Nothing is trained; records are coded as they come.
    Sq8,
    /// A bit a number (RaBitQ; Gao, Long, 2024): signs after a random rotation,
    /// around the mean of the records.
    Binary,
    /// Product codes (Jégou, Douze, Schmid, 2011).
    Pq {
        /// Parts that a vector is cut into: 1 to 1,024, at most its dimension.
        num_subquantizers: usize,
        /// 4 or 8.
        bits_per_code: usize,
    },
}

impl Quantization {
    /// The copies that walks go by.
    pub(super) fn copies(self, dimension: usize) -> Option<Copying> {
        Some(match self {
            Quantization::None => return None,
            Quantization::F16 => Copying::Rounded(Rounded::half(dimension)),
            Quantization::Sq8 => Copying::Rounded(Rounded::bytes(dimension)),
            Quantization::Binary => Copying::Codes(SingleShape::Signs { dim: dimension }),
            Quantization::Pq { num_subquantizers, bits_per_code } => {
                Copying::Codes(SingleShape::Product(ProductShape { num_subquantizers, bits_per_code }))
            }
        })
    }

    pub(super) fn check(self, dimension: usize) -> Result<(), CollectionError> {
        match self {
            Quantization::Pq { num_subquantizers, bits_per_code } => {
                check_codes(num_subquantizers, bits_per_code, dimension)
            }
            _ => Ok(()),
        }
    }
}

/// Parameters of an exhaustive search of codes.
///
/// ```
/// use vecino::{CollectionConfig, Engine, FlatConfig, IndexSpec, Metric, Quantization, Query, Record};
///
/// let codes = FlatConfig::default().quantization(Quantization::Sq8).oversample(4);
/// let config = CollectionConfig::new(3, Metric::Cosine).index(IndexSpec::QuantizedFlat(codes));
/// let engine = Engine::builder().build()?;
/// let songs = engine.create_collection("songs", config)?;
/// songs.upsert(Record::new("waltz", [0.7, 0.6, 0.1]))?.wait()?;
/// assert_eq!(songs.search(&Query::new(&[0.7, 0.5, 0.2]).top(1))?.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A shard of fewer than 1,024 records is searched by the vectors alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlatConfig {
    pub(in crate::engine) quantization: Quantization,
    pub(in crate::engine) oversample: Option<usize>,
    pub(in crate::engine) seed: u64,
}

impl Default for FlatConfig {
    fn default() -> Self {
        FlatConfig { quantization: Quantization::None, oversample: None, seed: defaults::SEED }
    }
}

impl FlatConfig {
    /// The codes. Default: [`Quantization::None`], which is [`IndexSpec::Flat`].
    #[must_use]
    pub fn quantization(mut self, quantization: Quantization) -> Self {
        self.quantization = quantization;
        self
    }

    /// Records that are measured at most, for each that is wanted: 1 to 10,000.
    /// Default: 2 for halves and bytes, 10 for product codes, 20 for bits.
    /// [`Query::ef_search`](crate::Query::ef_search) may ask for more in all.
    /// Measuring ends earlier when what the codes err by leaves no doubt.
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
        bounded("oversample", self.measured(), 1, defaults::OVERSAMPLE_MOST)?;
        self.quantization.check(dimension)
    }

    fn measured(&self) -> usize {
        self.oversample.unwrap_or(match self.quantization {
            Quantization::None | Quantization::F16 | Quantization::Sq8 => defaults::OVERSAMPLE_ROUNDED,
            Quantization::Pq { .. } => defaults::OVERSAMPLE,
            Quantization::Binary => defaults::OVERSAMPLE_SIGNS,
        })
    }

    /// One list of all codes; none: no codes.
    pub(super) fn options(self, dimension: usize) -> Option<IvfOptions> {
        let storage = match self.quantization {
            Quantization::None => return None,
            Quantization::F16 => ListStorage::Rounded(Rounded::half(dimension)),
            Quantization::Sq8 => ListStorage::Rounded(Rounded::bytes(dimension)),
            Quantization::Binary => ListStorage::Signs { dim: dimension },
            Quantization::Pq { num_subquantizers, bits_per_code } => {
                ListStorage::Product(ProductShape { num_subquantizers, bits_per_code })
            }
        };
        let (oversample, seed) = (Some(self.measured()), self.seed);
        Some(IvfOptions { nlist: Some(1), storage, residual: false, oversample, seed })
    }
}

impl IndexSpec {
    /// An exhaustive search of codes, with default parameters; of
    /// [`Quantization::None`] the exact search.
    ///
    /// ```
    /// use vecino::{IndexSpec, Quantization};
    /// assert_eq!(IndexSpec::flat(Quantization::None), IndexSpec::Flat);
    /// assert_eq!("SQ8".parse(), Ok(IndexSpec::flat(Quantization::Sq8)));
    /// ```
    #[must_use]
    pub fn flat(quantization: Quantization) -> IndexSpec {
        match quantization {
            Quantization::None => IndexSpec::Flat,
            codes => IndexSpec::QuantizedFlat(FlatConfig::default().quantization(codes)),
        }
    }
}
