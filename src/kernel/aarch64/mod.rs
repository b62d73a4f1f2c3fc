//! The instruction sets of AArch64.

pub(super) mod neon;
mod neon_codes;
