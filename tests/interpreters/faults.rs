//! Code that does not end, takes too much, or is no code at all: each is a result, and the server goes on.

use crate::kit::{self, Run, code, limited, seconds};
use casemate::proto::v1;
use casemate::proto::v1::ExitReason;

/// The server answers, and the next run of the same caller is as any.
async fn goes_on(python: &kit::Python) {
    assert_eq!(python.run("import json\nprint(json.dumps({'a': 40 + 2}))").await.fine(), "{\"a\": 42}\n");
}

#[tokio::test]
async fn what_does_not_end_is_ended() {
    let Some(python) = kit::start().await else { return };
    let endless = [
        "while True: pass",
        "import time\ntime.sleep(1e9)",
        "import re\nre.match(r'(a+)+$', 'a' * 60 + 'b')",
        "x = 9 ** 9 ** 9",
        "sum(iter(int, 1))",
        "import asyncio\nawait asyncio.sleep(1e9)",
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "import time\nwhile True:\n    try: time.sleep(1e9)\n    except BaseException: pass",
        "kept = []\nwhile True:\n    try: kept.append(bytearray(1 << 20))\n    except BaseException: pass",
        "class A:\n    def __del__(self):\n        while True: pass\nx = A()\ndel x",
        "import numpy as np\nwhile True: np.arange(1_000_000).sort()",
        "'a' in iter(lambda: 'b', 'c')",
    ];
    for text in endless {
        let run = python.call(limited(seconds(1), code(text))).await.unwrap();
        assert_eq!(run.reason(), ExitReason::TimedOut, "{text}: {:?}", run.0);
        assert!(run.result().message.contains("limits.wall_time"), "{}", run.result().message);
    }
    goes_on(&python).await;
}

#[tokio::test]
async fn recursion_is_an_error_and_at_worst_the_end_of_the_run() {
    let Some(python) = kit::start().await else { return };
    let run = python.run("def f(n):\n    return f(n + 1)\nf(0)").await;
    assert_eq!(run.raised().0, "RecursionError");
    let frame = run.exception().frames.last().unwrap();
    assert_eq!((frame.line, frame.function.as_str(), frame.source.as_str()), (2, "f", "return f(n + 1)"));
    let caught = "def f(n):\n    return f(n + 1)\ntry:\n    f(0)\nexcept RecursionError as e:\n    print('caught')";
    assert_eq!(python.run(caught).await.fine(), "caught\n");
    for deep in [
        "import sys\nsys.setrecursionlimit(10 ** 8)\ndef f(n):\n    return f(n + 1)\nf(0)",
        "import sys, json\nsys.setrecursionlimit(10 ** 8)\nx = []\nfor i in range(10 ** 6): x = [x]\nrepr(x)",
        "x = []\nfor i in range(10 ** 6): x = [x]\ndel x",
        "x = None\nfor i in range(10 ** 6): x = (x,)\ndel x",
    ] {
        let run = python.run(deep).await;
        match run.reason() {
            // Whatever CPython takes apart without recursion is no fault at all.
            ExitReason::Exited => {}
            ExitReason::StackOverflow => {
                assert!(run.result().message.contains("nest less"), "{}", run.result().message);
                assert!(!run.result().message.contains("limits.stack_bytes"), "it does not move this stack");
            }
            _ => panic!("{deep}: {:?}", run.0),
        }
    }
    let list = "x = []\nfor i in range(10 ** 6): x = [x]\nprint('made')\ndel x\nprint('freed')";
    let run = python.run(list).await;
    assert!(run.reason() == ExitReason::StackOverflow || run.fine() == "made\nfreed\n", "{:?}", run.0);
    assert!(run.out().starts_with("made\n"), "what it said before is kept");
    goes_on(&python).await;
}

#[tokio::test]
async fn memory_beyond_the_limit_is_an_error_that_can_be_caught() {
    let Some(python) = kit::start().await else { return };
    let caught = "try:\n    x = bytearray(1 << 30)\nexcept MemoryError:\n    print('caught')";
    assert_eq!(python.run(caught).await.fine(), "caught\n");
    let bombs = [
        "x = []\nwhile True: x.append(bytearray(1 << 20))",
        "x = 'a'\nwhile True: x += x",
        "x = [0]\nwhile True: x *= 2",
        "import numpy as np\nx = np.ones((1 << 13, 1 << 13))",
        "x = list(range(10 ** 8))",
    ];
    for bomb in bombs {
        let run = python.run(bomb).await;
        match run.reason() {
            ExitReason::Exited => {
                let (kind, _) = run.raised();
                assert!(kind.ends_with("MemoryError"), "{bomb}: {:?}", run.0);
                assert!(!run.exception().frames.is_empty(), "{bomb}");
            }
            ExitReason::OutOfMemory => assert!(run.result().message.contains("limits.memory_bytes")),
            _ => panic!("{bomb}: {:?}", run.0),
        }
    }
    // The limit is of this call, beyond the image.
    let little = v1::ExecutionLimits { memory_bytes: 32 << 20, ..Default::default() };
    let text = "n = 0\nx = []\ntry:\n    while True:\n        x.append(bytearray(1 << 20))\n        n += 1\nexcept MemoryError:\n    print(n)";
    let run = python.call(limited(little, code(text))).await.unwrap();
    let blocks: u64 = run.fine().trim().parse().unwrap();
    assert!((16..=40).contains(&blocks), "{blocks} MiB");
    assert!(run.result().usage.unwrap().peak_memory_bytes <= 32 << 20);
    goes_on(&python).await;
}

#[tokio::test]
async fn a_flood_is_cut_and_runs_to_its_end() {
    let Some(python) = kit::start().await else { return };
    let text =
        "import sys\nline = 'x' * 99_999 + '\\n'\nfor i in range(1000):\n    sys.stdout.write(line)\nprint('the end')";
    let run = python.call(limited(seconds(60), code(text))).await.unwrap();
    assert!(run.fine().ends_with("the end\n"), "the tail is kept");
    assert!(run.0.output.as_ref().unwrap().truncated);
    let usage = run.result().usage.unwrap();
    assert_eq!(usage.stdout_bytes, 100_000_000 + 8);
    assert!(usage.truncated && usage.dropped_bytes > 90_000_000, "{usage:?}");
    let events = events(&python, &run.execution().id).await;
    let truncated = |event: &v1::ExecutionEvent| matches!(event.event, Some(v1::execution_event::Event::Truncated(_)));
    assert_eq!(events.iter().filter(|event| truncated(event)).count(), 1);
    assert!(matches!(events.last().unwrap().event, Some(v1::execution_event::Event::Finished(_))));
    goes_on(&python).await;
}

async fn events(python: &kit::Python, id: &str) -> Vec<v1::ExecutionEvent> {
    let request = v1::WatchExecutionRequest { execution_id: id.into(), ..Default::default() };
    let mut stream = python.executions().watch_execution(request).await.unwrap().into_inner();
    let mut events = Vec::new();
    while let Some(next) = stream.message().await.unwrap() {
        events.push(next.event.unwrap());
    }
    events
}

async fn stdout(python: &kit::Python, run: &Run) -> Vec<u8> {
    let chunk = |event: v1::ExecutionEvent| match event.event {
        Some(v1::execution_event::Event::Stdout(chunk)) => Some(chunk.data),
        _ => None,
    };
    events(python, &run.execution().id).await.into_iter().filter_map(chunk).flatten().collect()
}

#[tokio::test]
async fn output_is_bytes_and_need_not_be_text() {
    let Some(python) = kit::start().await else { return };
    // The answer is text, with a sign where it was none; the journal has the bytes.
    let run = python.run("import sys\nsys.stdout.buffer.write(bytes(range(256)))\nNone").await;
    assert!(run.fine().starts_with("\0\u{1}") && run.out().ends_with('\u{fffd}'));
    assert_eq!(stdout(&python, &run).await, (0..=255).collect::<Vec<u8>>());
    // A surrogate that stands for a byte becomes that byte again, as with native Python in a POSIX locale.
    let run = python.run("import os\nprint(os.fsdecode(b'a\\xff'))").await;
    assert_eq!(stdout(&python, &run).await, b"a\xff\n");
    let run = python.run("print('\\ud800')").await;
    assert_eq!(run.raised().0, "UnicodeEncodeError");
    let run = python.run("import sys\nprint('\\ud800', file=sys.stderr)\nraise ValueError('\\ud800')").await;
    assert_eq!(run.raised(), ("ValueError", "?"), "{:?}", run.0);
    assert_eq!(python.run("print('€ 漢 🦀', '\\0')").await.fine(), "€ 漢 🦀 \0\n");
}

#[tokio::test]
async fn code_may_be_long() {
    let Some(python) = kit::start().await else { return };
    let line = "x = 1  # a comment that makes this line one hundred characters long, so that many make some MB ....\n";
    let long = line.repeat(5_000_000 / line.len()) + "print(x)";
    assert!(long.len() > 4_900_000);
    // A call has a bound of its own, well above: what is refused is refused before it runs.
    match python.call(limited(seconds(60), code(&long))).await {
        Ok(run) => {
            let fine: Run = run;
            assert!(fine.reason() == ExitReason::Exited, "{:?}", fine.result());
            if fine.result().exit_code == 0 {
                assert_eq!(fine.out(), "1\n");
            } else {
                assert_eq!(fine.raised().0, "MemoryError");
            }
        }
        Err(status) => panic!("{status}"),
    }
    let expression = format!("print({})", ["1"; 100_000].join("+"));
    let run = python.run(&expression).await;
    assert!(
        run.reason() == ExitReason::StackOverflow || run.out() == "100000\n" || run.raised().0.ends_with("Error"),
        "{:?}",
        run.result()
    );
    let brackets = format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000));
    let run = python.run(&brackets).await;
    assert_eq!(run.raised().0, "MemoryError", "as with native Python");
    goes_on(&python).await;
}

#[tokio::test]
async fn errors_point_at_the_lines_of_the_code() {
    let Some(python) = kit::start().await else { return };
    // Code, type, line, function and source of the last frame.
    let cases: &[(&str, &str, u32, &str, &str)] = &[
        ("x = 1\ny = (2\nz = 3", "SyntaxError", 2, "", "y = (2"),
        ("x = 1\ndef f():\n    return 1 +\n", "SyntaxError", 3, "", "    return 1 +"),
        ("if True:\nprint(1)", "IndentationError", 2, "", "print(1)"),
        ("if True:\n    x = 1\n\ty = 2", "TabError", 3, "", "\ty = 2"),
        ("x = 1\nreturn x", "SyntaxError", 2, "", "return x"),
        ("1\n2\nf(", "SyntaxError", 3, "", "f("),
        ("x = 1\n\n1 / 0\n", "ZeroDivisionError", 3, "", "1 / 0"),
        ("x = 1\n\n[1][5]", "IndexError", 3, "", "[1][5]"),
        ("def f(x):\n    return g(x)\ndef g(x):\n    return x.y\nf(1)", "AttributeError", 4, "g", "return x.y"),
        (
            "class A:\n    def m(self):\n        raise KeyError('k')\nA().m()",
            "KeyError",
            3,
            "A.m",
            "raise KeyError('k')",
        ),
        ("import json\njson.loads('{')", "json.decoder.JSONDecodeError", 2, "", "json.loads('{')"),
        ("async def f():\n    1 / 0\nawait f()", "ZeroDivisionError", 2, "f", "1 / 0"),
        ("class Odd(Exception): pass\n\nraise Odd('a', 1)", "Odd", 3, "", "raise Odd('a', 1)"),
        ("import pandas as pd\npd.DataFrame({'a': [1]})['b']", "KeyError", 2, "", "pd.DataFrame({'a': [1]})['b']"),
        ("print(1)\r\n1 / 0\r\n", "ZeroDivisionError", 2, "", "1 / 0"),
        ("\u{feff}x = 1\n1 / 0", "ZeroDivisionError", 2, "", "1 / 0"),
    ];
    for (text, kind, line, function, source) in cases {
        let run = python.run(text).await;
        assert_eq!((run.reason(), run.result().exit_code), (ExitReason::Exited, 1), "{text}");
        let exception = run.exception();
        assert_eq!(exception.type_name, *kind, "{text}");
        let frame = exception.frames.last().unwrap_or_else(|| panic!("{text}: {exception:?}"));
        assert_eq!(frame.file, "<code>", "{text}");
        // Methods are named with or without their class, as the version of Python has it.
        let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
        assert_eq!((frame.line, last(&frame.function)), (*line, last(function)), "{text}");
        assert_eq!(frame.source.trim_end(), *source, "{text}");
        for ours in ["<casemate", "<reactor", "<frozen"] {
            assert!(!exception.traceback.contains(ours), "{text}:\n{}", exception.traceback);
        }
        assert!(exception.traceback.contains(&format!("line {line}")), "{text}:\n{}", exception.traceback);
        assert!(run.0.stderr.contains(last(kind).as_str()), "{text}: {}", run.0.stderr);
    }
    let run = python.run("try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise ValueError('b') from e").await;
    let traceback = &run.exception().traceback;
    assert!(traceback.contains("ZeroDivisionError") && traceback.contains("direct cause"), "{traceback}");
    let run = python.run("raise ExceptionGroup('g', [ValueError('a'), TypeError('b')])").await;
    assert!(run.exception().traceback.contains("TypeError: b"), "{}", run.exception().traceback);
}

#[tokio::test]
async fn exit_codes_are_those_of_system_exit() {
    let Some(python) = kit::start().await else { return };
    let cases = [
        ("raise SystemExit", 0),
        ("import sys\nsys.exit(None)", 0),
        ("import sys\nsys.exit(0)", 0),
        ("raise SystemExit(3)", 3),
        ("import sys\nsys.exit(True)", 1),
        ("import sys\nsys.exit(255)", 255),
        ("import sys\nsys.exit(256)", 0),
        ("import sys\nsys.exit(-1)", 255),
        ("import sys\nsys.exit(2 ** 100 + 5)", 5),
        ("raise SystemExit('text')", 1),
        ("raise SystemExit(['a', 1])", 1),
        ("quit(7)", 7),
        ("import os\nos._exit(9)", 9),
        ("def f():\n    try:\n        raise SystemExit(4)\n    finally:\n        print('finally')\nf()", 4),
        ("async def f():\n    raise SystemExit(6)\nawait f()", 6),
    ];
    for (text, wanted) in cases {
        let run = python.run(text).await;
        assert_eq!((run.reason(), run.result().exit_code), (ExitReason::Exited, wanted), "{text}: {:?}", run.0);
        assert_eq!(run.result().exception, None, "{text}: an exit is no exception");
    }
    assert!(python.run("raise SystemExit('text')").await.0.stderr.contains("text"));
}

#[tokio::test]
async fn values_are_told_whatever_their_size() {
    let Some(python) = kit::start().await else { return };
    let form = |run: &Run, mime: &str| {
        let value = run.0.value.clone().unwrap_or_else(|| panic!("no value: {:?}", run.0));
        let found = value.representations.into_iter().find(|form| form.mime_type == mime);
        found.unwrap_or_else(|| panic!("no {mime}"))
    };
    let text = |form: v1::Representation| match form.content {
        Some(v1::representation::Content::Text(text)) => text,
        other => panic!("{other:?}"),
    };
    let run = python.run("{'a': [1, 2.5, None, True, 'é']}").await;
    run.fine();
    assert_eq!(text(form(&run, "application/json")), r#"{"a": [1, 2.5, null, true, "é"]}"#);
    assert_eq!(text(form(&run, "text/plain")), "{'a': [1, 2.5, None, True, 'é']}");
    // More than a message may hold: told by its size, and the short form is there.
    let run = python.run("'a' * 20_000_000").await;
    run.fine();
    let json = form(&run, "application/json");
    assert_eq!((json.size_bytes, json.content), (20_000_002, None));
    assert!(text(form(&run, "text/plain")).ends_with("... (20000002 characters)"));
    let run = python.run("display(png=b'x' * (20 << 20), text='a picture')").await;
    run.fine();
    let shown = &run.0.rich_outputs[0].representations;
    assert_eq!((shown[0].size_bytes, &shown[0].content), (20 << 20, &None));
    assert_eq!(text(shown[1].clone()), "a picture");
    for (code, plain) in [
        ("x = []\nfor i in range(50_000): x = [x]\nx", "<list whose repr() raised RecursionError>"),
        ("class A:\n    def __repr__(self): return 1 / 0\nA()", "<A whose repr() raised ZeroDivisionError>"),
        ("float('nan')", "nan"),
        ("x = []\nx.append(x)\nx", "[[...]]"),
        ("2 ** 100", "1267650600228229401496703205376"),
    ] {
        let run = python.run(code).await;
        // Freeing what is nested that deep may end the run after its value was told.
        assert!([ExitReason::Exited, ExitReason::StackOverflow].contains(&run.reason()), "{code}: {:?}", run.0);
        assert_eq!(text(form(&run, "text/plain")), plain, "{code}");
    }
}
