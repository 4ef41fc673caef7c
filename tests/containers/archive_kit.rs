//! Archives, well-made or not, and how they are sent and taken.

use crate::kit::House;
use casemate::proto::v1;
use sha2::{Digest, Sha256};
use std::io::{Cursor, Write};
use std::process::{Command, Stdio};
use tonic::Status;
use v1::download_archive_response::Part as DownloadPart;
use v1::upload_archive_request::Part as UploadPart;

/// An entry of a tar, whatever it says.
pub fn entry(kind: u8, name: impl AsRef<[u8]>, target: &str, body: &[u8]) -> Vec<u8> {
    let mut block = head(kind, name.as_ref(), target, body.len() as u64);
    block.extend_from_slice(body);
    block.resize(block.len().next_multiple_of(512), 0);
    block
}

/// The first block of one.
pub fn head(kind: u8, name: &[u8], target: &str, size: u64) -> Vec<u8> {
    let mut block = vec![0; 512];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &name[..name.len().min(100)]);
    put(100, if kind == b'5' { b"0000755" } else { b"0000640" });
    if size < 1 << 33 {
        put(124, format!("{size:011o}").as_bytes());
    } else {
        put(124, &[0x80]);
        put(128, &size.to_be_bytes());
    }
    put(136, b"14000000000");
    put(148, b"        ");
    put(156, &[kind]);
    put(157, target.as_bytes());
    put(257, b"ustar\x0000");
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

pub fn tar(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut all = entries.concat();
    all.resize(all.len() + 1024, 0);
    all
}

pub fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A zip of these files.
pub fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, body) in files {
        writer.start_file(*name, zip::write::SimpleFileOptions::default().unix_permissions(0o640)).unwrap();
        writer.write_all(body).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

pub fn into(container: &str, path: &str) -> v1::UploadArchiveHeader {
    v1::UploadArchiveHeader { container_id: container.into(), path: path.into(), ..Default::default() }
}

pub fn message(part: UploadPart) -> v1::UploadArchiveRequest {
    v1::UploadArchiveRequest { part: Some(part) }
}

pub async fn upload(
    house: &House,
    header: v1::UploadArchiveHeader,
    bytes: Vec<u8>,
) -> Result<v1::UploadArchiveResponse, Status> {
    let chunks = move |at: usize| {
        let chunk = bytes.get(at << 18..bytes.len().min((at + 1) << 18)).filter(|chunk| !chunk.is_empty());
        chunk.map(|chunk| message(UploadPart::Chunk(chunk.to_vec().into())))
    };
    let parts = std::iter::once(message(UploadPart::Header(header))).chain((0..).map_while(chunks));
    Ok(house.containers().await.upload_archive(tokio_stream::iter(parts)).await?.into_inner())
}

pub struct Downloaded {
    pub info: Option<v1::FileInfo>,
    pub bytes: Vec<u8>,
    pub summary: v1::DownloadArchiveSummary,
}

pub async fn download(house: &House, request: v1::DownloadArchiveRequest) -> Result<Downloaded, Status> {
    let mut stream = house.containers().await.download_archive(request).await?.into_inner();
    let (mut info, mut bytes, mut summary) = (None, Vec::new(), None);
    while let Some(message) = stream.message().await? {
        assert!(summary.is_none(), "nothing is behind the summary");
        match message.part.unwrap() {
            DownloadPart::Info(found) => {
                assert!(bytes.is_empty() && info.is_none());
                info = Some(found);
            }
            DownloadPart::Chunk(chunk) => bytes.extend_from_slice(&chunk),
            DownloadPart::Summary(found) => summary = Some(found),
        }
    }
    let summary = summary.unwrap();
    assert_eq!(summary.digest, hex::encode(Sha256::digest(&bytes)));
    Ok(Downloaded { info, bytes, summary })
}

pub fn from(container: &str, paths: &[&str]) -> v1::DownloadArchiveRequest {
    let paths = paths.iter().map(|path| path.to_string()).collect();
    v1::DownloadArchiveRequest { container_id: container.into(), paths, ..Default::default() }
}

/// Names that the system's tar finds in an archive.
pub fn listed(bytes: &[u8]) -> Vec<String> {
    let mut tar = Command::new("tar").arg("-t").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    tar.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = tar.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// All below a directory: kinds, permissions, where links lead, sizes and times of files, and what is in them.
pub async fn all(house: &House, id: &str, path: &str) -> String {
    let script = format!(
        "cd {path} && find . -mindepth 1 | sort | while IFS= read -r f; do stat -c '%n %a %F' \"$f\"; \
         if [ -L \"$f\" ]; then readlink \"$f\"; elif [ -f \"$f\" ]; then stat -c '%s %Y' \"$f\"; \
         sha256sum <\"$f\"; fi; done"
    );
    let ran = house.run(id, &script).await;
    assert_eq!(ran.code(), 0, "{}", String::from_utf8_lossy(&ran.stderr));
    ran.text()
}
