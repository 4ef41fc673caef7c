//! What the server and the supervisor in a container (the *guest*) say to each other.
//!
//! The guest is process 1 of a container. It connects to a Unix socket of the server's, in a directory that is
//! mounted read-only into the container, and connects again whenever the connection is gone: so a server that was
//! killed finds its processes, and their output from the first byte on, where it left them.
//!
//! Either side takes what the other says as data. The server knows the guest by the kernel's word alone: the
//! process at the other end of the socket is the one that the container was started with.

pub mod protocol;
