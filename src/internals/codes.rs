//! How much is lost by codes.

use crate::quant::{ProductQuantizer, ProductShape};
use crate::vector::Rounded;

/// Codes of vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codes {
    /// Two bytes a number.
    Half,
    /// A byte a number.
    Bytes,
    /// Product codes.
    Product {
        /// Parts of a vector.
        num_subquantizers: usize,
        /// 4 or 8.
        bits_per_code: usize,
    },
}

/// What a vector's codes stand for.
type Decode<'a> = Box<dyn FnMut(&[f32]) -> Vec<f32> + 'a>;

/// Seed of the training: any number.
const SEED: u64 = 42;

/// The mean over rows of the squared distance of a row, of `dim` numbers, from
/// what its codes stand for; they are trained on the same rows.
#[must_use]
pub fn reconstruction_error(rows: &[f32], dim: usize, codes: Codes) -> f64 {
    let mut decode: Decode<'_> = match codes {
        Codes::Half => Box::new(move |row| {
            let rounded = Rounded::half(dim);
            rounded.decode(&rounded.encode(row))
        }),
        Codes::Bytes => Box::new(move |row| {
            let rounded = Rounded::bytes(dim);
            rounded.decode(&rounded.encode(row))
        }),
        Codes::Product { num_subquantizers, bits_per_code } => {
            let shape = ProductShape { num_subquantizers, bits_per_code };
            let parts = (0..num_subquantizers)
                .map(|at| ProductQuantizer::train_part(rows, dim, shape, at, SEED))
                .collect();
            let quantizer = ProductQuantizer::of_parts(dim, shape, parts);
            let mut codes = vec![0; num_subquantizers];
            Box::new(move |row| {
                let mut vector = Vec::new();
                quantizer.encode(row, &mut codes);
                quantizer.decode(&codes, &mut vector);
                vector
            })
        }
    };
    let error = |row: &[f32]| -> f64 {
        let pairs = row.iter().zip(decode(row));
        pairs.map(|(x, copy)| (f64::from(*x) - f64::from(copy)).powi(2)).sum()
    };
    let count = (rows.len() / dim.max(1)).max(1);
    rows.chunks_exact(dim).map(error).sum::<f64>() / count as f64
}
