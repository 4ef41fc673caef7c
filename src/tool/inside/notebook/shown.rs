//! What a kernel publishes, as outputs of a run.

use crate::domain::output::{
    Content, ExceptionFrame, ExceptionInfo, MAX_RICH_OUTPUT, Representation, RichOutput, RichOutputKind,
};
use base64::Engine;
use serde_json::Value;

/// Forms in the order in which they are worth showing; others come before plain text.
const RICHEST: [&str; 7] =
    ["text/html", "image/svg+xml", "image/png", "image/jpeg", "text/markdown", "text/latex", "application/json"];
const PLAIN: &str = "text/plain";

/// Something to look at.
pub(super) fn rich(kind: RichOutputKind, content: &Value) -> Option<RichOutput> {
    let forms = content.get("data")?.as_object()?;
    let rank = |mime: &str| match RICHEST.iter().position(|known| *known == mime) {
        Some(place) => place,
        None if mime == PLAIN => RICHEST.len() + 1,
        None => RICHEST.len(),
    };
    let mut representations: Vec<Representation> = forms.iter().map(|(mime, value)| form(mime, value)).collect();
    representations.sort_by_key(|form| rank(&form.mime_type));
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut output = RichOutput {
        kind,
        representations,
        display_id: text(content.pointer("/transient/display_id")).chars().take(256).collect(),
        metadata: content
            .get("metadata")
            .filter(|value| value.as_object().is_some_and(|map| !map.is_empty()))
            .map(Value::to_string)
            .unwrap_or_default(),
    };
    output.bound(MAX_RICH_OUTPUT);
    (!output.representations.is_empty()).then_some(output)
}

fn form(mime: &str, value: &Value) -> Representation {
    let text = match value {
        Value::String(text) => text.clone(),
        // Texts may come in lines.
        Value::Array(lines) if lines.iter().all(Value::is_string) && !mime.ends_with("json") => {
            lines.iter().filter_map(Value::as_str).collect()
        }
        other => other.to_string(),
    };
    let is_text =
        mime.starts_with("text/") || mime.ends_with("json") || mime.ends_with("+xml") || mime.ends_with("javascript");
    let data = || {
        // As lines of 76 characters, where a kernel encodes them as mail does.
        let packed: String = text.chars().filter(|letter| !letter.is_ascii_whitespace()).collect();
        base64::engine::general_purpose::STANDARD.decode(packed).ok()
    };
    let content = match if is_text { None } else { data() } {
        Some(data) => Content::Data(data.into()),
        None => Content::Text(text),
    };
    let mime_type = mime.to_ascii_lowercase().chars().take(128).collect();
    Representation { mime_type, size_bytes: content.size(), content: Some(content) }
}

/// The exception that ended a call. Kernels count the cells that they ran, as a session counts its turns.
pub(super) fn exception(content: &Value, cell: u64) -> ExceptionInfo {
    let text = |key: &str| plain(content.get(key).and_then(Value::as_str).unwrap_or_default());
    let lines = content.get("traceback").and_then(Value::as_array).into_iter().flatten();
    let traceback = lines.filter_map(Value::as_str).map(plain).collect::<Vec<_>>().join("\n");
    ExceptionInfo { type_name: text("ename"), message: text("evalue"), frames: frames(&traceback, cell), traceback }
}

/// The frames in cells: each is headed by "Cell In[3], line 2, in name(...)", and an arrow marks the line.
fn frames(traceback: &str, present: u64) -> Vec<ExceptionFrame> {
    let mut frames: Vec<ExceptionFrame> = Vec::new();
    for line in traceback.lines() {
        if let Some((cell, rest)) = line.trim_start().strip_prefix("Cell ").and_then(|rest| rest.split_once(", line "))
        {
            let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
            let function = rest.split_once(", in ").map(|(_, name)| name);
            let function = function.and_then(|name| name.split(['(', '\n']).next()).unwrap_or_default();
            frames.push(ExceptionFrame {
                file: match cell.trim_start_matches("In[").trim_end_matches(']').parse::<u64>() {
                    Ok(number) if number == present => "<code>".to_owned(),
                    Ok(number) => format!("<turn {number}>"),
                    Err(_) => cell.to_owned(),
                },
                line: number.parse().unwrap_or(0),
                function: if function.starts_with('<') { String::new() } else { function.to_owned() },
                ..ExceptionFrame::default()
            });
        } else if let Some((_, marked)) = line.split_once("--> ")
            && let Some(frame) = frames.last_mut().filter(|frame| frame.source.is_empty())
        {
            let source = marked.trim_start_matches(|letter: char| letter.is_ascii_digit());
            frame.source = source.trim().to_owned();
        }
    }
    frames
}

/// Text without what colours it on a terminal.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '\u{1b}' {
            plain.push(letter);
            continue;
        }
        // A sequence begins with a bracket, and ends with a letter.
        if letters.clone().next() == Some('[') {
            letters.next();
            letters.by_ref().find(|letter| ('\u{40}'..='\u{7e}').contains(letter));
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn forms_are_told_richest_first() {
        let content = json!({
            "data": {"text/plain": ["a\n", "b"], "image/png": "iVBO\nRw==\n", "application/json": {"a": [1]},
                     "text/html": "<b>", "application/x-own": "AAEC"},
            "metadata": {"image/png": {"width": 3}}, "transient": {"display_id": "d"},
        });
        let output = rich(RichOutputKind::Display, &content).unwrap();
        let forms: Vec<_> = output
            .representations
            .iter()
            .map(|form| (form.mime_type.as_str(), form.content.clone().unwrap()))
            .collect();
        let text = |text: &str| Content::Text(text.into());
        let data = |data: &[u8]| Content::Data(data.to_vec().into());
        assert_eq!(
            forms,
            [
                ("text/html", text("<b>")),
                ("image/png", data(b"\x89PNG")),
                ("application/json", text("{\"a\":[1]}")),
                ("application/x-own", data(&[0, 1, 2])),
                ("text/plain", text("a\nb")),
            ]
        );
        assert_eq!((output.display_id.as_str(), output.metadata.as_str()), ("d", "{\"image/png\":{\"width\":3}}"));
        for none in [json!({}), json!({"data": {}}), json!({"data": 1}), json!(null)] {
            assert_eq!(rich(RichOutputKind::Value, &none), None);
        }
    }

    #[test]
    fn exceptions_are_told_without_colours_and_with_the_lines_of_cells() {
        let content = json!({
            "ename": "ZeroDivisionError", "evalue": "division by zero",
            "traceback": [
                "\u{1b}[0;31m------\u{1b}[0m",
                "\u{1b}[0;31mZeroDivisionError\u{1b}[0m   Traceback (most recent call last)",
                "Cell \u{1b}[0;32mIn[2], line 3\u{1b}[0m\n\u{1b}[1;32m      1\u{1b}[0m def f():\n\u{1b}[0;32m----> 3\u{1b}[0m f(0)",
                "Cell \u{1b}[0;32mIn[1], line 2, in f\u{1b}[0;34m(x)\u{1b}[0m\n\u{1b}[0;32m----> 2\u{1b}[0m     return 1/x",
            ],
        });
        let exception = exception(&content, 2);
        assert!(!exception.traceback.contains('\u{1b}'));
        let frames: Vec<_> = exception
            .frames
            .iter()
            .map(|frame| (frame.file.as_str(), frame.line, frame.function.as_str(), frame.source.as_str()))
            .collect();
        assert_eq!(frames, [("<code>", 3, "", "f(0)"), ("<turn 1>", 2, "f", "return 1/x")]);
    }
}
