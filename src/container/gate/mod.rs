//! The gate: where processes go that want out of a container.
//!
//! Their supervisor listens on the loopback interface, and makes each connection a channel of its link. What answers
//! there speaks HTTP as proxies do, so that programs that know nothing of Casemate find it by the usual variables.

mod closed;

pub use closed::Closed;

use super::ports::Connection;
use crate::domain::id::ContainerId;
use futures_core::future::BoxFuture;
use std::collections::BTreeMap;

/// Where it is in each container, on 127.0.0.1.
pub const PORT: u16 = 3128;

/// What answers the connections of processes.
pub trait Gate: Send + Sync + 'static {
    /// Serves one connection to its end. Dropped, the connection is cut.
    fn serve(&self, container: ContainerId, connection: Connection) -> BoxFuture<'static, ()>;
}

/// Variables that tell programs where the gate is. What they find on the loopback interface is in the container, and
/// not the gate's.
const VARIABLES: [(&str, &str); 4] = [
    ("HTTP_PROXY", "http://127.0.0.1:3128"),
    ("HTTPS_PROXY", "http://127.0.0.1:3128"),
    ("ALL_PROXY", "http://127.0.0.1:3128"),
    ("NO_PROXY", "localhost,127.0.0.1,::1"),
];

/// Has programs with these variables find the gate, whatever an image says of other ones.
pub(super) fn point(environment: &mut BTreeMap<String, String>) {
    environment.retain(|name, _| !name.to_ascii_uppercase().ends_with("_PROXY"));
    for (name, value) in VARIABLES {
        environment.insert(name.to_owned(), value.to_owned());
        // Some read the one, some the other.
        environment.insert(name.to_ascii_lowercase(), value.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_does_not_say_where_the_gate_is() {
        let of = |name: &str| (name.to_owned(), "http://elsewhere:1".to_owned());
        let mut all: BTreeMap<_, _> = ["HTTP_PROXY", "https_proxy", "Ftp_Proxy", "PROXY"].map(of).into();
        point(&mut all);
        assert_eq!(all.remove("PROXY").as_deref(), Some("http://elsewhere:1"));
        assert_eq!(all.len(), 2 * VARIABLES.len());
        let gate = format!("http://127.0.0.1:{PORT}");
        let other = |(name, value): &(&String, &String)| !name.eq_ignore_ascii_case("NO_PROXY") && **value != gate;
        assert_eq!(all.iter().find(other), None);
    }
}
