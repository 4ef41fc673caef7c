//! `casemate strip-types`: the child that makes JavaScript of one TypeScript source, bounded in time and memory.

use clap::Args;
use std::process::ExitCode;

/// What the server tells its child.
#[derive(Debug, Args)]
pub struct StripTypesArgs {
    /// Name of the source
    #[arg(long)]
    name: String,
}

/// Blanks the types of standard input.
pub fn run(args: &StripTypesArgs) -> ExitCode {
    crate::interpreter::typescript::child_main(&args.name)
}
