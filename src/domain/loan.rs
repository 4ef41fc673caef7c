//! Containers of pools, and who has them.

use super::id::{LeaseId, RequestId};
use super::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The pool that a container was made for, and whoever has it on loan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Belonging {
    /// Name of the pool.
    pub pool: String,
    /// Which pool of that name: when it was made. A name is free again with the pool.
    pub pool_created: Timestamp,
    /// Which of the pool's specifications it was made from.
    pub generation: u64,
    /// The loan. A container is lent once; that stays when the loan is over.
    pub loan: Option<Loan>,
}

/// A container lent to somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loan {
    /// The lease.
    pub lease: LeaseId,
    /// Who has it.
    pub principal: Arc<str>,
    /// What the borrower attached, on top of the labels of pool and specification.
    pub labels: BTreeMap<String, String>,
    /// The borrower's request id.
    pub request_id: Option<RequestId>,
    /// Fingerprint of the call that carried it.
    pub fingerprint: Option<[u8; 32]>,
    /// When it began.
    pub created: Timestamp,
    /// When it ends at the latest.
    pub expires: Timestamp,
    /// How long the borrower stood in line.
    pub waited: Duration,
}
