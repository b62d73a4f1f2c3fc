//! Codes of vectors, and estimates from them.

use super::arithmetic::{LANES, largest_magnitude, nearest, nearest_byte};
use super::block::{HEADER, Header};
use super::principal::Sample;
use super::projection::{Projected, Projection};
use super::query::{CodeQuery, Measure};
use super::shape::{Bits, Shape};
use crate::codec::{self, Decoder, Malformed};
use crate::id::mix;
use crate::kernel::{Arch, ArchJob, Kernels, Level, kernels};
use crate::memory;

/// Steps that are tried for the codes of a row, each smaller than the last by
/// [`FINER`] of the first. With four bits it pays to cut off the outermost
/// coordinates for a finer step; beyond half of the first step it never did.
const STEPS: usize = 12;
const FINER: f32 = 0.05;

/// Blocks that go to the kernel in one call: their estimates are one vector
/// of the widest kind.
const BLOCKS_PER_CALL: usize = 16;

/// Lines of the largest codes in files: twice as many as anything makes.
const MAX_LINES: usize = 16;

/// What makes codes of vectors; it never changes.
pub(crate) struct Codec {
    shape: Shape,
    projection: Projection,
    /// The same for codecs that are alike, and for no others.
    digest: u64,
}

/// Scratch of [`Codec::encode`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Encoder {
    projected: Projected,
    /// The codes, one a byte.
    codes: Vec<u8>,
    block: Vec<u8>,
}

impl std::fmt::Debug for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rank = self.projection.rank();
        f.debug_struct("Codec").field("shape", &self.shape).field("rank", &rank).finish_non_exhaustive()
    }
}

impl Codec {
    /// Trains on rows of `dim` numbers, one after the other, as they are
    /// compared (normalised under cosine). `centred` = false keeps the origin
    /// where it is, which inner products need. The same samples and seed give
    /// the same codec. O(samples * dim * min(samples, dim)), bounded.
    pub(crate) fn train(samples: &[f32], dim: usize, shape: Shape, centred: bool, seed: u64) -> Codec {
        let kernels = kernels();
        let sample = Sample::new(samples, dim, centred);
        let mut directions = Vec::new();
        if shape.coordinates() < dim {
            directions = sample.spread(kernels).directions(shape.coordinates(), seed);
        }
        Codec::with_directions(shape, sample.mean, &directions, seed, kernels)
    }

    /// A codec that keeps the first of orthonormal directions, as many as the
    /// shape has room for; where it has room for all dimensions, they are not
    /// looked at.
    pub(super) fn with_directions(
        shape: Shape,
        mean: Vec<f32>,
        directions: &[f32],
        seed: u64,
        kernels: Kernels,
    ) -> Codec {
        let (dim, rank) = (mean.len(), shape.coordinates());
        let projection = if rank >= dim {
            Projection::rotation(mean, seed, kernels)
        } else {
            Projection::new(mean, &directions[..rank * dim], seed, kernels)
        };
        Codec::of(shape, projection)
    }

    fn of(shape: Shape, projection: Projection) -> Codec {
        let Shape { bits, lines } = shape;
        let digest = mix(projection.digest() ^ mix(lines as u64 * 16 + bits.twice_offset() as u64));
        Codec { shape, projection, digest }
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// Coordinates of a code.
    pub(super) fn rank(&self) -> usize {
        self.projection.rank()
    }

    /// Fills `words`, [`Shape::words`] of them, with the block of a vector.
    ///
    /// # Panics
    /// When there are fewer words.
    pub(crate) fn encode(&self, vector: &[f32], row: u32, work: &mut Encoder, words: &mut [u32]) {
        let Encoder { projected, codes, block } = work;
        self.projection.apply(vector, projected);
        let scale = self.round(&mut projected.coordinates, codes);
        block.clear();
        memory::resize(block, self.shape.bytes(), 0);
        let (low, high) = codes.split_at(codes.len().min(self.shape.codes()));
        block[HEADER..][..low.len()].copy_from_slice(low);
        for (byte, code) in block[HEADER..].iter_mut().zip(high) {
            *byte |= code << 4;
        }
        for (word, bytes) in words[..self.shape.words()].iter_mut().zip(block.chunks_exact(4)) {
            *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        let header = Header { squared_length: projected.squared_length, scale, row };
        words[..HEADER / 4].copy_from_slice(&header.words());
    }

    /// Rounds coordinates to codes and gives the scale of the row; codes of
    /// nothing but zeros are 0, and so is their scale.
    fn round(&self, coordinates: &mut [f32], codes: &mut Vec<u8>) -> f32 {
        codes.clear();
        memory::resize(codes, coordinates.len(), 0);
        let largest = largest_magnitude(coordinates);
        if !(1.0 / largest).is_finite() {
            return 0.0;
        }
        coordinates.iter_mut().for_each(|value| *value /= largest);
        let bits = self.shape.bits;
        let steps = if bits == Bits::Four { STEPS } else { 1 };
        let mut best = Fit::default();
        for step in 0..steps {
            let inverse = bits.reach() / (1.0 - FINER * step as f32);
            let fit = Fit::of(coordinates, inverse, bits);
            if fit.squared_cosine() > best.squared_cosine() {
                best = fit;
            }
        }
        for (code, value) in codes.iter_mut().zip(&*coordinates) {
            *code = nearest_byte((value * best.inverse + bits.offset()).clamp(0.0, bits.largest()));
        }
        let squared = (self.projection.kernels().dot)(coordinates, coordinates);
        if best.product > 0.0 { largest * (squared / best.product) } else { 0.0 }
    }

    /// Makes a vector a query: for squared distances, or, of a codec that is
    /// not centred, for negated inner products.
    pub(crate) fn prepare(&self, vector: &[f32], measure: Measure, query: &mut CodeQuery) {
        self.projection.apply(vector, &mut query.projected);
        query.set_projected(self.shape, measure);
        query.made_by = Some((self.digest, measure));
    }

    /// Whether a query was made by such a codec, with [`Codec::prepare`].
    pub(crate) fn has_prepared(&self, query: &CodeQuery, measure: Measure) -> bool {
        query.made_by == Some((self.digest, measure))
    }

    /// The same for many vectors at once, which costs less: the projection is
    /// read once.
    pub(crate) fn prepare_many(&self, queries: &mut [(&[f32], &mut CodeQuery)], measure: Measure) {
        self.projection.apply_many(queries.iter_mut().map(|(vector, query)| (*vector, &mut query.projected)));
        for (_, query) in queries {
            query.set_projected(self.shape, measure);
            query.made_by = Some((self.digest, measure));
        }
    }

    /// Makes a block a query for squared distances, as it is: no projection.
    ///
    /// # Panics
    /// When the block is shorter than the shape says.
    pub(crate) fn prepare_block(&self, block: &[u8], query: &mut CodeQuery) {
        self.prepare_block_by(Measure::SquaredL2, block, query);
    }

    /// The same for any measure: inner products are those of the vectors only if these were not centred.
    ///
    /// # Panics
    /// As `prepare_block`.
    pub(crate) fn prepare_block_by(&self, measure: Measure, block: &[u8], query: &mut CodeQuery) {
        query.set_block(self.shape, measure, self.projection.rank(), &block[..self.shape.bytes()]);
    }

    /// Estimates for the rows of `blocks`.
    ///
    /// # Panics
    /// When a block is not as long as the shape says, the query is of another
    /// shape, or `out` is not as long as `blocks`.
    pub(crate) fn estimates(&self, query: &CodeQuery, blocks: &[&[u8]], out: &mut [f32]) {
        struct All<'a>(&'a Codec, &'a CodeQuery, &'a [&'a [u8]], &'a mut [f32]);
        impl ArchJob for All<'_> {
            type Output = ();

            #[inline(always)]
            fn run<A: Arch>(self, arch: A) {
                self.0.estimates_on(arch, self.1, self.2, self.3);
            }
        }
        self.level().run(All(self, query, blocks, out));
    }

    /// The same within a loop that is compiled for an instruction set.
    ///
    /// # Panics
    /// As `estimates`.
    #[inline(always)]
    pub(crate) fn estimates_on<A: Arch>(
        &self,
        arch: A,
        query: &CodeQuery,
        blocks: &[&[u8]],
        out: &mut [f32],
    ) {
        assert_eq!(blocks.len(), out.len());
        for (blocks, out) in blocks.chunks(BLOCKS_PER_CALL).zip(out.chunks_mut(BLOCKS_PER_CALL)) {
            let mut dots = [0; BLOCKS_PER_CALL];
            match self.shape.bits {
                Bits::Four => arch.nibble_dots(&query.weights, blocks, &mut dots[..blocks.len()]),
                Bits::Seven => arch.byte_dots(&query.weights, blocks, &mut dots[..blocks.len()]),
            }
            let (mut lengths, mut scales) = ([0.0; BLOCKS_PER_CALL], [0.0; BLOCKS_PER_CALL]);
            for ((length, scale), block) in lengths.iter_mut().zip(&mut scales).zip(blocks) {
                let header = Header::read(block);
                (*length, *scale) = (header.squared_length, header.scale);
            }
            let mut estimates = [0.0; BLOCKS_PER_CALL];
            for (at, estimate) in estimates.iter_mut().enumerate() {
                *estimate = query.estimate(dots[at], lengths[at], scales[at]);
            }
            match <&mut [f32; BLOCKS_PER_CALL]>::try_from(&mut *out) {
                Ok(all) => *all = estimates,
                Err(_) => out.iter_mut().zip(estimates).for_each(|(out, estimate)| *out = estimate),
            }
        }
    }

    /// What loops over estimates are best compiled for.
    #[inline]
    pub(crate) fn level(&self) -> Level {
        self.projection.kernels().level
    }

    pub(crate) fn save(&self, out: &mut codec::Encoder) {
        out.u8(if self.shape.bits == Bits::Four { 4 } else { 7 });
        out.size(self.shape.lines);
        self.projection.save(out);
    }

    /// Reads a codec for vectors of `dim` numbers.
    pub(crate) fn load(dim: usize, input: &mut Decoder<'_>) -> Result<Codec, Malformed> {
        let bits = match input.u8()? {
            4 => Bits::Four,
            7 => Bits::Seven,
            _ => return Err(input.fault("codes have no such number of bits")),
        };
        let lines = input.size()?;
        input.check((1..=MAX_LINES).contains(&lines), "codes have no such size")?;
        let shape = Shape { bits, lines };
        let projection = Projection::load(input, kernels())?;
        let fits = projection.dim() == dim && projection.rank() == dim.min(shape.coordinates());
        input.check(fits, "codes are of other vectors").map(|()| Codec::of(shape, projection))
    }

    /// Bytes that it holds.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Codec>() + self.projection.bytes()
    }

    /// A number that names its content.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }
}

/// How well codes of some step fit the coordinates they stand for.
#[derive(Clone, Copy, Debug, Default)]
struct Fit {
    /// 1 / step.
    inverse: f32,
    /// Of the coordinates with what their codes stand for.
    product: f32,
    /// Of what the codes stand for with itself.
    squared: f32,
}

impl Fit {
    fn of(coordinates: &[f32], inverse: f32, bits: Bits) -> Fit {
        let (offset, largest) = (bits.offset(), bits.largest());
        let number = |value: f32| {
            let code = value * inverse + offset;
            let code = if code > 0.0 { code } else { 0.0 };
            nearest(if code < largest { code } else { largest }) - offset
        };
        let (mut products, mut squares) = ([0f32; LANES], [0f32; LANES]);
        let (chunks, rest) = coordinates.as_chunks::<LANES>();
        for (lane, value) in rest.iter().enumerate() {
            let number = number(*value);
            products[lane] = number * value;
            squares[lane] = number * number;
        }
        for chunk in chunks {
            let numbers = chunk.map(number);
            for lane in 0..LANES {
                products[lane] += numbers[lane] * chunk[lane];
                squares[lane] += numbers[lane] * numbers[lane];
            }
        }
        Fit { inverse, product: products.iter().sum(), squared: squares.iter().sum() }
    }

    /// The squared cosine, but for the squared length of the coordinates.
    fn squared_cosine(&self) -> f32 {
        if self.squared > 0.0 { self.product * self.product / self.squared } else { 0.0 }
    }
}
