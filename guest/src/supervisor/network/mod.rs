//! Connections within the container, both ways through the server's.

pub mod connect;
pub mod gate;
pub mod relay;
