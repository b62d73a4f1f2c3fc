//! Making the errors of files.

use std::io;

pub(crate) use crate::error::{FileError, Operation};

use crate::codec::Malformed;

/// An operation that the system refused.
pub(crate) fn failed(operation: Operation, file: &str, fault: &io::Error) -> FileError {
    FileError::Failed { operation, file: file.to_owned(), kind: fault.kind(), message: fault.to_string() }
}

/// Bytes that do not say what they should; `start` is where the decoder began.
pub(crate) fn damaged(file: &str, start: u64, fault: Malformed) -> FileError {
    FileError::Damaged { file: file.to_owned(), offset: start + fault.offset as u64, what: fault.what }
}
