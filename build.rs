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
        // Output chunks are shared with the journal, not copied.
        .bytes(".casemate.v1.OutputChunk")
        .bytes(".casemate.v1.WriteStdinRequest")
        .bytes(".casemate.v1.UploadToolRequest")
        .bytes(".casemate.v1.RegisterToolRequest")
        .btree_map(".casemate.v1")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
