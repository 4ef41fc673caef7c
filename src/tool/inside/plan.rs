//! From parameters to processes: what a tool starts, with what the image offers.

use super::languages::{self, LANGUAGES, Language, Toolchain};
use super::programs::Programs;
use super::{Kind, left};
use crate::error::{Error, Result};
use bytes::Bytes;
use serde_json::Value;
use std::collections::BTreeMap;

/// What a run consists of.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Its own files: names below its directory, contents, permissions.
    pub files: Vec<(String, Bytes)>,
    /// What compiles; none where nothing is compiled.
    pub compile: Option<Vec<String>>,
    /// What runs.
    pub run: Vec<String>,
    /// Variables that it needs.
    pub environment: BTreeMap<String, String>,
    /// Whether its program tells of itself in a report.
    pub reports: bool,
}

const HARNESS: &str = include_str!("harness.py");

/// Whether an image has what a tool takes.
pub(super) fn is_able(kind: Kind, programs: &Programs) -> bool {
    match kind {
        Kind::Files => true,
        Kind::Shell => shell(programs).is_some(),
        Kind::Python => python(programs).is_some(),
        Kind::Code => LANGUAGES.iter().any(|language| toolchain(language, programs).is_some()),
    }
}

/// The languages that an image can run.
pub(super) fn offered(programs: &Programs) -> impl Iterator<Item = &'static str> {
    LANGUAGES.iter().filter(|language| toolchain(language, programs).is_some()).map(|language| language.name)
}

fn shell(programs: &Programs) -> Option<&'static str> {
    ["bash", "sh"].into_iter().find(|name| programs.has(name))
}

fn python(programs: &Programs) -> Option<&'static str> {
    ["python3", "python"].into_iter().find(|name| programs.has(name))
}

fn toolchain(language: &Language, programs: &Programs) -> Option<&'static Toolchain> {
    let there = |toolchain: &&Toolchain| {
        let last = toolchain.run.first().filter(|program| !program.starts_with('{'));
        programs.has(toolchain.program) && last.is_none_or(|program| programs.has(program))
    };
    language.toolchains.iter().find(there)
}

fn text<'a>(parameters: &'a Value, key: &str) -> Option<&'a str> {
    parameters.get(key).and_then(Value::as_str)
}

/// The language that a call of `code` names, and what runs it.
fn spoken(parameters: &Value, programs: &Programs) -> Result<(&'static Language, &'static Toolchain)> {
    let name = text(parameters, "language").unwrap_or_default();
    let shown: String = name.chars().take(40).collect();
    let here = || offered(programs).collect::<Vec<_>>().join(", ");
    let language = languages::language(name).ok_or_else(|| {
        Error::invalid(
            "call.parameters.language",
            format!("is {shown:?}, which is not known; here there are {}", here()),
        )
    })?;
    let toolchain = toolchain(language, programs).ok_or_else(|| {
        let programs = language.toolchains.iter().map(|one| one.program).collect::<Vec<_>>().join(", ");
        let text = format!("is {shown:?}: the image lacks what runs it ({programs}); it can run {}", here());
        Error::invalid("call.parameters.language", text)
    })?;
    Ok((language, toolchain))
}

/// Tells what would keep a call from running.
pub(super) fn check(kind: Kind, parameters: &Value, programs: &Programs) -> Result<()> {
    if kind == Kind::Code {
        return spoken(parameters, programs).map(drop);
    }
    if is_able(kind, programs) {
        return Ok(());
    }
    let needs = if kind == Kind::Python { "python3" } else { "sh" };
    Err(Error::TargetMismatch {
        target: "container".into(),
        tool: kind.name().into(),
        problem: format!("its image has no {needs} on its search path; use an image that has it"),
    })
}

/// What a call starts. `own` is the directory of the run, absolute.
pub(super) fn plan(
    kind: Kind,
    parameters: &Value,
    arguments: &[String],
    programs: &Programs,
    own: &str,
) -> Result<Plan> {
    let code = |key: &str| Bytes::copy_from_slice(text(parameters, key).unwrap_or_default().as_bytes());
    let mut plan = Plan::default();
    match kind {
        Kind::Files => {}
        Kind::Shell => {
            let shell = shell(programs).unwrap_or("sh");
            let command = text(parameters, "command").unwrap_or_default();
            plan.run = [shell, "-c", command, shell].map(str::to_owned).into();
        }
        Kind::Python => {
            plan.files = vec![("run.py".into(), HARNESS.into()), ("code.py".into(), code("code"))];
            let interpreter = python(programs).unwrap_or("python3");
            plan.run = vec![interpreter.into(), "-B".into(), format!("{own}/run.py"), own.into()];
            plan.reports = true;
        }
        Kind::Code => {
            let (language, toolchain) = spoken(parameters, programs)?;
            let class = match language.name {
                "java" => languages::main_class(text(parameters, "code").unwrap_or_default()),
                _ => "Main",
            };
            let file = language.file.replace("{class}", class);
            let place = |part: &&str| {
                let part = part.replace("{code}", &format!("{own}/{file}")).replace("{out}", &format!("{own}/program"));
                part.replace("{work}", own).replace("{class}", class)
            };
            if !toolchain.compile.is_empty() {
                plan.compile = Some(toolchain.compile.iter().map(place).collect());
            }
            plan.run = toolchain.run.iter().map(place).collect();
            plan.files = vec![(file, code("code"))];
        }
    }
    plan.run.extend(arguments.iter().cloned());
    // Compilers write where they may; a home may not be there or not be theirs.
    if plan.compile.is_some() {
        let places = [("HOME", ""), ("TMPDIR", "/tmp"), ("GOCACHE", "/go"), ("GOPATH", "/gopath")];
        plan.environment = places.map(|(name, below)| (name.to_owned(), format!("{own}{below}"))).into();
        plan.files.push(("tmp/.keep".into(), Bytes::new()));
    }
    Ok(plan)
}

/// The directory of a run, below the workspace.
pub(super) fn own(id: &crate::domain::id::ExecutionId) -> String {
    format!("{}/{id}", left::OWN)
}
