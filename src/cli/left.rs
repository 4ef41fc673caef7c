//! What a run leaves besides its two streams, told on standard error and saved where that was asked for.

use super::failure::Failure;
use super::output::plain;
use super::present;
use super::save::{Saved, Saver, extension, shown};
use crate::proto::v1::representation::Content;
use crate::proto::v1::{ChildExecutionEvent, ExecutionState, OutputFileChunk, Representation, RichOutput};

/// Tells, and saves into a directory if there is one.
pub struct Left {
    saver: Option<Saver>,
}

impl Left {
    /// Saves into this directory, or only tells.
    pub fn new(saver: Option<Saver>) -> Self {
        Left { saver }
    }

    /// Something to look at: its plain text, and a line for each form that a terminal cannot show.
    pub fn rich(&mut self, output: &RichOutput) -> Result<String, Failure> {
        let text = output.representations.iter().find_map(|form| match &form.content {
            Some(Content::Text(text)) if form.mime_type == "text/plain" => Some(text),
            _ => None,
        });
        let mut told = String::new();
        if let Some(text) = text {
            told.push_str(&lines(text));
        }
        for form in &output.representations {
            // Where there is a plain form, HTML, LaTeX and the like say the same again.
            if form.mime_type.starts_with("image/") || text.is_none() {
                told.push_str(&format!("[{}; {}]\n", about(form), self.save(form)?));
            }
        }
        Ok(told)
    }

    fn save(&mut self, form: &Representation) -> Result<String, Failure> {
        let data: &[u8] = match &form.content {
            None => return Ok("too large to be kept".into()),
            Some(Content::Text(text)) => text.as_bytes(),
            Some(Content::Data(data)) => data,
        };
        Ok(match &mut self.saver {
            None => "--output-dir saves it".into(),
            Some(saver) => format!("saved as {}", shown(&saver.display(extension(&form.mime_type), data)?)),
        })
    }

    /// A piece of a file: a line once it is complete.
    pub fn file(&mut self, chunk: &OutputFileChunk) -> Result<String, Failure> {
        let saved = match &mut self.saver {
            Some(saver) => saver.take(chunk)?,
            None => Saved::Partly,
        };
        let size = chunk.file.as_ref().map_or(0, |file| file.size_bytes);
        let name = format!("file {}, {}", plain(&chunk.path), present::short_size(size));
        Ok(match saved {
            Saved::Whole(path) => format!("[{name}; saved as {}]\n", shown(&path)),
            Saved::Not(why) => format!("[file {}; not saved: {}]\n", plain(&chunk.path), plain(&why)),
            Saved::Partly if self.saver.is_none() && chunk.file.is_some() => {
                format!("[{name}; --output-dir saves it]\n")
            }
            Saved::Partly => String::new(),
        })
    }
}

/// A call of another tool, or its end.
pub fn child(child: &ChildExecutionEvent) -> String {
    let state = match child.state() {
        ExecutionState::Unspecified => "refused".to_owned(),
        state => present::execution::state_word(state),
    };
    let id = if child.execution_id.is_empty() { String::new() } else { format!(" ({})", plain(&child.execution_id)) };
    let why = if child.message.is_empty() { String::new() } else { format!(": {}", plain(&child.message)) };
    format!("[call of {}{id} {state}{why}]\n", plain(&child.tool))
}

/// Text of several lines, each safe for a terminal.
fn lines(text: &str) -> String {
    text.lines().map(|line| plain(line) + "\n").collect()
}

/// `image/png 640x480, 12 KiB`.
fn about(form: &Representation) -> String {
    let pixels = match &form.content {
        Some(Content::Data(data)) => pixels(data).map(|(width, height)| format!(" {width}x{height}")),
        _ => None,
    };
    format!("{}{}, {}", plain(&form.mime_type), pixels.unwrap_or_default(), present::short_size(form.size_bytes))
}

/// Width and height of a PNG or GIF image, by its first bytes.
fn pixels(data: &[u8]) -> Option<(u32, u32)> {
    let big = |at: usize| Some(u32::from_be_bytes(data.get(at..at + 4)?.try_into().ok()?));
    let little = |at: usize| Some(u32::from(u16::from_le_bytes(data.get(at..at + 2)?.try_into().ok()?)));
    if data.starts_with(b"\x89PNG\r\n\x1a\n") && data.get(12..16)? == b"IHDR" {
        return Some((big(16)?, big(20)?));
    }
    if data.starts_with(b"GIF8") {
        return Some((little(6)?, little(8)?));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(mime_type: &str, content: Content) -> Representation {
        let size_bytes = match &content {
            Content::Text(text) => text.len() as u64,
            Content::Data(data) => data.len() as u64,
        };
        Representation { mime_type: mime_type.into(), content: Some(content), size_bytes }
    }

    fn png() -> Representation {
        let mut data = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x02\x80\0\0\x01\xe0".to_vec();
        data.resize(12 << 10, 0);
        form("image/png", Content::Data(data.into()))
    }

    #[test]
    fn plain_text_is_shown_and_images_are_told_and_saved() {
        let output = RichOutput {
            representations: vec![
                png(),
                form("text/html", Content::Text("<table>".into())),
                form("text/plain", Content::Text("a  b\n\x1b[2J1  2".into())),
            ],
            ..RichOutput::default()
        };
        let told = Left::new(None).rich(&output).unwrap();
        assert_eq!(told, "a  b\n\\u{1b}[2J1  2\n[image/png 640x480, 12.0 KiB; --output-dir saves it]\n");
        let folder = tempfile::tempdir().unwrap();
        let mut left = Left::new(Some(Saver::new(folder.path().to_owned()).unwrap()));
        assert!(left.rich(&output).unwrap().ends_with("display-1.png]\n"));
        assert_eq!(std::fs::read(folder.path().join("display-1.png")).unwrap().len(), 12 << 10);
        let only_html = RichOutput {
            representations: vec![form("text/html", Content::Text("<p>".into()))],
            ..RichOutput::default()
        };
        assert_eq!(Left::new(None).rich(&only_html).unwrap(), "[text/html, 3 B; --output-dir saves it]\n");
    }

    #[test]
    fn calls_of_other_tools_are_told() {
        let refused = ChildExecutionEvent { tool: "t".into(), message: "no".into(), ..Default::default() };
        assert_eq!(child(&refused), "[call of t refused: no]\n");
        let mut ended = ChildExecutionEvent { tool: "t".into(), execution_id: "1".into(), ..Default::default() };
        ended.set_state(ExecutionState::Succeeded);
        assert_eq!(child(&ended), "[call of t (1) succeeded]\n");
    }
}
