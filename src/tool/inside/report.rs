//! What a program in a container told of itself: lines of JSON in a file. Anybody in the container may have written
//! them, so they are read within bounds, and what cannot be read is left out.

use crate::domain::output::{
    Content, ExceptionFrame, ExceptionInfo, MAX_RICH_OUTPUT, Representation, RichOutput, RichOutputKind,
};
use base64::Engine;
use serde::Deserialize;
use serde_json::Value;

/// Bytes of a report at most; what is beyond is not read.
pub(super) const MAX: u64 = 16 << 20;

/// What a report says.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub shown: Vec<RichOutput>,
    pub exception: Option<ExceptionInfo>,
}

#[derive(Deserialize)]
#[serde(tag = "m", rename_all = "lowercase")]
enum Line {
    Rich {
        kind: Kind,
        forms: Vec<Form>,
        #[serde(default)]
        metadata: Option<Value>,
    },
    Exception {
        #[serde(rename = "type")]
        type_name: String,
        message: String,
        traceback: String,
        #[serde(default)]
        frames: Vec<ExceptionFrame>,
    },
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Value,
    Display,
}

#[derive(Deserialize)]
struct Form {
    mime: String,
    text: Option<String>,
    data: Option<String>,
    /// Of one that was too large to be told.
    #[serde(default)]
    size: u64,
}

/// Reads a report.
pub(super) fn read(bytes: &[u8]) -> Report {
    let mut report = Report::default();
    for line in bytes.split(|byte| *byte == b'\n') {
        match serde_json::from_slice(line) {
            Ok(Line::Rich { kind, forms, metadata }) if !forms.is_empty() => {
                report.shown.push(rich(kind, forms, metadata));
            }
            Ok(Line::Exception { type_name, message, traceback, frames }) => {
                report.exception = Some(ExceptionInfo { type_name, message, traceback, frames });
            }
            _ => {}
        }
    }
    report
}

fn rich(kind: Kind, forms: Vec<Form>, metadata: Option<Value>) -> RichOutput {
    let representations = forms.into_iter().map(|form| {
        let data = |text: String| base64::engine::general_purpose::STANDARD.decode(text).ok();
        let content = match (form.text, form.data) {
            (Some(text), _) => Some(Content::Text(text)),
            (None, data_text) => data_text.and_then(data).map(|data| Content::Data(data.into())),
        };
        let size_bytes = content.as_ref().map_or(form.size, Content::size);
        let mime_type: String = form.mime.to_ascii_lowercase().chars().take(128).collect();
        Representation { mime_type, content, size_bytes }
    });
    let mut output = RichOutput {
        kind: match kind {
            Kind::Value => RichOutputKind::Value,
            Kind::Display => RichOutputKind::Display,
        },
        representations: representations.collect(),
        display_id: String::new(),
        metadata: metadata
            .filter(|value| value.as_object().is_some_and(|map| !map.is_empty()))
            .map(|value| value.to_string())
            .unwrap_or_default(),
    };
    output.bound(MAX_RICH_OUTPUT);
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_read_is_and_the_rest_is_left_out() {
        let text = concat!(
            r#"{"m":"rich","kind":"value","forms":[{"mime":"Image/PNG","data":"iVBO"},{"mime":"a/b","size":9},"#,
            r#"{"mime":"text/plain","text":"4"}],"metadata":{"a":1}}"#,
            "\nnonsense\n{\"m\":\"other\"}\n",
            r#"{"m":"rich","kind":"value","forms":[]}"#,
            "\n",
            r#"{"m":"exception","type":"E","message":"m","traceback":"t","frames":[{"file":"<code>","line":2,"column":0,"function":"","source":"x"}]}"#,
        );
        let report = read(text.as_bytes());
        let [shown] = &report.shown[..] else { panic!("{report:?}") };
        assert_eq!(shown.kind, RichOutputKind::Value);
        let forms: Vec<_> = shown.representations.iter().map(|one| (one.mime_type.as_str(), one.size_bytes)).collect();
        assert_eq!(forms, [("image/png", 3), ("a/b", 9), ("text/plain", 1)]);
        assert_eq!(shown.representations[0].content, Some(Content::Data(b"\x89PN"[..].to_vec().into())));
        assert_eq!(shown.metadata, r#"{"a":1}"#);
        let exception = report.exception.unwrap();
        assert_eq!((exception.type_name.as_str(), exception.frames[0].line), ("E", 2));
        assert!(read(b"\xff\xfe{").shown.is_empty());
    }
}
