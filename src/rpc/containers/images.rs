//! Images that are here, and those that are fetched.

use super::{Containers, Messages, stream};
use crate::container::backend::LayerProgress;
use crate::container::{ListedImage, Viewer};
use crate::domain::image::ImageReference;
use crate::error::{Error, Result};
use crate::proto::v1;
use crate::rpc::convert::{self, image as to};
use crate::rpc::silence;
use crate::rpc::status::status;
use tokio::sync::mpsc;
use tonic::Response;
use v1::pull_image_response::Event;

/// News of layers that wait for a slow reader.
const NEWS: usize = 64;

impl Containers {
    pub(super) async fn serve_list_images(
        &self,
        viewer: Viewer,
        request: v1::ListImagesRequest,
    ) -> Result<v1::ListImagesResponse> {
        let size = convert::page::size(request.page_size)?;
        let filter = request.filter.unwrap_or_default();
        let listing = format!("images {filter:?}");
        let after = convert::page::position(&listing, &request.page_token)?;
        let mut images = self.all()?.images(&filter.repository, &viewer).await?;
        images.retain(|found| filter.snapshots.is_none_or(|wanted| found.snapshot.is_some() == wanted));
        let key = |ListedImage { image, .. }: &ListedImage| {
            // Those without a name come last.
            let name = image.tags.first().map_or("~", String::as_str);
            format!("{name} {}", image.id).into_bytes()
        };
        images.sort_by_cached_key(key);
        if let Some(after) = after {
            images.retain(|found| key(found) > after);
        }
        let more = images.len() > size;
        images.truncate(size);
        let next_page_token = match images.last() {
            Some(last) if more => convert::page::token(&listing, &key(last)),
            _ => String::new(),
        };
        let images = images.iter().map(to::listed).collect();
        Ok(v1::ListImagesResponse { images, next_page_token })
    }

    pub(super) async fn serve_pull_image(
        &self,
        _: Viewer,
        request: v1::PullImageRequest,
    ) -> Result<Response<Messages<v1::PullImageResponse>>> {
        convert::request_id("request_id", &request.request_id)?;
        if !request.credential.is_empty() {
            return Err(Error::Unimplemented { feature: "PullImageRequest.credential" });
        }
        let reference =
            ImageReference::parse(&request.reference).map_err(|problem| Error::invalid("reference", problem))?;
        let containers = self.all()?.clone();
        containers.policy().admits("reference", &reference)?;
        let silence = silence("keepalive_interval", request.keepalive_interval.as_ref())?;
        let (progress, mut news) = mpsc::channel::<LayerProgress>(NEWS);
        // A task of its own: whoever leaves does not stop the pull.
        let platform = request.platform;
        let mut pull = tokio::spawn(async move { containers.pull(&reference, &platform, progress).await });
        Ok(stream(move |send| async move {
            loop {
                let event = tokio::select! {
                    biased;
                    Some(layer) = news.recv() => Event::Progress(to::progress(layer)),
                    pulled = &mut pull => {
                        let pulled = pulled.unwrap_or_else(|error| Err(Error::Internal(format!("a pull failed: {error}"))));
                        let last = pulled.map(|image| Event::Image(to::image(&image))).map_err(status);
                        let last = last.map(|event| v1::PullImageResponse { event: Some(event) });
                        return drop(send.send(last).await);
                    }
                    () = tokio::time::sleep(silence) => Event::Keepalive(v1::KeepaliveEvent {}),
                    () = send.closed() => return,
                };
                if send.send(Ok(v1::PullImageResponse { event: Some(event) })).await.is_err() {
                    return;
                }
            }
        }))
    }
}
