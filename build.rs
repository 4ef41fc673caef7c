//! Compiles `proto/` with protox, so that no `protoc` is needed, and writes the descriptor set that
//! reflection serves.

use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new("proto");
    println!("cargo:rerun-if-changed=proto");
    let mut files: Vec<PathBuf> = std::fs::read_dir(root.join("casemate/v1"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "proto"));
    files.sort();

    let mut compiler = protox::Compiler::new([root])?;
    compiler.include_source_info(false).include_imports(true).open_files(&files)?;
    // Written from the compiler's own form: through prost_types the options would be lost.
    let descriptors = compiler.encode_file_descriptor_set();
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("casemate_descriptor.bin"), &descriptors)?;

    tonic_prost_build::configure()
        // Content is shared with the journal and with the message it came in, not copied.
        .bytes(".casemate.v1.OutputChunk")
        .bytes(".casemate.v1.OutputFileChunk")
        .bytes(".casemate.v1.OutputFile")
        .bytes(".casemate.v1.Representation")
        .bytes(".casemate.v1.InputFile")
        .bytes(".casemate.v1.ToolCall")
        .bytes(".casemate.v1.ProcessSpec")
        .bytes(".casemate.v1.LogChunk")
        .bytes(".casemate.v1.WriteStdinRequest")
        .bytes(".casemate.v1.ExecStdin")
        .bytes(".casemate.v1.UploadToolRequest")
        .bytes(".casemate.v1.RegisterToolRequest")
        .bytes(".casemate.v1.ReadFileResponse")
        .bytes(".casemate.v1.WriteFileRequest")
        .bytes(".casemate.v1.UploadArchiveRequest")
        .bytes(".casemate.v1.DownloadArchiveResponse")
        .bytes(".casemate.v1.ForwardData")
        // A secret must not reach a log by way of `{:?}`.
        .skip_debug([".casemate.v1.PutCredentialRequest"])
        .btree_map(".casemate.v1")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
