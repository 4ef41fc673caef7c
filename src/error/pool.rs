//! What goes wrong with pools and leases.

use super::Reason;
use std::time::Duration;

/// What went wrong with a pool or a lease.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// No such pool, or it belongs to somebody else.
    #[error("there is no pool {name:?}; ListPools shows what there is")]
    NotFound {
        /// The name asked for.
        name: String,
    },
    /// The name is taken.
    #[error("there is a pool {name:?} already; choose another name, or delete that one")]
    Exists {
        /// The name.
        name: String,
    },
    /// The pool cannot do what was asked as it stands.
    #[error("pool {name:?} {problem}")]
    NotReady {
        /// The pool.
        name: String,
        /// How it stands and what to do; continues the sentence.
        problem: String,
    },
    /// Nothing is free, and nobody else may wait for it.
    #[error("pool {name:?} {problem}; try again in {}", humantime::format_duration(*.retry_after))]
    Exhausted {
        /// The pool.
        name: String,
        /// Which bound is reached; continues the sentence.
        problem: String,
        /// When a retry makes sense.
        retry_after: Duration,
    },
    /// Nothing became free in time.
    #[error(
        "no container of pool {name:?} became free within {}; wait longer (wait_timeout), or have the pool made larger",
        humantime::format_duration(*.waited)
    )]
    WaitTooLong {
        /// The pool.
        name: String,
        /// How long was waited.
        waited: Duration,
    },
    /// No such lease, or somebody else has it, or its container is not retained any more.
    #[error("there is no lease {id:?}: it never existed, is somebody else's, or ended a while ago")]
    LeaseNotFound {
        /// The id asked for.
        id: String,
    },
    /// The lease that a request id led to has ended.
    #[error("lease {id} of that request_id has ended; use a fresh UUID for a new lease")]
    LeaseOver {
        /// The lease.
        id: String,
    },
    /// The pool was changed since the caller looked at it.
    #[error("pool {name:?} was changed meanwhile: its etag is {etag:?}; look at it again (GetPool), then decide anew")]
    EtagMismatch {
        /// The pool.
        name: String,
        /// The present etag.
        etag: String,
    },
}

impl PoolError {
    /// The stable name of the reason.
    pub fn reason(&self) -> Reason {
        match self {
            PoolError::NotFound { .. } => Reason::PoolNotFound,
            PoolError::Exists { .. } => Reason::PoolExists,
            PoolError::NotReady { .. } => Reason::PoolNotReady,
            PoolError::Exhausted { .. } => Reason::PoolExhausted,
            PoolError::WaitTooLong { .. } => Reason::WaitTooLong,
            PoolError::LeaseNotFound { .. } => Reason::LeaseNotFound,
            PoolError::LeaseOver { .. } => Reason::LeaseOver,
            PoolError::EtagMismatch { .. } => Reason::EtagMismatch,
        }
    }
}
