//! What a guest and its host say to each other during a turn.
//!
//! Both ways a message is one line of JSON, a newline, and raw bytes. The guest asks, the host answers. What
//! a guest says is its own affair and proves nothing: user code can say whatever the driver can. So every
//! message is bounded, and none can do more than spoil the run's own result.

use super::children::Children;
use super::typescript;
use crate::domain::event::{LogLevel, Progress};
use crate::domain::io::{Meter, OutputSink};
use crate::domain::output::{
    Content, ExceptionFrame, ExceptionInfo, MAX_RICH_OUTPUT, Representation, RichOutput, RichOutputKind,
};
use crate::engine::Egress;
use bytes::Bytes;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of one message at most.
pub(super) const MAX_MESSAGE: usize = 16 << 20;

const MAX_LOG: usize = 64 << 10;
const MAX_TYPE: usize = 512;
const MAX_TEXT: usize = 16 << 10;
const MAX_TRACEBACK: usize = 64 << 10;
const MAX_FRAMES: usize = 64;
const MAX_SOURCE: usize = 1000;
const MAX_FORMS: usize = 16;

/// One turn: what to run.
#[derive(Clone, Debug, Default)]
pub struct Turn {
    /// What tracebacks call it: `<code>`, or `<turn N>`.
    pub name: String,
    /// The code.
    pub code: Bytes,
    /// Arguments, without the program's own name.
    pub arguments: Vec<String>,
    /// Environment variables of this turn.
    pub environment: BTreeMap<String, String>,
    /// Whether random generators need a new seed: in a fresh isolate, after a fork, after coming back.
    pub reseed: bool,
    /// Whether nobody used them since the image was made.
    pub pristine: bool,
    /// Whether the code is a module, where the language tells modules from scripts.
    pub module: bool,
}

/// What a turn said of its end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    /// The exit code; `None` when the turn never came to its end.
    pub code: Option<u8>,
    /// The exception that ended it.
    pub exception: Option<ExceptionInfo>,
}

/// The host's side of a conversation.
pub(super) struct Talk {
    pub turn: Turn,
    /// Turns to run before an image is frozen, the last one first.
    pub warm: Mutex<Vec<Bytes>>,
    pub output: Arc<dyn OutputSink>,
    pub egress: Arc<dyn Egress>,
    pub children: Option<Arc<dyn Children>>,
    pub meter: Arc<Meter>,
    /// Calls to the outside at most: tools, HTTP, log lines, progress.
    pub host_calls: u64,
    pub said: Mutex<Said>,
}

impl super::wasi::Channel for Talk {
    fn call(&self, request: Bytes) -> std::pin::Pin<Box<dyn Future<Output = Bytes> + Send + '_>> {
        Box::pin(self.answer(request))
    }
}

#[derive(Deserialize)]
#[serde(tag = "m", rename_all = "lowercase")]
enum Message {
    Turn,
    Go,
    Warm,
    End {
        code: i64,
    },
    Rich {
        kind: RichKind,
        forms: Vec<Form>,
        #[serde(default)]
        metadata: Option<Value>,
    },
    Exception {
        #[serde(rename = "type")]
        type_name: String,
        message: String,
        #[serde(default)]
        frames: Vec<ExceptionFrame>,
    },
    Log {
        #[serde(default)]
        level: String,
    },
    Progress {
        #[serde(default)]
        message: String,
        #[serde(default)]
        current: f64,
        #[serde(default)]
        total: f64,
        #[serde(default)]
        detail: Option<Value>,
    },
    Random {
        size: usize,
    },
    Tools,
    Tool {
        name: String,
    },
    Http {
        #[serde(flatten)]
        request: serde_json::Map<String, Value>,
    },
    Url(super::javascript::url::Request),
    /// TypeScript in the body.
    TypeScript {
        name: String,
    },
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RichKind {
    Value,
    Display,
}

#[derive(Deserialize)]
struct Form {
    mime: String,
    size: usize,
    /// Too large to be kept: told by its size, and not in the body.
    #[serde(default)]
    omitted: bool,
}

fn answer(header: Value, body: &[u8]) -> Bytes {
    let mut text = header.to_string().into_bytes();
    text.push(b'\n');
    text.extend_from_slice(body);
    text.into()
}

fn refusal(problem: impl std::fmt::Display) -> Bytes {
    answer(json!({ "error": problem.to_string() }), &[])
}

/// JavaScript of a TypeScript source, or what is wrong with it and where.
async fn strip(name: String, source: Bytes) -> Bytes {
    let source = match std::str::from_utf8(&source) {
        Ok(source) => source,
        Err(problem) => return refusal(format_args!("it is not UTF-8: {problem}")),
    };
    match typescript::strip_apart(&name, source).await {
        Ok(code) => answer(json!({}), code.as_bytes()),
        Err(problem) => {
            answer(json!({ "error": problem.message, "line": problem.line, "column": problem.column }), &[])
        }
    }
}

/// Cuts a text to at most `max` bytes, between characters.
pub(super) fn cut(mut text: String, max: usize) -> String {
    if text.len() > max {
        text.truncate(text.floor_char_boundary(max));
    }
    text
}

impl Talk {
    /// Answers one message.
    pub async fn answer(&self, request: Bytes) -> Bytes {
        if request.len() > MAX_MESSAGE {
            return refusal(format_args!("a message has at most {MAX_MESSAGE} bytes"));
        }
        let end = request.iter().position(|byte| *byte == b'\n').unwrap_or(request.len());
        let body = request.slice((end + 1).min(request.len())..);
        let message = match serde_json::from_slice(&request[..end]) {
            Ok(message) => message,
            Err(problem) => return refusal(format_args!("the message cannot be read: {problem}")),
        };
        let outside = matches!(
            message,
            Message::Log { .. } | Message::Progress { .. } | Message::Tool { .. } | Message::Http { .. }
        );
        if outside && self.meter.host_call() >= self.host_calls {
            let text = format!("the run made all of its {} calls to the outside (limits.host_calls)", self.host_calls);
            return answer(json!({ "error": text, "reason": "HOST_CALLS_EXHAUSTED" }), &[]);
        }
        match message {
            Message::Turn => return self.turn(),
            Message::Go => return self.go(),
            Message::Warm => {
                if self.warm.lock().is_empty() {
                    return refusal("no more");
                }
            }
            Message::End { code } => self.said.lock().code = Some((code & 0xff) as u8),
            Message::Rich { kind, forms, metadata } => match rich(kind, forms, metadata, &body) {
                Ok(output) => self.output.rich(output),
                Err(problem) => return refusal(problem),
            },
            Message::Exception { type_name, message, frames } => {
                self.said.lock().exception = Some(ExceptionInfo {
                    type_name: cut(type_name, MAX_TYPE),
                    message: cut(message, MAX_TEXT),
                    traceback: cut(String::from_utf8_lossy(&body).into_owned(), MAX_TRACEBACK),
                    frames: frames.into_iter().take(MAX_FRAMES).map(bounded).collect(),
                });
            }
            Message::Log { level } => {
                let line = cut(String::from_utf8_lossy(&body[..body.len().min(MAX_LOG)]).into_owned(), MAX_LOG);
                self.output.log(log_level(&level), line);
            }
            Message::Progress { message, current, total, detail } => {
                let detail = detail.filter(Value::is_object).map(|detail| detail.to_string());
                self.output.progress(Progress { message: cut(message, MAX_LOG), current, total, detail });
            }
            Message::Random { size } => {
                let mut bytes = vec![0; size.min(64 << 10)];
                return match getrandom::fill(&mut bytes) {
                    Ok(()) => answer(json!({}), &bytes),
                    Err(problem) => refusal(problem),
                };
            }
            Message::Tools => {
                let tools = self.children.as_ref().map(|children| children.list()).unwrap_or_default();
                return answer(json!({ "tools": tools }), &[]);
            }
            Message::Tool { name } => return self.call(&name, body).await,
            Message::TypeScript { name } => return strip(name, body).await,
            Message::Url(request) => {
                return match super::javascript::url::answer(&request) {
                    Ok(parts) => answer(parts, &[]),
                    Err(problem) => refusal(problem),
                };
            }
            Message::Http { request } => return self.http(request, &body).await,
        }
        answer(json!({}), &[])
    }

    /// As [`Talk::turn`], in a form that costs the guest less: a line that is mostly the same, the name, the code.
    fn go(&self) -> Bytes {
        let turn = &self.turn;
        let header = json!({
            "argv": turn.arguments, "env": turn.environment, "reseed": turn.reseed, "pristine": turn.pristine,
        });
        let mut body = turn.name.clone().into_bytes();
        body.push(b'\n');
        body.extend_from_slice(&self.warm.lock().pop().unwrap_or_else(|| turn.code.clone()));
        answer(header, &body)
    }

    fn turn(&self) -> Bytes {
        let turn = &self.turn;
        let header = json!({
            "name": turn.name, "argv": turn.arguments, "env": turn.environment,
            "reseed": turn.reseed, "module": turn.module,
        });
        match self.warm.lock().pop() {
            Some(code) => answer(header, &code),
            None => answer(header, &turn.code),
        }
    }

    async fn call(&self, name: &str, parameters: Bytes) -> Bytes {
        let Some(children) = &self.children else {
            return answer(json!({ "error": "tools cannot be called from here", "reason": "UNAVAILABLE" }), &[]);
        };
        match children.call(name, parameters).await {
            Ok(result) => answer(json!({ "ok": true, "json": result.json }), &result.output),
            Err(refused) => answer(json!({ "error": refused.message, "reason": refused.reason }), &[]),
        }
    }

    async fn http(&self, mut request: serde_json::Map<String, Value>, body: &[u8]) -> Bytes {
        if !body.is_empty() {
            use base64::Engine as _;
            let body = base64::engine::general_purpose::STANDARD.encode(body);
            request.insert("body_base64".into(), Value::String(body));
        }
        match self.egress.http_request(Value::Object(request)).await {
            Ok(response) => answer(response, &[]),
            Err(denied) => answer(json!({ "error": denied.message, "reason": denied.reason }), &[]),
        }
    }
}

fn bounded(frame: ExceptionFrame) -> ExceptionFrame {
    ExceptionFrame {
        file: cut(frame.file, MAX_SOURCE),
        function: cut(frame.function, MAX_SOURCE),
        source: cut(frame.source, MAX_SOURCE),
        ..frame
    }
}

fn log_level(name: &str) -> LogLevel {
    match name {
        "trace" => LogLevel::Trace,
        "debug" => LogLevel::Debug,
        "warn" | "warning" => LogLevel::Warn,
        "error" => LogLevel::Error,
        _ => LogLevel::Info,
    }
}

fn is_text(mime: &str) -> bool {
    mime.starts_with("text/") || mime == "image/svg+xml" || mime == "application/json" || mime.ends_with("+json")
}

fn rich(kind: RichKind, forms: Vec<Form>, metadata: Option<Value>, body: &Bytes) -> Result<RichOutput, String> {
    if forms.is_empty() || forms.len() > MAX_FORMS {
        return Err(format!("a rich output has 1 to {MAX_FORMS} forms, got {}", forms.len()));
    }
    let mut at = 0_usize;
    let mut kept = 0;
    let mut representations = Vec::with_capacity(forms.len());
    for Form { mime, size, omitted } in forms {
        let mime_type = cut(mime.to_ascii_lowercase(), 128);
        let size_bytes = size as u64;
        if omitted {
            representations.push(Representation { mime_type, content: None, size_bytes });
            continue;
        }
        let end =
            at.checked_add(size).filter(|end| *end <= body.len()).ok_or("its forms are longer than its content")?;
        let content = body.slice(at..end);
        at = end;
        // What does not fit a message is told by its size.
        let fits = kept + size_bytes <= MAX_RICH_OUTPUT;
        kept += if fits { size_bytes } else { 0 };
        let content = fits.then(|| match is_text(&mime_type) {
            true => Content::Text(String::from_utf8_lossy(&content).into_owned()),
            false => Content::Data(Bytes::copy_from_slice(&content)),
        });
        representations.push(Representation { mime_type, content, size_bytes });
    }
    let kind = match kind {
        RichKind::Value => RichOutputKind::Value,
        RichKind::Display => RichOutputKind::Display,
    };
    let metadata = metadata.filter(Value::is_object).map(|value| value.to_string()).unwrap_or_default();
    Ok(RichOutput { kind, representations, display_id: String::new(), metadata })
}
