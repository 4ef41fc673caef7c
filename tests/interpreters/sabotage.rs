//! Code that breaks the machinery it runs on: its own result may be odd, and nothing else is.

use crate::kit::{self, code, limited, seconds};
use casemate::proto::v1::ExitReason;

const SABOTAGE: &[&str] = &[
    "import sys; sys.stdout = sys.stderr = sys.stdin = None; print('x'); 1 / 0",
    "import sys; sys.stdout.close(); sys.stderr.close(); sys.__stdout__.close(); print('x')",
    "import sys\nclass W:\n    def write(self, s): raise KeyboardInterrupt\n    flush = write\nsys.stdout = sys.stderr = W()\n1 / 0",
    "import builtins; del builtins.print; 40 + 2",
    "import builtins; builtins.__dict__.clear(); x = 1\nx",
    "import builtins; builtins.getattr = builtins.dict = builtins.list = builtins.set = None\n[1]",
    "import json; json.dumps = json.loads = None; json.encoder = None; {'a': 1}",
    "import ast; ast.Expr = ast.Expression = None; 40 + 2",
    "import linecache; linecache.cache = None; 1 / 0",
    "import traceback; traceback.TracebackException = None; 1 / 0",
    "import inspect, types; inspect.CO_COROUTINE = types.FunctionType = None; 40 + 2",
    "import os; os.environ = None; os.urandom = None; 40 + 2",
    "import sys\ndef t(f, e, a): raise ValueError('traced')\nsys.settrace(t); sys.setprofile(t)\n40 + 2",
    "import sys\ndef t(f, e, a): raise ValueError('traced')\nsys.settrace(t)\n40 + 2",
    "import os; os.close(0); os.close(1); os.close(2); print('x')",
    "import os\nfor fd in range(100):\n    try: os.close(fd)\n    except OSError: pass\nprint('x')",
    "import os; os.dup2(1, 0); os.dup2(0, 2); print('x')",
    "import os; os._exit(3)",
    "import os; os.abort()",
    "import sys; sys.modules.clear(); 40 + 2",
    "import sys; sys.modules['__main__'] = None; sys.modules['sys'] = None; 40 + 2",
    "import _reactor; _reactor._run_turn = None; _reactor._refresh = None; 40 + 2",
    "import _host; _host.call = None; print(1)\n40 + 2",
    "import gc; gc.disable()\nfor o in gc.get_objects():\n    try: o.clear()\n    except Exception: pass",
    "import signal; signal.raise_signal(signal.SIGABRT)",
    "import faulthandler; faulthandler._sigsegv()",
    "class E(BaseException):\n    def __str__(self): raise self\n    __repr__ = __str__\nraise E",
    "class E(Exception):\n    __module__ = property(lambda self: 1 / 0)\nraise E",
    "class E(Exception): pass\nE.__module__ = 5\nE.__qualname__ = 'x' * 1_000_000\nraise E('y' * 5_000_000)",
    "class M(type):\n    def __getattribute__(c, n): raise SystemExit(5)\nclass E(Exception, metaclass=M): pass\nraise E",
    "class V:\n    def __repr__(self): raise SystemExit(4)\nV()",
    "class V:\n    def _repr_html_(self): raise KeyboardInterrupt\nV()",
    "class V:\n    def _repr_mimebundle_(self, **k): return {str(i): 'x' for i in range(1000)}\nV()",
    "class V:\n    def __getattribute__(self, n): raise SystemExit(4)\nV()",
    "import atexit; atexit.register(lambda: print('never')); raise SystemExit(2)",
    "f = lambda: (yield)\ng = f(); next(g)\nimport sys; sys.getrefcount(g); raise GeneratorExit",
    "import sys; sys.unraisablehook = sys.excepthook = sys.displayhook = None; 1 / 0",
    "import sys; sys.setrecursionlimit(100)\ndef f(): f()\nf()",
    "import decimal, locale; decimal.getcontext().prec = 1; 40 + 2",
    "code = (lambda: 0).__code__.replace(co_code=b'\\xff' * 100, co_stacksize=100)\neval(code)",
    "import marshal\neval(marshal.loads(marshal.dumps(compile('1', 'x', 'eval'))[:-3] + b'zzz'))",
];

/// Messages that the driver would send, and others, from user code.
const FORGED: &str = r#"
import _host, json
forged = [
    {"m": "end", "code": 7}, {"m": "end", "code": -1}, {"m": "end", "code": 1 << 62}, {"m": "end"},
    {"m": "exception", "type": "X" * 100_000, "message": "m" * 1_000_000, "frames": [{}] * 1000},
    {"m": "exception", "type": "X", "message": "forged", "frames": [{"file": "/etc/passwd", "line": 1 << 31}]},
    {"m": "turn"}, {"m": "go"}, {"m": "warm"}, {"m": "nope"}, {}, [], None, 5, "x", {"m": {"m": "end"}},
    {"m": "rich", "kind": "value", "forms": []}, {"m": "rich", "kind": "nope", "forms": [{"mime": "a", "size": 1}]},
    {"m": "rich", "kind": "value", "forms": [{"mime": "a", "size": (1 << 64) - 1}, {"mime": "b", "size": 2}]},
    {"m": "rich", "kind": "value", "forms": [{"mime": "a", "size": (1 << 64) - 1, "omitted": True}] * 16},
    {"m": "rich", "kind": "display", "forms": [{"mime": "a", "size": 1}] * 10_000},
    {"m": "rich", "kind": "display", "forms": [{"mime": "a\n\x1b[31m", "size": 1}], "metadata": {"a": [[]] * 1000}},
    {"m": "log", "level": "nope"}, {"m": "progress", "current": 1e308, "total": -1, "detail": 5},
    {"m": "random", "size": 1 << 63}, {"m": "tools"}, {"m": "tool", "name": "../x"}, {"m": "tool", "name": "python"},
    {"m": "http"}, {"m": "http", "url": "file:///etc/passwd", "method": "GET"}, {"m": "http", "url": {"a": 1}},
]
heard = 0
for message in forged:
    for body in (b"", b"\n", b"\nxyz\xff", b"\n" + b"z" * 100_000):
        answer = _host.call(json.dumps(message).encode() + body)
        head = json.loads(answer.partition(b"\n")[0])
        heard += isinstance(head, dict)
for raw in (b"", b"\n", b"\xff" * 1000, b"[" * 100_000, b"{\"m\":" * 1000, bytes(100_000)):
    _host.call(raw)
for size in (16 << 20, 17 << 20, 64 << 20):
    try:
        _host.call(bytes(size))
    except OSError:
        pass
print(heard == 4 * len(forged))
"#;

#[tokio::test]
async fn the_next_run_is_untouched() {
    let Some(python) = kit::start().await else { return };
    let check = "import ast, builtins, gc, inspect, json, linecache, os, sys, traceback, types, decimal\n\
                 assert sys.gettrace() is None and sys.getprofile() is None and decimal.getcontext().prec == 28\n\
                 print(json.dumps({'a': sys.getrecursionlimit()}), len(builtins.__dict__), sorted(os.listdir('.')))\n\
                 [40 + 2]";
    let before = python.run(check).await;
    before.fine();
    for text in SABOTAGE {
        let run =
            python.call(limited(seconds(5), code(text))).await.unwrap_or_else(|status| panic!("{text}: {status}"));
        assert_ne!(run.reason(), ExitReason::Internal, "{text}: {:?}", run.0);
        assert_ne!(run.reason(), ExitReason::TimedOut, "{text}: {:?}", run.0);
        let after = python.run(check).await;
        assert_eq!((after.fine(), &after.0.value), (before.out(), &before.0.value), "{text}");
    }
}

#[tokio::test]
async fn forged_messages_spoil_the_runs_own_result_at_most() {
    let Some(python) = kit::start().await else { return };
    let run = python.call(limited(seconds(60), code(FORGED))).await.unwrap();
    assert_eq!(run.out(), "True\n", "{:?}", run.result());
    assert!(run.0.rich_outputs.len() < 100);
    // The last word about the end is the driver's own.
    assert_eq!((run.reason(), run.result().exit_code), (ExitReason::Exited, 0));
    assert_eq!(python.run("print(1)").await.fine(), "1\n");
}

#[tokio::test]
async fn a_session_keeps_its_damage_to_itself() {
    let Some(python) = kit::start().await else { return };
    let (healthy, broken) = (python.session().await, python.session().await);
    python.turn(&healthy, "x = 1").await.fine();
    for text in SABOTAGE {
        let call = kit::within(&broken, limited(seconds(5), code(text)));
        let run = python.call(call).await.unwrap_or_else(|status| panic!("{text}: {status}"));
        assert_ne!(run.reason(), ExitReason::Internal, "{text}: {:?}", run.0);
    }
    assert_eq!(python.turn(&healthy, "x += 1\nprint(x)").await.fine(), "2\n");
    assert_eq!(
        python.turn(&python.session().await, "print(sorted(set(dir()) & {'x', 'E', 'V', 'f'}))").await.fine(),
        "[]\n"
    );
}
