//! Services of the contract that this build does not have yet.
pub(super) fn add(_routes: &mut tonic::service::RoutesBuilder) {}
