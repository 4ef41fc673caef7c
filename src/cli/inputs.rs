//! What `run` gives a tool besides its parameters.

use super::failure::{Failure, USAGE};
use crate::proto::v1::{InputFile, ToolCall};
use clap::Args;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Files, arguments, environment and standard input.
#[derive(Debug, Args)]
pub struct InputArgs {
    /// Put a file into place for the run, under its own name or at PATH; can be repeated
    #[arg(long = "file", value_name = "LOCAL[:PATH]")]
    files: Vec<String>,
    /// Give the program an argument; can be repeated
    #[arg(long = "arg", value_name = "TEXT", allow_hyphen_values = true)]
    arguments: Vec<String>,
    /// Set an environment variable of the program; can be repeated
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = super::run::label)]
    environment: Vec<(String, String)>,
    /// Give the program this file as standard input, or - for the standard input of this command; at most 1 MiB
    #[arg(long, value_name = "FILE")]
    stdin: Option<PathBuf>,
    /// Give back the files that match, such as 'out/*.png' or '**/*.csv'; can be repeated
    #[arg(long = "return-file", value_name = "PATTERN")]
    return_files: Vec<String>,
}

impl InputArgs {
    /// Whether the standard input of this command is for the program.
    pub fn takes_stdin(&self) -> bool {
        self.stdin.as_deref() == Some(Path::new("-"))
    }

    /// Reads what is named here and puts it into a call.
    pub fn put_into(self, call: &mut ToolCall) -> Result<(), Failure> {
        call.files = self.files.iter().map(|text| input_file(text)).collect::<Result<_, _>>()?;
        call.stdin = match &self.stdin {
            None => Default::default(),
            Some(path) if path == Path::new("-") => read("standard input".to_owned(), std::io::stdin().lock())?.into(),
            Some(path) => read(path.display().to_string(), open(path)?)?.into(),
        };
        call.arguments = self.arguments;
        call.environment = self.environment.into_iter().collect();
        call.return_files = self.return_files;
        Ok(())
    }
}

/// `LOCAL`, or `LOCAL:PATH` where no file has the whole text as its name.
fn input_file(text: &str) -> Result<InputFile, Failure> {
    let whole = Path::new(text);
    let (local, path) = match text.rsplit_once(':') {
        Some((local, path)) if !path.is_empty() && !whole.exists() => (Path::new(local), path.to_owned()),
        _ => {
            let name = whole.file_name().and_then(|name| name.to_str());
            let told = || {
                Failure::new(
                    USAGE,
                    format!("--file {text:?} names no file"),
                    "its name is not known",
                    "write LOCAL:PATH",
                )
            };
            (whole, name.ok_or_else(told)?.to_owned())
        }
    };
    let file = open(local)?;
    let name = local.display().to_string();
    let metadata = file.metadata().map_err(|error| Failure::local(format!("{name} cannot be read"), error))?;
    if metadata.is_dir() {
        let todo = "name each file, or pack them into one";
        return Err(Failure::new(USAGE, format!("{name} cannot be given to a run"), "it is a directory", todo));
    }
    Ok(InputFile { path, data: read(name, file)?.into(), mode: Some(metadata.permissions().mode() & 0o777) })
}

fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| Failure::local(format!("{} cannot be opened", path.display()), error))
}

fn read(name: String, mut source: impl Read) -> Result<Vec<u8>, Failure> {
    let mut data = Vec::new();
    match source.read_to_end(&mut data) {
        Ok(_) => Ok(data),
        Err(error) => Err(Failure::local(format!("{name} cannot be read"), error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_goes_where_it_is_told_or_under_its_own_name() {
        let folder = tempfile::tempdir().unwrap();
        let odd = folder.path().join("a:b.txt");
        std::fs::write(&odd, "odd").unwrap();
        std::fs::set_permissions(&odd, std::fs::Permissions::from_mode(0o640)).unwrap();
        let odd = odd.to_str().unwrap();
        let given = input_file(odd).unwrap();
        assert_eq!((given.path.as_str(), given.mode, &given.data[..]), ("a:b.txt", Some(0o640), &b"odd"[..]));
        assert_eq!(input_file(&format!("{odd}:data/in.txt")).unwrap().path, "data/in.txt");
        assert!(input_file(folder.path().to_str().unwrap()).is_err(), "a directory");
        assert!(input_file("no/such/file").is_err());
    }
}
