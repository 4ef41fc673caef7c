//! Configuration: typed sections, the rules they must satisfy, and the layers they come from.
//!
//! A value comes from the last layer that names it: typed defaults, the TOML file, environment
//! variables `CASEMATE_SECTION__KEY`, flags. [`load`] puts the layers together and is the only reader
//! of the environment in this crate. A [`Config`] that [`Config::validate`] finds no problem with is
//! one the server can start from.
//!
//! ```
//! let config: casemate::config::Config = toml::from_str(r#"
//!     [server]
//!     address = "127.0.0.1:0"
//!     [limits.default]
//!     wall_time = "5s"
//!     memory = "32MiB"
//! "#)?;
//! assert!(config.validate().is_empty());
//! assert_eq!(config.limits.policy().defaults.memory_bytes, 32 << 20);
//! # Ok::<(), toml::de::Error>(())
//! ```

mod client;
mod containers;
pub mod forms;
mod limits;
mod load;
mod problem;
mod secret;
mod sections;
mod sessions;
mod templates;
mod validate;

pub use client::{ClientSettings, Target};
pub use containers::{ContainersSection, OnShutdown, ResourceSet, TlsSection};
pub use limits::{LimitSet, LimitsSection};
pub use load::{Environment, Flag, Loaded, Sources, load};
pub use problem::{ConfigError, Problem};
pub use secret::Secret;
pub use sections::{
    AuthSection, Config, EngineSection, ExecutionSection, HttpSection, LogFormat, LogSection, PagemapUse,
    RetentionSection, ServerSection, StoreSection, ToolsSection,
};
pub use templates::TemplateSection;
