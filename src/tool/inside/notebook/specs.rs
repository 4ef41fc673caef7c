//! The kernels that an image has: Jupyter's kernel specifications.

use crate::container::Workplace;
use crate::domain::file::FileKind;
use crate::error::{Error, Result};
use crate::tool::inside::Ground;
use crate::tool::inside::programs::Programs;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Bytes of a specification at most.
const LARGEST: u64 = 64 << 10;
/// Kernels of one image that are looked at.
const MOST: usize = 64;

/// A kernel that can be started.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub(super) struct KernelSpecification {
    /// Its name: that of its directory.
    #[serde(skip)]
    pub name: String,
    /// Program and arguments; `{connection_file}` stands for where its connection file is.
    pub argv: Vec<String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    #[serde(default)]
    pub interrupt_mode: Interrupt,
}

/// How a kernel is made to leave what it is at.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Interrupt {
    #[default]
    Signal,
    Message,
}

/// Where specifications are, beside the programs that a container finds.
fn directories(place: &Workplace) -> Vec<String> {
    let own = place.variable("HOME").map(|home| format!("{home}/.local"));
    let beside = place.search_path().into_iter().filter_map(|path| path.strip_suffix("/bin").map(str::to_owned));
    own.into_iter().chain(beside).map(|above| format!("{above}/share/jupyter/kernels")).collect()
}

/// The kernels of a container, by name.
pub(super) async fn all(ground: &Ground, programs: &Programs) -> Result<BTreeMap<String, KernelSpecification>> {
    let mut found = BTreeMap::new();
    for directory in directories(&ground.place) {
        let list = ground.containers.list_directory(&ground.id, &ground.viewer, &directory, 1, None, MOST);
        let listed = match list.await {
            Ok(listed) => listed,
            Err(Error::File { .. }) => continue,
            Err(error) => return Err(error),
        };
        for entry in listed.entries.iter().filter(|entry| entry.kind != FileKind::File) {
            let Ok(path) = std::str::from_utf8(&entry.path) else { continue };
            let Some(name) = path.rsplit('/').next().filter(|name| !found.contains_key(*name)) else { continue };
            let text = match ground.read(&format!("{path}/kernel.json"), 0, LARGEST).await {
                Ok((_, text)) => text,
                Err(Error::File { .. }) => continue,
                Err(error) => return Err(error),
            };
            if let Some(specification) = read(name, path, &text, programs) {
                found.insert(name.to_owned(), specification);
            }
        }
    }
    Ok(found)
}

fn read(name: &str, directory: &str, text: &[u8], programs: &Programs) -> Option<KernelSpecification> {
    let mut specification: KernelSpecification = serde_json::from_slice(text).ok()?;
    specification.name = name.to_owned();
    for part in &mut specification.argv {
        *part = part.replace("{resource_dir}", directory);
    }
    let program = specification.argv.first_mut()?;
    // Python's own names it as it was called where it was installed.
    if program.starts_with("python") && !programs.has(program) && programs.has("python3") {
        *program = "python3".into();
    }
    specification.argv.iter().any(|part| part.contains("{connection_file}")).then_some(specification)
}

/// The one of a name or, without a name, Python's or else the first.
pub(super) fn choose(
    mut all: BTreeMap<String, KernelSpecification>,
    wanted: Option<&str>,
) -> Result<KernelSpecification> {
    let names = all.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let none = || Error::TargetMismatch {
        target: "container".into(),
        tool: super::NAME.into(),
        problem:
            "its image has no Jupyter kernel (share/jupyter/kernels); use an image that has one, such as one with \
                  ipykernel"
                .into(),
    };
    match wanted {
        Some(wanted) => all.remove(wanted).ok_or_else(|| {
            let shown: String = wanted.chars().take(64).collect();
            Error::invalid("parameters.kernel", format!("is {shown:?}; the image has: {names}"))
        }),
        None => {
            let python = all.remove("python3");
            python.or_else(|| all.into_values().next()).ok_or_else(none)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifications_are_read_as_jupyter_writes_them() {
        let text = br#"{"argv": ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"], "display_name": "P",
            "language": "python", "metadata": {"debugger": true}, "env": {"A": "1"}}"#;
        let here: Programs = ["python3"].into_iter().collect();
        let python = read("python3", "/k/python3", text, &here).unwrap();
        assert_eq!(python.argv[0], "python3");
        assert_eq!((python.env["A"].as_str(), python.interrupt_mode), ("1", Interrupt::Signal));
        let text =
            br#"{"argv": ["/opt/r", "--at={connection_file}", "{resource_dir}/x"], "interrupt_mode": "message"}"#;
        let r = read("ir", "/k/ir", text, &here).unwrap();
        assert_eq!((r.argv[2].as_str(), r.interrupt_mode), ("/k/ir/x", Interrupt::Message));
        for text in
            [&b"{}"[..], b"{\"argv\": []}", b"{\"argv\": [\"x\"]}", b"[", b"{\"argv\": \"x {connection_file}\"}"]
        {
            assert_eq!(read("x", "/k/x", text, &here), None);
        }
        let all = || BTreeMap::from([("ir".to_owned(), r.clone()), ("python3".to_owned(), python.clone())]);
        assert_eq!(choose(all(), None).unwrap(), python);
        assert_eq!(choose(all(), Some("ir")).unwrap(), r);
        assert!(choose(all(), Some("julia")).unwrap_err().to_string().contains("ir, python3"));
        assert!(matches!(choose(BTreeMap::new(), None), Err(Error::TargetMismatch { .. })));
    }
}
