//! The graph against the exact index, on clustered vectors.

mod churn;
mod edges;
mod exact;
mod fixture;
mod layout;
mod screened;
mod search;
