//! tools: register, upload, get, delete, reload, schemas.

use crate::kit::{Folder, module};

fn names(list: &serde_json::Value) -> Vec<&str> {
    list["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect()
}

#[test]
fn a_tool_comes_changes_and_goes() {
    let server = Folder::new(&[]).serve(&[]);
    assert_eq!(names(&server.casemate(&["tools", "list"]).expect(0).json()), [""; 0]);
    std::fs::write(server.path("m.wasm"), module("echo")).unwrap();
    let manifest = "description = 'Says it again'\nversion = '3'\nnetwork.allow = ['a.example:443']\n[input_schema]\ntype = 'object'\n[limits]\nwall_time = '3s'";
    std::fs::write(server.path("m.toml"), manifest).unwrap();
    let register = ["tools", "register", "again", "--module", "m.wasm", "--manifest", "m.toml"];
    let tool = server.casemate(&register).expect(0).json();
    assert_eq!((&tool["name"], &tool["state"]), (&"again".into(), &"TOOL_STATE_READY".into()), "{tool}");
    let shown = server.casemate(&["tools", "get", "again"]).expect(0).json();
    assert_eq!(shown["manifest"]["version"], "3");
    assert_eq!(shown["manifest"]["limits"]["wallTime"], "3s");
    assert_eq!(shown["manifest"]["network"]["allow"][0], "a.example:443");
    assert_eq!(shown["manifest"]["inputSchema"]["type"], "object");
    // Only the manifest changes.
    std::fs::write(server.path("m.json"), r#"{"description":"Better","version":"4"}"#).unwrap();
    let tool = server.casemate(&["tools", "register", "again", "--manifest", "m.json"]).expect(0).json();
    assert_eq!((&tool["manifest"]["version"], &tool["digest"]), (&"4".into(), &shown["digest"]));
    server.casemate(&["run", "again", r#"{"text":"x"}"#]).expect(0);
    server.casemate(&["tools", "upload", "loaded", "m.wasm", "--manifest", "m.toml"]).expect(0);
    assert_eq!(names(&server.casemate(&["tools", "list"]).expect(0).json()), ["again", "loaded"]);
    server.casemate(&["tools", "delete", "again"]).expect(0);
    server.casemate(&["tools", "get", "again"]).expect(5);
    server.casemate(&["tools", "delete", "again"]).expect(5);
}

#[test]
fn what_cannot_be_a_tool_is_refused_with_reasons() {
    let server = Folder::new(&[]).serve(&[]);
    std::fs::write(server.path("m.wasm"), b"\0asm nonsense").unwrap();
    let refused = server.casemate(&["tools", "upload", "bad", "m.wasm"]).expect(1).stderr;
    assert!(refused.contains("tool \"bad\" was not uploaded") && refused.contains("MODULE_INVALID"), "{refused}");
    std::fs::write(server.path("m.toml"), "wall_time = 3").unwrap();
    let refused = server.casemate(&["tools", "register", "bad", "--manifest", "m.toml"]).expect(1).stderr;
    assert!(refused.contains("the manifest m.toml cannot be used") && refused.contains("wall_time"), "{refused}");
    let refused = server.casemate(&["tools", "register", "bad", "--module", "missing.wasm"]).expect(1).stderr;
    assert!(refused.contains("missing.wasm"), "{refused}");
    server.casemate(&["tools", "register", "bad"]).expect(2);
}

#[test]
fn reload_tells_what_changed() {
    let folder = Folder::new(&["echo"]);
    let path = folder.path().join("casemate.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    // Otherwise the server would be faster than the command.
    std::fs::write(&path, config.replace("[tools]", "[tools]\nwatch = false")).unwrap();
    let server = folder.serve(&[]);
    std::fs::write(server.path("tools/new.wasm"), module("echo")).unwrap();
    std::fs::write(server.path("tools/bad.wasm"), b"nonsense").unwrap();
    std::fs::remove_file(server.path("tools/echo.wasm")).unwrap();
    let reloaded = server.casemate(&["tools", "reload"]).expect(0).json();
    assert_eq!(
        (&reloaded["removed"][0], &reloaded["problems"][0]["name"]),
        (&"echo".into(), &"bad".into()),
        "{reloaded}"
    );
    assert!(reloaded["added"].as_array().unwrap().contains(&"new".into()), "{reloaded}");
    let again = server.casemate(&["tools", "reload"]).expect(0).json();
    assert_eq!(again["added"], serde_json::json!([]));
}

#[test]
fn schemas_come_in_three_forms() {
    let server = Folder::new(&["echo"]).serve(&[]);
    let form =
        |form: &str| server.casemate(&["tools", "schemas", "echo", "--format", form]).expect(0).json()[0].clone();
    assert_eq!(form("openai")["function"]["name"], "echo");
    assert!(form("anthropic")["input_schema"].is_object());
    assert!(form("mcp")["inputSchema"].is_object());
    server.casemate(&["tools", "schemas", "nothing"]).expect(5);
}
