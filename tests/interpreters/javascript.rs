//! JavaScript and TypeScript on the real server: programs whose output is known.

use crate::harness::call;
use crate::kit::start;
use casemate::proto::v1;
use std::path::Path;

#[tokio::test]
async fn programs_print_what_they_should() {
    let Some(server) = start().await else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interpreters/javascript");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut ran = 0;
    for file in files {
        let extension = file.extension().and_then(|extension| extension.to_str());
        let language = match extension {
            Some("js") => "javascript",
            Some("ts") => "typescript",
            _ => continue,
        };
        let expected = std::fs::read_to_string(file.with_extension("out")).unwrap();
        let code = std::fs::read_to_string(&file).unwrap();
        let parameters = serde_json::json!({ "code": code, "language": language }).to_string();
        let mut request = call("javascript", &parameters);
        // One of them reads it.
        request.stdin = "1\n2\n39\n".into();
        let run = server.call(request).await.unwrap();
        let failed = file.file_stem().is_some_and(|name| name == "exit");
        assert_eq!(run.execution().state() == v1::ExecutionState::Succeeded, !failed, "{file:?}: {}", run.0.stderr);
        assert_eq!(run.out(), expected, "{file:?}: {}", run.0.stderr);
        ran += 1;
    }
    assert!(ran >= 15, "only {ran} programs were found");
}
