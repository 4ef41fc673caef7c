//! Programs print what they print natively. `programs/README.md` says where the `.out` files come from.

use crate::kit::{self, code, limited, seconds};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn programs() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interpreters/programs");
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut programs: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|ext| ext == "py")).collect();
    programs.sort();
    assert!(programs.len() >= 30, "{}", programs.len());
    programs
}

/// Whether the machine has a Python that the programs are written for.
fn has_native() -> bool {
    let version = Command::new("python3").args(["-c", "import sys; print(sys.version_info >= (3, 11))"]).output();
    version.is_ok_and(|output| output.stdout == b"True\n")
}

/// What the machine's own Python prints.
fn native(program: &Path) -> String {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("python3")
        .arg("-")
        .current_dir(folder.path())
        .env("PYTHONUTF8", "1")
        .stdin(std::fs::File::open(program).unwrap())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", program.display());
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn programs_print_what_they_print_natively() {
    let Some(python) = kit::start().await else { return };
    let here = has_native();
    if !here {
        eprintln!("python3 of this machine is older than 3.11 or missing: compared with the .out files only");
    }
    let mut differ = Vec::new();
    for program in programs() {
        let text = std::fs::read_to_string(&program).unwrap();
        let wanted = std::fs::read_to_string(program.with_extension("out")).unwrap();
        let run = python.call(limited(seconds(60), code(&text))).await.unwrap();
        if run.fine() != wanted {
            differ.push(format!("{}: printed\n{}\nwanted\n{wanted}", program.display(), run.out()));
        }
        assert_eq!(run.0.stderr, "", "{}", program.display());
        let needs_packages = text.starts_with('#');
        if here && !needs_packages {
            assert_eq!(native(&program), wanted, "{} on this machine", program.display());
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n\n"));
}

#[tokio::test]
async fn programs_print_the_same_in_one_session() {
    let Some(python) = kit::start().await else { return };
    let session = python.session().await;
    for program in programs() {
        // A program finds the files of those before it, so it starts in a directory of its own.
        let name = program.file_stem().unwrap().to_str().unwrap();
        let place = format!("import os\nos.makedirs('/work/{name}')\nos.chdir('/work/{name}')");
        python.turn(&session, &place).await.fine();
        let text = std::fs::read_to_string(&program).unwrap();
        let wanted = std::fs::read_to_string(program.with_extension("out")).unwrap();
        let run = python.call(kit::within(&session, limited(seconds(60), code(&text)))).await.unwrap();
        assert_eq!(run.fine(), wanted, "{name}");
    }
}
