//! The tool `code`: languages that an image has, compiled apart from their run.

use super::{exit, within};
use crate::harness::{reason, result, text};
use crate::kit::{House, docker};
use casemate::proto::v1;
use serde_json::json;
use tonic::Code;
use v1::execution_event::Event;
use v1::{ExecutionStage, ExitReason};

const C: &str = "#include <stdio.h>\nint main(int c, char **v) {\n  char line[64];\n  puts(v[1]);\n  \
                 puts(fgets(line, sizeof line, stdin));\n  return 4;\n}\n";

#[tokio::test]
async fn a_program_is_compiled_and_then_run() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let id = house.languages().await;
    let call = v1::ToolCall {
        arguments: vec!["argument".into()],
        stdin: b"input".as_slice().into(),
        ..within(&id, "code", json!({"language": "c", "code": C}))
    };
    let ran = house.server().run(call).await.unwrap();
    assert_eq!((text(&ran).as_str(), exit(&ran)), ("argument\ninput\n", (ExitReason::Exited, 4)), "{}", ran.stderr);
    let stages = &result(&ran).stages;
    let of = |at: usize| (stages[at].stage(), stages[at].exit_code);
    assert_eq!((stages.len(), of(0), of(1)), (2, (ExecutionStage::Compile, 0), (ExecutionStage::Run, 4)));
    assert!(stages.iter().all(|stage| stage.run_time.is_some()));
    assert_eq!(result(&ran).files.len(), 0, "what was compiled is not what it left");
    // As it was told while it ran, and as it is kept.
    let watch = v1::WatchExecutionRequest { execution_id: ran.execution.unwrap().id, ..Default::default() };
    let mut events = house.server().executions().await.watch_execution(watch).await.unwrap().into_inner();
    let mut told = Vec::new();
    while let Some(message) = events.message().await.unwrap() {
        match message.event.unwrap().event.unwrap() {
            Event::Stage(stage) => told.push(format!("{:?}", stage.stage())),
            Event::Stdout(_) => told.push("output".into()),
            _ => {}
        }
    }
    told.dedup();
    assert_eq!(told, ["Compile", "Run", "output"]);
}

#[tokio::test]
async fn what_does_not_compile_is_told_apart_from_what_fails() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let id = house.languages().await;
    let ran = house.tool(&id, "code", json!({"language": "c", "code": "int main( {"})).await.unwrap();
    let [stage] = &result(&ran).stages[..] else { panic!("{:?}", result(&ran).stages) };
    assert_eq!((stage.stage(), stage.exit_code), (ExecutionStage::Compile, 1));
    assert!(stage.diagnostics.contains("error"), "{stage:?}");
    assert!(result(&ran).message.contains("does not compile"), "{}", result(&ran).message);
    let broken = "int main() { return *(volatile int *)0; }";
    let ran = house.tool(&id, "code", json!({"language": "c", "code": broken})).await.unwrap();
    let stages = &result(&ran).stages;
    assert_eq!((stages.len(), stages[1].signal.as_str()), (2, "SIGSEGV"));
    assert_eq!(exit(&ran).0, ExitReason::Signaled);
}

#[tokio::test]
async fn each_language_of_the_image_runs_and_is_offered() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let id = house.languages().await;
    for (language, code) in [
        ("bash", "a=(one two); echo ${a[1]} $1"),
        ("sh", "echo two $1"),
        ("python", "import sys; print('two', sys.argv[1])"),
        ("lua", "print('two ' .. arg[1])"),
        ("perl", "print \"two $ARGV[0]\\n\";"),
        ("c", "#include <stdio.h>\nint main(int c, char **v) { printf(\"two %s\\n\", v[1]); return 0; }"),
        ("PY", "import sys; print('two', sys.argv[1])"),
    ] {
        let call = v1::ToolCall {
            arguments: vec!["x".into()],
            ..within(&id, "code", json!({"language": language, "code": code}))
        };
        let ran = house.server().run(call).await.unwrap();
        assert_eq!((text(&ran).as_str(), exit(&ran).1), ("two x\n", 0), "{language}: {}", ran.stderr);
        assert_eq!(result(&ran).stages.len(), if language == "c" { 2 } else { 0 });
    }
    let refused = house.tool(&id, "code", json!({"language": "ruby", "code": "1"})).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("bash, c, lua, perl, python, sh"), "{refused}");
    let refused = house.tool(&id, "code", json!({"language": "cobol", "code": "1"})).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "INVALID_ARGUMENT"));

    let request = v1::GetToolSchemasRequest { target: within(&id, "code", json!({})).target, ..Default::default() };
    let schemas = house.server().tools().await.get_tool_schemas(request).await.unwrap().into_inner().schemas;
    let text = format!("{schemas:?}");
    assert_eq!(schemas.len(), 4, "{text}");
    assert!(text.contains("Languages here: bash, c, lua, perl, python, sh."), "{text}");
    let bare = house.idle().await.id;
    let request = v1::GetToolSchemasRequest { target: within(&bare, "code", json!({})).target, ..Default::default() };
    let schemas = house.server().tools().await.get_tool_schemas(request).await.unwrap().into_inner().schemas;
    assert_eq!(schemas.len(), 3, "no python: {schemas:?}");
}
