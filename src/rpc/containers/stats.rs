//! What a container consumes.

use super::{Containers, Messages, stream};
use crate::container::Viewer;
use crate::domain::container::Consumption;
use crate::error::{Error, Result};
use crate::proto::v1;
use crate::rpc::convert::{self, container as to};
use crate::rpc::status::status;
use std::time::Duration;
use tonic::Response;

const INTERVAL: Duration = Duration::from_secs(1);
const SHORTEST: Duration = Duration::from_millis(100);

impl Containers {
    pub(super) async fn serve_stream_stats(
        &self,
        viewer: Viewer,
        request: v1::StreamStatsRequest,
    ) -> Result<Response<Messages<v1::StreamStatsResponse>>> {
        let interval = match &request.interval {
            None => INTERVAL,
            Some(interval) => convert::span("interval", interval)?,
        };
        if interval < SHORTEST {
            return Err(Error::invalid("interval", format!("is {interval:?}; at least {SHORTEST:?}")));
        }
        let containers = self.all()?.clone();
        let (name, samples) = (request.container_id, request.samples);
        // What cannot be told now is the call's error.
        let mut next = Some(containers.consumption(&name, &viewer).await?);
        Ok(stream(move |send| async move {
            let mut before: Option<Consumption> = None;
            for number in 1u32.. {
                let (found, running) = match next.take() {
                    Some(first) => first,
                    None => match containers.consumption(&name, &viewer).await {
                        Ok(found) => found,
                        // It is over: so are its figures.
                        Err(Error::ContainerNotReady { .. } | Error::ContainerNotFound { .. }) => return,
                        Err(error) => return drop(send.send(Err(status(error))).await),
                    },
                };
                let usage = before.map_or(0.0, |before| {
                    let (time, cpu) = (found.time.since(before.time), found.cpu_time.saturating_sub(before.cpu_time));
                    if time.is_zero() { 0.0 } else { cpu.as_secs_f64() / time.as_secs_f64() }
                });
                before = Some(found);
                let message = v1::StreamStatsResponse { stats: Some(to::stats(&found, usage, running)) };
                if send.send(Ok(message)).await.is_err() || number == samples {
                    return;
                }
                tokio::select! {
                    () = tokio::time::sleep(interval) => {}
                    () = send.closed() => return,
                }
            }
        }))
    }
}
