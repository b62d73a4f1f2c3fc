//! Making the errors of files.

use std::io;

pub(crate) use crate::error::{FileError, Operation};

use crate::codec::Malformed;
use crate::memory::{self, Shortage};

/// An operation that the system refused.
pub(crate) fn failed(operation: Operation, file: &str, fault: &io::Error) -> FileError {
    FileError::Failed { operation, file: file.to_owned(), kind: fault.kind(), message: fault.to_string() }
}

/// There was no memory for what an operation takes.
pub(super) fn short(operation: Operation, file: &str, shortage: Shortage) -> FileError {
    let message = format!("there is no memory for {} bytes", shortage.bytes);
    FileError::Failed { operation, file: file.to_owned(), kind: io::ErrorKind::OutOfMemory, message }
}

/// Does something about a file that may unwind for want of memory: then that is
/// the error.
pub(crate) fn unless_short<T>(
    operation: Operation,
    file: &str,
    work: impl FnOnce() -> Result<T, FileError>,
) -> Result<T, FileError> {
    memory::unless_short(work).unwrap_or_else(|shortage| Err(short(operation, file, shortage)))
}

/// Bytes that do not say what they should; `start` is where the decoder began.
pub(crate) fn damaged(file: &str, start: u64, fault: Malformed) -> FileError {
    FileError::Damaged { file: file.to_owned(), offset: start + fault.offset as u64, what: fault.what }
}
