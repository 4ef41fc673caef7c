//! The Credentials service: part of the contract, not of this build. Every method names itself.

use super::unbuilt::refuse;
use crate::proto::v1;
use tonic::{Request, Response, Status};

/// The service.
pub struct Credentials;

#[tonic::async_trait]
impl v1::credentials_server::Credentials for Credentials {
    async fn put_credential(
        &self,
        _: Request<v1::PutCredentialRequest>,
    ) -> Result<Response<v1::PutCredentialResponse>, Status> {
        refuse("Credentials.PutCredential")
    }

    async fn list_credentials(
        &self,
        _: Request<v1::ListCredentialsRequest>,
    ) -> Result<Response<v1::ListCredentialsResponse>, Status> {
        refuse("Credentials.ListCredentials")
    }

    async fn delete_credential(
        &self,
        _: Request<v1::DeleteCredentialRequest>,
    ) -> Result<Response<v1::DeleteCredentialResponse>, Status> {
        refuse("Credentials.DeleteCredential")
    }
}
