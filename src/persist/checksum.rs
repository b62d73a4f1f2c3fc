//! Checksums that stand beside what they are of.

/// Whether what was read is what was written. Our own fuzz targets pass, whatever they
/// hand over: they would never get behind a checksum otherwise. The flag is our own too,
/// so that whoever fuzzes a program with this crate in it has files checked.
pub(super) fn holds(of_content: u32, stored: u32) -> bool {
    cfg!(vecino_fuzzing) || of_content == stored
}
