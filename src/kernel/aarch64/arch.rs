//! NEON as a type.

use super::{neon, neon_codes, neon_scan};
use crate::kernel::arch::{Arch, ArchJob, TILE, TileSums};
use crate::kernel::scan::SCAN_ROWS;

/// NEON, which every AArch64 of the program's targets has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neon(());

impl Neon {
    /// The type's value, where the machine has it.
    pub(in crate::kernel) fn new() -> Option<Neon> {
        std::arch::is_aarch64_feature_detected!("neon").then_some(Neon(()))
    }
}

impl Arch for Neon {
    #[inline(always)]
    fn run<J: ArchJob>(self, job: J) -> J::Output {
        #[target_feature(enable = "neon")]
        fn enabled<J: ArchJob>(job: J, arch: Neon) -> J::Output {
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
        neon::tile_dots(rows, tiles)
    }

    #[inline(always)]
    fn byte_dots(self, query: &[i8], rows: &[&[u8]], out: &mut [i32]) {
        neon_codes::byte_dots(query, rows, out);
    }

    #[inline(always)]
    fn nibble_dots(self, query: &[i8], rows: &[&[u8]], out: &mut [i32]) {
        neon_codes::nibble_dots(query, rows, out);
    }

    #[inline(always)]
    fn scan(self, tables: &[u8], codes: &[u8], sums: &mut [u16; SCAN_ROWS]) {
        neon_scan::scan(tables, codes, sums);
    }
}
