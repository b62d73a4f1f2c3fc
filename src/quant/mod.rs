//! Small codes for vectors, from which distances are estimated cheaply.
//!
//! A vector is centred, projected to the few directions in which the rows
//! spread most (principal components), rotated at random among those so that
//! all coordinates spread alike, and rounded: to 7 bits a coordinate or to 4,
//! with one scale a row. The product of two rounded vectors, scaled so that it
//! is right on average along the row (as in RaBitQ; Gao, Long: SIGMOD 2024),
//! and the two lengths give the squared distance. Projecting before rounding
//! is the idea of LeanVec (Tepper et al., 2023) and SAQ (Li et al., 2025).
//!
//! A [`Sieve`] makes codes of another kind, which do not estimate but bound;
//! a [`ProductQuantizer`] those of another family, cut into parts; [`Signs`]
//! codes of one bit a number.
//!
//! [`Shape`] says how large a code is and [`choose`](fn@choose) finds one;
//! [`Codec`] is trained on rows and makes [codes](block) of vectors, queries
//! ([`CodeQuery`]) and estimates.

mod arithmetic;
mod basis;
mod block;
mod choose;
mod codec;
mod entry_points;
mod interleaved;
mod kmeans;
mod lanes;
mod principal;
mod product;
mod projection;
mod query;
mod shape;
mod sieve;
mod signs;
mod single;
#[cfg(test)]
mod tests;

pub(crate) use arithmetic::least_of;
pub(crate) use block::{ROW_WORD, row_of};
pub(crate) use choose::choose;
pub(crate) use codec::{Codec, Encoder};
pub(crate) use entry_points::EntryPoints;
pub(crate) use interleaved::{Copies, Interleaved};
pub(crate) use kmeans::draw;
pub(crate) use lanes::Least;
pub(crate) use principal::MAX_TRAINED;
pub(crate) use product::{ProductQuantizer, ProductQuery, ProductShape, Sums, TrainedPart};
pub(crate) use query::{CodeQuery, Measure};
pub(crate) use shape::{Bits, Shape};
pub(crate) use sieve::{Grain, Kind, Screen, Sieve};
pub(crate) use signs::{SignFactors, Signs, Turned};
pub(crate) use single::{SingleCodes, SingleEncoder, SingleQuery, SingleShape};
