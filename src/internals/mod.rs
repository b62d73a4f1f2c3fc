//! Inner floors for the benches of this crate. No part of the interface: may
//! change in any version.

#[cfg(not(vecino_loom))]
pub mod blocks;
pub mod codes;
pub mod decoders;
pub mod entry_points;
pub mod exact;
pub mod index;
pub mod interleaved;
pub mod kernel;
