//! One kernel, and the calls that run in it.

use super::shown;
use super::specs::Interrupt;
use crate::domain::event::OutputStream;
use crate::domain::execution::Exit;
use crate::domain::io::{InputRead, InputSource, OutputSink};
use crate::domain::output::{ExceptionInfo, RichOutputKind};
use crate::domain::session::ClosureReason;
use crate::error::{Error, Result};
use crate::execution::{Ended, Live};
use crate::jupyter::{Client, Heard, Message};
use crate::session::kernel::{BoxFuture, Extent, Frozen, Kernel, Turn, Turned};
use crate::tool::inside::Ground;
use serde_json::Value;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{sleep_until, timeout};

/// How long a kernel may take to leave what it is at.
const GRACE: Duration = Duration::from_secs(5);
/// Time between two interrupts: code may catch one.
const AGAIN: Duration = Duration::from_secs(1);
/// How long what was published may take to arrive, once a call is answered.
const LAST: Duration = Duration::from_secs(5);
/// How long a look at what a call left may take.
const AFTERWARDS: Duration = Duration::from_secs(10);
/// Bytes of one line of input.
const LINE: usize = 1 << 20;
/// What a kernel takes for the end of its input.
const END_OF_INPUT: &str = "\u{4}";

/// A kernel in a container.
pub(super) struct NotebookKernel {
    ground: Ground,
    /// Its process.
    live: Arc<Live>,
    client: Client,
    interrupt: Interrupt,
    /// Where it has what is its own, below the workspace.
    own: String,
    ended: bool,
}

/// How a call stands.
struct Cell<'a> {
    live: &'a Arc<Live>,
    /// How it was answered.
    answer: Option<Value>,
    /// All that it published was heard.
    quiet: bool,
    /// The exception that was published.
    raised: Option<Value>,
    /// The kernel waits for a line.
    asked: bool,
    input: Vec<u8>,
}

impl NotebookKernel {
    pub fn new(ground: Ground, live: Arc<Live>, client: Client, interrupt: Interrupt, own: String) -> NotebookKernel {
        NotebookKernel { ground, live, client, interrupt, own, ended: false }
    }

    fn interrupt(&self) {
        match self.interrupt {
            // One that is over needs none.
            Interrupt::Signal => drop(self.ground.containers.signal(&self.live, "SIGINT")),
            Interrupt::Message => self.client.interrupt(),
        }
    }

    /// Runs code to its end, or until somebody wants it to end. An error says how the kernel is gone.
    async fn run(&mut self, code: &str, live: &Arc<Live>, until: Instant) -> std::result::Result<Ended, Turned> {
        self.client.execute(code);
        let mut cell = Cell { live, answer: None, quiet: false, raised: None, asked: false, input: Vec::new() };
        let mut wish: Option<(Ended, Instant)> = None;
        let (mut again, mut last) = (Instant::now(), None);
        let kernel = self.live.clone();
        let over = kernel.journal().ended();
        let mut over = std::pin::pin!(over);
        loop {
            if cell.answer.is_some() {
                let last = *last.get_or_insert_with(|| Instant::now() + LAST);
                if cell.quiet || Instant::now() >= last {
                    return Ok(match wish {
                        Some((ended, _)) => ended,
                        None => cell.end(),
                    });
                }
            }
            let deadline = match (&wish, last) {
                (_, Some(last)) => last,
                (Some((_, grace)), None) => again.min(*grace),
                (None, None) => until,
            };
            tokio::select! {
                heard = self.client.next() => match heard {
                    Some(heard) => cell.hear(heard),
                    // Its end is about to be known, or somebody inside has cut its connections.
                    None => return Err(match timeout(GRACE, over).await {
                        Ok(outcome) => self.gone(&outcome.exit, &outcome.message),
                        Err(_) => self.lost("the connection to it was cut"),
                    }),
                },
                outcome = &mut over => return Err(self.gone(&outcome.exit, &outcome.message)),
                ended = live.end_wished(), if wish.is_none() => {
                    wish = Some((ended, Instant::now() + GRACE));
                    again = Instant::now();
                }
                line = cell.line(), if cell.asked => {
                    cell.asked = false;
                    self.client.answer(&line);
                }
                () = sleep_until(deadline.into()) => {
                    if wish.is_none() {
                        wish = Some((Ended::new(Exit::TimedOut, "its wall time passed (limits.wall_time)"), Instant::now() + GRACE));
                        again = Instant::now();
                    }
                }
            }
            if let Some((ended, grace)) = &wish
                && cell.answer.is_none()
            {
                if Instant::now() >= *grace {
                    let what = if ended.exit == Exit::TimedOut { "passed its wall time" } else { "was cancelled" };
                    let why = format!("a call {what}, and its kernel did not heed the interrupt");
                    return Err(Turned::Over(ended.clone(), ClosureReason::Interrupted, closing(&why)));
                }
                if Instant::now() >= again {
                    again = Instant::now() + AGAIN;
                    self.interrupt();
                }
            }
        }
    }

    /// How a call ends whose kernel ended.
    fn gone(&self, exit: &Exit, message: &str) -> Turned {
        let (reason, why) = why_gone(&self.live, exit, message);
        let exit = match exit {
            // What ends kernels by wish are callers of its execution.
            Exit::Cancelled | Exit::TimedOut => Exit::Signaled { signal: "SIGKILL".into() },
            exit => exit.clone(),
        };
        Turned::Over(Ended::new(exit, why.clone()), reason, closing(&why))
    }

    fn lost(&self, why: &str) -> Turned {
        let why = format!("its kernel was lost: {why}");
        Turned::Over(Ended::new(Exit::Internal, why.clone()), ClosureReason::Interrupted, closing(&why))
    }
}

fn closing(why: &str) -> String {
    format!("{why}; create a new session")
}

/// Why a session is over whose kernel ended so.
fn why_gone(live: &Live, exit: &Exit, message: &str) -> (ClosureReason, String) {
    match exit {
        Exit::ContainerStopped => (ClosureReason::ContainerEnded, "its container ended".into()),
        Exit::OutOfMemory => (ClosureReason::Interrupted, "its kernel was killed for want of memory".into()),
        Exit::Exited { code } => {
            let words = super::last_words(live, message);
            (ClosureReason::Interrupted, format!("its kernel ended with code {code}: {words}"))
        }
        _ => (ClosureReason::Interrupted, format!("its kernel ended: {}", super::last_words(live, message))),
    }
}

impl Cell<'_> {
    /// Takes what is heard.
    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Published(message) => self.published(message),
            Heard::Replied(message) => self.answer = Some(message.content),
            Heard::Asked(message) => {
                let prompt = message.content.get("prompt").and_then(Value::as_str).unwrap_or_default();
                self.write(OutputStream::Stdout, prompt);
                self.asked = true;
            }
        }
    }

    fn published(&mut self, message: Message) {
        let content = &message.content;
        let text = |key: &str| content.get(key).and_then(Value::as_str).unwrap_or_default();
        if message.lost > 0 {
            let note =
                format!("\n[an output of {} bytes was left out: it is too large for one message]\n", message.lost);
            return self.write(OutputStream::Stderr, &note);
        }
        let rich = |kind| {
            if let Some(output) = shown::rich(kind, content) {
                self.live.rich(output);
            }
        };
        match message.kind.as_str() {
            "stream" if text("name") == "stderr" => self.write(OutputStream::Stderr, text("text")),
            "stream" => self.write(OutputStream::Stdout, text("text")),
            "display_data" | "update_display_data" => rich(RichOutputKind::Display),
            "execute_result" => rich(RichOutputKind::Value),
            "error" => self.raised = Some(message.content),
            "status" if text("execution_state") == "idle" => self.quiet = true,
            _ => {}
        }
    }

    fn write(&self, stream: OutputStream, text: &str) {
        if !text.is_empty() {
            self.live.write(stream, text.to_owned().into());
        }
    }

    /// The next line of the call's input. At its end what a kernel takes for that.
    async fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.input.drain(..=end).collect();
                return String::from_utf8_lossy(&line[..end]).into_owned();
            }
            if self.input.len() >= LINE {
                return String::from_utf8_lossy(&std::mem::take(&mut self.input)).into_owned();
            }
            match self.live.read(LINE - self.input.len()) {
                InputRead::Data(data) => self.input.extend_from_slice(&data),
                InputRead::Eof if self.input.is_empty() => return END_OF_INPUT.to_owned(),
                InputRead::Eof => return String::from_utf8_lossy(&std::mem::take(&mut self.input)).into_owned(),
                InputRead::Pending => poll_fn(|cx| self.live.poll_ready(cx)).await,
            }
        }
    }

    /// How it ended, once it was answered.
    fn end(self) -> Ended {
        let answer = self.answer.unwrap_or_default();
        let number = answer.get("execution_count").and_then(Value::as_u64).unwrap_or_default();
        for page in answer.get("payload").and_then(Value::as_array).into_iter().flatten() {
            // What "name?" shows in a pane of its own elsewhere.
            if let Some(text) = page.pointer("/data/text~1plain").and_then(Value::as_str) {
                self.live.write(OutputStream::Stdout, shown::plain(text).into());
            }
        }
        match answer.get("status").and_then(Value::as_str) {
            Some("ok") => Ended::new(Exit::Exited { code: 0 }, ""),
            Some("error") => {
                let exception: ExceptionInfo = shown::exception(self.raised.as_ref().unwrap_or(&answer), number);
                self.live.write(OutputStream::Stderr, format!("{}\n", exception.traceback).into());
                let message = format!("{}: {}", exception.type_name, exception.message);
                Ended { exception: Some(exception), ..Ended::new(Exit::Exited { code: 1 }, message) }
            }
            _ => Ended::new(Exit::Exited { code: 1 }, "the kernel did not run it"),
        }
    }
}

impl Kernel for NotebookKernel {
    fn turn(&mut self, turn: Turn) -> BoxFuture<'_, Turned> {
        Box::pin(async move {
            let Turn { live, parameters, inputs, .. } = turn;
            let until = Instant::now() + live.origin().limits.wall_time;
            self.ground.place.enter(live.clone());
            let refused = |error: Error| Turned::Alive(Ended::new(Exit::NotStarted, error.to_string()));
            let turned = async {
                if let Err(error) = self.ground.put_all(&inputs.files).await {
                    return refused(error);
                }
                let before = match self.ground.look().await {
                    Ok(before) => before,
                    Err(error) => return refused(error),
                };
                let code = parameters.get("code").and_then(Value::as_str).unwrap_or_default();
                let mut ended = match self.run(code, &live, until).await {
                    Ok(ended) => ended,
                    Err(over) => return over,
                };
                let given = self.ground.give_back(&before, &live, &inputs.return_files);
                if let Ok(Ok((files, unlisted))) = timeout(AFTERWARDS, given).await {
                    (ended.files, ended.unlisted_files) = (files, unlisted);
                }
                Turned::Alive(ended)
            }
            .await;
            self.ground.place.leave(&live);
            turned
        })
    }

    fn heeds(&self) -> bool {
        true
    }

    fn ending(&self) -> Option<BoxFuture<'static, (ClosureReason, String)>> {
        let live = self.live.clone();
        Some(Box::pin(async move {
            let outcome = live.journal().ended().await;
            why_gone(&live, &outcome.exit, &outcome.message)
        }))
    }

    fn end(mut self: Box<Self>) {
        self.ended = true;
        self.live.end(Ended::new(Exit::Cancelled, "its session ended"));
    }

    fn memory_bytes(&self) -> u64 {
        // It is its container's.
        0
    }

    fn freeze(&mut self, _: Extent) -> Result<Frozen> {
        Err(Error::Unimplemented { feature: "a checkpoint of a session in a container" })
    }

    fn image(&mut self) -> Result<Frozen> {
        Err(Error::Unimplemented { feature: "a snapshot of a session in a container" })
    }

    fn fork(&mut self) -> BoxFuture<'_, Result<Box<dyn Kernel>>> {
        Box::pin(std::future::ready(Err(Error::Unimplemented { feature: "a copy of a session in a container" })))
    }
}

impl Drop for NotebookKernel {
    fn drop(&mut self) {
        if !self.ended {
            // The server goes, and the next one finds it again.
            self.ground.keep_lease();
            return;
        }
        let (containers, viewer) = (self.ground.containers.clone(), self.ground.viewer.clone());
        let (id, path) = (self.ground.id.clone(), format!("{}/{}", self.ground.place.directory(), self.own));
        if !self.ground.is_for_once()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move {
                // It may be gone with its container.
                let removed = containers.remove_path(&id, &viewer, &path, (true, true));
                let _ = timeout(AFTERWARDS, removed).await;
            });
        }
    }
}
