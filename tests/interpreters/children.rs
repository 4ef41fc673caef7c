//! Tools called from Python: executions of their own, within what their parent may use.

use crate::guests;
use crate::harness::Setup;
use crate::kit::{self, Python, code, limited, seconds, within};
use casemate::proto::v1;
use casemate::proto::v1::{ExecutionState, ExitReason};

fn with_tools(setup: Setup) -> Setup {
    let described = "description = \"Gives back what it gets.\"\n[input_schema]\ntype = \"object\"\nrequired = [\"text\"]\n\
                     [input_schema.properties.text]\ntype = \"string\"\ndescription = \"What to say.\"\n\
                     [input_schema.properties.times]\ntype = \"integer\"\n";
    setup
        .tool("echo", &guests::cat(), described)
        .tool("cat", &guests::cat(), "")
        .tool("say", &guests::say("no json"), "")
        .tool("spin", &guests::spin(), "")
        .tool("brief", &guests::spin(), "[limits]\nwall_time = \"100ms\"")
        .tool("fail", &guests::exit(7), "")
        .tool("trap", &guests::trap(), "")
        .tool("two-words", &guests::cat(), "")
}

async fn children(python: &Python, parent: &str) -> Vec<v1::Execution> {
    let filter = v1::ExecutionFilter { parent_execution_id: parent.into(), ..Default::default() };
    let request = v1::ListExecutionsRequest { page_size: 500, filter: Some(filter), ..Default::default() };
    python.executions().list_executions(request).await.unwrap().into_inner().executions
}

async fn events(python: &Python, id: &str) -> Vec<v1::ChildExecutionEvent> {
    let request = v1::WatchExecutionRequest { execution_id: id.into(), ..Default::default() };
    let mut stream = python.executions().watch_execution(request).await.unwrap().into_inner();
    let mut events = Vec::new();
    while let Some(next) = stream.message().await.unwrap() {
        if let Some(v1::execution_event::Event::Child(child)) = next.event.unwrap().event {
            events.push(child);
        }
    }
    events
}

#[tokio::test]
async fn tools_are_functions() {
    let Some(python) = kit::start_with(with_tools).await else { return };
    let text = r#"
from casemate import tools, ToolError
import inspect, json
print(tools.echo("hi", times=2) == {"text": "hi", "times": 2}, tools.echo(text="é\n"), tools.say(), tools.two_words(a=[1, None]))
print(inspect.signature(tools.echo), "What to say." in tools.echo.__doc__, {"echo", "python", "two_words"} <= set(dir(tools)))
for go in (lambda: tools.fail(), lambda: tools.trap(), lambda: tools.echo(), lambda: tools.echo(text=5), lambda: tools.nope(),
           lambda: tools.echo(1, 2, 3), lambda: tools.echo("a", text="b"), lambda: tools.brief()):
    try:
        go()
        print("nothing")
    except ToolError as problem:
        print("ToolError", problem.reason, problem)
    except (AttributeError, TypeError) as problem:
        print(type(problem).__name__, problem)
"#;
    let run = python.run(text).await;
    let printed = run.fine();
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines[0], "True {'text': 'é\\n'} no json {'a': [1, None]}");
    assert_eq!(lines[1], "(text: 'str', times: 'int' = None) True True");
    let wanted = [
        ("ToolError TOOL_FAILED", "code 7"),
        ("ToolError TOOL_FAILED", "trapped"),
        ("ToolError PARAMETERS_INVALID", "text"),
        ("ToolError PARAMETERS_INVALID", "text"),
        ("AttributeError", "there is no tool 'nope'"),
        ("TypeError", "at most 2 positional"),
        ("TypeError", "'text' twice"),
        // Its own limit holds, though the parent has more time.
        ("ToolError TOOL_FAILED", "limit of 100ms"),
    ];
    assert_eq!(lines.len(), 2 + wanted.len(), "{printed}");
    for (line, (start, words)) in lines[2..].iter().zip(wanted) {
        assert!(line.starts_with(start) && line.contains(words), "{line}, wanted {start} {words}");
    }

    // Each that began is an execution with this parent, and the journal has its beginning and its end.
    let id = &run.execution().id;
    let executions = children(&python, id).await;
    assert_eq!(executions.len(), 7, "{executions:?}");
    assert!(
        executions.iter().all(|child| child.parent_execution_id == *id && child.principal == run.execution().principal)
    );
    let told = events(&python, id).await;
    for child in &executions {
        let states: Vec<ExecutionState> =
            told.iter().filter(|event| event.execution_id == child.id).map(|event| event.state()).collect();
        assert_eq!(states, [ExecutionState::Running, child.state()], "{child:?}");
    }
    let refused: Vec<&v1::ChildExecutionEvent> = told.iter().filter(|event| event.execution_id.is_empty()).collect();
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(refused.iter().all(|event| event.tool == "echo" && event.message.contains("text")));
    assert_eq!(run.result().usage.unwrap().child_executions, 9);
}

#[tokio::test]
async fn calls_of_tools_are_counted() {
    let Some(python) = kit::start_with(with_tools).await else { return };
    let text = "from casemate import tools, ToolError\ndone = 0\ntry:\n    while True:\n        tools.say()\n        done += 1\nexcept ToolError as e:\n    print(done, e.reason, e)";
    let few = v1::ExecutionLimits { child_executions: 3, ..Default::default() };
    let run = python.call(limited(few, code(text))).await.unwrap();
    assert!(
        run.fine().starts_with("3 CHILD_EXECUTIONS_EXHAUSTED") && run.out().contains("limits.child_executions"),
        "{}",
        run.out()
    );
    let few = v1::ExecutionLimits { host_calls: 4, ..Default::default() };
    let run = python.call(limited(few, code(text))).await.unwrap();
    assert!(run.fine().starts_with("4 HOST_CALLS_EXHAUSTED"), "{}", run.out());
    // Calls by called tools count, too: nesting is no way around the limit.
    let nested = "from casemate import tools, ToolError\nfor i in range(4):\n    try: print(tools.python(code='''\nfrom casemate import tools, ToolError\nn = 0\ntry:\n    while n < 3:\n        tools.say()\n        n += 1\nexcept ToolError as e: print(e.reason, end=\" \")\nprint(n)'''))\n    except ToolError as e: print(e.reason)";
    let ten = v1::ExecutionLimits { child_executions: 10, ..Default::default() };
    let run = python.call(limited(ten, code(nested))).await.unwrap();
    assert_eq!(run.fine(), "3\n3\nCHILD_EXECUTIONS_EXHAUSTED 1\n\nCHILD_EXECUTIONS_EXHAUSTED\n");
    assert!(run.result().usage.unwrap().child_executions >= 10);
}

/// Calls Python from Python until that is refused, and counts.
const NEST: &str = r#"
import sys
from casemate import tools, ToolError
def nest(code):
    try:
        return tools.python(code=code)
    except ToolError as problem:
        return problem.reason
source = "import json\nfrom casemate import tools, ToolError\nsource = %r\ntry:\n    print(1 + int(tools.python(code=source %% source)))\nexcept ToolError as e:\n    print(0 if e.reason == 'CHILD_DEPTH_EXHAUSTED' else e)"
print(tools.python(code=source % source))
"#;

#[tokio::test]
async fn nesting_ends_at_its_limit() {
    let Some(python) = kit::start().await else { return };
    for depth in [1, 2, 4] {
        let limits = v1::ExecutionLimits { child_depth: depth, ..Default::default() };
        let run = python.call(limited(limits, code(NEST))).await.unwrap();
        // The outermost calls one that counts how many more there are below it.
        assert_eq!(run.fine(), format!("{}\n", depth - 1), "depth {depth}");
        let mut parent = run.execution().id.clone();
        for level in 1..=depth {
            let below = children(&python, &parent).await;
            assert_eq!(below.len(), 1, "level {level} of {depth}");
            parent = below[0].id.clone();
        }
        assert_eq!(children(&python, &parent).await.len(), 0);
    }
}

#[tokio::test]
async fn a_child_ends_with_its_parent() {
    let Some(python) = kit::start_with(with_tools).await else { return };
    let text = "from casemate import tools\nprint('going', flush=True)\ntools.spin()";
    let run = python.call(limited(seconds(1), code(text))).await.unwrap();
    // The child has what is left of the time; whichever is noticed first.
    assert!(run.reason() == ExitReason::TimedOut || run.raised().0 == "casemate.ToolError", "{:?}", run.0);
    let below = children(&python, &run.execution().id).await;
    assert_eq!(below.len(), 1);
    ended(&python, &below[0].id).await;

    let text = "from casemate import tools, progress\nprogress('going')\nprint('going', flush=True)\ntools.python(code='while True: pass')";
    let (id, stream) = python.begin(code(text), "going").await;
    let child = loop {
        if let Some(child) = children(&python, &id).await.pop() {
            break child.id;
        }
    };
    let cancel = v1::CancelExecutionRequest { execution_id: id.clone(), ..Default::default() };
    python.executions().cancel_execution(cancel).await.unwrap();
    drop(stream);
    ended(&python, &id).await;
    ended(&python, &child).await;
}

async fn ended(python: &Python, id: &str) {
    let timeout = Some(prost_types::Duration { seconds: 20, nanos: 0 });
    let wait = v1::WaitExecutionRequest { execution_id: id.into(), timeout };
    let answer = python.executions().wait_execution(wait).await.unwrap().into_inner();
    assert!(answer.done, "{:?}", answer.execution);
}

#[tokio::test]
async fn sessions_call_tools_in_every_turn() {
    let Some(python) = kit::start_with(with_tools).await else { return };
    let session = python.session().await;
    python.turn(&session, "from casemate import tools\nn = 0").await.fine();
    for turn in 1..=3 {
        let run = python.turn(&session, "n += 1\nprint(tools.echo(str(n))['text'])").await;
        assert_eq!(run.fine(), format!("{turn}\n"));
        assert_eq!(children(&python, &run.execution().id).await.len(), 1);
    }
    python.durable(&session).await;
    let python = python.kill_and_restart().await;
    assert_eq!(python.turn(&session, "print(tools.echo(text=str(n))['text'])").await.fine(), "3\n");
    let fork = v1::ForkSessionRequest { session_id: session, count: 1, ..Default::default() };
    let fork = python.sessions().fork_session(fork).await.unwrap().into_inner().sessions.remove(0);
    let call = within(&fork.id, code("print(tools.echo(text='fork')['text'])"));
    assert_eq!(python.call(call).await.unwrap().fine(), "fork\n");
}

#[tokio::test]
async fn parents_do_not_starve_their_children_of_slots() {
    let lines = "[execution]\nmax_running = 2";
    let Some(python) = kit::start_with(|setup| with_tools(setup).config(lines)).await else { return };
    let python = std::sync::Arc::new(python);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let python = python.clone();
        calls.spawn(async move {
            let text = "from casemate import tools\nprint(tools.echo(text='a')['text'], tools.python(code='print(5)'))";
            python.run(text).await.fine()
        });
    }
    for printed in calls.join_all().await {
        assert_eq!(printed, "a 5\n");
    }
}
