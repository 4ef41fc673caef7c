//! fresh
