//! Records as the database keeps them: a byte that names the form, then postcard; a checksum beside.

use super::sessions::RECORD_COLUMN;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A record as bytes.
pub fn encode<T: Serialize>(form: u8, record: &T) -> rusqlite::Result<Vec<u8>> {
    postcard::to_extend(record, vec![form]).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

/// The record of those bytes; what does not match its checksum or has another form is an error.
pub fn decode<T: DeserializeOwned>(form: u8, blob: &[u8], crc: u32) -> rusqlite::Result<T> {
    let damaged = |why: String| {
        let (column, kind) = RECORD_COLUMN;
        rusqlite::Error::FromSqlConversionFailure(column, kind, format!("damaged record: {why}").into())
    };
    if crc32fast::hash(blob) != crc {
        return Err(damaged("it does not match its checksum".into()));
    }
    match blob.split_first() {
        Some((&found, rest)) if found == form => postcard::from_bytes(rest).map_err(|error| damaged(error.to_string())),
        Some((found, _)) => Err(damaged(format!("unknown form {found}"))),
        None => Err(damaged("it is empty".into())),
    }
}
