//! The calls that may wait: for input, for readers of output, for time, for the host.

use super::calls::{APPEND, MODULE};
use super::descriptors::Descriptor;
use super::errno::{Errno, Result};
use super::memory::{self, Guest, number};
use super::open::{read_file, write_file};
use super::{MAX_ANSWER, MAX_FRAME, View, Wasi};
use crate::domain::event::OutputStream;
use crate::domain::io::{InputRead, InputSource};
use bytes::Bytes;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use wasmtime::{Caller, Linker};
use wasmtime_wasi::p2::OutputStream as _;

/// Bytes that one read or write of a standard stream moves at most.
const CHUNK: usize = 64 << 10;

/// Subscriptions of one poll at most.
const MAX_SUBSCRIPTIONS: u32 = 1024;

pub(super) fn add<T: View>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        MODULE,
        "fd_read",
        |mut caller: Caller<'_, T>, (fd, at, count, read): (u32, u32, u32, u32)| {
            Box::new(async move { number(fd_read(&mut caller, fd, (at, count), read).await) })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "fd_write",
        |mut caller: Caller<'_, T>, (fd, at, count, written): (u32, u32, u32, u32)| {
            Box::new(async move { number(fd_write(&mut caller, fd, (at, count), written).await) })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "poll_oneoff",
        |mut caller: Caller<'_, T>, (from, to, count, happened): (u32, u32, u32, u32)| {
            Box::new(async move { number(poll_oneoff(&mut caller, (from, to), count, happened).await) })
        },
    )?;
    linker.func_wrap_async(MODULE, "sched_yield", |_: Caller<'_, T>, (): ()| {
        Box::new(async {
            tokio::task::yield_now().await;
            0
        })
    })?;
    Ok(())
}

/// Does something with the guest's memory and its world.
fn with<T: View, R>(
    caller: &mut Caller<'_, T>,
    call: impl FnOnce(&mut Guest<'_>, &mut Wasi) -> Result<R>,
) -> Result<R> {
    let memory = memory::of(caller)?;
    let (bytes, state) = memory.data_and_store_mut(caller);
    call(&mut Guest(bytes), state.wasi())
}

/// What is left of a call after what could be done at once.
enum Left {
    Done,
    Input(Arc<dyn InputSource>, usize),
    Output(crate::engine::Output, Bytes),
    Ask(Option<Arc<dyn super::Channel>>, Bytes),
}

async fn fd_read<T: View>(caller: &mut Caller<'_, T>, fd: u32, pieces: (u32, u32), at: u32) -> Result<()> {
    loop {
        let left = with(caller, |m, w| {
            let input = w.input.clone();
            let channel = w.channel.clone();
            match w.descriptor(fd)? {
                Descriptor::File(file) => {
                    let file = file.clone();
                    let read = read_file(m, w, &file, pieces, file.position)?;
                    w.descriptor(fd)?.file()?.position += u64::from(read);
                    m.put_u32(at, read)?;
                    Ok(Left::Done)
                }
                Descriptor::Input => {
                    let room: usize = m.pieces(pieces.0, pieces.1, CHUNK)?.iter().map(ExactSizeIterator::len).sum();
                    match input {
                        Some(input) if room > 0 => Ok(Left::Input(input, room)),
                        _ => {
                            m.put_u32(at, 0)?;
                            Ok(Left::Done)
                        }
                    }
                }
                Descriptor::Channel { request, answer } => {
                    if answer.is_empty() {
                        return Ok(Left::Ask(channel, frame(std::mem::take(request))?));
                    }
                    let mut read = 0;
                    for piece in m.pieces(pieces.0, pieces.1, CHUNK)? {
                        let data = answer.split_to(piece.len().min(answer.len()));
                        m.0[piece.start..piece.start + data.len()].copy_from_slice(&data);
                        read += data.len() as u32;
                    }
                    m.put_u32(at, read)?;
                    Ok(Left::Done)
                }
                Descriptor::Directory { .. } => Err(Errno::ISDIR),
                Descriptor::Output | Descriptor::Error => Err(Errno::NOTCAPABLE),
            }
        })?;
        match left {
            Left::Done => return Ok(()),
            Left::Input(input, room) => {
                let data = next(&*input, room).await;
                return with(caller, |m, _| {
                    let mut rest = data;
                    let length = rest.len() as u32;
                    for piece in m.pieces(pieces.0, pieces.1, CHUNK)? {
                        let data = rest.split_to(piece.len().min(rest.len()));
                        m.0[piece.start..piece.start + data.len()].copy_from_slice(&data);
                    }
                    m.put_u32(at, length)
                });
            }
            Left::Ask(channel, request) => {
                let response = channel.ok_or(Errno::IO)?.call(request).await;
                if response.len() > MAX_ANSWER {
                    return Err(Errno::IO);
                }
                let length = response.len() as u32;
                let framed: Bytes = [&length.to_le_bytes(), &response[..]].concat().into();
                with(caller, |_, w| match w.descriptor(fd)? {
                    Descriptor::Channel { answer, .. } => {
                        *answer = framed;
                        Ok(())
                    }
                    _ => Err(Errno::BADF),
                })?;
            }
            Left::Output(..) => return Err(Errno::IO),
        }
    }
}

/// The next bytes of standard input; none at its end.
async fn next(input: &dyn InputSource, room: usize) -> Bytes {
    loop {
        match input.read(room) {
            InputRead::Data(data) => return data,
            InputRead::Eof => return Bytes::new(),
            InputRead::Pending => poll_fn(|cx| input.poll_ready(cx)).await,
        }
    }
}

/// The message in a request, which must be complete. One that is not is forgotten, so that the next is read from
/// its beginning.
fn frame(request: Vec<u8>) -> Result<Bytes> {
    let (length, message) = request.split_first_chunk::<4>().ok_or(Errno::INVAL)?;
    match u32::from_le_bytes(*length) as usize == message.len() {
        true => Ok(Bytes::from(request).slice(4..)),
        false => Err(Errno::INVAL),
    }
}

async fn fd_write<T: View>(caller: &mut Caller<'_, T>, fd: u32, pieces: (u32, u32), at: u32) -> Result<()> {
    let left = with(caller, |m, w| {
        let output = w.output.clone();
        let stream = match w.descriptor(fd)? {
            Descriptor::File(file) => {
                if !file.write {
                    return Err(Errno::NOTCAPABLE);
                }
                let file = file.clone();
                let append = file.flags & APPEND != 0;
                let offset = if append { w.tree.node(file.ino)?.size() } else { file.position };
                let written = write_file(m, w, file.ino, pieces, offset)?;
                w.descriptor(fd)?.file()?.position = offset + u64::from(written);
                m.put_u32(at, written)?;
                return Ok(Left::Done);
            }
            Descriptor::Channel { request, answer } => {
                let mut written = 0;
                let pieces = m.pieces(pieces.0, pieces.1, memory::MAX_MOVED)?;
                let more: usize = pieces.iter().map(ExactSizeIterator::len).sum();
                if request.len() + more > MAX_FRAME + 4 {
                    return Err(Errno::FBIG);
                }
                for piece in pieces {
                    written += piece.len() as u32;
                    request.extend_from_slice(&m.0[piece]);
                }
                *answer = Bytes::new();
                m.put_u32(at, written)?;
                return Ok(Left::Done);
            }
            Descriptor::Output => OutputStream::Stdout,
            Descriptor::Error => OutputStream::Stderr,
            Descriptor::Input => return Err(Errno::NOTCAPABLE),
            Descriptor::Directory { .. } => return Err(Errno::ISDIR),
        };
        let ranges = m.pieces(pieces.0, pieces.1, CHUNK)?;
        let mut data = Vec::with_capacity(ranges.iter().map(ExactSizeIterator::len).sum());
        ranges.into_iter().for_each(|range| data.extend_from_slice(&m.0[range]));
        m.put_u32(at, data.len() as u32)?;
        match output {
            Some(output) if !data.is_empty() => {
                Ok(Left::Output(crate::engine::Output(output, stream), Bytes::from(data)))
            }
            _ => Ok(Left::Done),
        }
    })?;
    if let Left::Output(mut output, data) = left {
        // Waits a moment for readers that keep up, and never fails.
        let _ = output.blocking_write_and_flush(data).await;
    }
    Ok(())
}

/// What a guest waits for.
enum Event {
    Time(Instant),
    Input,
    /// Always there, or never to be.
    Now(Result<()>),
}

async fn poll_oneoff<T: View>(
    caller: &mut Caller<'_, T>,
    (from, to): (u32, u32),
    count: u32,
    happened: u32,
) -> Result<()> {
    if count == 0 || count > MAX_SUBSCRIPTIONS {
        return Err(Errno::INVAL);
    }
    let (events, input) = with(caller, |m, w| {
        let mut events = Vec::with_capacity(count as usize);
        for index in 0..count {
            let at = from.checked_add(index * 48).ok_or(Errno::FAULT)?;
            m.range(at, 48)?;
            let user = m.u64(at)?;
            let kind = m.bytes(at + 8, 1)?[0];
            let event = match kind {
                0 => deadline(m, w, at),
                1 | 2 => match w.descriptor(m.u32(at + 16)?) {
                    Ok(Descriptor::Input) if kind == 1 => Event::Input,
                    Ok(_) => Event::Now(Ok(())),
                    Err(errno) => Event::Now(Err(errno)),
                },
                _ => return Err(Errno::INVAL),
            };
            events.push((user, kind, event));
        }
        Ok((events, w.input.clone()))
    })?;
    let ready = |event: &Event| match event {
        Event::Now(result) => Some(*result),
        Event::Time(when) => (*when <= Instant::now()).then_some(Ok(())),
        Event::Input => match &input {
            Some(input) => {
                let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
                input.poll_ready(&mut cx).is_ready().then_some(Ok(()))
            }
            None => Some(Ok(())),
        },
    };
    while !events.iter().any(|(_, _, event)| ready(event).is_some()) {
        let times = events.iter().filter_map(|(_, _, event)| match event {
            Event::Time(when) => Some(*when),
            _ => None,
        });
        let earliest = times.min();
        let for_input = events.iter().any(|(_, _, event)| matches!(event, Event::Input));
        let input = input.clone().filter(|_| for_input);
        let wait_input = async {
            match &input {
                Some(input) => poll_fn(|cx| input.poll_ready(cx)).await,
                None => std::future::pending().await,
            }
        };
        match earliest {
            Some(when) => {
                let _ = tokio::time::timeout_at(when, wait_input).await;
            }
            None => wait_input.await,
        }
    }
    with(caller, |m, _| {
        let mut told = 0;
        for (user, kind, event) in &events {
            let Some(result) = ready(event) else { continue };
            let at = to.checked_add(told * 32).ok_or(Errno::FAULT)?;
            let mut entry = [0; 32];
            entry[..8].copy_from_slice(&user.to_le_bytes());
            entry[8..10].copy_from_slice(&result.err().map_or(0, |errno| errno.0).to_le_bytes());
            entry[10] = *kind;
            // How much there is to read or write is not known before; one byte at least.
            entry[16] = u8::from(*kind != 0);
            m.put(at, &entry)?;
            told += 1;
        }
        m.put_u32(happened, told)
    })
}

/// When a clock's subscription is due.
fn deadline(m: &Guest<'_>, w: &Wasi, at: u32) -> Event {
    const ABSOLUTE: u32 = 1;
    // The caller checked that the subscription lies in the memory.
    let read = || Ok((m.u32(at + 16)?, m.u64(at + 24)?, m.u32(at + 40)? & ABSOLUTE != 0));
    let due = read().and_then(|(clock, timeout, absolute)| {
        let now = w.time(clock)?;
        let wait = Duration::from_nanos(if absolute { timeout.saturating_sub(now) } else { timeout });
        Ok(Instant::now().checked_add(wait))
    });
    match due {
        Ok(Some(when)) => Event::Time(when),
        // Longer than clocks go: whoever sleeps so long is ended by the limit of its time.
        Ok(None) => Event::Time(Instant::now() + Duration::from_secs(86_400 * 365)),
        Err(errno) => Event::Now(Err(errno)),
    }
}
