//! Files on their way out.

use super::{Place, ROOT, info};
use crate::container::link::{Conversation, Said};
use crate::container::manager::{Containers, Viewer};
use crate::domain::file::FileInfo;
use crate::error::{Error, Result};
use bytes::Bytes;
use casemate_guest::protocol::Request;

/// A file that is being read. Dropped, it is not read on.
pub struct FileReader {
    place: Place,
    conversation: Conversation,
}

impl Containers {
    /// Begins to read a file: what it is, and its bytes.
    pub async fn read_file(
        &self,
        container: &str,
        viewer: &Viewer,
        path: &str,
        offset: u64,
        length: Option<u64>,
    ) -> Result<(FileInfo, FileReader)> {
        if path.is_empty() {
            return Err(Error::invalid("path", "is required"));
        }
        let place = self.place(container, viewer, "path", path).await?;
        let request = Request::Read { root: ROOT.into(), path: place.path.clone(), offset, length };
        let mut conversation = place.ask(request).await?;
        let stat = match conversation.next().await {
            Some(Said::Began(Some(stat))) => *stat,
            Some(Said::Done(Err(failure))) => return Err(place.fault(failure)),
            Some(_) => return Err(Error::Internal("a supervisor sent a file without saying what it is".into())),
            None => return Err(place.gone()),
        };
        let found = info(place.path.clone(), stat);
        // Files of the kernel have no size, and bytes all the same.
        if offset > found.size && found.size > 0 {
            return Err(Error::OffsetOutOfRange { offset, size: found.size });
        }
        conversation.widen();
        Ok((found, FileReader { place, conversation }))
    }
}

impl FileReader {
    /// The next bytes; none at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            match self.conversation.next().await {
                Some(Said::Data(data)) => return Ok(Some(data)),
                Some(Said::Done(Ok(_))) => {
                    self.place.entry.active();
                    return Ok(None);
                }
                Some(Said::Done(Err(failure))) => return Err(self.place.fault(failure)),
                Some(_) => {}
                None => return Err(self.place.gone()),
            }
        }
    }
}
