//! What stands beside a vector: typed fields, kept by column, and filters over them.
//!
//! Rows are cut into blocks of 1,024. A block keeps each field of its rows as a
//! column of one type, small whole numbers narrow and texts as places in a
//! sorted list of the block's different texts: a comparison becomes a range of
//! small numbers, and a block is asked with a few vector instructions or, where
//! its least and greatest value or its texts say enough, not at all. Blocks
//! never change once a view has them; newer payloads stand beside the columns
//! until they are enough for new ones.

mod block;
mod column;
mod document;
mod edit;
mod exclusion;
mod expiry;
mod filter;
#[cfg(feature = "json")]
mod json;
mod limits;
mod mask;
mod numbers;
mod range;
mod resolve;
mod store;
mod stored;
mod stored_filter;
mod undo;
mod value;
mod words;

pub use document::Payload;
pub use edit::PayloadUpdate;
pub use exclusion::ExclusionSet;
pub use filter::Filter;
#[cfg(all(feature = "json", any(test, feature = "internals")))]
pub use json::{fuzz_filter, fuzz_payload};
pub use limits::{FilterError, PayloadError};
pub use value::{Timestamp, Value};

pub(crate) use expiry::{BEFORE_ALL, EXPIRES, NEVER, expired_at};
pub(crate) use numbers::{Field, Quantity};
pub(crate) use resolve::Resolver;
pub(crate) use store::{PayloadStore, PayloadView};
pub(crate) use stored::{decode_edit, decode_fields, encode_edit, encode_payload};
pub(crate) use stored_filter::{decode_filter, encode_filter};

#[cfg(test)]
mod tests;
