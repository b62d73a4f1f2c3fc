//! The graph against the exact index, on clustered vectors.

mod auto;
mod churn;
mod crowds;
mod edges;
mod entries;
mod exact;
mod fixture;
mod layout;
mod lists;
mod products;
mod resolution;
mod scan;
mod screened;
mod search;
