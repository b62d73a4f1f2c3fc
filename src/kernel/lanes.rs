//! The distance loops, written once over a vector of lanes.
//!
//! An instruction set gives [`Lanes`]: its vector of floats and some
//! operations. A row is loaded through its [`Source`], one for each format. Everything here is inlined into functions that enable the
//! instruction set, so the loops compile to its instructions.
//!
//! **One order of summation.** A row's terms go into four vectors of partial
//! sums, and those are folded by [`total`]. The single and the many forms both
//! run [`row_sum`]: their results are the same bit for bit. So are those of
//! rows of all formats, as loading gives the very numbers that they stand for.
//!
//! **Early abandoning.** A sum of squares only grows, so a row whose partial
//! sum exceeds the bound is out. That also holds in floating point: rounding
//! is monotonic, so adding a term that is not negative never lowers a partial
//! sum, and [`total`] of greater parts is never less. A partial total is thus
//! never above the total that the whole row gives.

use super::formats::BYTES_HEADER;
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

    /// The numbers of `COUNT` finite halves from any address.
    ///
    /// # Safety
    /// As the trait says; `COUNT` halves can be read at `from`.
    unsafe fn load_halves(from: *const u16) -> Self;

    /// `COUNT` bytes from any address, as numbers.
    ///
    /// # Safety
    /// As the trait says; `COUNT` bytes can be read at `from`.
    unsafe fn load_bytes(from: *const u8) -> Self;

    /// All lanes the same.
    ///
    /// # Safety
    /// As the trait says.
    unsafe fn splat(value: f32) -> Self;

    /// Writes the lanes to any address.
    ///
    /// # Safety
    /// As the trait says; `COUNT` floats can be written at `to`.
    unsafe fn store(self, to: *mut f32);

    /// The first `count < COUNT` lanes, and 0 in the others.
    ///
    /// # Safety
    /// As the trait says.
    unsafe fn first(self, count: usize) -> Self;

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

/// The numbers of a row of one format.
///
/// # Safety
/// Every function may be called only where the processor has the instruction
/// set of the lanes.
pub(super) trait Source<V: Lanes>: Copy {
    /// What rows are made of.
    type Element: Copy;

    /// Elements before the first number.
    const HEADER: usize;

    /// The row that starts here.
    ///
    /// # Safety
    /// As the trait says; `HEADER` elements can be read at `row`.
    unsafe fn open(row: *const Self::Element) -> Self;

    /// The numbers from `at` on.
    ///
    /// # Safety
    /// As the trait says; the row has `COUNT` numbers from `at`.
    unsafe fn load(self, at: usize) -> V;

    /// `count < COUNT` numbers from `at`, and 0 in the other lanes.
    ///
    /// # Safety
    /// As the trait says; the row has `count` numbers from `at`, and no more
    /// are read.
    unsafe fn load_first(self, at: usize, count: usize) -> V;
}

/// Floats.
#[derive(Clone, Copy)]
pub(super) struct Full(*const f32);

impl<V: Lanes> Source<V> for Full {
    type Element = f32;
    const HEADER: usize = 0;

    #[inline(always)]
    unsafe fn open(row: *const f32) -> Full {
        Full(row)
    }

    #[inline(always)]
    unsafe fn load(self, at: usize) -> V {
        // SAFETY: the caller vouches for the numbers and the instruction set.
        unsafe { V::load(self.0.add(at)) }
    }

    #[inline(always)]
    unsafe fn load_first(self, at: usize, count: usize) -> V {
        // SAFETY: the caller vouches for the numbers and the instruction set.
        unsafe { V::load_first(self.0.add(at), count) }
    }
}

/// Lanes of any instruction set; rows end in a piece of this length.
const LANES_MOST: usize = 16;

/// `count` elements, then zeros.
///
/// # Safety
/// `count <= LANES_MOST` elements can be read at `from`.
#[inline(always)]
unsafe fn padded<T: Copy + Default>(from: *const T, count: usize) -> [T; LANES_MOST] {
    let mut piece = [T::default(); LANES_MOST];
    for (place, slot) in piece.iter_mut().enumerate().take(count) {
        // SAFETY: `place` is below `count`.
        *slot = unsafe { from.add(place).read() };
    }
    piece
}

/// Halves.
#[derive(Clone, Copy)]
pub(super) struct Half(*const u16);

impl<V: Lanes> Source<V> for Half {
    type Element = u16;
    const HEADER: usize = 0;

    #[inline(always)]
    unsafe fn open(row: *const u16) -> Half {
        Half(row)
    }

    #[inline(always)]
    unsafe fn load(self, at: usize) -> V {
        // SAFETY: the caller vouches for the numbers and the instruction set.
        unsafe { V::load_halves(self.0.add(at)) }
    }

    #[inline(always)]
    unsafe fn load_first(self, at: usize, count: usize) -> V {
        // SAFETY: the caller vouches for `count` numbers, fewer than lanes; the
        // piece has as many as any instruction set has lanes.
        unsafe { V::load_halves(padded(self.0.add(at), count).as_ptr()) }
    }
}

/// Bytes with an offset and a step.
#[derive(Clone, Copy)]
pub(super) struct Bytes<V> {
    codes: *const u8,
    offset: V,
    step: V,
}

impl<V: Lanes> Bytes<V> {
    /// # Safety
    /// As [`Lanes`] says; `COUNT` bytes can be read at `codes`.
    #[inline(always)]
    unsafe fn numbers(self, codes: *const u8) -> V {
        // SAFETY: the caller vouches for the bytes and the instruction set.
        unsafe { self.offset.add_product(V::load_bytes(codes), self.step) }
    }
}

impl<V: Lanes> Source<V> for Bytes<V> {
    type Element = u8;
    const HEADER: usize = BYTES_HEADER;

    #[inline(always)]
    unsafe fn open(row: *const u8) -> Bytes<V> {
        let floats = row.cast::<f32>();
        // SAFETY: the header holds two floats, and more bytes than that.
        unsafe {
            let (offset, step) = (floats.read_unaligned(), floats.add(1).read_unaligned());
            Bytes { codes: row.add(BYTES_HEADER), offset: V::splat(offset), step: V::splat(step) }
        }
    }

    #[inline(always)]
    unsafe fn load(self, at: usize) -> V {
        // SAFETY: the caller vouches for the numbers and the instruction set.
        unsafe { self.numbers(self.codes.add(at)) }
    }

    #[inline(always)]
    unsafe fn load_first(self, at: usize, count: usize) -> V {
        // SAFETY: the caller vouches for `count` numbers, fewer than lanes; the
        // piece has as many as any instruction set has lanes.
        unsafe { self.numbers(padded(self.codes.add(at), count).as_ptr()).first(count) }
    }
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

/// The sum over a query and a row.
///
/// # Safety
/// As [`Lanes`] says.
///
/// # Panics
/// When the lengths do not fit.
#[inline(always)]
pub(super) unsafe fn one<V: Lanes, T: Term, S: Source<V>>(query: &[f32], row: &[S::Element]) -> f32 {
    assert_eq!(row.len(), query.len() + S::HEADER);
    // SAFETY: the row has as many numbers as the query; the caller vouches for
    // the instruction set.
    unsafe { row_sum::<V, T, S>(query.as_ptr(), S::open(row.as_ptr()), query.len(), f32::INFINITY) }
}

/// The sums over a query and each of many rows; `f32::INFINITY` for a row that
/// was abandoned because it exceeds `bound`.
///
/// # Safety
/// As [`Lanes`] says.
///
/// # Panics
/// When a row is not as long as the query wants, or `out` not as long as `rows`.
#[inline(always)]
pub(super) unsafe fn many<V: Lanes, T: Term, S: Source<V>>(
    query: &[f32],
    rows: &[&[S::Element]],
    bound: f32,
    out: &mut [f32],
) {
    assert_eq!(rows.len(), out.len());
    let len = query.len() + S::HEADER;
    let bytes = (len * size_of::<S::Element>()).min(T::BYTES_AHEAD);
    let rows_ahead = (BYTES_IN_FLIGHT / bytes.max(1)).min(MAX_ROWS_AHEAD);
    for row in rows.iter().take(rows_ahead) {
        prefetch_bytes::<1>(row.as_ptr().cast(), bytes);
    }
    for (at, (row, out)) in rows.iter().zip(out).enumerate() {
        if let Some(next) = rows.get(at + rows_ahead) {
            prefetch_bytes::<1>(next.as_ptr().cast(), bytes);
        }
        assert_eq!(row.len(), len);
        // SAFETY: the row has as many numbers as the query; the caller vouches
        // for the instruction set.
        *out = unsafe { row_sum::<V, T, S>(query.as_ptr(), S::open(row.as_ptr()), query.len(), bound) };
    }
}

/// The numbers of a row.
///
/// # Safety
/// As [`Lanes`] says.
///
/// # Panics
/// When the lengths do not fit.
#[inline(always)]
pub(super) unsafe fn numbers<V: Lanes, S: Source<V>>(row: &[S::Element], out: &mut [f32]) {
    assert_eq!(row.len(), out.len() + S::HEADER);
    let whole = out.len() - out.len() % V::COUNT;
    // SAFETY: the row has as many numbers as `out`, and every access is below;
    // the caller vouches for the instruction set.
    unsafe {
        let row = S::open(row.as_ptr());
        for at in (0..whole).step_by(V::COUNT) {
            row.load(at).store(out.as_mut_ptr().add(at));
        }
        let rest = &mut out[whole..];
        if !rest.is_empty() {
            let mut piece = [0.0; LANES_MOST];
            row.load_first(whole, rest.len()).store(piece.as_mut_ptr());
            rest.copy_from_slice(&piece[..rest.len()]);
        }
    }
}

/// The sum over `len` dimensions, or `f32::INFINITY` once it exceeds `bound`.
///
/// # Safety
/// As [`Lanes`] says; `len` floats can be read at `a`, and `b` has `len` numbers.
#[inline(always)]
unsafe fn row_sum<V: Lanes, T: Term, S: Source<V>>(a: *const f32, b: S, len: usize, bound: f32) -> f32 {
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
                    sums = add_step::<V, T, S>(sums, a, b, at);
                    at += step;
                }
                if total(sums) > bound {
                    return f32::INFINITY;
                }
            }
        }
        while len - at >= step {
            sums = add_step::<V, T, S>(sums, a, b, at);
            at += step;
        }
        total(add_rest::<V, T, S>(sums, a, b, at, len))
    }
}

/// Adds one vector of dimensions from `from` on to each of the sums.
///
/// # Safety
/// As [`Lanes`] says; both have `SUMS * COUNT` numbers from `from` on.
#[inline(always)]
unsafe fn add_step<V: Lanes, T: Term, S: Source<V>>(
    mut sums: [V; SUMS],
    a: *const f32,
    b: S,
    from: usize,
) -> [V; SUMS] {
    for (place, sum) in sums.iter_mut().enumerate() {
        let at = from + place * V::COUNT;
        // SAFETY: `at + COUNT <= from + SUMS * COUNT`, which can be read.
        *sum = unsafe { T::add(*sum, V::load(a.add(at)), b.load(at)) };
    }
    sums
}

/// Adds the last dimensions, from `from` to `len`: fewer than a step.
///
/// # Safety
/// As [`Lanes`] says; both have `len` numbers.
#[inline(always)]
unsafe fn add_rest<V: Lanes, T: Term, S: Source<V>>(
    mut sums: [V; SUMS],
    a: *const f32,
    b: S,
    from: usize,
    len: usize,
) -> [V; SUMS] {
    for (place, sum) in sums.iter_mut().enumerate() {
        let at = from + place * V::COUNT;
        if at >= len {
            break;
        }
        let left = len - at;
        // SAFETY: `left` numbers from `at` can be read, and no more are.
        unsafe {
            *sum = if left >= V::COUNT {
                T::add(*sum, V::load(a.add(at)), b.load(at))
            } else {
                T::add(*sum, V::load_first(a.add(at), left), b.load_first(at, left))
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

/// Stamps the kernels of an instruction set. Those over codes have nothing to
/// share and are given; the level is for who hands the table out.
macro_rules! kernels {
    ($lanes:ty, $features:literal, $byte_dots:path, $nibble_dots:path) => {
        use $crate::kernel::lanes::{Bytes, Full, Half, row_kernels};
        use $crate::kernel::{Kernels, RowKernels};

        /// For a machine that has the instruction set, and no other: only
        /// [`Kernels::of`] may hand it out.
        pub(in $crate::kernel) const KERNELS: Kernels = Kernels {
            l2: FULL.l2,
            dot: FULL.dot,
            full: FULL,
            half: row_kernels!($lanes, $features, Half, u16),
            bytes: row_kernels!($lanes, $features, Bytes<$lanes>, u8),
            byte_dots: $byte_dots,
            nibble_dots: $nibble_dots,
            level: $crate::kernel::Level::Portable($crate::kernel::Portable),
        };

        const FULL: RowKernels<f32> = row_kernels!($lanes, $features, Full, f32);

        /// For a machine that has the instruction set, and no other.
        #[inline(always)]
        pub(in $crate::kernel) fn tile_dots<const R: usize, const T: usize>(
            rows: [&[f32]; R],
            tiles: [&[[f32; $crate::kernel::TILE]]; T],
        ) -> $crate::kernel::arch::TileSums<R, T> {
            #[inline]
            #[target_feature(enable = $features)]
            fn enabled<const R: usize, const T: usize>(
                rows: [&[f32]; R],
                tiles: [&[[f32; $crate::kernel::TILE]]; T],
            ) -> $crate::kernel::arch::TileSums<R, T> {
                const VECTORS: usize = $crate::kernel::TILE / <$lanes as Lanes>::COUNT;
                // SAFETY: the instruction set is enabled here.
                unsafe { $crate::kernel::tiles::tile_dots::<$lanes, R, T, VECTORS>(rows, tiles) }
            }
            // SAFETY: called for an `Arch` only, which exists where it was detected.
            unsafe { enabled(rows, tiles) }
        }
    };
}

/// Stamps those over rows of one format: functions that enable the instruction
/// set, and safe ones around them for the table of function pointers.
macro_rules! row_kernels {
    ($lanes:ty, $features:literal, $source:ty, $element:ty) => {{
        use $crate::kernel::lanes::{Product, SquaredDifference, many, numbers, one};

        fn l2(a: &[f32], b: &[$element]) -> f32 {
            #[target_feature(enable = $features)]
            fn enabled(a: &[f32], b: &[$element]) -> f32 {
                // SAFETY: the instruction set is enabled here.
                unsafe { one::<$lanes, SquaredDifference, $source>(a, b) }
            }
            // SAFETY: `KERNELS` is handed out only where it was detected.
            unsafe { enabled(a, b) }
        }

        fn dot(a: &[f32], b: &[$element]) -> f32 {
            #[target_feature(enable = $features)]
            fn enabled(a: &[f32], b: &[$element]) -> f32 {
                // SAFETY: the instruction set is enabled here.
                unsafe { one::<$lanes, Product, $source>(a, b) }
            }
            // SAFETY: `KERNELS` is handed out only where it was detected.
            unsafe { enabled(a, b) }
        }

        fn l2_many(query: &[f32], rows: &[&[$element]], bound: f32, out: &mut [f32]) {
            #[target_feature(enable = $features)]
            fn enabled(query: &[f32], rows: &[&[$element]], bound: f32, out: &mut [f32]) {
                // SAFETY: the instruction set is enabled here.
                unsafe { many::<$lanes, SquaredDifference, $source>(query, rows, bound, out) }
            }
            // SAFETY: `KERNELS` is handed out only where it was detected.
            unsafe { enabled(query, rows, bound, out) }
        }

        fn dot_many(query: &[f32], rows: &[&[$element]], out: &mut [f32]) {
            #[target_feature(enable = $features)]
            fn enabled(query: &[f32], rows: &[&[$element]], out: &mut [f32]) {
                // SAFETY: the instruction set is enabled here.
                unsafe { many::<$lanes, Product, $source>(query, rows, f32::INFINITY, out) }
            }
            // SAFETY: `KERNELS` is handed out only where it was detected.
            unsafe { enabled(query, rows, out) }
        }

        fn widen(row: &[$element], out: &mut [f32]) {
            #[target_feature(enable = $features)]
            fn enabled(row: &[$element], out: &mut [f32]) {
                // SAFETY: the instruction set is enabled here.
                unsafe { numbers::<$lanes, $source>(row, out) }
            }
            // SAFETY: `KERNELS` is handed out only where it was detected.
            unsafe { enabled(row, out) }
        }

        RowKernels { l2, dot, l2_many, dot_many, widen }
    }};
}

pub(super) use {kernels, row_kernels};
