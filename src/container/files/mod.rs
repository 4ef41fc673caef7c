//! Files in containers, through the supervisor: as the container's user, and never beyond the container's root.

mod archives;
mod packing;
mod read;
mod requests;
mod watch;
mod write;

pub use archives::{Announced, ArchiveConflict, ArchiveFormat, ArchiveUpload, Arrival, Unpacked};
pub use packing::{ArchiveDownload, ArchivePart, Packed};
pub use read::FileReader;
pub use requests::{Listing, NewDirectory};
pub use watch::{FileWatcher, Found};
pub use write::{FileWrite, FileWriter, WriteMode, Written};

use super::entry::{Entry, Way};
use super::link::{Conversation, Link, Said, Unheard};
use super::manager::{Containers, Viewer};
use crate::domain::file::{FileFault, FileInfo, FileKind};
use crate::domain::id::RequestId;
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use casemate_guest::protocol::{Answer, Failure, Kind, PATH_LIMIT, Request, Stat};
use std::sync::Arc;
use std::time::Duration;

/// Beneath which all paths are: the container's root.
const ROOT: &[u8] = b"/";
/// How long a call waits for a supervisor that is just connecting again.
const RETURN: Duration = Duration::from_secs(5);

/// A path in a container, and the way there.
pub(in crate::container) struct Place {
    pub(super) entry: Arc<Entry>,
    link: Link,
    /// Absolute.
    pub(super) path: Vec<u8>,
}

impl Containers {
    /// A path that somebody names, absolute or relative to the workspace.
    pub(super) async fn place(&self, name: &str, viewer: &Viewer, field: &str, path: &str) -> Result<Place> {
        let entry = self.find(name, viewer)?;
        let path = absolute(&entry, field, path)?;
        entry.adopted().await;
        match entry.ready()? {
            Way::Guest(link) => Ok(Place { entry, link, path }),
            Way::Backend => Err(Error::Unsupervised { id: entry.origin.id }),
        }
    }
}

/// The absolute form of a path that somebody names.
pub(super) fn absolute(entry: &Entry, field: &str, path: &str) -> Result<Vec<u8>> {
    let workspace = &entry.origin.spec.workspace.container_path;
    let path = match path {
        path if path.starts_with('/') => path.to_owned(),
        path => format!("{workspace}/{path}"),
    };
    if path.contains('\0') || path.len() > PATH_LIMIT {
        let text = format!("has {} bytes; expected at most {PATH_LIMIT}, none of them zero", path.len());
        return Err(Error::invalid(field, text));
    }
    Ok(path.into_bytes())
}

impl Containers {
    /// Files are touched as the container's user, and as nobody else.
    pub fn check_file_user(&self, name: &str, viewer: &Viewer, user: &str) -> Result<()> {
        let entry = self.find(name, viewer)?;
        let own = &entry.origin.spec.user;
        if user.is_empty() || user == own {
            return Ok(());
        }
        let text = format!(
            "is {:?}; files are touched as the container's user, {own:?}",
            user.chars().take(40).collect::<String>()
        );
        Err(Error::invalid("user", text))
    }

    /// Does something once for a request id. None where it was done before. `act` is told whether an earlier try may
    /// have got somewhere before it was cut off.
    pub async fn once<T, F: Future<Output = Result<T>>>(
        &self,
        viewer: &Viewer,
        (request_id, method, fingerprint): (RequestId, &'static str, [u8; 32]),
        act: impl FnOnce(bool) -> F,
    ) -> Result<Option<T>> {
        self.once.run(&self.store, viewer.name.clone(), request_id, method, fingerprint, act).await
    }
}

impl Place {
    /// The workspace of a container, also of one that is being made.
    pub(in crate::container) fn workspace(entry: Arc<Entry>, link: Link) -> Place {
        let path = entry.origin.spec.workspace.container_path.clone().into_bytes();
        Place { entry, link, path }
    }

    /// Another path in the same container.
    pub(super) fn beside(&self, field: &str, path: &str) -> Result<Place> {
        Ok(self.at(absolute(&self.entry, field, path)?))
    }

    /// Another absolute path in the same container.
    fn at(&self, path: Vec<u8>) -> Place {
        Place { entry: self.entry.clone(), link: self.link.clone(), path }
    }

    /// Begins work there.
    pub(super) async fn ask(&self, request: Request) -> Result<Conversation> {
        self.entry.active();
        for last in [false, true] {
            return match self.link.open(request.clone()) {
                Ok(conversation) => Ok(conversation),
                Err(Unheard::Away) if !last => {
                    // It comes back by itself, if it does.
                    let _ = tokio::time::timeout(RETURN, self.link.connected()).await;
                    continue;
                }
                Err(Unheard::Away) => Err(self.gone()),
                Err(Unheard::TooLarge) => Err(Error::invalid("path", "is too long")),
                Err(Unheard::TooMany) => Err(Error::Overloaded {
                    scope: format!("file operations and connections in container {:?}", self.entry.origin.name),
                    limit: 224,
                    retry_after: Duration::from_millis(100),
                }),
            };
        }
        Err(self.gone())
    }

    /// Asks for something that has one answer.
    pub(super) async fn answer(&self, request: Request) -> Result<Answer> {
        let mut conversation = self.ask(request).await?;
        self.outcome(&mut conversation).await
    }

    /// Waits for the end of what was asked.
    pub(super) async fn outcome(&self, conversation: &mut Conversation) -> Result<Answer> {
        loop {
            match conversation.next().await {
                Some(Said::Done(result)) => return result.map_err(|failure| self.fault(failure)),
                Some(_) => {}
                None => return Err(self.gone()),
            }
        }
    }

    /// What is known of it.
    pub(super) async fn stat(&self, follow: bool) -> Result<FileInfo> {
        let request = Request::Stat { root: ROOT.into(), path: self.path.clone(), follow };
        match self.answer(request).await? {
            Answer::Stat(stat) => Ok(info(self.path.clone(), stat)),
            other => Err(Error::Internal(format!("a supervisor answered a question with {other:?}"))),
        }
    }

    /// The connection to the supervisor ended meanwhile.
    pub(super) fn gone(&self) -> Error {
        match self.entry.ready() {
            Err(error) => error,
            Ok(_) => Error::ContainerNotReady {
                id: self.entry.origin.id,
                problem: "lost the connection to its supervisor meanwhile; try again".into(),
            },
        }
    }

    /// Why something was not done.
    pub(super) fn fault(&self, failure: Failure) -> Error {
        let fault = match failure {
            Failure::Dropped | Failure::Credit | Failure::Channel => return self.gone(),
            Failure::TooMany(text) => FileFault::TooMuch(shown(&text)),
            Failure::Invalid(text) => return Error::invalid("path", shown(&text)),
            Failure::NotFound => FileFault::NotFound,
            Failure::Exists => FileFault::Exists,
            Failure::NotPermitted => FileFault::NotPermitted,
            Failure::Escapes | Failure::Links => FileFault::Links,
            Failure::ReadOnly => FileFault::ReadOnly,
            Failure::IsDirectory => FileFault::IsDirectory,
            Failure::NotDirectory => FileFault::NotDirectory,
            Failure::NotEmpty => FileFault::NotEmpty,
            Failure::NotRegular => FileFault::NotRegular,
            Failure::OtherFileSystem => FileFault::OtherFileSystem,
            Failure::NoSpace => FileFault::NoSpace,
            Failure::Shrank { sent } => FileFault::Shrank { sent },
            Failure::Size { came } => {
                FileFault::Mismatch(format!("{came} bytes came, and another number was announced (size_bytes)"))
            }
            Failure::Archive(text) => FileFault::Archive(shown(&text)),
            Failure::InTheWay { path, wanted, there } => {
                let fault = match (wanted, there) {
                    (Kind::Directory, _) => FileFault::NotDirectory,
                    (_, Kind::Directory) => FileFault::IsDirectory,
                    _ => FileFault::Exists,
                };
                return self.at(path).faulty(fault);
            }
            Failure::Partly { why } => FileFault::Partly(shown(&why)),
            Failure::MoreBytes => FileFault::TooMuch("more bytes than may be".into()),
            Failure::MoreEntries => FileFault::TooMuch("more entries than may be".into()),
            Failure::Refused => FileFault::Other("nobody listens at the port".into()),
            Failure::Reset => FileFault::Other("the connection was cut".into()),
            Failure::Other(text) => FileFault::Other(shown(&text)),
        };
        self.faulty(fault)
    }

    /// Something is wrong with this path.
    pub(super) fn faulty(&self, fault: FileFault) -> Error {
        Error::File { path: String::from_utf8_lossy(&self.path).into_owned(), fault }
    }
}

/// What a supervisor says in words, for people: it may be lying.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// What is known of a path.
pub(super) fn info(path: Vec<u8>, stat: Stat) -> FileInfo {
    FileInfo {
        path,
        kind: match stat.kind {
            Kind::File => FileKind::File,
            Kind::Directory => FileKind::Directory,
            Kind::Link => FileKind::Link,
            Kind::Fifo | Kind::Socket | Kind::Device => FileKind::Other,
        },
        size: if stat.kind == Kind::File { stat.size } else { 0 },
        allocated: stat.allocated,
        mode: stat.mode & 0o7777,
        user: stat.user,
        group: stat.group,
        modified: Timestamp(u64::try_from(stat.modified / 1000).unwrap_or_default()),
        target: stat.target.unwrap_or_default(),
    }
}
