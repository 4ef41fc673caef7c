//! Docker as a backend.
