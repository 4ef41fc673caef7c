//! Pools: containers that are made before somebody asks, lent once, then destroyed and replaced.

mod adopt;
mod keeper;
mod lease;
mod line;
mod manager;
mod marks;
mod plan;
mod room;
mod shape;
mod waits;
mod word;

pub use lease::LeaseOrder;
pub use manager::{Pools, PoolsObserver, PoolsParts};
pub use shape::in_a_pool;
pub use word::{PoolChange, PoolFilter, PoolOrder, PoolView};
