//! The contract, generated from `proto/` by build.rs.

/// Package `casemate.v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic)] // generated; the comments are in the .proto files
pub mod v1 {
    tonic::include_proto!("casemate.v1");
}

/// The encoded descriptor set of the contract and all it imports, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/casemate_descriptor.bin"));
