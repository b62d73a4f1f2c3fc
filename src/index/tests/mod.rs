//! The graph against the exact index, on clustered vectors.

mod churn;
mod edges;
mod fixture;
mod layout;
mod search;
