//! The error numbers of WASI preview 1 that are answered here.

/// An error number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub u16);

/// A call's result.
pub type Result<T, E = Errno> = std::result::Result<T, E>;

macro_rules! numbers {
    ($($name:ident = $number:literal $text:literal),* $(,)?) => {
        impl Errno {
            $(#[doc = $text] pub const $name: Errno = Errno($number);)*

            /// What it means, for people.
            pub fn text(self) -> &'static str {
                match self {
                    $(Errno::$name => $text,)*
                    _ => "another error",
                }
            }
        }
    };
}

numbers! {
    BADF = 8 "the descriptor is not open",
    BUSY = 10 "it is in use",
    EXIST = 20 "it exists already",
    FAULT = 21 "an address outside of the memory",
    FBIG = 22 "the file would be too large",
    ILSEQ = 25 "the name is not UTF-8",
    INVAL = 28 "an argument that makes no sense",
    IO = 29 "the host did not answer",
    ISDIR = 31 "it is a directory",
    LOOP = 32 "too many symbolic links",
    MFILE = 33 "too many open files",
    NAMETOOLONG = 37 "the name is too long",
    NOENT = 44 "there is no such file or directory",
    NOSPC = 51 "no space is left in the scratch directory",
    NOSYS = 52 "there is no such call",
    NOTDIR = 54 "it is not a directory",
    NOTEMPTY = 55 "the directory is not empty",
    NOTSOCK = 57 "it is not a socket",
    NOTSUP = 58 "this is not supported",
    PERM = 63 "this is not permitted",
    ROFS = 69 "it can only be read",
    SPIPE = 70 "it has no position",
    NOTCAPABLE = 76 "the descriptor was not opened for this",
}
