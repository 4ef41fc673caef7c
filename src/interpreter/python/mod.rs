//! CPython: what is frozen into its images.

use super::memory::{Image, Slots, Tenant};
use super::module::INNER;
use super::runtime::{Isolate, Runtime};
use super::talk::{Said, Talk, Turn};
use super::wasi::Wasi;
use crate::domain::io::{Meter, OutputSink};
use crate::engine::DenyAll;
use bytes::Bytes;
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;

/// Inner functions that making an image needs, by their names in the module.
pub const INNER_FUNCTIONS: &[&str] = &["run_private", "__wasilibc_reset_preopens", "clear_unused_stack"];

const PRELOAD: &str = include_str!("guest/preload.py");

/// Run in this order after whatever is preloaded.
const DRIVER: [&str; 5] = [
    include_str!("guest/loop.py"),
    include_str!("guest/driver.py"),
    include_str!("guest/limits.py"),
    include_str!("guest/casemate.py"),
    include_str!("guest/warm.py"),
];

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
            turn: Turn::default(),
            warm: Mutex::new(turns.into_iter().rev().map(|code| Bytes::copy_from_slice(code.as_bytes())).collect()),
            output: output.clone(),
            egress: Arc::new(DenyAll),
            children: None,
            meter: Arc::new(Meter::default()),
            host_calls: 0,
            said: Mutex::new(Said::default()),
        })
    };
    isolate.run_private(PRELOAD, talk(vec![])).await?;
    if let Some(extra) = extra {
        isolate.run_private(extra, talk(vec![])).await?;
    }
    // One script, because each one has a namespace of its own.
    isolate.run_private(&DRIVER.join("\n"), talk(WARM.to_vec())).await?;
    isolate.call(&format!("{INNER}__wasilibc_reset_preopens")).await?;
    isolate.call(&format!("{INNER}clear_unused_stack")).await
}
