//! `casemate compile-module`: the child that compiles one module, bounded in time and memory.

use clap::Args;
use std::process::ExitCode;

/// What the engine tells its child.
#[derive(Debug, Args)]
pub struct CompileModuleArgs {
    /// Bytes of address space
    #[arg(long)]
    memory: u64,
    /// Seconds of wall time
    #[arg(long)]
    seconds: u64,
    /// Compile code that counts fuel
    #[arg(long)]
    metered: bool,
}

/// Compiles standard input to standard output.
pub fn run(args: &CompileModuleArgs) -> ExitCode {
    crate::engine::compile::child_main(args.metered, args.memory, args.seconds)
}
