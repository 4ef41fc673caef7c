//! What a keeper that is free is told: which process to keep next, and its streams.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use rustix::{cmsg_space, io};

use super::plan::Plan;

/// Bytes of a message at most: a socket takes it at once. What is larger goes to a new keeper, which has it in memory.
const MOST: usize = 32 << 10;

/// Tells a keeper. Whether that was possible: one that was killed, or whose message is too large, is not told.
pub fn send(keeper: impl AsFd, plan: &Plan, streams: &[OwnedFd; 3]) -> bool {
    let Ok(bytes) = postcard::to_stdvec(plan) else { return false };
    if bytes.len() > MOST {
        return false;
    }
    let fds: [BorrowedFd<'_>; 3] = streams.each_ref().map(AsFd::as_fd);
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(3))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&fds))
        && sendmsg(keeper, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL).is_ok()
}

/// Waits for the next message. None when there will be none.
pub fn receive(guest: impl AsFd) -> Option<(Plan, [RawFd; 3])> {
    let mut bytes = vec![0; MOST];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(3))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let message =
        io::retry_on_intr(|| recvmsg(&guest, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags)).ok()?;
    let mut streams = Vec::new();
    for rights in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = rights {
            streams.extend(fds);
        }
    }
    if message.flags.contains(ReturnFlags::TRUNC) {
        return None;
    }
    let plan = postcard::from_bytes(bytes.get(..message.bytes)?).ok()?;
    let streams: [OwnedFd; 3] = streams.try_into().ok()?;
    Some((plan, streams.map(IntoRawFd::into_raw_fd)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use casemate_guest::protocol::Spec;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::fs::File;
    use std::io::{Seek, Write};
    use std::os::fd::FromRawFd;

    #[test]
    fn orders_are_received_as_sent() {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let spec = |length| Spec { command: vec![b"/bin/true".to_vec(), vec![b'x'; length]], ..Spec::default() };
        let (plan, large) = (Plan::new(&spec(3)).unwrap(), Plan::new(&spec(MOST)).unwrap());
        let mut file = tempfile::tempfile().unwrap();
        let streams = || [&file, &file, &file].map(|file| OwnedFd::from(file.try_clone().unwrap()));
        assert!(!send(&ours, &large, &streams()));
        assert!(send(&ours, &plan, &streams()));
        let (got, fds) = receive(&theirs).unwrap();
        assert_eq!(
            (got.candidates, got.arguments, got.terminal),
            (plan.candidates.clone(), plan.arguments.clone(), false)
        );
        for fd in fds {
            // SAFETY: it was just received, and is nobody else's.
            unsafe { File::from_raw_fd(fd) }.write_all(b"x").unwrap();
        }
        assert_eq!(file.stream_position().unwrap(), 3);
        drop(ours);
        assert!(receive(&theirs).is_none());
    }
}
