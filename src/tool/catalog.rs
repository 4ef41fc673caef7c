//! The catalog: which tools there are, which version of each serves, and what is wrong with the rest.
//!
//! Calls read the table without a lock. Whoever changes it works beside it and puts a new table in
//! its place; a faulty file never takes the place of a version that works.

use super::directory::{Content, Directory, Files};
use super::schema::Schema;
use super::{Runner, Tool, builtin, check_name, manifest};
use crate::domain::id::RequestId;
use crate::domain::limits::{LimitsPolicy, LimitsRequest};
use crate::domain::manifest::Manifest;
use crate::domain::time::Timestamp;
use crate::engine::Engine;
use crate::error::{Error, Result, Violation};
use crate::execution::Lane;
use crate::interpreter::Interpreters;
use crate::store::Store;
use crate::store::requests::{self, Mutation, Noted};
use arc_swap::ArcSwap;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::task::JoinSet;

/// Tools loaded at the same time; compiling has its own, smaller bound in the engine.
const PARALLEL_LOADS: usize = 16;

/// Settings of a catalog.
#[derive(Clone, Debug)]
pub struct CatalogConfig {
    /// Where the tools are.
    pub directory: PathBuf,
    /// Largest module.
    pub max_module_bytes: u64,
    /// Runs of one tool at the same time, unless its manifest says otherwise.
    pub max_running_per_tool: u32,
    /// The server's limits, to get each tool ready for those its manifest asks for.
    pub limits: LimitsPolicy,
}

/// The tools of a server.
pub struct Catalog {
    table: ArcSwap<Table>,
    directory: Directory,
    engine: Engine,
    interpreters: Interpreters,
    store: Arc<Store>,
    observer: Arc<dyn CatalogObserver>,
    max_running_per_tool: u32,
    limits: LimitsPolicy,
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
}

type Table = HashMap<Arc<str>, Arc<Entry>>;

/// Hears of every change of the tools there are; health and metrics do.
pub trait CatalogObserver: Send + Sync + 'static {
    /// These are the tools now, by name.
    fn changed(&self, entries: &[Arc<Entry>]);
}

/// One tool as it stands.
pub struct Entry {
    name: Arc<str>,
    serving: Option<Arc<Tool>>,
    problem: Option<String>,
    files: Files,
}

impl Entry {
    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The version that serves, if one does.
    pub fn serving(&self) -> Option<&Arc<Tool>> {
        self.serving.as_ref()
    }

    /// What is wrong with the newest files.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }
}

/// What a reload changed; names in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// New tools.
    pub added: Vec<String>,
    /// Tools with new files.
    pub updated: Vec<String>,
    /// Tools that are gone.
    pub removed: Vec<String>,
    /// What could not be loaded, and why.
    pub problems: Vec<(String, String)>,
}

/// A tool to add or replace.
pub struct Upload {
    /// Its name.
    pub name: String,
    /// Its manifest; `None` keeps the present one.
    pub manifest: Option<Manifest>,
    /// Its module; `None` keeps the present one.
    pub module: Option<Bytes>,
    /// Who asks, and the request id.
    pub request: Option<(Arc<str>, RequestId)>,
}

impl Catalog {
    /// What loads and runs the tools.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Opens a directory and loads what is in it. Faulty tools are in the table with their problem.
    pub async fn open(
        config: CatalogConfig,
        engine: Engine,
        interpreters: Interpreters,
        store: Arc<Store>,
        observer: Arc<dyn CatalogObserver>,
    ) -> Result<Arc<Catalog>> {
        let built_in = builtin::tools(&interpreters, config.max_running_per_tool)?;
        let entry = |tool: Tool| {
            let entry =
                Entry { name: tool.name.clone(), serving: Some(tool.into()), problem: None, files: Files::default() };
            (entry.name.clone(), Arc::new(entry))
        };
        let catalog = Arc::new(Catalog {
            table: ArcSwap::from_pointee(built_in.into_iter().map(entry).collect()),
            interpreters,
            directory: Directory::open(config.directory, config.max_module_bytes)?,
            engine,
            store,
            observer,
            max_running_per_tool: config.max_running_per_tool,
            limits: config.limits,
            changing: tokio::sync::Mutex::new(()),
        });
        catalog.reload(None).await?;
        Ok(catalog)
    }

    /// The tool that serves under a name.
    pub fn tool(&self, name: &str) -> Result<Arc<Tool>> {
        let table = self.table.load();
        let entry = table.get(name).ok_or_else(|| match self.interpreters.get(name) {
            Some(interpreter) => interpreter.missing(),
            None => Error::ToolNotFound { name: name.into() },
        })?;
        entry
            .serving
            .clone()
            .ok_or_else(|| Error::ToolBroken { name: name.into(), problem: entry.problem.clone().unwrap_or_default() })
    }

    /// One tool as it stands.
    pub fn get(&self, name: &str) -> Result<Arc<Entry>> {
        self.table.load().get(name).cloned().ok_or_else(|| Error::ToolNotFound { name: name.into() })
    }

    /// All tools by name.
    pub fn list(&self) -> Vec<Arc<Entry>> {
        let mut entries: Vec<Arc<Entry>> = self.table.load().values().cloned().collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries
    }

    /// Where the tools are.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Loads what changed in the directory: everything, or only these names.
    pub async fn reload(self: &Arc<Self>, only: Option<&BTreeSet<String>>) -> Result<Reloaded> {
        let _change = self.changing.lock().await;
        let found = self.blocking(|catalog| catalog.directory.scan()).await?;
        let wanted = |name: &str| only.is_none_or(|only| only.contains(name));
        let before = self.table.load_full();
        let mut after: Table = (*before).clone();
        let mut changes = Reloaded::default();

        for name in
            before.keys().filter(|name| wanted(name) && !found.contains_key(&***name) && !self.is_built_in(name))
        {
            after.remove(name);
            changes.removed.push(name.to_string());
        }
        let mut loads = JoinSet::new();
        let mut queue = found.into_iter().filter(|(name, files)| {
            // Files that failed before and did not change since fail again: not worth a compile.
            wanted(name) && before.get(&**name).is_none_or(|entry| entry.files != *files)
        });
        loop {
            while loads.len() < PARALLEL_LOADS
                && let Some((name, files)) = queue.next()
            {
                let (catalog, old) = (self.clone(), before.get(&*name).cloned());
                loads.spawn(async move { catalog.load(name, files, old).await });
            }
            let Some(loaded) = loads.join_next().await else { break };
            let entry = loaded.map_err(|error| Error::Internal(format!("loading a tool panicked: {error}")))?;
            let list = if before.contains_key(&entry.name) { &mut changes.updated } else { &mut changes.added };
            list.push(entry.name.to_string());
            after.insert(entry.name.clone(), Arc::new(entry));
        }
        self.publish(after);

        changes.problems = self
            .list()
            .iter()
            .filter(|entry| wanted(&entry.name))
            .filter_map(|entry| entry.problem.clone().map(|problem| (entry.name.to_string(), problem)))
            .collect();
        [&mut changes.added, &mut changes.updated, &mut changes.removed].into_iter().for_each(|names| names.sort());
        for name in changes.added.iter().chain(&changes.updated) {
            match changes.problems.iter().find(|(of, _)| of == name) {
                Some((_, problem)) => tracing::warn!(tool = %name, %problem, "a tool could not be loaded"),
                None => tracing::info!(tool = %name, "loaded a tool"),
            }
        }
        changes.removed.iter().for_each(|name| tracing::info!(tool = %name, "a tool is gone"));
        Ok(changes)
    }

    /// Whether the name is that of an interpreter, installed or not.
    fn is_built_in(&self, name: &str) -> bool {
        self.interpreters.get(name).is_some()
    }

    fn refuse_built_in(&self, field: &str, name: &str) -> Result<()> {
        match self.is_built_in(name) {
            true => Err(Error::invalid(field, format!("{name:?} is a built-in tool; choose another name"))),
            false => Ok(()),
        }
    }

    /// Loads one tool's files; on failure the old version keeps serving.
    async fn load(self: Arc<Self>, name: String, files: Files, old: Option<Arc<Entry>>) -> Entry {
        let read = {
            let (name, files) = (name.clone(), files.clone());
            self.blocking(move |catalog| catalog.directory.read(&name, &files)).await
        };
        let serving = old.and_then(|entry| entry.serving.clone());
        let made = match read {
            Ok(_) if self.is_built_in(&name) => Err(Error::ToolBroken {
                name: name.clone(),
                problem: "a built-in tool has this name, and keeps serving; rename the file".into(),
            }),
            Ok(content) => self.make(&name, content, serving.as_deref()).await,
            Err(error) => Err(error),
        };
        let name: Arc<str> = name.into();
        match made {
            Ok(tool) => Entry { name, serving: Some(Arc::new(tool)), problem: None, files },
            Err(error) => Entry { name, serving, problem: Some(error.to_string()), files },
        }
    }

    async fn make(&self, name: &str, content: Content, old: Option<&Tool>) -> Result<Tool> {
        let Content { module, manifest } = content;
        let compile =
            |field, schema: &Option<_>| schema.as_ref().map(|schema| Schema::compile(name, field, schema)).transpose();
        let input = compile("input_schema", &manifest.input_schema)?;
        let output = compile("output_schema", &manifest.output_schema)?;
        for grant in &manifest.directories {
            self.engine.check_directory(grant).map_err(|problem| Error::ManifestInvalid {
                tool: name.into(),
                violations: vec![Violation::new("manifest.directories", problem)],
            })?;
        }
        // The digest tells whether the module is the one that serves: then nothing is loaded twice.
        let digest = hex::encode(Sha256::digest(&module));
        let program = match old {
            Some(Tool { runner: Runner::Module(program), .. }) if **program.digest() == *digest => program.clone(),
            _ => self.engine.load(name, module).await?,
        };
        // Metering and unusual stacks need code of their own: made now rather than while a caller waits.
        program.prepare(&self.limits.resolve(&manifest.limits, &LimitsRequest::default())).await?;
        let size = manifest.max_concurrent.unwrap_or(self.max_running_per_tool);
        let lane = match old {
            // The same lane, so that a reload does not let twice as many run.
            Some(old) if old.lane.size() == size => old.lane.clone(),
            _ => Lane::new(format!("tool {name:?}"), size),
        };
        Ok(Tool {
            name: name.into(),
            version: manifest.version.as_str().into(),
            environment: Arc::new(manifest.environment.clone()),
            directories: manifest.directories.clone().into(),
            manifest: Arc::new(manifest),
            runner: Runner::Module(program),
            input,
            output,
            lane,
            loaded: Timestamp::now(),
        })
    }

    /// Adds or replaces a tool. Nothing is written before the new version has been made.
    pub async fn register(self: &Arc<Self>, upload: Upload) -> Result<Arc<Entry>> {
        check_name("name", &upload.name)?;
        self.refuse_built_in("name", &upload.name)?;
        if let Some(manifest) = &upload.manifest {
            manifest::check(&upload.name, manifest)?;
        }
        let _change = self.changing.lock().await;
        let Some((principal, request_id)) = upload.request.clone() else { return self.replace(upload).await };
        let fingerprint = fingerprint(&upload)?;
        let mutation = Mutation { principal, request_id, method: "RegisterTool", fingerprint };
        let name = upload.name.clone();
        self.once(mutation, self.replace(upload)).await?;
        self.get(&name)
    }

    /// Removes a tool. Runs in progress finish.
    pub async fn delete(self: &Arc<Self>, name: &str, request: Option<(Arc<str>, RequestId)>) -> Result<()> {
        check_name("name", name)?;
        self.refuse_built_in("name", name)?;
        let _change = self.changing.lock().await;
        let Some((principal, request_id)) = request else { return self.remove(name).await };
        let fingerprint = Sha256::digest(name.as_bytes()).into();
        let mutation = Mutation { principal, request_id, method: "DeleteTool", fingerprint };
        self.once(mutation, self.remove(name)).await
    }

    /// Carries out a mutation with a request id, unless it was carried out before. The intent is on disk
    /// before it acts: a retry after a crash does it again, which these mutations bear.
    async fn once<T>(&self, mutation: Mutation, act: impl Future<Output = Result<T>>) -> Result<()> {
        let (principal, request_id) = (mutation.principal.clone(), mutation.request_id);
        let resumed = match self.store.write(move |db| requests::note(db, &mutation, Timestamp::now())).await? {
            Noted::Done => return Ok(()),
            Noted::Reused { method } => {
                return Err(Error::RequestIdReused { request_id, first: format!("a call of {method}") });
            }
            Noted::New => false,
            Noted::Unfinished => true,
        };
        match act.await {
            // The first try removed it before it was cut off.
            Err(Error::ToolNotFound { .. }) if resumed => {}
            Err(error) => {
                self.store.write(move |db| requests::forget(db, &principal, request_id)).await?;
                return Err(error);
            }
            Ok(_) => {}
        }
        self.store.write(move |db| requests::finish(db, &principal, request_id)).await
    }

    async fn replace(self: &Arc<Self>, upload: Upload) -> Result<Arc<Entry>> {
        let name = upload.name.clone();
        let serving = self.table.load().get(&*name).and_then(|entry| entry.serving.clone());
        let content = match (upload.module.clone(), upload.manifest.clone(), self.present(&name).await) {
            (Some(module), Some(manifest), _) => Content { module, manifest },
            (Some(module), None, present) => {
                Content { module, manifest: present.map(|present| present.manifest).unwrap_or_default() }
            }
            (None, manifest, Ok(present)) => Content { manifest: manifest.unwrap_or(present.manifest), ..present },
            (None, ..) => {
                return Err(Error::invalid("module", format!("there is no module of tool {name:?} yet; send one")));
            }
        };
        let tool = self.make(&name, content, serving.as_deref()).await?;
        let files = self
            .blocking(move |catalog| {
                catalog.directory.write(&upload.name, upload.module.as_deref(), upload.manifest.as_ref())?;
                Ok(catalog.directory.scan()?.remove(&upload.name).unwrap_or_default())
            })
            .await?;
        let entry = Arc::new(Entry { name: tool.name.clone(), serving: Some(Arc::new(tool)), problem: None, files });
        self.change(|table| {
            table.insert(entry.name.clone(), entry.clone());
        });
        tracing::info!(tool = %entry.name, "registered a tool");
        Ok(entry)
    }

    async fn remove(self: &Arc<Self>, name: &str) -> Result<()> {
        if !self.table.load().contains_key(name) {
            return Err(Error::ToolNotFound { name: name.into() });
        }
        let owned = name.to_owned();
        self.blocking(move |catalog| catalog.directory.remove(&owned)).await?;
        self.change(|table| {
            table.remove(name);
        });
        tracing::info!(tool = %name, "deleted a tool");
        Ok(())
    }

    async fn present(self: &Arc<Self>, name: &str) -> Result<Content> {
        let name = name.to_owned();
        self.blocking(move |catalog| {
            let files = catalog.directory.scan()?.remove(&name).unwrap_or_default();
            catalog.directory.read(&name, &files)
        })
        .await
    }

    fn change(&self, change: impl FnOnce(&mut Table)) {
        let mut table = (*self.table.load_full()).clone();
        change(&mut table);
        self.publish(table);
    }

    fn publish(&self, table: Table) {
        self.table.store(Arc::new(table));
        self.observer.changed(&self.list());
    }

    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Catalog) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let catalog = self.clone();
        tokio::task::spawn_blocking(move || work(&catalog))
            .await
            .map_err(|error| Error::Internal(format!("reading the tools directory panicked: {error}")))?
    }
}

fn fingerprint(upload: &Upload) -> Result<[u8; 32]> {
    let mut hash = Sha256::new();
    hash.update(upload.name.as_bytes());
    hash.update([0, u8::from(upload.manifest.is_some()), u8::from(upload.module.is_some())]);
    if let Some(manifest) = &upload.manifest {
        hash.update(manifest::to_json(&upload.name, manifest)?);
    }
    hash.update([0]);
    hash.update(upload.module.as_deref().unwrap_or_default());
    Ok(hash.finalize().into())
}
