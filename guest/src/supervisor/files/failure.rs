//! Errors of the kernel, by the names that the protocol has for them.

use casemate_guest::protocol::Failure;
use rustix::io::Errno;

/// The name of an error.
pub fn named(error: Errno) -> Failure {
    match error {
        Errno::NOENT => Failure::NotFound,
        Errno::EXIST => Failure::Exists,
        Errno::ACCESS | Errno::PERM => Failure::NotPermitted,
        Errno::ROFS => Failure::ReadOnly,
        Errno::ISDIR => Failure::IsDirectory,
        Errno::NOTDIR => Failure::NotDirectory,
        Errno::NOTEMPTY => Failure::NotEmpty,
        // What opening a pipe without a reader, or a socket, says.
        Errno::NXIO => Failure::NotRegular,
        Errno::LOOP => Failure::Links,
        Errno::XDEV => Failure::OtherFileSystem,
        Errno::NOSPC | Errno::DQUOT => Failure::NoSpace,
        Errno::MFILE | Errno::NFILE => Failure::TooMany("open files".into()),
        Errno::NAMETOOLONG => Failure::Invalid("a name that is too long".into()),
        other => Failure::Other(other.to_string()),
    }
}
