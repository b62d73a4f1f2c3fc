//! What benchmarks and experiments need from the inside; no promise about any
//! of it.

pub mod index;
