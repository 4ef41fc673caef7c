//! The tool `files`.

use super::{exit, left};
use crate::harness::text;
use crate::kit::{House, docker};
use casemate::proto::v1;
use serde_json::{Value, json};
use tonic::Code;
use v1::ExitReason;

async fn ask(house: &House, id: &str, parameters: Value) -> Value {
    let ran = house.tool(id, "files", parameters.clone()).await.unwrap();
    assert_eq!(exit(&ran), (ExitReason::Exited, 0), "{parameters}: {}", ran.stderr);
    serde_json::from_str(&text(&ran)).unwrap()
}

#[tokio::test]
async fn files_are_written_read_edited_moved_and_removed() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let id = house.idle().await.id;
    let content = "one\ntwo ä\none\n";
    let written = house.tool(&id, "files", json!({"operation": "write", "path": "d/a.txt", "content": content}));
    let written = written.await.unwrap();
    assert_eq!(left(&written), [("d/a.txt", true)]);
    let read = ask(&house, &id, json!({"operation": "read", "path": "d/a.txt"})).await;
    assert_eq!((&read["content"], &read["complete"], &read["size"]), (&json!(content), &json!(true), &json!(15)));
    let piece = ask(&house, &id, json!({"operation": "read", "path": "d/a.txt", "offset": 4, "length": 3})).await;
    assert_eq!((&piece["content"], &piece["complete"]), (&json!("two"), &json!(false)));
    let edit = json!({"operation": "edit", "path": "d/a.txt", "old": "two", "new": "2"});
    assert_eq!(ask(&house, &id, edit).await["replaced"], 1);
    let edit = json!({"operation": "edit", "path": "d/a.txt", "old": "one", "new": "1", "replace_all": true});
    assert_eq!(ask(&house, &id, edit).await["replaced"], 2);
    ask(&house, &id, json!({"operation": "append", "path": "d/a.txt", "content": "AP8=", "encoding": "base64"})).await;
    let bytes = ask(&house, &id, json!({"operation": "read", "path": "/workspace/d/a.txt"})).await;
    assert_eq!(bytes["encoding"], "base64");
    assert_eq!(house.says(&id, "od -An -c d/a.txt | tail -1 | tr -d ' '").await.trim(), "1\\n2303244\\n1\\n\\0377");
    ask(&house, &id, json!({"operation": "make_directory", "path": "x/y"})).await;
    let moved = json!({"operation": "move", "path": "d/a.txt", "destination": "x/y/b"});
    assert_eq!(ask(&house, &id, moved).await["path"], "/workspace/x/y/b");
    let listed = ask(&house, &id, json!({"operation": "list", "depth": 5})).await;
    let paths: Vec<&str> = listed["entries"].as_array().unwrap().iter().map(|e| e["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["/workspace/d", "/workspace/x", "/workspace/x/y", "/workspace/x/y/b"]);
    let stat = ask(&house, &id, json!({"operation": "stat", "path": "x/y/b"})).await;
    assert_eq!((&stat["kind"], &stat["mode"]), (&json!("file"), &json!("0644")));
    assert_eq!(ask(&house, &id, json!({"operation": "remove", "path": "x", "recursive": true})).await["removed"], 3);
}

#[tokio::test]
async fn what_goes_wrong_with_a_file_is_a_result_and_what_is_wrong_with_the_call_is_an_error() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let id = house.idle().await.id;
    ask(&house, &id, json!({"operation": "write", "path": "a", "content": "xx"})).await;
    for (parameters, says) in [
        (json!({"operation": "read", "path": "none"}), "none"),
        (json!({"operation": "edit", "path": "a", "old": "x", "new": "y"}), "2 times"),
        (json!({"operation": "edit", "path": "a", "old": "q", "new": "y"}), "is not in"),
        (json!({"operation": "write", "path": "/etc/passwd", "content": "x"}), "/etc/passwd"),
        (json!({"operation": "remove", "path": "/"}), ""),
    ] {
        let ran = house.tool(&id, "files", parameters.clone()).await.unwrap();
        assert_eq!(exit(&ran), (ExitReason::Exited, 1), "{parameters}");
        assert!(ran.stderr.contains(says), "{parameters}: {}", ran.stderr);
    }
    for parameters in [
        json!({"operation": "burn", "path": "a"}),
        json!({"operation": "write", "path": "a"}),
        json!({"operation": "write", "path": "a", "content": "?", "encoding": "base64"}),
        json!({"operation": "edit", "path": "a", "old": "", "new": "b"}),
    ] {
        let refused = house.tool(&id, "files", parameters.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{parameters}: {refused}");
    }
}
