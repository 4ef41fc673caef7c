//! The house rules that a compiler does not check.

use casemate::error::Reason;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Rooms by floor. A room may use rooms on lower floors, and rooms it is named beside here.
const FLOORS: &[&[&str]] = &[
    &["domain", "error", "proto"],
    &["store"],
    &["engine", "jupyter"],
    &["interpreter"],
    &["execution"],
    &["session", "container"],
    &["pool"],
    &["tool"],
    &["config"],
    &["auth", "health", "telemetry"],
    &["rpc", "http"],
    &["app"],
    &["cli"],
];

/// Arrows within a floor that are meant.
const BESIDE: &[(&str, &str)] = &[("error", "domain"), ("auth", "error")];

fn sources(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Room of a source file, by its first folder or its own name.
fn room(path: &Path) -> String {
    let relative = path.strip_prefix(src()).unwrap();
    let first = relative.components().next().unwrap().as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// Rooms that a source names as `crate::ROOM`, comments aside.
fn uses(text: &str) -> Vec<String> {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    code.match_indices("crate::")
        .filter_map(|(at, _)| {
            let rest = &code[at + "crate::".len()..];
            let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            (!name.is_empty() && name.chars().next().is_some_and(char::is_lowercase)).then_some(name)
        })
        .collect()
}

#[test]
fn arrows_point_downwards() {
    let floors: BTreeMap<&str, usize> =
        FLOORS.iter().enumerate().flat_map(|(floor, rooms)| rooms.iter().map(move |room| (*room, floor))).collect();
    let mut wrong = Vec::new();
    let mut arrows = 0;
    for path in sources(&src()) {
        let from = room(&path);
        if from == "lib" || from == "main" {
            continue;
        }
        let floor = *floors.get(from.as_str()).unwrap_or_else(|| panic!("{}: {from} has no floor", path.display()));
        let text = std::fs::read_to_string(&path).unwrap();
        // A room's own unit tests may look further.
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        for to in uses(text) {
            let Some(&target) = floors.get(to.as_str()) else { continue };
            arrows += 1;
            let beside = BESIDE.contains(&(from.as_str(), to.as_str()));
            if from != to && target >= floor && !beside {
                wrong.push(format!("{}: {from} -> {to}", path.display()));
            }
        }
    }
    assert!(arrows > 50, "only {arrows} arrows found: the test no longer reads the sources");
    assert!(wrong.is_empty(), "arrows against the design's direction:\n{}", wrong.join("\n"));
}

#[test]
fn the_domain_knows_no_wire_and_no_runtime() {
    for path in sources(&src().join("domain")) {
        let text = std::fs::read_to_string(&path).unwrap();
        for foreign in ["tonic", "prost", "wasmtime", "bollard", "rusqlite", "tokio"] {
            let named = text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(foreign));
            assert!(!named, "{} names {foreign}", path.display());
        }
    }
}

#[test]
fn one_place_makes_statuses_and_one_reads_the_environment() {
    for path in sources(&src()) {
        let text = std::fs::read_to_string(&path).unwrap();
        let relative = path.strip_prefix(src()).unwrap().display().to_string();
        let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        // What tests are given is no setting of the server.
        if relative != "config/load.rs" && !relative.ends_with("tests.rs") {
            for call in ["env::var", "env::vars", "env::var_os"] {
                assert!(!code.contains(call), "{relative} reads the environment; config/load.rs alone does");
            }
        }
        if relative != "rpc/status.rs" && !relative.starts_with("cli/") {
            for make in
                ["Status::new(", "Status::internal(", "Status::invalid_argument(", "Status::with_error_details("]
            {
                assert!(!code.contains(make), "{relative} makes a Status; rpc/status.rs alone does");
            }
        }
    }
}

#[test]
fn every_reason_has_its_page() {
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors");
    let index = std::fs::read_to_string(pages.join("README.md")).unwrap();
    for reason in Reason::ALL {
        let page = pages.join(format!("{}.md", reason.name()));
        let text = std::fs::read_to_string(&page).unwrap_or_else(|_| panic!("{} is missing", page.display()));
        assert!(text.starts_with(&format!("# {}\n", reason.name())));
        assert!(index.contains(&format!("{}.md", reason.name())), "{} is not in the index", reason.name());
    }
    let files = std::fs::read_dir(&pages).unwrap().count();
    assert_eq!(files, Reason::ALL.len() + 1, "a page without a reason");
}
