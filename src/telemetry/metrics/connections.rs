//! What is counted of connections.

use super::{IntCounter, Maker};
use prometheus::IntGauge;

/// What is counted of connections. Cheap to clone: all clones count into the same.
#[derive(Clone)]
pub struct ConnectionMetrics {
    open: IntGauge,
    refused: IntCounter,
}

impl ConnectionMetrics {
    pub(super) fn new(make: &Maker) -> Self {
        ConnectionMetrics {
            open: make.gauge("casemate_connections_open", "Connections of gRPC clients now."),
            refused: make.counter(
                "casemate_connections_refused_total",
                "Connections of gRPC clients for which there was no room, or no descriptor.",
            ),
        }
    }

    /// One was opened.
    pub fn opened(&self) {
        self.open.inc();
    }

    /// One was closed.
    pub fn closed(&self) {
        self.open.dec();
    }

    /// One was turned away.
    pub fn refused(&self) {
        self.refused.inc();
    }
}
