//! Mutations with a request id: done once, across retries, restarts and callers that do not wait.

use super::Store;
use super::requests::{self, Mutation, Noted};
use crate::domain::id::RequestId;
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use dashmap::DashMap;
use std::future::Future;
use std::sync::Arc;

type Key = (Arc<str>, RequestId);

/// The mutations that are under way.
#[derive(Default)]
pub struct Once {
    running: DashMap<Key, Arc<tokio::sync::Mutex<()>>>,
}

impl Once {
    /// Carries out `act` unless it was carried out before, which answers `None`. `act` is told whether an earlier
    /// try may have got somewhere before it was cut off.
    pub async fn run<T, F>(
        &self,
        store: &Store,
        principal: Arc<str>,
        request_id: RequestId,
        method: &'static str,
        fingerprint: [u8; 32],
        act: impl FnOnce(bool) -> F,
    ) -> Result<Option<T>>
    where
        F: Future<Output = Result<T>>,
    {
        let key = (principal.clone(), request_id);
        let gate = self.running.entry(key.clone()).or_default().clone();
        let result = async {
            let _turn = gate.lock().await;
            let mutation = Mutation { principal: principal.clone(), request_id, method, fingerprint };
            let again = match store.write(move |db| requests::note(db, &mutation, Timestamp::now())).await? {
                Noted::Done => return Ok(None),
                Noted::Reused { method } => {
                    return Err(Error::RequestIdReused { request_id, first: format!("a call of {method}") });
                }
                Noted::New => false,
                Noted::Unfinished => true,
            };
            let result = act(again).await;
            let done = result.is_ok();
            store
                .write(move |db| match done {
                    true => requests::finish(db, &principal, request_id),
                    false => requests::forget(db, &principal, request_id),
                })
                .await?;
            result.map(Some)
        }
        .await;
        drop(gate);
        // Who waits for the gate holds it too, and then it stays.
        self.running.remove_if(&key, |_, gate| Arc::strong_count(gate) == 1);
        result
    }
}
