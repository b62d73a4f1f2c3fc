//! Centres of points: k-means++ (Arthur, Vassilvitskii, 2007) and Lloyd's rounds.
//!
//! For the many small problems of product quantization. Centres stand
//! transposed, sixteen together, so that a point meets sixteen at a time. Where there are many points
//! it is these that stand so, and each centre meets sixteen of them: which centre
//! is nearest is then known of each lane alone. The
//! terms of a distance are added in the order of the dimensions, so that every
//! instruction set, and either way, gives the same bits.

use super::lanes::Least;
use crate::id::mix;
use crate::kernel::{Arch, ArchJob, Level, TILE};
use crate::memory::{self, Lined};
use crate::pause::pause;

/// Tiles that a point meets at once: sums do not wait for one another.
const TOGETHER: usize = 4;

/// Centres in tiles: of each tile the first coordinates of its sixteen, then
/// the second ones, and so on. Places without a centre are infinitely far away.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tiles {
    dim: usize,
    count: usize,
    values: Lined<f32>,
}

impl Tiles {
    /// From centres one after the other.
    pub(super) fn new(centres: &[f32], dim: usize) -> Tiles {
        let count = centres.len() / dim;
        let mut values = Lined::filled(f32::INFINITY, count.div_ceil(TILE) * TILE * dim);
        for (at, centre) in centres.chunks_exact(dim).enumerate() {
            let tile = &mut values[at / TILE * TILE * dim..];
            for (axis, value) in centre.iter().enumerate() {
                tile[axis * TILE + at % TILE] = *value;
            }
        }
        Tiles { dim, count, values }
    }

    pub(super) fn dim(&self) -> usize {
        self.dim
    }

    pub(super) fn bytes(&self) -> usize {
        self.values.bytes()
    }

    /// The coordinates of a centre.
    pub(super) fn centre(&self, at: usize) -> impl Iterator<Item = f32> + '_ {
        let tile = self.values.get(at / TILE * TILE * self.dim..).unwrap_or(&[]);
        tile.chunks_exact(TILE).take(self.dim).map(move |sixteen| sixteen[at % TILE])
    }

    /// The nearest centre to a point, the first of several, and its squared distance.
    #[inline(always)]
    pub(super) fn nearest(&self, point: &[f32]) -> (usize, f32) {
        let several = self.values.chunks_exact(TOGETHER * TILE * self.dim);
        let one = several.remainder().chunks_exact(TILE * self.dim);
        let (mut least, mut tile) = (Least::NONE, 0);
        for values in several {
            for sums in squares::<TOGETHER>(point, values) {
                least.lower(&sums, tile);
                tile += 1;
            }
        }
        for values in one {
            least.lower(&squares::<1>(point, values)[0], tile);
            tile += 1;
        }
        let (centre, squared) = least.first();
        (centre as usize, squared)
    }

    /// The nearest centre to each of sixteen points, which stand as a tile, and its squared distance,
    /// in the lane of the point: as [`Tiles::nearest`].
    #[inline(always)]
    pub(super) fn nearest_of_tile(&self, points: &[f32]) -> Least {
        let points = &points.as_chunks::<TILE>().0[..self.dim];
        let (mut least, mut centre) = (Least::NONE, 0);
        for centres in self.values.chunks_exact(TILE * self.dim) {
            let centres = &centres.as_chunks::<TILE>().0[..self.dim];
            for lane in 0..TILE {
                let mut sums = [0f32; TILE];
                for (points, centres) in points.iter().zip(centres) {
                    for point in 0..TILE {
                        let difference = points[point] - centres[lane];
                        sums[point] += difference * difference;
                    }
                }
                least.lower(&sums, centre);
                centre += 1;
            }
        }
        least
    }

    /// The inner products of a point with all centres, whole tiles of them.
    #[inline(always)]
    pub(super) fn products(&self, point: &[f32], out: &mut [f32]) {
        let tiles = self.values.chunks_exact(TILE * self.dim);
        for (values, out) in tiles.zip(out.as_chunks_mut::<TILE>().0) {
            let mut sums = [0f32; TILE];
            for (x, centres) in point.iter().zip(values.as_chunks::<TILE>().0) {
                for lane in 0..TILE {
                    sums[lane] += x * centres[lane];
                }
            }
            *out = sums;
        }
    }

    /// Minus half of the squared distances of a point from all centres, at least `-most`.
    #[inline(always)]
    pub(super) fn nearness(&self, point: &[f32], most: f32, out: &mut [f32]) {
        let tiles = self.values.chunks_exact(TILE * self.dim);
        for (values, out) in tiles.zip(out.as_chunks_mut::<TILE>().0) {
            let [squares] = squares::<1>(point, values);
            for lane in 0..TILE {
                let near = squares[lane] * -0.5;
                out[lane] = if near > -most { near } else { -most };
            }
        }
    }
}

/// The squared distances of a point to the sixteen of each of some tiles.
#[inline(always)]
fn squares<const TILES: usize>(point: &[f32], tiles: &[f32]) -> [[f32; TILE]; TILES] {
    let (all, dim) = (tiles.as_chunks::<TILE>().0, point.len());
    let all = &all[..TILES * dim];
    let mut sums = [[0f32; TILE]; TILES];
    for (axis, x) in point.iter().enumerate() {
        for tile in 0..TILES {
            let centres = &all[tile * dim + axis];
            for lane in 0..TILE {
                let difference = x - centres[lane];
                sums[tile][lane] += difference * difference;
            }
        }
    }
    sums
}

/// Lowers the weights of points to their squared distances from a centre.
struct Lower<'a> {
    /// The points, as tiles.
    points: &'a Tiles,
    centre: &'a [f32],
    /// Of whole tiles.
    weights: &'a mut [f32],
}

impl ArchJob for Lower<'_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self, _arch: A) {
        let tiles = self.points.values.chunks_exact(TILE * self.points.dim);
        for (values, weights) in tiles.zip(self.weights.as_chunks_mut::<TILE>().0) {
            let [squares] = squares::<1>(self.centre, values);
            for lane in 0..TILE {
                weights[lane] = if squares[lane] < weights[lane] { squares[lane] } else { weights[lane] };
            }
        }
    }
}

/// Tiles of points between two pauses: the smallest take 50 ns each.
const TILES_BETWEEN: usize = 64;

/// Finds the nearest centre of many points.
struct Assign<'a> {
    centres: &'a Tiles,
    /// As tiles.
    points: &'a Tiles,
    nearest: &'a mut Vec<(usize, f32)>,
}

impl ArchJob for Assign<'_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self, _arch: A) {
        let Assign { centres, points, nearest } = self;
        nearest.clear();
        memory::reserve(nearest, points.count);
        for (at, tile) in points.values.chunks_exact(TILE * points.dim).enumerate() {
            if at.is_multiple_of(TILES_BETWEEN) {
                pause();
            }
            let Least { numbers: squares, of } = centres.nearest_of_tile(tile);
            let left = points.count - nearest.len();
            nearest.extend(of.into_iter().map(|centre| centre as usize).zip(squares).take(left));
        }
    }
}

/// How centres are looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search {
    /// How many.
    pub(super) count: usize,
    /// Rounds at most: fewer when nothing moves any more.
    pub(super) rounds: usize,
    pub(super) seed: u64,
    pub(super) level: Level,
}

/// The centres of points of `dim` numbers, one after the other: those of
/// k-means++, moved to the means of the points nearest to them again and again.
/// A centre without points takes the point that is farthest from its own. The
/// same points and seed give the same centres. No points give centres of zeros.
pub(super) fn centres(points: &[f32], dim: usize, search: Search) -> Tiles {
    let tiles = Tiles::new(points, dim);
    let mut centres = seeds(points, &tiles, search);
    let mut nearest = Vec::new();
    let mut before: Vec<usize> = Vec::new();
    for _ in 0..search.rounds {
        let assign = Assign { centres: &Tiles::new(&centres, dim), points: &tiles, nearest: &mut nearest };
        search.level.run(assign);
        let same =
            before.len() == nearest.len() && before.iter().zip(&nearest).all(|(old, new)| *old == new.0);
        if same {
            break;
        }
        before.clear();
        memory::reserve(&mut before, nearest.len());
        before.extend(nearest.iter().map(|(centre, _)| *centre));
        move_to_means(&mut centres, points, dim, &mut nearest);
    }
    Tiles::new(&centres, dim)
}

/// The first centres: each a point, drawn with the square of its distance to
/// the centres before it as its weight. `tiles` are the same points.
fn seeds(points: &[f32], tiles: &Tiles, search: Search) -> Vec<f32> {
    let Tiles { dim, count, .. } = *tiles;
    let mut centres = memory::filled(0.0, search.count * dim);
    if count == 0 {
        return centres;
    }
    let mut weights = memory::filled(f32::INFINITY, count.next_multiple_of(TILE));
    let mut chosen = (mix(search.seed) % count as u64) as usize;
    for (number, centre) in centres.chunks_exact_mut(dim).enumerate() {
        pause();
        if number > 0 {
            chosen = draw(&weights[..count], mix(search.seed ^ (number as u64) << 32));
        }
        centre.copy_from_slice(&points[chosen * dim..][..dim]);
        search.level.run(Lower { points: tiles, centre, weights: &mut weights });
    }
    centres
}

/// One of the places, by their weights; any where all are 0.
pub(crate) fn draw(weights: &[f32], random: u64) -> usize {
    let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
    if !(total > 0.0 && total.is_finite()) {
        return (random % weights.len().max(1) as u64) as usize;
    }
    let mut left = total * ((random >> 11) as f64 / (1u64 << 53) as f64);
    for (at, weight) in weights.iter().enumerate() {
        left -= f64::from(*weight);
        if left < 0.0 {
            return at;
        }
    }
    weights.iter().rposition(|weight| *weight > 0.0).unwrap_or(0)
}

/// Moves every centre to the mean of its points.
fn move_to_means(centres: &mut [f32], points: &[f32], dim: usize, nearest: &mut [(usize, f32)]) {
    let count = centres.len() / dim;
    let (mut sums, mut sizes) = (vec![0f64; centres.len()], vec![0u32; count]);
    for (point, (centre, _)) in points.chunks_exact(dim).zip(&*nearest) {
        sizes[*centre] += 1;
        for (sum, x) in sums[centre * dim..][..dim].iter_mut().zip(point) {
            *sum += f64::from(*x);
        }
    }
    for at in 0..count {
        let centre = &mut centres[at * dim..][..dim];
        if sizes[at] > 0 {
            for (value, sum) in centre.iter_mut().zip(&sums[at * dim..]) {
                *value = (*sum / f64::from(sizes[at])) as f32;
            }
            continue;
        }
        let farthest =
            (0..nearest.len()).max_by(|a, b| nearest[*a].1.total_cmp(&nearest[*b].1).then(b.cmp(a)));
        if let Some(farthest) = farthest {
            centre.copy_from_slice(&points[farthest * dim..][..dim]);
            nearest[farthest].1 = 0.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Portable, kernels};

    fn points(count: usize, dim: usize, seed: u64) -> Vec<f32> {
        let unit = |key: u64| (mix(key) >> 40) as f32 / (1 << 24) as f32 - 0.5;
        let point =
            |at: u64| (0..dim as u64).map(move |axis| unit(mix(seed ^ at) ^ axis) + (at % 5) as f32 * 3.0);
        (0..count as u64).flat_map(point).collect()
    }

    fn search(count: usize, level: Level) -> Search {
        Search { count, rounds: 10, seed: 3, level }
    }

    /// The nearest centre and its distance, centre by centre.
    fn nearest_plain(tiles: &Tiles, point: &[f32]) -> (usize, f32) {
        let distance =
            |at: usize| tiles.centre(at).zip(point).fold(0f32, |sum, (c, x)| sum + (x - c) * (x - c));
        let all = (0..tiles.count).map(|at| (at, distance(at)));
        all.fold((0, f32::INFINITY), |best, next| if next.1 < best.1 { next } else { best })
    }

    #[test]
    fn every_instruction_set_finds_the_same_centres_as_plain_rust() {
        for (dim, count) in [(1, 2), (3, 16), (7, 17), (16, 40)] {
            let points = points(500, dim, 8);
            let plain = centres(&points, dim, search(count, Level::Portable(Portable)));
            assert_eq!(centres(&points, dim, search(count, kernels().level)), plain);
            let mut nearest = Vec::new();
            let tiles = Tiles::new(&points, dim);
            kernels().level.run(Assign { centres: &plain, points: &tiles, nearest: &mut nearest });
            assert_eq!(nearest.len(), 500);
            for (point, near) in points.chunks_exact(dim).zip(nearest) {
                assert_eq!(near, nearest_plain(&plain, point));
                assert_eq!(plain.nearest(point), near);
            }
        }
    }

    #[test]
    fn of_centres_that_are_equally_near_the_first_is_taken_and_none_is_near_to_what_is_beyond_numbers() {
        // The same numbers again in other lanes and other tiles, and points between two of them.
        for count in [40, 100] {
            let centres: Vec<f32> = (0..count).flat_map(|at| [(at * 7 % 10) as f32, 0.0]).collect();
            let tiles = Tiles::new(&centres, 2);
            let xs = (0..20).map(|x| x as f32 / 2.0).chain([3e38, -3e38]);
            let points: Vec<f32> = xs.flat_map(|x| [x, 1.0]).collect();
            for level in [Level::Portable(Portable), kernels().level] {
                let mut nearest = Vec::new();
                let points = &Tiles::new(&points, 2);
                level.run(Assign { centres: &tiles, points, nearest: &mut nearest });
                for (at, near) in nearest.into_iter().enumerate() {
                    let point: Vec<f32> = points.centre(at).collect();
                    assert_eq!(near, nearest_plain(&tiles, &point), "{point:?} and {count} centres");
                    assert_eq!(near, tiles.nearest(&point), "{point:?} and {count} centres");
                }
            }
        }
    }

    #[test]
    fn the_first_centres_are_drawn_by_plain_distances() {
        let (dim, count) = (5, 333);
        let points = points(count, dim, 2);
        let search = search(20, kernels().level);
        let mut weights = vec![f32::INFINITY; count];
        let mut expected = Vec::new();
        for number in 0..search.count as u64 {
            let first = (mix(search.seed) % count as u64) as usize;
            let chosen = if number == 0 { first } else { draw(&weights, mix(search.seed ^ number << 32)) };
            let centre = &points[chosen * dim..][..dim];
            expected.extend_from_slice(centre);
            for (weight, point) in weights.iter_mut().zip(points.chunks_exact(dim)) {
                let terms = centre.iter().zip(point).map(|(c, x)| (c - x) * (c - x));
                *weight = weight.min(terms.fold(0.0, |sum, term| sum + term));
            }
        }
        assert_eq!(seeds(&points, &Tiles::new(&points, dim), search), expected);
    }

    #[test]
    fn clusters_that_lie_apart_get_a_centre_each() {
        let points = points(1_000, 4, 1);
        let tiles = centres(&points, 4, search(5, kernels().level));
        for point in points.chunks_exact(4) {
            assert!(tiles.nearest(point).1 < 1.0, "a point of one cluster is near its centre");
        }
    }

    #[test]
    fn more_centres_than_points_and_no_points_at_all_are_fine() {
        let few = points(3, 4, 1);
        let tiles = centres(&few, 4, search(16, kernels().level));
        assert!(few.chunks_exact(4).all(|point| tiles.nearest(point).1 == 0.0));
        assert_eq!(centres(&[], 4, search(16, kernels().level)), Tiles::new(&[0.0; 64], 4));
    }

    #[test]
    fn draws_follow_the_weights() {
        let weights = [0.0, 1.0, 0.0, 3.0];
        let mut counts = [0; 4];
        (0..4_000u64).for_each(|seed| counts[draw(&weights, mix(seed))] += 1);
        assert!(counts[0] == 0 && counts[2] == 0 && (2_800..3_200).contains(&counts[3]), "{counts:?}");
        assert!(draw(&[0.0; 3], 5) < 3 && draw(&[], 5) == 0);
    }
}
