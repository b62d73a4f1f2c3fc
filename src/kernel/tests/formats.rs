//! Rows of every format give, bit for bit, what the kernels over floats give
//! for the numbers that the rows stand for.

use super::super::formats::{BYTES_HEADER, Element, from_half, to_half};
use super::super::{Kernels, RowKernels};
use super::{Random, dims, refused};

/// Rows of one format and the same as floats. Rows lie between other elements,
/// at different distances from a cache line's start.
struct Rows<T> {
    memory: Vec<Vec<T>>,
    numbers: Vec<Vec<f32>>,
    len: usize,
}

/// Elements around a row that are none of its own.
const AROUND: usize = 20;

impl<T: Element> Rows<T> {
    fn new(count: usize, dim: usize, other: T, mut row: impl FnMut(usize) -> Vec<T>) -> Rows<T> {
        let rows: Vec<Vec<T>> = (0..count).map(&mut row).collect();
        let numbers: Vec<Vec<f32>> = rows.iter().map(|row| T::numbers(row).collect()).collect();
        assert!(numbers.iter().all(|numbers| numbers.len() == dim));
        let around = |(number, row): (usize, &Vec<T>)| {
            let before = std::iter::repeat_n(other, number % AROUND);
            before.chain(row.iter().copied()).chain(std::iter::repeat_n(other, AROUND)).collect()
        };
        Rows { memory: rows.iter().enumerate().map(around).collect(), numbers, len: dim + T::HEADER }
    }

    fn rows(&self) -> Vec<&[T]> {
        self.memory.iter().enumerate().map(|(number, row)| &row[number % AROUND..][..self.len]).collect()
    }

    fn check(&self, kernels: &Kernels, query: &[f32]) {
        let (own, full) = (T::kernels(kernels), &kernels.full);
        let (rows, numbers) = (self.rows(), super::slices(&self.numbers));
        let exact: Vec<f32> = numbers.iter().map(|row| (full.l2)(query, row)).collect();
        let products: Vec<f32> = numbers.iter().map(|row| (full.dot)(query, row)).collect();
        for (at, row) in rows.iter().enumerate() {
            assert_eq!((own.l2)(query, row).to_bits(), exact[at].to_bits(), "{} dims", query.len());
            assert_eq!((own.dot)(query, row).to_bits(), products[at].to_bits(), "{} dims", query.len());
            let mut widened = vec![f32::NAN; query.len()];
            (own.widen)(row, &mut widened);
            assert_eq!(bits(&widened), bits(&self.numbers[at]), "{} dims", query.len());
        }
        for bound in exact.iter().copied().take(5).chain([0.0, f32::INFINITY]) {
            let (mut got, mut expected) = (vec![f32::NAN; rows.len()], vec![f32::NAN; rows.len()]);
            (own.l2_many)(query, &rows, bound, &mut got);
            (full.l2_many)(query, &numbers, bound, &mut expected);
            assert_eq!(bits(&got), bits(&expected), "{} dims within {bound}", query.len());
        }
        let mut got = vec![f32::NAN; rows.len()];
        (own.dot_many)(query, &rows, &mut got);
        assert_eq!(bits(&got), bits(&products));
    }
}

fn bits(distances: &[f32]) -> Vec<u32> {
    distances.iter().map(|distance| distance.to_bits()).collect()
}

/// A row of bytes.
pub(super) fn row_of_bytes(offset: f32, step: f32, codes: impl Iterator<Item = u8>) -> Vec<u8> {
    let mut row = [offset.to_ne_bytes(), step.to_ne_bytes(), [0xee; 4], [0xdd; 4]].concat();
    assert_eq!(row.len(), BYTES_HEADER);
    row.extend(codes);
    row
}

pub(super) fn rows_of_halves_give_what_their_numbers_give(kernels: Kernels) {
    let mut random = Random(20);
    for dim in dims() {
        for scale in [1.0, 1e-7, 60_000.0] {
            let query = random.vector(dim, scale);
            let row = |_| random.vector(dim, scale).into_iter().map(to_half).collect();
            Rows::<u16>::new(21, dim, 0x7e00, row).check(&kernels, &query);
        }
    }
}

pub(super) fn every_half_is_loaded_as_its_number(kernels: Kernels) {
    let halves: Vec<u16> = (0..=u16::MAX).filter(|half| half & 0x7fff < 0x7c00).collect();
    for piece in halves.chunks(33) {
        for (place, half) in piece.iter().enumerate() {
            let mut query = vec![0.0; piece.len()];
            query[place] = 1.0;
            let dot = (kernels.half.dot)(&query, piece);
            assert_eq!(dot, from_half(*half), "{half:#x}");
        }
    }
}

pub(super) fn rows_of_bytes_give_what_their_numbers_give(kernels: Kernels) {
    let mut random = Random(21);
    for dim in dims() {
        for (offset, step) in
            [(0.0, 1.0), (-128.0, 1.0), (0.5, 1.0), (-0.37, 0.0031), (1e10, 3e7), (7.0, 0.0)]
        {
            let query: Vec<f32> = (0..dim).map(|_| offset + step * 255.0 * random.next().abs()).collect();
            let row = |_| row_of_bytes(offset, step, (0..dim).map(|_| (random.next().abs() * 255.99) as u8));
            Rows::<u8>::new(21, dim, 0xff, row).check(&kernels, &query);
        }
    }
}

pub(super) fn rows_of_another_dimension_are_refused(kernels: Kernels) {
    fn check<T: Element>(kernels: &Kernels) {
        let RowKernels { l2, dot, l2_many, dot_many, widen } = *T::kernels(kernels);
        let (query, memory) = ([1.0; 40], [T::default(); 80]);
        let fitting = &memory[..40 + T::HEADER];
        assert_eq!(dot(&query, fitting), 0.0);
        for len in [0, 39 + T::HEADER, 41 + T::HEADER] {
            let row = &memory[..len];
            refused(&|| _ = l2(&query, row));
            refused(&|| _ = dot(&query, row));
            refused(&|| widen(row, &mut [0.0; 40]));
            refused(&|| l2_many(&query, &[fitting, row], 1e9, &mut [0.0; 2]));
            refused(&|| dot_many(&query, &[fitting, row], &mut [0.0; 2]));
        }
        refused(&|| l2_many(&query, &[fitting], 1e9, &mut [0.0; 2]));
        refused(&|| dot_many(&query, &[fitting, fitting], &mut [0.0; 1]));
    }
    check::<f32>(&kernels);
    check::<u16>(&kernels);
    check::<u8>(&kernels);
}
