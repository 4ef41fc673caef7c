//! What is known of a process before it is forked: all that can be checked and allocated ahead.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use casemate_guest::protocol::{Spec, StartFailure, User};
use serde::{Deserialize, Serialize};

use super::accounts::{self, Ids};

/// Where programs are looked for if the environment does not say.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables that begin like this are between the server and the guest.
const OWN_VARIABLES: &[u8] = b"CASEMATE_GUEST";

/// A program that is ready to be executed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Where it may be, best first.
    pub candidates: Vec<CString>,
    /// Its arguments, its name first.
    pub arguments: Vec<CString>,
    /// Its variables.
    pub environment: Vec<CString>,
    /// Where it starts; where the guest is if none.
    pub directory: Option<CString>,
    /// Whom it becomes; none if it stays what the guest is.
    pub ids: Option<Ids>,
    /// Whether standard input is a terminal that it is to control.
    pub terminal: bool,
}

impl Plan {
    /// Checks what the server asks for.
    ///
    /// # Errors
    /// Why it cannot be started.
    pub fn new(spec: &Spec) -> Result<Self, StartFailure> {
        let arguments: Vec<_> =
            spec.command.iter().map(|part| string(part, "an argument")).collect::<Result<_, _>>()?;
        let program = spec.command.first().filter(|program| !program.is_empty());
        let program = program.ok_or_else(|| StartFailure::Other("no program is named".into()))?;
        let given = spec.environment.iter().filter(|variable| !variable.starts_with(OWN_VARIABLES));
        let environment = given.map(|variable| string(variable, "a variable")).collect::<Result<_, _>>()?;
        let directory = Some(&spec.directory).filter(|directory| !directory.is_empty());
        let directory = directory.map(|directory| CString::new(directory.as_slice())).transpose();
        let directory = directory.map_err(|_| StartFailure::Directory("a path with a zero byte".into()))?;
        let ids = match &spec.user {
            User::Guest => None,
            User::Named(name) => accounts::find(name, Path::new("/etc")).map_err(StartFailure::User)?,
        };
        let candidates = candidates(program, &spec.environment)?;
        Ok(Self { candidates, arguments, environment, directory, ids, terminal: spec.terminal.is_some() })
    }
}

fn string(bytes: &[u8], what: &str) -> Result<CString, StartFailure> {
    CString::new(bytes).map_err(|_| StartFailure::Other(format!("{what} has a zero byte")))
}

fn candidates(program: &[u8], environment: &[Vec<u8>]) -> Result<Vec<CString>, StartFailure> {
    if program.contains(&b'/') {
        return Ok(vec![string(program, "the program")?]);
    }
    let path = environment.iter().find_map(|variable| variable.strip_prefix(b"PATH=")).unwrap_or(DEFAULT_PATH);
    let folders = path.split(|byte| *byte == b':').map(|folder| if folder.is_empty() { b"." } else { folder });
    let paths = folders.map(|folder| Path::new(OsStr::from_bytes(folder)).join(OsStr::from_bytes(program)));
    paths.map(|path| string(path.as_os_str().as_bytes(), "the program")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(command: &[&str], environment: &[&str]) -> Result<Plan, StartFailure> {
        let bytes = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
        Plan::new(&Spec { command: bytes(command), environment: bytes(environment), ..Spec::default() })
    }

    #[test]
    fn programs_are_looked_for_in_the_path_given() {
        let found = plan(&["sh", "-c"], &["PATH=/a::b", "CASEMATE_GUEST_X=1", "HOME=/"]).unwrap();
        assert_eq!(found.candidates, [c"/a/sh".to_owned(), c"./sh".to_owned(), c"b/sh".to_owned()]);
        assert_eq!(found.environment, [c"PATH=/a::b".to_owned(), c"HOME=/".to_owned()]);
        assert_eq!(plan(&["/bin/sh"], &[]).unwrap().candidates, [c"/bin/sh".to_owned()]);
        assert_eq!(plan(&["sh"], &[]).unwrap().candidates.len(), 6);
    }

    #[test]
    fn what_cannot_be_started_is_told() {
        for command in [&[][..], &[""][..], &["a\0b"][..], &["sh", "\0"][..]] {
            assert!(matches!(plan(command, &[]), Err(StartFailure::Other(_))), "{command:?}");
        }
        assert!(plan(&["sh"], &["PATH=/\0"]).is_err());
    }
}
