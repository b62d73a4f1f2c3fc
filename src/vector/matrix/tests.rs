use super::*;
use crate::id::mix;
use crate::kernel::{from_half, to_half};

fn lossless(dim: usize) -> Matrix {
    Matrix::new(dim, VectorStorage::Lossless, Metric::L2)
}

fn put(matrix: &mut Matrix, row: Row, vector: &[f32], scale: f32) -> bool {
    matrix.reserve(row).unwrap();
    // SAFETY: single thread, no view is read meanwhile.
    unsafe { matrix.write(row, vector, scale) }.unwrap()
}

fn filled(dim: usize, rows: u32) -> Matrix {
    let mut matrix = lossless(dim);
    for row in 0..rows {
        put(&mut matrix, row, &vec![row as f32; dim], 0.5);
    }
    matrix
}

fn bits(vector: &[f32]) -> Vec<u32> {
    vector.iter().map(|number| number.to_bits()).collect()
}

/// Vectors of every kind, drawn by a number.
fn vector(dim: usize, kind: u64, seed: u64) -> Vec<f32> {
    let unit = |at: usize| (mix(seed << 20 ^ at as u64) >> 40) as f32 / (1u64 << 24) as f32;
    let number = |at: usize| match kind {
        0 => (unit(at) * 256.0).floor(),
        1 => (unit(at) * 256.0).floor() - 128.0,
        2 => (unit(at) * 256.0).floor() + 70_000.5,
        3 => from_half(to_half(unit(at) - 0.5)),
        4 => {
            if unit(at) < 0.5 {
                -0.0
            } else {
                0.0
            }
        }
        5 => from_half((unit(at) * 1_000.0) as u16),
        6 => unit(at) - 0.5,
        7 => unit(at) * 1e17,
        8 => f32::from_bits((unit(at) * 8e6) as u32),
        _ => {
            if at == dim / 2 {
                0.1
            } else {
                3.0
            }
        }
    };
    (0..dim).map(number).collect()
}

/// The narrowest format of a kind of vectors.
fn format_of(kind: u64) -> Format {
    match kind {
        0..=2 => Format::Bytes,
        3..=5 => Format::Half,
        _ => Format::Full,
    }
}

#[test]
fn rows_keep_their_vectors_over_many_chunks() {
    let matrix = filled(300, 10_000);
    for row in [0, 63, 64, 2_047, 2_048, 9_999] {
        assert_eq!(matrix.view().vector(row), vec![row as f32; 300]);
        assert_eq!(matrix.view().scale(row), 0.5);
    }
}

#[test]
fn a_view_keeps_its_rows_while_the_matrix_grows_and_detaches() {
    let mut matrix = filled(8, 10);
    let before = matrix.view().clone();
    matrix.reserve(100_000).unwrap();
    matrix.detach(3).unwrap();
    put(&mut matrix, 3, &[9.0; 8], 1.0);
    assert_eq!((before.vector(3), matrix.view().vector(3)), (vec![3.0; 8], vec![9.0; 8]));
    assert_eq!(matrix.view().vector(9), [9.0; 8]);
}

#[test]
fn every_kind_of_vector_comes_back_bit_for_bit_in_its_narrowest_format() {
    for dim in [33, 50, 100, 384] {
        for kind in 0..10 {
            let mut matrix = lossless(dim);
            for row in 0..200 {
                put(&mut matrix, row, &vector(dim, kind, u64::from(row)), 0.25);
            }
            for row in 0..200 {
                assert_eq!(bits(&matrix.view().vector(row)), bits(&vector(dim, kind, u64::from(row))));
                assert_eq!((matrix.view().scale(row), matrix.view().format(row)), (0.25, format_of(kind)));
            }
        }
    }
}

#[test]
fn a_chunk_is_copied_at_most_twice_and_later_ones_start_as_wide() {
    let dim = 600;
    let rows = lossless(dim).view.shape.rows;
    let mut matrix = lossless(dim);
    let copies = |matrix: &mut Matrix, row, kind| u32::from(put(matrix, row, &vector(dim, kind, 1), 1.0));
    let kind = |row: Row| [0, 1, 3, 4, 0, 5, 6, 7][row as usize % 8];
    let first: u32 = (0..rows).map(|row| copies(&mut matrix, row, kind(row))).sum();
    assert_eq!((first, matrix.view().format(0)), (2, Format::Full));
    assert_eq!(copies(&mut matrix, rows, 0), 0);
    assert_eq!(matrix.view().format(rows), Format::Full);
    let mut floats = lossless(dim);
    let copied: u32 = (0..2 * rows).map(|row| copies(&mut floats, row, 6)).sum();
    assert_eq!(copied, 1, "the first, which held nothing");
}

#[test]
fn a_row_that_halves_do_not_hold_takes_its_chunk_to_floats() {
    let mut matrix = lossless(64);
    put(&mut matrix, 0, &vector(64, 2, 1), 1.0);
    put(&mut matrix, 1, &vector(64, 3, 1), 1.0);
    assert_eq!(matrix.view().format(0), Format::Full);
    assert_eq!((matrix.view().vector(0), matrix.view().vector(1)), (vector(64, 2, 1), vector(64, 3, 1)));
    put(&mut matrix, 1, &vector(64, 0, 1), 1.0);
    assert_eq!(matrix.view().vector(1), vector(64, 0, 1));
}

/// Writes that reuse places, widen chunks and are seen by views that are held,
/// beside a plain table; two runs hold different views.
#[test]
fn views_keep_what_they_saw_while_chunks_widen_and_places_are_used_again() {
    let dim = 40;
    let run = |seed: u64, hold: u64| {
        let mut matrix = lossless(dim);
        let mut model: Vec<Vec<f32>> = Vec::new();
        let mut held: Vec<(MatrixView, Vec<Vec<f32>>)> = Vec::new();
        for step in 0..600 {
            let draw = mix(seed ^ step << 8);
            // Wider kinds come later, and seldom.
            let kind = if draw.is_multiple_of(97) {
                draw / 97 % (step / 60 + 1)
            } else {
                draw % 3 % (step / 100 + 1)
            };
            let vector = vector(dim, kind, draw);
            let row =
                if draw & 1 == 0 || model.is_empty() { model.len() } else { draw as usize / 2 % model.len() };
            if row < model.len() {
                matrix.detach(row as Row).unwrap();
                model[row] = vector.clone();
            } else {
                model.push(vector.clone());
            }
            put(&mut matrix, row as Row, &vector, 1.0);
            if mix(draw ^ hold).is_multiple_of(20) {
                held.push((matrix.view().clone(), model.clone()));
            }
        }
        held.push((matrix.view().clone(), model));
        for (view, model) in &held {
            for (row, vector) in model.iter().enumerate() {
                assert_eq!(bits(&view.vector(row as Row)), bits(vector));
            }
        }
        let (view, model) = held.pop().unwrap();
        (0..model.len() as Row).map(|row| view.format(row)).collect::<Vec<_>>()
    };
    for seed in 0..12 {
        assert_eq!(run(seed, 1), run(seed, 2), "formats are a matter of the writes alone");
    }
}

/// Chunks after the first grow where they stand; what only views keep is counted once.
#[test]
#[cfg(target_os = "linux")]
fn later_chunks_grow_where_they_stand_and_what_views_keep_of_them_is_counted() {
    let dim = 1_024;
    let full = Shape::new(dim).chunk_rows();
    let mut matrix = Matrix::new(dim, VectorStorage::Full, Metric::L2);
    let place = |matrix: &Matrix, row: usize| matrix.view().floats(row as Row).unwrap().as_ptr();
    let fill = |matrix: &mut Matrix, rows: std::ops::Range<usize>| {
        for row in rows {
            put(matrix, row as Row, &vec![row as f32; dim], 1.0);
        }
    };
    fill(&mut matrix, 0..full + 10);
    let (before, first) = (matrix.view().clone(), place(&matrix, full));
    assert!(before.capacity() < 2 * full && before.bytes(Format::Full) == CHUNK_BYTES + HUGE);
    fill(&mut matrix, full + 10..2 * full);
    assert_eq!((matrix.view().capacity(), place(&matrix, full)), (2 * full, first));
    assert_eq!((matrix.view().bytes(Format::Full), matrix.kept_bytes(Format::Full)), (2 * CHUNK_BYTES, 0));
    matrix.detach(full as Row).unwrap();
    put(&mut matrix, full as Row, &vec![0.5; dim], 1.0);
    assert_ne!(place(&matrix, full), first);
    assert_eq!(matrix.kept_bytes(Format::Full), CHUNK_BYTES, "the view of fewer rows keeps all of it");
    assert_eq!((before.vector(full as Row), before.vector(3)), (vec![full as f32; dim], vec![3.0; dim]));
    drop(before);
    assert_eq!(matrix.kept_bytes(Format::Full), 0);
    assert_eq!(matrix.view().vector(full as Row), vec![0.5; dim]);
}

/// Growing, in every format, while a view of the moment before is held: a copy lies beside.
#[test]
fn no_matrix_takes_more_than_was_said_beforehand() {
    for (dim, kind) in [(50, 0), (50, 6), (384, 3), (384, 6), (1_000, 4), (1_024, 6), (4_096, 0)] {
        let mut matrix = lossless(dim);
        put(&mut matrix, 0, &vector(dim, kind, 1), 1.0);
        let rows = 40_000_000 / dim / 2;
        for row in (0..rows as Row).step_by(37) {
            let before = matrix.view().clone();
            matrix.reserve(row).unwrap();
            let (said, copy) = matrix_bytes(dim, row as usize + 1, matrix.stride());
            let sum = |bytes: &dyn Fn(Format) -> usize| Format::ALL.map(bytes).iter().sum::<usize>();
            let now = sum(&|format| matrix.view().bytes(format));
            let kept = sum(&|format| matrix.kept_bytes(format));
            assert!(now <= said && kept <= copy, "{dim}, {row}: {now} and {kept}, {said} and {copy} said");
            drop(before);
        }
    }
}

/// What a row holds in the test below: the numbers that stand in its vector in turn, and its scale.
type Numbers = Vec<[f32; 3]>;

fn assert_holds(view: &MatrixView, numbers: &Numbers) {
    for (row, [one, other, scale]) in (0..).zip(numbers) {
        let vector = view.vector(row);
        let ends =
            [vector[0], vector[1], vector[vector.len() - 2], vector[vector.len() - 1], view.scale(row)];
        assert_eq!(ends, [*one, *other, *one, *other, *scale], "row {row}");
    }
}

/// Rows long enough for several chunks, which begin narrow and become wider; the matrix is made shorter; and views are
/// held all the while, several of one memory among them.
#[test]
fn views_keep_what_they_saw_while_chunks_grow_where_they_stand_and_shrink() {
    let dim = 8_192;
    for seed in 0..6u64 {
        let mut matrix = lossless(dim);
        let write = |matrix: &mut Matrix, row: usize, [one, other, scale]: [f32; 3]| {
            let vector: Vec<f32> = [one, other].into_iter().cycle().take(dim).collect();
            put(matrix, row as Row, &vector, scale);
        };
        let (mut numbers, mut most, mut formats) = (Numbers::new(), 0, Vec::new());
        let mut held: Vec<(MatrixView, Numbers)> = Vec::new();
        // Rows that views from before may share memory with.
        let mut shared = 0;
        for step in 0..150u64 {
            let draw = mix(seed << 32 ^ step);
            let whole = (draw % 200) as f32;
            let fresh = match step {
                0..20 => [whole, whole + 7.0, 1.0],
                20..70 => [whole + 0.5, whole + 300.25, 1.0],
                _ => [whole + 0.1, whole + 0.3, 1.0],
            };
            match draw >> 8 & 7 {
                0 => {
                    let rows = numbers.len() - numbers.len() * (draw >> 16 & 3) as usize / 12;
                    let roomy = matrix.truncate(rows as Row) as usize;
                    assert!(roomy >= rows);
                    let said = matrix_bytes(dim, roomy, matrix.stride()).0;
                    let bytes: usize = Format::ALL.map(|format| matrix.view().bytes(format)).iter().sum();
                    assert!(bytes <= said, "{bytes}, and {said} said");
                    numbers.truncate(rows);
                    shared = shared.min(roomy);
                }
                1 | 2 if !numbers.is_empty() => {
                    let row = (draw >> 16) as usize % numbers.len();
                    matrix.detach(row as Row).unwrap();
                    numbers[row] = fresh;
                    write(&mut matrix, row, fresh);
                }
                _ => {
                    let rows = numbers.len();
                    for row in rows..rows + (draw >> 16 & 31) as usize {
                        if row < shared {
                            matrix.detach(row as Row).unwrap();
                        }
                        write(&mut matrix, row, fresh);
                        numbers.push(fresh);
                    }
                }
            }
            most = most.max(matrix.view().capacity());
            formats.push(matrix.view().format(0));
            if draw >> 24 & 7 == 0 {
                shared = shared.max(numbers.len());
                held.push((matrix.view().clone(), numbers.clone()));
            }
            if held.len() > 4 {
                let (view, numbers) = held.remove(0);
                assert_holds(&view, &numbers);
            }
        }
        formats.dedup();
        assert!(
            most > 2 * Shape::new(dim).chunk_rows() && formats.contains(&Format::Half),
            "{most}, {formats:?}"
        );
        held.push((matrix.view().clone(), numbers));
        held.iter().for_each(|(view, numbers)| assert_holds(view, numbers));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_chunk_is_copied_to_be_shorter_only_if_that_gives_memory_back() {
    let dim = 1_024;
    let full = Shape::new(dim).chunk_rows() as Row;
    let mut matrix = Matrix::new(dim, VectorStorage::Full, Metric::L2);
    for row in 0..2 * full {
        put(&mut matrix, row, &vec![row as f32; dim], 1.0);
    }
    let place = |matrix: &Matrix| matrix.view().floats(full).unwrap().as_ptr();
    let (before, _held) = (place(&matrix), matrix.view().clone());
    // Of four huge pages all are needed.
    matrix.truncate(2 * full - 300);
    assert_eq!((place(&matrix), matrix.kept_bytes(Format::Full)), (before, 0));
    matrix.truncate(full + 700);
    assert_ne!(place(&matrix), before);
    assert_eq!(matrix.view().bytes(Format::Full), CHUNK_BYTES + CHUNK_BYTES / 2);
    assert_eq!(matrix.view().vector(full + 699), vec![(full + 699) as f32; dim]);
}

#[test]
fn small_matrices_take_little_memory() {
    let bytes = |matrix: &Matrix| Format::ALL.map(|format| matrix.view().bytes(format));
    assert_eq!(bytes(&filled(784, 10)), [64 * 832, 0, 0]);
    let mut matrix = filled(784, 10);
    put(&mut matrix, 3, &vector(784, 3, 1), 1.0);
    assert_eq!(bytes(&matrix), [0, 64 * 1_600, 0]);
    put(&mut matrix, 3, &vector(784, 6, 1), 1.0);
    assert_eq!(bytes(&matrix), [0, 0, 64 * 3_200]);
}

#[test]
fn full_chunks_take_whole_huge_pages_in_every_format() {
    for dim in [32, 50, 100, 128, 300, 384, 768, 784, 960, 1_536, 4_096] {
        let rows = Shape::new(dim).chunk_rows();
        for format in Format::ALL {
            let chunk = Chunk::new(Shape::new(dim), 0, format, rows).unwrap();
            let bytes = chunk.buffer.bytes();
            assert!(bytes >= HUGE, "{dim}: {bytes}");
            assert!((bytes - rows * chunk.stride) * 20 < bytes, "{dim}: {bytes} for {}", rows * chunk.stride);
        }
    }
}

#[test]
fn storages_use_the_formats_that_they_promise() {
    let format = |storage, kind| {
        let mut matrix = Matrix::new(48, storage, Metric::L2);
        put(&mut matrix, 0, &vector(48, kind, 1), 1.0);
        matrix.view().format(0)
    };
    for kind in 0..10 {
        assert_eq!(format(VectorStorage::Full, kind), Format::Full);
        assert_eq!(format(VectorStorage::Byte, kind), Format::Bytes);
        assert_eq!(format(VectorStorage::Lossless, kind), format_of(kind));
    }
    let mut short = Matrix::new(2, VectorStorage::Byte, Metric::L2);
    put(&mut short, 0, &[0.123, 1e7], 1.0);
    assert_eq!((short.view().format(0), short.view().vector(0)), (Format::Full, vec![0.123, 1e7]));
}

#[test]
fn rounded_vectors_have_the_scale_of_what_they_became() {
    for (metric, own) in [(Metric::Cosine, true), (Metric::L2, false)] {
        let mut matrix = Matrix::new(48, VectorStorage::Byte, metric);
        let given = vector(48, 6, 1);
        put(&mut matrix, 0, &given, 1.0);
        put(&mut matrix, 1, &vector(48, 0, 1), 0.5);
        let stored = matrix.view().vector(0);
        let (least, most) = given.iter().fold((1f32, -1f32), |(a, b), x| (a.min(*x), b.max(*x)));
        assert!(stored != given);
        assert!(given.iter().zip(&stored).all(|(x, y)| (x - y).abs() <= (most - least) / 509.0));
        let length = stored.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let scale = f64::from(matrix.view().scale(0));
        assert!(if own { (scale * length - 1.0).abs() < 1e-6 } else { scale == 1.0 });
        assert_eq!((matrix.view().scale(1), matrix.view().vector(1)), (0.5, vector(48, 0, 1)));
    }
}

#[test]
fn every_row_has_its_own_place_in_a_chunk() {
    for dim in [1, 2, 7, 64, 100, 784, 1_536, 65_536] {
        let shape = Shape::new(dim);
        let rows = shape.rows;
        let edges = (0..5).map(|chunk| chunk * rows).chain([u32::MAX / rows * rows, 1 << 31]);
        for row in edges.flat_map(|edge| [edge.saturating_sub(1), edge, edge.saturating_add(1)]) {
            assert_eq!(shape.place(row), ((row / rows) as usize, (row % rows) as usize));
        }
    }
}
