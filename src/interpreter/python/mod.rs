//! CPython: what is frozen into its images.

use super::module::INNER;
use super::runtime::Isolate;
use super::talk::{Said, Talk, Turn};
use crate::domain::io::{Meter, OutputSink};
use crate::engine::DenyAll;
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;

/// Inner functions that making an image needs, by their names in the module.
pub const INNER_FUNCTIONS: &[&str] = &["run_private", "__wasilibc_reset_preopens", "clear_unused_stack"];

const PRELOAD: &str = include_str!("guest/preload.py");

/// Run in this order after whatever is preloaded.
const DRIVER: [(&str, &str); 5] = [
    ("loop", include_str!("guest/loop.py")),
    ("driver", include_str!("guest/driver.py")),
    ("limits", include_str!("guest/limits.py")),
    ("casemate", include_str!("guest/casemate.py")),
    ("warm", include_str!("guest/warm.py")),
];

/// All that this build freezes into an image.
pub(super) fn scripts() -> impl Iterator<Item = &'static str> {
    DRIVER.iter().map(|(_, script)| *script).chain([PRELOAD]).chain(WARM.iter().copied())
}

/// One script of several, in one namespace that is not the user's, under a file name that tracebacks leave out.
fn script<'a>(parts: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::from("_n = {'__name__': '_casemate'}\n");
    for (name, part) in parts {
        // A JSON string is a Python string.
        let quoted = serde_json::Value::from(part);
        text.push_str(&format!("exec(compile({quoted}, '<casemate {name}>', 'exec'), _n)\n"));
    }
    text.push_str("del _n\n");
    text
}

/// Turns that every image has behind it, so that no isolate has to warm up.
const WARM: &[&str] = &[
    "print(40+2)",
    "x = 1\nx",
    "import json\nprint(json.dumps({'a': [1, 2.5, None]}))\n{'a': 1}",
    "def f(n):\n    return sum(i * i for i in range(n))\nprint(f(100))",
    "1/0",
    "import asyncio\nasync def g():\n    await asyncio.sleep(0)\n    return 3\nasyncio.run(g())",
    "import numpy as np, pandas as pd\nprint(np.arange(10).sum())\npd.DataFrame({'a': [1, 2], 'b': [3.0, 4.5]})",
    "import math, random, datetime, re\nprint(f'{math.pi:.3f}', len(re.findall('a', 'banana')))\nrandom.random()",
];

/// Makes the memory of an image: starts the interpreter on the memory of its module, runs what is to be
/// preloaded, and freezes.
pub async fn preload(isolate: &mut Isolate, output: Arc<dyn OutputSink>, extra: Option<&str>) -> wasmtime::Result<()> {
    isolate.call("_initialize").await?;
    isolate.call("wizer.initialize").await?;
    let talk = |turns: Vec<&str>| {
        Arc::new(Talk {
            turn: Turn { name: "<code>".into(), reseed: true, pristine: true, ..Turn::default() },
            warm: Mutex::new(turns.into_iter().rev().map(|code| Bytes::copy_from_slice(code.as_bytes())).collect()),
            output: output.clone(),
            egress: Arc::new(DenyAll),
            children: None,
            meter: Arc::new(Meter::default()),
            host_calls: 0,
            said: Mutex::new(Said::default()),
        })
    };
    isolate.run_private(&script([("preload", PRELOAD)]), talk(vec![])).await?;
    if let Some(extra) = extra {
        isolate.run_private(&script([("further", extra)]), talk(vec![])).await?;
    }
    // One script, because each one has a namespace of its own.
    isolate.run_private(&script(DRIVER), talk(WARM.to_vec())).await?;
    isolate.call(&format!("{INNER}__wasilibc_reset_preopens")).await?;
    isolate.call(&format!("{INNER}clear_unused_stack")).await
}
