//! Requests as clients send them, of the kind that the first byte names: what is refused is refused with a reason that
//! arrives, and names a field that the message has.
#![no_main]

use casemate::container::Viewer;
use casemate::error::{Error, Reason, Result};
use casemate::proto::v1;
use casemate::rpc::convert;
use libfuzzer_sys::fuzz_target;
use prost::Message;
use std::time::Duration;

/// Bytes of a refusal: its trailers are bounded to 8 KiB by many clients.
const MAX_REFUSAL: usize = 6 << 10;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let read = READERS[usize::from(*kind) % READERS.len()];
    if let Some(Err(error)) = read(bytes) {
        refused(error);
    }
});

type Reader = fn(&[u8]) -> Option<Result<()>>;

/// Decodes and converts; nothing if it is no message.
macro_rules! reader {
    ($message:ty, $convert:expr) => {
        |bytes| {
            let message = <$message>::decode(bytes).ok()?;
            let convert: fn($message) -> Result<()> = $convert;
            Some(convert(message))
        }
    };
}

const READERS: &[Reader] = &[
    reader!(v1::ExecuteToolRequest, |message| {
        let viewer = Viewer { name: "fuzz".into(), administers: false };
        let (call, _) = convert::tool::call(message.call, viewer)?;
        // What a run is given lies below where it works.
        for file in &call.inputs.files {
            assert!(!file.path.starts_with('/') && file.path.split('/').all(|name| !matches!(name, "" | "." | "..")));
            assert!(file.mode <= 0o777);
        }
        assert!(call.inputs.environment.keys().all(|name| !name.is_empty() && !name.contains(['=', '\0'])));
        Ok(())
    }),
    reader!(v1::ToolManifest, |message| convert::tool::manifest_sent(message).map(drop)),
    reader!(v1::SpawnContainerRequest, |message| convert::container::wish(message.spec).map(drop)),
    reader!(v1::StartProcessRequest, |message| {
        let (_, process) = convert::container::process(message, "fuzz".into())?;
        assert!(process.terminal.is_none_or(|(columns, rows)| columns > 0 && rows > 0));
        Ok(())
    }),
    reader!(v1::ListContainersRequest, |message| convert::container::filter(message.filter).map(drop)),
    reader!(v1::ListExecutionsRequest, |message| convert::execution::filter(message.filter).map(drop)),
    reader!(v1::CreatePoolRequest, |message| convert::pool::order(message.pool).map(drop)),
    reader!(v1::UpdatePoolRequest, |message| {
        convert::pool::change(message.pool.unwrap_or_default(), message.update_mask).map(drop)
    }),
    reader!(v1::ListPoolsRequest, |message| convert::pool::filter(message.filter).map(drop)),
    reader!(v1::CreateSessionRequest, |message| {
        convert::session::limits_request(message.limits.as_ref())?;
        convert::session::target(message.target)?;
        convert::session::durability(message.durability)?;
        convert::input::variables("environment", message.environment.into_iter().collect()).map(drop)
    }),
    reader!(v1::ListSessionsRequest, |message| convert::session::selection(message.filter).map(drop)),
    reader!(v1::ListSnapshotsRequest, |message| convert::snapshot::selection(message.filter).map(drop)),
    reader!(v1::WriteFileHeader, |message| convert::file::write(&message).map(drop)),
    reader!(v1::UploadArchiveHeader, |message| {
        convert::archive::announced(&message)?;
        convert::archive::upload(&message).map(drop)
    }),
    reader!(v1::DownloadArchiveRequest, |message| convert::archive::download(&message).map(drop)),
    reader!(prost_types::Duration, |message| {
        let span = convert::span("duration", &message)?;
        assert_eq!(convert::span("duration", &convert::duration(span))?, span);
        assert!(span <= Duration::from_secs(i64::MAX as u64));
        Ok(())
    }),
    reader!(prost_types::Timestamp, |message| {
        convert::moment(&message);
        Ok(())
    }),
    reader!(prost_types::Struct, |message| {
        let map = convert::json::from_struct("parameters", message)?;
        let again = convert::json::from_struct("parameters", convert::json::to_struct(map.clone()))?;
        assert_eq!(again, map);
        Ok(())
    }),
];

fn refused(error: Error) {
    let reason = error.reason();
    let known = [Reason::InvalidArgument, Reason::ManifestInvalid, Reason::Unimplemented, Reason::PolicyDenied];
    assert!(known.contains(&reason), "{error}");
    if let Error::InvalidArgument(violations) = &error {
        assert!(!violations.is_empty());
        for violation in violations {
            assert!(!violation.description.is_empty(), "{violation:?}");
            assert!(violation.field.starts_with(|first: char| first.is_ascii_lowercase()), "{violation:?}");
        }
    }
    let status = casemate::rpc::status(error);
    let plain = |byte: &u8| byte.is_ascii_graphic() && !br##""#%<>`?{}"##.contains(byte);
    let message: usize = status.message().as_bytes().iter().map(|byte| if plain(byte) { 1 } else { 3 }).sum();
    let size = message + status.details().len().div_ceil(3) * 4;
    assert!(size <= MAX_REFUSAL, "a refusal of {size} bytes: {}", status.message());
}
