//! The instruction sets of x86-64 as types.

use std::arch::x86_64::{
    _CMP_LE_OQ, _mm256_castsi256_pd, _mm256_cmp_ps, _mm256_cmpeq_epi16, _mm256_cmpgt_epi64, _mm256_loadu_ps,
    _mm256_loadu_si256, _mm256_max_epu16, _mm256_movemask_epi8, _mm256_movemask_pd, _mm256_movemask_ps,
    _mm256_packs_epi16, _mm256_permute4x64_epi64, _mm256_set1_epi16, _mm256_set1_epi64x, _mm256_set1_ps,
    _mm512_cmp_ps_mask, _mm512_cmpge_epu16_mask, _mm512_cmpgt_epi64_mask, _mm512_cmple_epi64_mask,
    _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_expand_epi64, _mm512_maskz_compress_epi64,
    _mm512_maskz_expand_epi64, _mm512_set1_epi16, _mm512_set1_epi64, _mm512_set1_ps, _mm512_storeu_si512,
};

use super::{avx2, avx2_codes, avx2_scan, avx512, avx512_codes, avx512_scan};
use crate::kernel::arch::{Arch, ArchJob, TILE, TileSums};
use crate::kernel::scan::SCAN_ROWS;

/// AVX2, FMA and the bit instructions that came with them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// The type's value, where the machine has it.
    pub(super) fn new() -> Option<Avx2> {
        let has = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt");
        has.then_some(Avx2(()))
    }
}

impl Arch for Avx2 {
    #[inline(always)]
    fn run<J: ArchJob>(self, job: J) -> J::Output {
        #[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
        fn enabled<J: ArchJob>(job: J, arch: Avx2) -> J::Output {
            job.run(arch)
        }
        // SAFETY: a value exists only where `new` found the instructions.
        unsafe { enabled(job, self) }
    }

    #[inline(always)]
    fn tile_dots<const R: usize, const T: usize>(
        self,
        rows: [&[f32]; R],
        tiles: [&[[f32; TILE]]; T],
    ) -> TileSums<R, T> {
        avx2::tile_dots(rows, tiles)
    }

    #[inline(always)]
    fn byte_dots(self, query: &[i8], rows: &[&[u8]], out: &mut [i32]) {
        avx2_codes::byte_dots(query, rows, out);
    }

    #[inline(always)]
    fn nibble_dots(self, query: &[i8], rows: &[&[u8]], out: &mut [i32]) {
        avx2_codes::nibble_dots(query, rows, out);
    }

    #[inline(always)]
    fn interleaved_byte_dots(self, query: &[i8], words: &[[u32; SCAN_ROWS]]) -> [i32; SCAN_ROWS] {
        avx2_codes::interleaved_byte_dots(query, words)
    }

    #[inline(always)]
    fn interleaved_nibble_dots(
        self,
        low: &[i8],
        high: &[i8],
        words: &[[u32; SCAN_ROWS]],
    ) -> [i32; SCAN_ROWS] {
        avx2_codes::interleaved_nibble_dots(low, high, words)
    }

    #[inline(always)]
    fn at_least(self, sums: &[u16; SCAN_ROWS], floor: u16) -> u32 {
        #[inline]
        #[target_feature(enable = "avx2")]
        fn enabled(sums: &[u16; SCAN_ROWS], floor: u16) -> u32 {
            let floor = _mm256_set1_epi16(floor.cast_signed());
            let half = |from: *const u16| {
                // SAFETY: 16 numbers stand there: it is called with the first and the 17th of 32.
                let sums = unsafe { _mm256_loadu_si256(from.cast()) };
                _mm256_cmpeq_epi16(_mm256_max_epu16(sums, floor), sums)
            };
            let both = _mm256_packs_epi16(half(sums.as_ptr()), half(sums[16..].as_ptr()));
            _mm256_movemask_epi8(_mm256_permute4x64_epi64::<0xD8>(both)).cast_unsigned()
        }
        // SAFETY: a value exists only where `new` found the instructions.
        unsafe { enabled(sums, floor) }
    }

    #[inline(always)]
    fn scan(self, tables: &[u8], codes: &[u8], sums: &mut [u16; SCAN_ROWS]) {
        avx2_scan::scan(tables, codes, sums);
    }

    #[inline(always)]
    fn within(self, numbers: &[f32; SCAN_ROWS], bound: f32) -> u32 {
        #[inline]
        #[target_feature(enable = "avx2")]
        fn enabled(numbers: &[f32; SCAN_ROWS], bound: f32) -> u32 {
            let bound = _mm256_set1_ps(bound);
            let (eights, _) = numbers.as_chunks::<8>();
            eights.iter().enumerate().fold(0, |bits, (at, eight)| {
                // SAFETY: eight numbers stand there; the load takes any address.
                let eight = unsafe { _mm256_loadu_ps(eight.as_ptr()) };
                let within = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LE_OQ>(eight, bound));
                bits | (within as u32) << (8 * at)
            })
        }
        // SAFETY: a value exists only where `new` found the instructions.
        unsafe { enabled(numbers, bound) }
    }

    #[inline(always)]
    fn above(self, numbers: &[i64; 8], bound: i64) -> u8 {
        #[inline]
        #[target_feature(enable = "avx2")]
        fn enabled(numbers: &[i64; 8], bound: i64) -> u8 {
            let bound = _mm256_set1_epi64x(bound);
            let half = |from: *const i64| {
                // SAFETY: four numbers stand there: it is called with the first and the fifth of eight.
                let four = unsafe { _mm256_loadu_si256(from.cast()) };
                _mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpgt_epi64(four, bound))) as u8
            };
            half(numbers.as_ptr()) | half(numbers[4..].as_ptr()) << 4
        }
        // SAFETY: a value exists only where `new` found the instructions.
        unsafe { enabled(numbers, bound) }
    }
}

/// AVX-512 with bytes, short vectors and VNNI.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// The type's value, where the machine has it.
    pub(super) fn new() -> Option<Avx512> {
        let has = Avx2::new().is_some()
            && avx512_codes::is_available()
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        has.then_some(Avx512(()))
    }
}

impl Arch for Avx512 {
    const HOLDS_MANY_SUMS: bool = true;
    const SPREADS: bool = true;

    #[inline(always)]
    fn run<J: ArchJob>(self, job: J) -> J::Output {
        #[target_feature(
            enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"
        )]
        fn enabled<J: ArchJob>(job: J, arch: Avx512) -> J::Output {
            job.run(arch)
        }
        // SAFETY: a value exists only where `new` found the instructions.
        unsafe { enabled(job, self) }
    }

    #[inline(always)]
    fn tile_dots<const R: usize, const T: usize>(
        self,
        rows: [&[f32]; R],
        tiles: [&[[f32; TILE]]; T],
    ) -> TileSums<R, T> {
        avx512::tile_dots(rows, tiles)
    }

    #[inline(always)]
    fn byte_dots(self, query: &[i8], rows: &[&[u8]], out: &mut [i32]) {
        avx512_codes::byte_dots(query, rows, out);
    }

    #[inline(always)]
    fn nibble_dots(self, query: &[i8], rows: &[&[u8]], out: &mut [i32]) {
        avx512_codes::nibble_dots(query, rows, out);
    }

    #[inline(always)]
    fn interleaved_byte_dots(self, query: &[i8], words: &[[u32; SCAN_ROWS]]) -> [i32; SCAN_ROWS] {
        avx512_codes::interleaved_byte_dots(query, words)
    }

    #[inline(always)]
    fn interleaved_nibble_dots(
        self,
        low: &[i8],
        high: &[i8],
        words: &[[u32; SCAN_ROWS]],
    ) -> [i32; SCAN_ROWS] {
        avx512_codes::interleaved_nibble_dots(low, high, words)
    }

    #[inline(always)]
    fn at_least(self, sums: &[u16; SCAN_ROWS], floor: u16) -> u32 {
        #[inline]
        #[target_feature(enable = "avx512f,avx512bw")]
        fn enabled(sums: &[u16; SCAN_ROWS], floor: u16) -> u32 {
            // SAFETY: 32 numbers of two bytes are a vector of 64 bytes.
            let sums = unsafe { _mm512_loadu_si512(sums.as_ptr().cast()) };
            _mm512_cmpge_epu16_mask(sums, _mm512_set1_epi16(floor.cast_signed()))
        }
        // SAFETY: a value exists only where `new` found the instructions.
        unsafe { enabled(sums, floor) }
    }

    #[inline(always)]
    fn scan(self, tables: &[u8], codes: &[u8], sums: &mut [u16; SCAN_ROWS]) {
        avx512_scan::scan(tables, codes, sums);
    }

    #[inline(always)]
    fn within(self, numbers: &[f32; SCAN_ROWS], bound: f32) -> u32 {
        #[inline]
        #[target_feature(enable = "avx512f")]
        fn enabled(numbers: &[f32; SCAN_ROWS], bound: f32) -> u32 {
            let bound = _mm512_set1_ps(bound);
            let half = |from: *const f32| {
                // SAFETY: 16 numbers stand there: it is called with the first and the 17th of 32.
                let numbers = unsafe { _mm512_loadu_ps(from) };
                u32::from(_mm512_cmp_ps_mask::<_CMP_LE_OQ>(numbers, bound))
            };
            half(numbers.as_ptr()) | half(numbers[16..].as_ptr()) << 16
        }
        // SAFETY: a value exists only where `new` found the instructions.
        unsafe { enabled(numbers, bound) }
    }

    #[inline(always)]
    fn above(self, numbers: &[i64; 8], bound: i64) -> u8 {
        #[inline]
        #[target_feature(enable = "avx512f")]
        fn enabled(numbers: &[i64; 8], bound: i64) -> u8 {
            // SAFETY: eight numbers stand there; the load takes any address.
            let eight = unsafe { _mm512_loadu_si512(numbers.as_ptr().cast()) };
            _mm512_cmpgt_epi64_mask(eight, _mm512_set1_epi64(bound))
        }
        // SAFETY: a value exists only where `new` found the instructions.
        unsafe { enabled(numbers, bound) }
    }

    #[inline(always)]
    fn keep(self, numbers: &[i64; 8], bound: i64, kept: &mut [i64; 8]) -> usize {
        #[inline]
        #[target_feature(enable = "avx512f,popcnt")]
        fn enabled(numbers: &[i64; 8], bound: i64, kept: &mut [i64; 8]) -> usize {
            // SAFETY: eight numbers stand there; the load takes any address.
            let eight = unsafe { _mm512_loadu_si512(numbers.as_ptr().cast()) };
            let chosen = _mm512_cmple_epi64_mask(eight, _mm512_set1_epi64(bound));
            let front = _mm512_maskz_compress_epi64(chosen, eight);
            // SAFETY: there is room for eight numbers; the store takes any address.
            unsafe { _mm512_storeu_si512(kept.as_mut_ptr().cast(), front) };
            chosen.count_ones() as usize
        }
        // SAFETY: a value exists only where `new` found the instructions.
        unsafe { enabled(numbers, bound, kept) }
    }

    #[inline(always)]
    fn spread(self, bits: u8, ones: &[i64; 8], zeros: &[i64; 8]) -> [i64; 8] {
        #[inline]
        #[target_feature(enable = "avx512f")]
        fn enabled(bits: u8, ones: &[i64; 8], zeros: &[i64; 8]) -> [i64; 8] {
            // SAFETY: eight numbers stand there; the load takes any address.
            let ones = unsafe { _mm512_loadu_si512(ones.as_ptr().cast()) };
            // SAFETY: as before.
            let zeros = unsafe { _mm512_loadu_si512(zeros.as_ptr().cast()) };
            let both = _mm512_mask_expand_epi64(_mm512_maskz_expand_epi64(!bits, zeros), bits, ones);
            let mut spread = [0; 8];
            // SAFETY: there is room for eight numbers; the store takes any address.
            unsafe { _mm512_storeu_si512(spread.as_mut_ptr().cast(), both) };
            spread
        }
        // SAFETY: a value exists only where `new` found the instructions.
        unsafe { enabled(bits, ones, zeros) }
    }
}
