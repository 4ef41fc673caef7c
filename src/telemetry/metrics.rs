//! Every metric: its name, its labels, its buckets. `docs/metrics.md` describes each; a test compares.
//!
//! Label values come from closed sets: methods of the contract, states, reasons, and the names of tools
//! that exist. Nothing a client makes up becomes a label. Whoever counts often holds a handle
//! ([`RpcMetrics`], [`ToolMetrics`]) and looks up no label.

mod connections;
mod containers;
mod maker;
mod pools;

pub use connections::ConnectionMetrics;
pub use containers::ContainerMetrics;
pub use pools::PoolMetrics;

use self::maker::{Maker, constant};
use super::process;
use crate::domain::container::ContainerState;
use crate::domain::execution::{Execution, ExecutionState, Subject};
use crate::domain::pool::PoolCounts;
use parking_lot::{Mutex, RwLock};
use prometheus::{
    Counter, Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// From the shortest call of a warm tool to the longest one worth telling apart.
const CALL_SECONDS: [f64; 18] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// A guest can be done in microseconds and may run for an hour.
const RUN_SECONDS: [f64; 18] = [
    0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0,
    600.0, 3600.0,
];
const COMMIT_SECONDS: [f64; 11] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0];

/// The canonical names of gRPC codes, by number.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
/// `UNKNOWN`, for a number that is no code.
const UNKNOWN: usize = 2;

/// The label of calls to methods the contract does not have.
const OTHER_METHOD: &str = "other";

const FINAL_STATES: [ExecutionState; 5] = [
    ExecutionState::Succeeded,
    ExecutionState::Failed,
    ExecutionState::TimedOut,
    ExecutionState::Cancelled,
    ExecutionState::Lost,
];

/// The metrics of one server. Not global: two servers in one process have two.
pub struct Metrics {
    registry: Registry,
    rpc: Vec<RpcMetrics>,
    executions: [IntCounter; FINAL_STATES.len()],
    execution_seconds: Histogram,
    execution_rejected: IntCounter,
    executions_running: IntGauge,
    executions_queued: IntGauge,
    tool_executions: IntCounterVec,
    tools: RwLock<HashMap<Arc<str>, Arc<ToolMetrics>>>,
    tools_loaded: IntGaugeVec,
    journal_dropped_bytes: IntCounter,
    store_commit_seconds: Histogram,
    sessions: [IntGauge; 3],
    connections: ConnectionMetrics,
    containers: ContainerMetrics,
    pools: PoolMetrics,
    pool_counts: OnceLock<Source<PoolCounts>>,
    store_pending: IntGauge,
    store_errors: IntCounter,
    module_cache: Mutex<[IntCounter; 2]>,
    uptime: Gauge,
    process: ProcessMetrics,
    readings: OnceLock<Source<Readings>>,
    modules: OnceLock<Source<ModuleReadings>>,
    container_counts: OnceLock<Source<HashMap<ContainerState, u64>>>,
    started: Instant,
}

struct ProcessMetrics {
    resident: IntGauge,
    virtual_memory: IntGauge,
    cpu: Mutex<Counter>,
    threads: IntGauge,
    open_files: IntGauge,
}

type Source<T> = Box<dyn Fn() -> T + Send + Sync>;

/// Values that others keep already and that are read only when somebody scrapes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readings {
    /// Executions that run.
    pub running: usize,
    /// Executions that wait for a slot.
    pub queued: usize,
    /// Writes that wait for their commit.
    pub store_pending: u64,
    /// Open sessions, bytes of their memory, and bytes of their checkpoints on disk.
    pub sessions: [u64; 3],
    /// Tools whose newest version serves.
    pub tools_ready: usize,
    /// Tools of which an older version serves.
    pub tools_stale: usize,
    /// Tools that cannot run.
    pub tools_broken: usize,
}

/// Where the code of modules came from since the server started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModuleReadings {
    /// Found on disk.
    pub from_cache: u64,
    /// Compiled, because it was not there or no good any more.
    pub compiled: u64,
}

impl Metrics {
    /// Metrics for a server with these methods, named as they should appear in labels, such as
    /// `Tools/ExecuteTool`. [`Metrics::rpc`] takes the index into this list.
    pub fn new(methods: impl IntoIterator<Item = String>) -> Self {
        let registry = Registry::new();
        let make = Maker { registry: &registry };
        let requests = make.counters("casemate_rpc_requests_total", "Calls that were answered.", &["method", "code"]);
        let seconds = make.histograms(
            "casemate_rpc_seconds",
            "Time from a call's arrival to the end of its answer, in seconds.",
            &CALL_SECONDS,
            &["method"],
        );
        let rpc = methods.into_iter().chain([OTHER_METHOD.to_owned()]).map(|method| RpcMetrics {
            method,
            requests: requests.clone(),
            seconds: seconds.clone(),
            codes: Default::default(),
            histogram: OnceLock::new(),
        });
        let rpc = rpc.collect();
        let executions =
            make.counters("casemate_executions_total", "Executions that ended, by final state.", &["state"]);
        let rejected = make.counters(
            "casemate_execution_rejected_total",
            "Calls that were turned away before they became executions.",
            &["reason"],
        );
        let build = make.gauges("casemate_build_info", "Always 1; the label tells the version.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let module_cache =
            make.counters("casemate_module_cache_total", "Look-ups of compiled modules on disk.", &["result"]);
        Metrics {
            rpc,
            executions: FINAL_STATES.map(|state| executions.with_label_values(&[state.name()])),
            execution_seconds: make.histogram(
                "casemate_execution_seconds",
                "Time guests ran, in seconds.",
                &RUN_SECONDS,
            ),
            execution_rejected: rejected.with_label_values(&["overloaded"]),
            executions_running: make.gauge("casemate_executions_running", "Executions that run now."),
            executions_queued: make.gauge("casemate_executions_queued", "Executions that wait for a slot now."),
            tool_executions: make.counters(
                "casemate_tool_executions_total",
                "Executions of each tool that ended, by final state; only tools that exist.",
                &["tool", "state"],
            ),
            tools: RwLock::default(),
            tools_loaded: make.gauges("casemate_tools_loaded", "Tools, by whether they can run.", &["state"]),
            journal_dropped_bytes: make.counter(
                "casemate_journal_dropped_bytes_total",
                "Bytes of output and logs that were not kept for replay.",
            ),
            store_commit_seconds: make.histogram(
                "casemate_store_commit_seconds",
                "Time of a transaction of the store, in seconds.",
                &COMMIT_SECONDS,
            ),
            sessions: [
                make.gauge("casemate_sessions_open", "Open sessions now, suspended ones included."),
                make.gauge("casemate_sessions_memory_bytes", "Memory of all sessions now, in bytes."),
                make.gauge("casemate_sessions_checkpoint_bytes", "Checkpoints of all sessions on disk now, in bytes."),
            ],
            connections: ConnectionMetrics::new(&make),
            containers: ContainerMetrics::new(&make),
            pools: PoolMetrics::new(&make),
            pool_counts: OnceLock::new(),
            container_counts: OnceLock::new(),
            store_pending: make.gauge("casemate_store_pending", "Writes that wait for their commit now."),
            store_errors: make.counter("casemate_store_errors_total", "Transactions of the store that failed."),
            module_cache: Mutex::new(["hit", "miss"].map(|result| module_cache.with_label_values(&[result]))),
            modules: OnceLock::new(),
            uptime: make.register(constant(Gauge::new("casemate_uptime_seconds", "Seconds since the server started."))),
            process: ProcessMetrics {
                resident: make.gauge("process_resident_memory_bytes", "Resident memory."),
                virtual_memory: make.gauge(
                    "process_virtual_memory_bytes",
                    "Virtual memory; most of it is address space reserved for guests.",
                ),
                cpu: Mutex::new(make.register(constant(Counter::new(
                    "process_cpu_seconds_total",
                    "Processor time used, user and system.",
                )))),
                threads: make.gauge("process_threads", "Threads."),
                open_files: make.gauge("process_open_fds", "Open file descriptors."),
            },
            readings: OnceLock::new(),
            started: Instant::now(),
            registry,
        }
    }

    /// The handle of a method, by its index in the list given to [`Metrics::new`]. Any other index is
    /// the handle of calls to unknown methods.
    pub fn rpc(&self, method: usize) -> &RpcMetrics {
        &self.rpc[method.min(self.rpc.len() - 1)]
    }

    /// The handle of a tool. Only for tools that exist: the name becomes a label.
    pub fn tool(&self, name: &str) -> Arc<ToolMetrics> {
        if let Some(tool) = self.tools.read().get(name) {
            return tool.clone();
        }
        let mut tools = self.tools.write();
        let make = || {
            let ended = FINAL_STATES.map(|state| self.tool_executions.with_label_values(&[name, state.name()]));
            Arc::new(ToolMetrics { ended })
        };
        tools.entry(name.into()).or_insert_with(make).clone()
    }

    /// Forgets a tool and its series. A run that still goes on counts into a handle nobody reads.
    pub fn remove_tool(&self, name: &str) {
        if self.tools.write().remove(name).is_some() {
            for state in FINAL_STATES {
                // It is there: `tool` made all of them together.
                let _ = self.tool_executions.remove_label_values(&[name, state.name()]);
            }
        }
    }

    /// What is counted of connections.
    pub fn connections(&self) -> &ConnectionMetrics {
        &self.connections
    }

    /// An execution ended. The counter of its tool moves only while the tool exists.
    pub fn execution_ended(&self, execution: &Execution) {
        let Some(index) = FINAL_STATES.iter().position(|state| *state == execution.state) else { return };
        self.executions[index].inc();
        if let Some(outcome) = &execution.outcome {
            self.execution_seconds.observe(outcome.usage.run_time.as_secs_f64());
            self.journal_dropped_bytes.inc_by(outcome.usage.dropped_bytes);
        }
        if let Subject::Tool { name, .. } = &execution.origin.subject
            && let Some(tool) = self.tools.read().get(name)
        {
            tool.ended[index].inc();
        }
    }

    /// A call found no slot and no place in the queue.
    pub fn execution_rejected(&self) {
        self.execution_rejected.inc();
    }

    /// The store committed, or failed to.
    pub fn store_committed(&self, seconds: f64, good: bool) {
        self.store_commit_seconds.observe(seconds);
        if !good {
            self.store_errors.inc();
        }
    }

    /// Says where the readings come from. Only the first call counts.
    pub fn read_from(&self, source: impl Fn() -> Readings + Send + Sync + 'static) {
        // A second source would be a mistake of the composition root; the first one stays.
        let _ = self.readings.set(Box::new(source));
    }

    /// Says where the figures of modules come from. Only the first call counts.
    pub fn read_modules_from(&self, source: impl Fn() -> ModuleReadings + Send + Sync + 'static) {
        // As above.
        let _ = self.modules.set(Box::new(source));
    }

    /// Says where the numbers of containers come from. Only the first call counts.
    pub fn read_containers_from(&self, source: impl Fn() -> HashMap<ContainerState, u64> + Send + Sync + 'static) {
        // As above.
        let _ = self.container_counts.set(Box::new(source));
    }

    /// Says where the numbers of pools come from. Only the first call counts.
    pub fn read_pools_from(&self, source: impl Fn() -> PoolCounts + Send + Sync + 'static) {
        // As above.
        let _ = self.pool_counts.set(Box::new(source));
    }

    /// What is counted of pools.
    pub fn pools(&self) -> &PoolMetrics {
        &self.pools
    }

    /// What is counted of containers.
    pub fn containers(&self) -> &ContainerMetrics {
        &self.containers
    }

    /// All metrics in the Prometheus text format 0.0.4.
    pub fn render(&self) -> String {
        self.refresh();
        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            // What was written so far is whole lines, and better than nothing.
            tracing::error!(%error, "metrics could not be written");
        }
        text
    }

    fn refresh(&self) {
        self.uptime.set(self.started.elapsed().as_secs_f64());
        if let Some(counts) = self.container_counts.get() {
            self.containers.set(&counts());
        }
        if let Some(counts) = self.pool_counts.get() {
            self.pools.set(&counts());
        }
        let now = self.readings.get().map(|read| read()).unwrap_or_default();
        let set = |gauge: &IntGauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        set(&self.executions_running, now.running as u64);
        set(&self.executions_queued, now.queued as u64);
        self.sessions.iter().zip(now.sessions).for_each(|(gauge, value)| set(gauge, value));
        set(&self.store_pending, now.store_pending);
        for (state, count) in [("ready", now.tools_ready), ("stale", now.tools_stale), ("broken", now.tools_broken)] {
            set(&self.tools_loaded.with_label_values(&[state]), count as u64);
        }
        // Counters kept elsewhere are raised to what they are there; under a lock, so that two scrapes at
        // once do not add the same difference twice.
        let modules = self.modules.get().map(|read| read()).unwrap_or_default();
        {
            let counters = self.module_cache.lock();
            for (counter, total) in counters.iter().zip([modules.from_cache, modules.compiled]) {
                counter.inc_by(total.saturating_sub(counter.get()));
            }
        }
        let Some(figures) = process::read() else { return };
        set(&self.process.resident, figures.resident_bytes);
        set(&self.process.virtual_memory, figures.virtual_bytes);
        set(&self.process.threads, figures.threads);
        set(&self.process.open_files, figures.open_files);
        let cpu = self.process.cpu.lock();
        cpu.inc_by((figures.cpu_seconds - cpu.get()).max(0.0));
    }
}

/// The handle of one method. Series appear with their first call, so that a scrape is not filled with
/// zeros of methods nobody uses.
pub struct RpcMetrics {
    method: String,
    requests: IntCounterVec,
    seconds: HistogramVec,
    codes: [OnceLock<IntCounter>; CODES.len()],
    histogram: OnceLock<Histogram>,
}

impl RpcMetrics {
    /// A call was answered with this gRPC code after this time.
    pub fn answered(&self, code: i32, time: Duration) {
        let index = usize::try_from(code).ok().filter(|index| *index < CODES.len()).unwrap_or(UNKNOWN);
        let label = [self.method.as_str(), CODES[index]];
        self.codes[index].get_or_init(|| self.requests.with_label_values(&label)).inc();
        self.histogram.get_or_init(|| self.seconds.with_label_values(&[&self.method])).observe(time.as_secs_f64());
    }
}

/// The handle of one tool.
pub struct ToolMetrics {
    ended: [IntCounter; FINAL_STATES.len()],
}

impl ToolMetrics {
    /// A run ended in this state; a state that is not final counts nothing.
    pub fn ended(&self, state: ExecutionState) {
        if let Some(index) = FINAL_STATES.iter().position(|known| *known == state) {
            self.ended[index].inc();
        }
    }
}

#[cfg(test)]
mod tests;
