//! What methods answer that are in the contract and not in this build.

use super::status::status;
use crate::error::Error;
use std::pin::Pin;
use tonic::{Response, Status};

/// The type of a stream that never begins.
pub(super) type Never<T> = Pin<Box<dyn futures_core::Stream<Item = Result<T, Status>> + Send>>;

/// `UNIMPLEMENTED`, naming the feature.
pub(super) fn refuse<T>(feature: &'static str) -> Result<Response<T>, Status> {
    Err(status(Error::Unimplemented { feature }))
}
