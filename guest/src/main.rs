//! The supervisor of a container: see [`casemate_guest`].

mod supervisor;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match (arguments.next(), arguments.next(), arguments.next()) {
        (Some(option), Some(path), None) if option == "--connect" => supervisor::run(path.as_ref()),
        _ => {
            eprintln!("usage: casemate-guest --connect SOCKET");
            ExitCode::from(2)
        }
    }
}
