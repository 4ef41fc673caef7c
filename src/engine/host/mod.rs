//! `host_call`: how a core module asks the host for something.
//!
//! Import `host_call(request_ptr, request_len, response_ptr, response_cap) -> i32` from module `casemate`,
//! or from `clawbox`, for whose tools this interface was made. The request is JSON
//! `{"method": ..., "params": ...}`, the response `{"ok": ...}` or `{"error": "..."}`; the return value is
//! its length, or -1 if a pointer is bad. A response that does not fit is -1 for `casemate`; for `clawbox`
//! it is cut, as its tools expect. Each capability is a file of its own.

mod http;
mod log;
mod progress;

pub use http::{Denied, DenyAll, Egress};

use super::state::State;
use crate::domain::event::LogLevel;
use crate::domain::event::Progress;
use crate::domain::io::{Meter, OutputSink};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Arc;
use wasmtime::{Caller, Extern, Linker};

/// Import modules that offer `host_call`.
pub(super) const MODULES: [&str; 2] = ["casemate", "clawbox"];

/// Bytes of one request at most: the host parses it into memory of its own.
pub const MAX_REQUEST: usize = 1 << 20;

/// Bytes of a reason at most: it may quote the request.
const MAX_REASON: usize = 512;

/// What a request asks for.
#[derive(Debug, PartialEq)]
pub enum Request {
    /// A log line.
    Log {
        /// How important.
        level: LogLevel,
        /// The line.
        message: String,
    },
    /// A word on how far the run is.
    Progress(Progress),
    /// A request to the outside, in the form the gate reads.
    Http(Value),
}

/// Reads a request. `Err` says what is wrong with it, for the guest, in at most about 512 bytes.
pub fn parse(bytes: &[u8]) -> Result<Request, String> {
    read(bytes).map_err(|mut reason| {
        if reason.len() > MAX_REASON {
            reason.truncate(reason.floor_char_boundary(MAX_REASON));
            reason.push_str("... (cut)");
        }
        reason
    })
}

fn read(bytes: &[u8]) -> Result<Request, String> {
    #[derive(Deserialize)]
    struct Envelope {
        method: String,
        #[serde(default)]
        params: Value,
    }
    if bytes.len() > MAX_REQUEST {
        return Err(format!("host_call request of {} bytes is larger than {MAX_REQUEST}", bytes.len()));
    }
    // Checked as a whole: in keys and values that are passed over, the parser would not look.
    let text = std::str::from_utf8(bytes).map_err(|error| format!("invalid host_call request: {error}"))?;
    // Derived structs are also read from arrays, by position.
    if text.trim_start().starts_with('[') {
        return Err("invalid host_call request: expected an object with \"method\" and \"params\"".into());
    }
    let Envelope { method, params } =
        serde_json::from_str(text).map_err(|error| format!("invalid host_call request: {error}"))?;
    match method.as_str() {
        "log" => log::parse(params),
        "progress" => progress::parse(params),
        "http_request" => Ok(Request::Http(params)),
        _ => {
            let method: String = method.chars().take(64).collect();
            Err(format!("host call '{method}' not available in this context; there are log, progress and http_request"))
        }
    }
}

/// Reads the params of a method of which all may be left out.
fn from_params<T: Default + DeserializeOwned>(params: Value) -> Result<T, String> {
    match params {
        Value::Null => Ok(T::default()),
        Value::Object(_) => serde_json::from_value(params).map_err(|error| error.to_string()),
        _ => Err("expected an object".into()),
    }
}

/// What the host calls of one run work on.
pub(super) struct Host {
    pub output: Arc<dyn OutputSink>,
    pub egress: Arc<dyn Egress>,
    pub meter: Arc<Meter>,
    pub limit: u64,
}

impl Host {
    /// Does what can be done at once; gives back what has to be waited for.
    fn begin(&self, request: &[u8]) -> Result<Value, Value> {
        if self.meter.host_call() >= self.limit {
            return Ok(json!({ "error": format!("host_call limit exceeded (max {})", self.limit) }));
        }
        match parse(request) {
            Ok(Request::Log { level, message }) => self.output.log(level, message),
            Ok(Request::Progress(progress)) => self.output.progress(progress),
            Ok(Request::Http(params)) => return Err(params),
            Err(problem) => return Ok(json!({ "error": problem })),
        }
        Ok(json!({ "ok": null }))
    }
}

/// Adds `host_call` under all its names.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    for module in MODULES {
        let cut = module == "clawbox";
        linker.func_wrap_async(
            module,
            "host_call",
            move |caller: Caller<'_, State>, (request, length, response, capacity): (u32, u32, u32, u32)| {
                Box::new(host_call(caller, [request, length], [response, capacity], cut))
            },
        )?;
    }
    Ok(())
}

const REFUSED: i32 = -1;

async fn host_call(mut caller: Caller<'_, State>, request: [u32; 2], response: [u32; 2], cut: bool) -> i32 {
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else { return REFUSED };
    let begun = {
        let (data, state) = memory.data_and_store_mut(&mut caller);
        match slice(data.len(), request) {
            Some(range) => state.host.begin(&data[range]),
            None => return REFUSED,
        }
    };
    let answer = match begun {
        Ok(answer) => answer,
        Err(params) => http::answer(caller.data().host.egress.clone(), params).await,
    };
    let text = answer.to_string();
    let [start, capacity] = response;
    // A negative capacity, seen as unsigned, is beyond any memory.
    let (Ok(length), Ok(_)) = (u32::try_from(text.len()), i32::try_from(capacity)) else { return REFUSED };
    let written = match length <= capacity {
        true => length,
        false if cut => capacity,
        false => return REFUSED,
    };
    let data = memory.data_mut(&mut caller);
    match (slice(data.len(), [start, written]), i32::try_from(written)) {
        (Some(range), Ok(length)) => {
            let end = range.len();
            data[range].copy_from_slice(&text.as_bytes()[..end]);
            length
        }
        _ => REFUSED,
    }
}

fn slice(memory: usize, [start, length]: [u32; 2]) -> Option<std::ops::Range<usize>> {
    let start = usize::try_from(start).ok()?;
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    (end <= memory).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_or_refused_with_a_reason() {
        assert_eq!(
            parse(br#"{"method":"log","params":{"level":"warn","message":"hm"}}"#),
            Ok(Request::Log { level: LogLevel::Warn, message: "hm".into() })
        );
        assert_eq!(parse(br#"{"method":"http_request"}"#), Ok(Request::Http(Value::Null)));
        for (bad, word) in [
            (&b""[..], "invalid host_call request"),
            (b"\xff", "invalid host_call request"),
            (br#"{"params":{}}"#, "missing field `method`"),
            (br#"{"method":"exec"}"#, "host call 'exec' not available"),
            (br#"{"method":"log","params":5}"#, "log"),
            (br#"{"method":"log","params":["warn","hm"]}"#, "expected an object"),
            (br#"{"method":"progress","params":[]}"#, "expected an object"),
            (b"{\"method\":\"log\",\"more\":\"\xff\"}", "utf-8"),
            (br#" ["log",{"message":"hm"}]"#, "expected an object"),
        ] {
            let problem = parse(bad).unwrap_err();
            assert!(problem.contains(word), "{problem}");
        }
        assert!(parse(&vec![b' '; MAX_REQUEST + 1]).unwrap_err().contains("larger than"));
        let long = format!(r#"{{"method":"progress","params":{{"current":"{}"}}}}"#, "ä".repeat(100_000));
        assert!(parse(long.as_bytes()).unwrap_err().len() < MAX_REASON + 16);
    }

    #[test]
    fn ranges_outside_of_the_memory_are_refused() {
        assert_eq!(slice(10, [2, 8]), Some(2..10));
        assert_eq!(slice(10, [10, 0]), Some(10..10));
        assert_eq!(slice(10, [3, 8]), None);
        assert_eq!(slice(10, [u32::MAX, u32::MAX]), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..256)) {
            let _ = parse(&bytes);
        }
    }
}
