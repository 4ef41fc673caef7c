//! Containers: hardened sandboxes with a supervisor as their first process, and executions inside them.

mod adopt;
pub mod backend;
mod changes;
pub mod docker;
mod entry;
pub mod files;
pub mod gate;
mod guests;
mod health;
mod keeping;
mod lending;
mod life;
mod link;
mod manager;
mod paths;
mod policy;
pub mod ports;
mod process;
mod processes;
mod raise;
mod signal;
mod snapshots;
mod spawn;
mod unsupervised;
mod variables;
mod wish;
mod workplace;

pub use lending::Fitness;
pub use manager::{
    ContainerFilter, Containers, ContainersConfig, ContainersObserver, ContainersParts, ListedImage, News, Viewer,
};
pub use policy::ContainerPolicy;
pub use processes::{NewProcess, outside_limits};
pub use raise::ControlMode;
pub use snapshots::{NewSnapshot, SnapshotSelection};
pub use spawn::Order;
pub use wish::{ResourcesWish, Wish};
pub use workplace::{Service, Step, Workplace};
