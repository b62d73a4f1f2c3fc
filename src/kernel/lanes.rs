//! The distance loops, written once over a vector of lanes.
//!
//! An instruction set gives [`Lanes`]: its vector of floats and seven
//! operations. Everything here is inlined into functions that enable the
//! instruction set, so the loops compile to its instructions.
//!
//! **One order of summation.** A row's terms go into four vectors of partial
//! sums, and those are folded by [`total`]. The single and the many forms both
//! run [`row_sum`]: their results are the same bit for bit.
//!
//! **Early abandoning.** A sum of squares only grows, so a row whose partial
//! sum exceeds the bound is out. That also holds in floating point: rounding
//! is monotonic, so adding a term that is not negative never lowers a partial
//! sum, and [`total`] of greater parts is never less. A partial total is thus
//! never above the total that the whole row gives.

use super::prefetch::prefetch_bytes;

/// Partial sums that are kept apart: enough to hide the latency of an addition.
const SUMS: usize = 4;

/// Dimensions between two looks at the bound. Measured on Fashion-MNIST (784
/// dimensions, AVX-512, Zen 5): a look every 128 abandons more rows and yet is
/// slower, also where no row is abandoned.
const BLOCK: usize = 256;

/// Dimensions that must remain for a look to pay: nothing shorter than
/// `BLOCK + REST` is abandoned.
const REST: usize = 64;

/// Bytes that are asked for and not yet read, over all rows. Tuned on random
/// rows of 50 to 784 dimensions out of cache (Zen 5): short rows gain up to 12
/// to 16 rows ahead, long ones nothing beyond 3 to 6.
const BYTES_IN_FLIGHT: usize = 6 * 1024;

/// Rows that are asked for and not yet read, however short they are.
const MAX_ROWS_AHEAD: usize = 16;

/// A vector of floats of one instruction set.
///
/// # Safety
/// Every function may be called only where the processor has the instruction set.
pub(super) trait Lanes: Copy {
    /// Floats in a vector; divides `BLOCK / SUMS`.
    const COUNT: usize;

    /// All lanes 0.
    ///
    /// # Safety
    /// As the trait says.
    unsafe fn zero() -> Self;

    /// `COUNT` floats from any address.
    ///
    /// # Safety
    /// As the trait says; `COUNT` floats can be read at `from`.
    unsafe fn load(from: *const f32) -> Self;

    /// `count < COUNT` floats from any address, and 0 in the other lanes.
    ///
    /// # Safety
    /// As the trait says; `count` floats can be read at `from`, and no more are.
    unsafe fn load_first(from: *const f32, count: usize) -> Self;

    /// `self + other`.
    ///
    /// # Safety
    /// As the trait says.
    unsafe fn add(self, other: Self) -> Self;

    /// `self + a * b`, rounded once.
    ///
    /// # Safety
    /// As the trait says.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;

    /// `self + (a - b)^2`.
    ///
    /// # Safety
    /// As the trait says.
    unsafe fn add_squared_difference(self, a: Self, b: Self) -> Self;

    /// The sum of the lanes, folded in an order that never varies.
    ///
    /// # Safety
    /// As the trait says.
    unsafe fn sum(self) -> f32;
}

/// What is summed over the dimensions.
pub(super) trait Term {
    /// Whether the sum never falls, so that a bound may end it early.
    const GROWS: bool;

    /// Bytes of a row that are asked for before it is read. The processor sees
    /// a stream after them, and what an abandoned row does not need is wasted.
    const BYTES_AHEAD: usize;

    /// Adds the terms of one vector of dimensions.
    ///
    /// # Safety
    /// As [`Lanes`] says.
    unsafe fn add<V: Lanes>(sum: V, a: V, b: V) -> V;
}

/// `(a - b)^2`.
pub(super) struct SquaredDifference;

impl Term for SquaredDifference {
    const GROWS: bool = true;
    const BYTES_AHEAD: usize = 1024;

    #[inline(always)]
    unsafe fn add<V: Lanes>(sum: V, a: V, b: V) -> V {
        // SAFETY: the caller vouches for the instruction set.
        unsafe { sum.add_squared_difference(a, b) }
    }
}

/// `a * b`.
pub(super) struct Product;

impl Term for Product {
    const GROWS: bool = false;
    const BYTES_AHEAD: usize = 2048;

    #[inline(always)]
    unsafe fn add<V: Lanes>(sum: V, a: V, b: V) -> V {
        // SAFETY: the caller vouches for the instruction set.
        unsafe { sum.add_product(a, b) }
    }
}

/// The sum over two vectors.
///
/// # Safety
/// As [`Lanes`] says.
///
/// # Panics
/// When the lengths differ.
#[inline(always)]
pub(super) unsafe fn one<V: Lanes, T: Term>(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    // SAFETY: the lengths are the same; the caller vouches for the instruction set.
    unsafe { row_sum::<V, T>(a.as_ptr(), b.as_ptr(), a.len(), f32::INFINITY) }
}

/// The sums over a query and each of many rows; `f32::INFINITY` for a row that
/// was abandoned because it exceeds `bound`.
///
/// # Safety
/// As [`Lanes`] says.
///
/// # Panics
/// When a row is not as long as the query, or `out` not as long as `rows`.
#[inline(always)]
pub(super) unsafe fn many<V: Lanes, T: Term>(query: &[f32], rows: &[&[f32]], bound: f32, out: &mut [f32]) {
    assert_eq!(rows.len(), out.len());
    let bytes = size_of_val(query).min(T::BYTES_AHEAD);
    let rows_ahead = (BYTES_IN_FLIGHT / bytes.max(1)).min(MAX_ROWS_AHEAD);
    for row in rows.iter().take(rows_ahead) {
        prefetch_bytes(row.as_ptr().cast(), bytes);
    }
    for (at, (row, out)) in rows.iter().zip(out).enumerate() {
        if let Some(next) = rows.get(at + rows_ahead) {
            prefetch_bytes(next.as_ptr().cast(), bytes);
        }
        assert_eq!(row.len(), query.len());
        // SAFETY: the lengths are the same; the caller vouches for the instruction set.
        *out = unsafe { row_sum::<V, T>(query.as_ptr(), row.as_ptr(), query.len(), bound) };
    }
}

/// The sum over `len` dimensions, or `f32::INFINITY` once it exceeds `bound`.
///
/// # Safety
/// As [`Lanes`] says; `len` floats can be read at `a` and at `b`.
#[inline(always)]
unsafe fn row_sum<V: Lanes, T: Term>(a: *const f32, b: *const f32, len: usize, bound: f32) -> f32 {
    // SAFETY: every access is below `len`: a step reads `STEP` dimensions when
    // at least as many remain, and the rest reads what remains. The caller
    // vouches for the instruction set.
    unsafe {
        let step = SUMS * V::COUNT;
        let mut sums = [V::zero(); SUMS];
        let mut at = 0;
        if T::GROWS {
            while len - at >= BLOCK + REST {
                for _ in 0..BLOCK / step {
                    sums = add_step::<V, T>(sums, a.add(at), b.add(at));
                    at += step;
                }
                if total(sums) > bound {
                    return f32::INFINITY;
                }
            }
        }
        while len - at >= step {
            sums = add_step::<V, T>(sums, a.add(at), b.add(at));
            at += step;
        }
        total(add_rest::<V, T>(sums, a.add(at), b.add(at), len - at))
    }
}

/// Adds one vector of dimensions to each of the sums.
///
/// # Safety
/// As [`Lanes`] says; `SUMS * COUNT` floats can be read at `a` and at `b`.
#[inline(always)]
unsafe fn add_step<V: Lanes, T: Term>(mut sums: [V; SUMS], a: *const f32, b: *const f32) -> [V; SUMS] {
    for (place, sum) in sums.iter_mut().enumerate() {
        let at = place * V::COUNT;
        // SAFETY: `at + COUNT <= SUMS * COUNT`, which can be read.
        *sum = unsafe { T::add(*sum, V::load(a.add(at)), V::load(b.add(at))) };
    }
    sums
}

/// Adds the last dimensions: fewer than a step.
///
/// # Safety
/// As [`Lanes`] says; `len < SUMS * COUNT` floats can be read at `a` and at `b`.
#[inline(always)]
unsafe fn add_rest<V: Lanes, T: Term>(
    mut sums: [V; SUMS],
    a: *const f32,
    b: *const f32,
    len: usize,
) -> [V; SUMS] {
    for (place, sum) in sums.iter_mut().enumerate() {
        let at = place * V::COUNT;
        if at >= len {
            break;
        }
        let left = len - at;
        // SAFETY: `left` floats from `at` can be read, and no more are.
        unsafe {
            let (a, b) = (a.add(at), b.add(at));
            *sum = if left >= V::COUNT {
                T::add(*sum, V::load(a), V::load(b))
            } else {
                T::add(*sum, V::load_first(a, left), V::load_first(b, left))
            };
        }
    }
    sums
}

/// Folds the sums into one number.
///
/// # Safety
/// As [`Lanes`] says.
#[inline(always)]
unsafe fn total<V: Lanes>(sums: [V; SUMS]) -> f32 {
    let [first, second, third, fourth] = sums;
    // SAFETY: the caller vouches for the instruction set.
    unsafe { first.add(second).add(third.add(fourth)).sum() }
}

/// Stamps the kernels of an instruction set: functions that enable it, and safe
/// ones around them for the table of function pointers. Those over codes have
/// nothing to share and are given; the level is for who hands the table out.
macro_rules! kernels {
    ($lanes:ty, $features:literal, $byte_dots:path, $nibble_dots:path) => {
        use $crate::kernel::Kernels;
        use $crate::kernel::lanes::{Product, SquaredDifference, many, one};

        /// For a machine that has the instruction set, and no other: only
        /// [`Kernels::of`] may hand it out.
        pub(in $crate::kernel) const KERNELS: Kernels = Kernels {
            l2,
            dot,
            l2_many,
            dot_many,
            byte_dots: $byte_dots,
            nibble_dots: $nibble_dots,
            level: $crate::kernel::Level::Portable($crate::kernel::Portable),
        };

        fn l2(a: &[f32], b: &[f32]) -> f32 {
            #[target_feature(enable = $features)]
            fn enabled(a: &[f32], b: &[f32]) -> f32 {
                // SAFETY: the instruction set is enabled here.
                unsafe { one::<$lanes, SquaredDifference>(a, b) }
            }
            // SAFETY: `KERNELS` is handed out only where it was detected.
            unsafe { enabled(a, b) }
        }

        fn dot(a: &[f32], b: &[f32]) -> f32 {
            #[target_feature(enable = $features)]
            fn enabled(a: &[f32], b: &[f32]) -> f32 {
                // SAFETY: the instruction set is enabled here.
                unsafe { one::<$lanes, Product>(a, b) }
            }
            // SAFETY: `KERNELS` is handed out only where it was detected.
            unsafe { enabled(a, b) }
        }

        fn l2_many(query: &[f32], rows: &[&[f32]], bound: f32, out: &mut [f32]) {
            #[target_feature(enable = $features)]
            fn enabled(query: &[f32], rows: &[&[f32]], bound: f32, out: &mut [f32]) {
                // SAFETY: the instruction set is enabled here.
                unsafe { many::<$lanes, SquaredDifference>(query, rows, bound, out) }
            }
            // SAFETY: `KERNELS` is handed out only where it was detected.
            unsafe { enabled(query, rows, bound, out) }
        }

        fn dot_many(query: &[f32], rows: &[&[f32]], out: &mut [f32]) {
            #[target_feature(enable = $features)]
            fn enabled(query: &[f32], rows: &[&[f32]], out: &mut [f32]) {
                // SAFETY: the instruction set is enabled here.
                unsafe { many::<$lanes, Product>(query, rows, f32::INFINITY, out) }
            }
            // SAFETY: `KERNELS` is handed out only where it was detected.
            unsafe { enabled(query, rows, out) }
        }
    };
}

pub(super) use kernels;
