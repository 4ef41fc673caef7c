//! Compiles `proto/` with protox, so that no `protoc` is needed, and writes the descriptor set that
//! reflection serves. Builds the supervisor of containers, which is embedded in the server.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    contract(&out)?;
    guest(&out)
}

/// Builds `guest/` by a cargo of its own: it is linked statically, so that it runs in any image, and the server is not.
/// A target that is named keeps its flags away from build scripts and macros, which cannot be static.
fn guest(out: &Path) -> Result<(), Box<dyn Error>> {
    for path in ["guest/Cargo.toml", "guest/src", "Cargo.lock"] {
        println!("cargo:rerun-if-changed={path}");
    }
    let target = std::env::var("TARGET")?;
    let built = out.join("guest");
    let mut cargo = Command::new(std::env::var("CARGO")?);
    cargo
        .args(["build", "--locked", "--package", "casemate-guest", "--features", "supervisor", "--profile", "guest"])
        .args(["--target", &target, "--target-dir"])
        .arg(&built)
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    // What was set for the server, or by a tool that looks at its sources, is not meant for the guest.
    for name in ["CARGO_ENCODED_RUSTFLAGS", "CARGO_TARGET_DIR", "RUSTC_WORKSPACE_WRAPPER", "RUSTC_WRAPPER"] {
        cargo.env_remove(name);
    }
    if !cargo.status()?.success() {
        return Err("the supervisor of containers (guest/) could not be built; what cargo says is above".into());
    }
    std::fs::copy(built.join(target).join("guest/casemate-guest"), out.join("casemate-guest"))?;
    Ok(())
}

fn contract(out: &Path) -> Result<(), Box<dyn Error>> {
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
