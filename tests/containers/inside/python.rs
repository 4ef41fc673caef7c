//! The tool `python` inside a container.

use super::{exit, left, within};
use crate::harness::{result, text};
use crate::kit::{House, docker};
use casemate::proto::v1;
use serde_json::json;
use v1::ExitReason;
use v1::representation::Content;

fn shown(output: &v1::RichOutput) -> Vec<(&str, String)> {
    let forms = output.representations.iter().map(|form| {
        let content = match form.content.as_ref().unwrap() {
            Content::Text(text) => text.clone(),
            Content::Data(data) => format!("{} bytes", data.len()),
        };
        (form.mime_type.as_str(), content)
    });
    forms.collect()
}

#[tokio::test]
async fn the_last_expression_is_the_value_and_things_are_displayed() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let id = house.python().await;
    let code = "import sys\nprint('out')\nprint('err', file=sys.stderr)\n\
                class P:\n    def _repr_png_(self): return b'\\x89PNG'\n    def _repr_html_(self): return '<b>p</b>'\n\
\x20   def __repr__(self): return 'P!'\n\
                display(P())\nopen('made.txt', 'w').write('x')\n{'a': [1, 2.5, None]}";
    let ran = house.tool(&id, "python", json!({"code": code})).await.unwrap();
    assert_eq!((text(&ran).as_str(), ran.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!(exit(&ran), (ExitReason::Exited, 0));
    let value = ran.value.as_ref().unwrap();
    assert_eq!(value.representations.last().unwrap().mime_type, "text/plain");
    assert!(shown(value).contains(&("text/plain", "{'a': [1, 2.5, None]}".into())), "{value:?}");
    assert_eq!(value.representations[0].mime_type, "application/json");
    let [displayed] = &ran.rich_outputs[..] else { panic!("{:?}", ran.rich_outputs) };
    let expected = [("text/html", "<b>p</b>".into()), ("image/png", "4 bytes".into()), ("text/plain", "P!".into())];
    assert_eq!(shown(displayed), expected);
    assert_eq!(left(&ran), [("made.txt", true)]);
}

#[tokio::test]
async fn an_exception_is_told_with_the_callers_own_lines() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let id = house.python().await;
    let code = "def f(n):\n    return 1 / n\n\nf(0)\n";
    let ran = house.tool(&id, "python", json!({"code": code})).await.unwrap();
    assert_eq!(exit(&ran), (ExitReason::Exited, 1));
    let exception = result(&ran).exception.as_ref().unwrap();
    assert_eq!((exception.type_name.as_str(), exception.message.as_str()), ("ZeroDivisionError", "division by zero"));
    let frames: Vec<_> = exception.frames.iter().map(|f| (f.file.as_str(), f.line, f.function.as_str())).collect();
    assert_eq!(frames, [("<code>", 4, ""), ("<code>", 2, "f")]);
    assert_eq!(exception.frames[1].source.trim(), "return 1 / n");
    assert!(ran.stderr.contains("ZeroDivisionError") && !ran.stderr.contains("run.py"), "{}", ran.stderr);
    assert_eq!(exception.traceback, ran.stderr);

    let ran = house.tool(&id, "python", json!({"code": "x = 1\nif x\n"})).await.unwrap();
    let exception = result(&ran).exception.as_ref().unwrap();
    assert_eq!((exception.type_name.as_str(), exception.frames[0].line), ("SyntaxError", 2));
    assert!(!exception.traceback.contains("run.py"), "{}", exception.traceback);
    let ran = house.tool(&id, "python", json!({"code": "import sys\nsys.exit(7)"})).await.unwrap();
    assert_eq!((exit(&ran), result(&ran).exception.is_none()), ((ExitReason::Exited, 7), true));
    let ran = house.tool(&id, "python", json!({"code": "import os\nos._exit(9)"})).await.unwrap();
    assert_eq!(exit(&ran), (ExitReason::Exited, 9));
}

#[tokio::test]
async fn it_is_a_python_like_any_other() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let id = house.python().await;
    let module = v1::InputFile { path: "mine.py".into(), data: b"answer = 42\n".as_slice().into(), mode: None };
    let code = "import asyncio, mine, os, sys, pickle, subprocess, threading\n\
                class C: pass\n\
                assert type(pickle.loads(pickle.dumps(C()))) is C\n\
                assert __name__ == '__main__'\n\
                t = threading.Thread(target=lambda: print('thread'))\nt.start()\nt.join()\n\
                subprocess.run(['echo', 'child'], check=True)\n\
                await asyncio.sleep(0)\n\
                print(sys.argv[1:], input(), os.getcwd(), mine.answer)\n\
                await asyncio.sleep(0, 'awaited')";
    let call = v1::ToolCall {
        files: vec![module],
        arguments: vec!["a".into()],
        stdin: b"line\n".as_slice().into(),
        ..within(&id, "python", json!({"code": code}))
    };
    let ran = house.server().run(call).await.unwrap();
    assert_eq!(exit(&ran), (ExitReason::Exited, 0), "{}", ran.stderr);
    let mut lines: Vec<String> = text(&ran).lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["['a'] line /workspace 42", "child", "thread"]);
    assert_eq!(shown(ran.value.as_ref().unwrap()), [("text/plain", "'awaited'".into())]);
}
