//! The files to read.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use outspan::file::Format;
use outspan::file::ReadOptions;
use outspan::file::SpanFile;

/// Names an input: a file or standard input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// A file, or something that is opened like one.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

/// The inputs of a run, checked before anything is sent.
#[derive(Debug)]
pub(crate) struct Inputs {
    /// The inputs in order.
    pub(crate) inputs: Vec<Input>,
    /// Their bytes; `None` when one of them is a pipe, a terminal or the like.
    pub(crate) bytes: Option<u64>,
}

impl Inputs {
    /// Takes the arguments, `-` for standard input.
    ///
    /// # Errors
    ///
    /// Words for the user: the first one that cannot be read, or standard input twice.
    pub(crate) fn check(files: &[PathBuf]) -> Result<Self, String> {
        let mut inputs = Vec::with_capacity(files.len());
        let mut bytes = Some(0_u64);
        for file in files {
            let (input, size) = match file.as_os_str() == "-" {
                true => (Input::Stdin, None),
                false => (Input::File(file.clone()), size_of(file)?),
            };
            bytes = bytes
                .zip(size)
                .and_then(|(sum, size)| sum.checked_add(size));
            if input == Input::Stdin && inputs.contains(&input) {
                return Err("standard input (-) can be read only once".into());
            }
            inputs.push(input);
        }
        Ok(Self { inputs, bytes })
    }

    /// Whether one of them is the file at `path`, so that writing there would change what is read.
    pub(crate) fn contains(&self, path: &Path) -> bool {
        let Ok(path) = path.canonicalize() else {
            return false;
        };
        self.inputs.iter().any(|input| match input {
            Input::File(file) => file.canonicalize().is_ok_and(|file| file == path),
            Input::Stdin => false,
        })
    }

    /// Names them all in a few words.
    pub(crate) fn shown(&self) -> String {
        match self.inputs.as_slice() {
            [one] => one.to_string(),
            many => format!("{} files", many.len()),
        }
    }
}

/// The size of a regular file that can be read; `None` for pipes and devices, which are not opened yet.
fn size_of(path: &Path) -> Result<Option<u64>, String> {
    let failed = |e: io::Error| format!("cannot read {}: {}", path.display(), in_words(&e));
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if metadata.is_dir() {
        return Err(format!("cannot read {}: it is a directory", path.display()));
    }
    if !metadata.is_file() {
        return Ok(None);
    }
    File::open(path).map_err(failed)?;
    Ok(Some(metadata.len()))
}

/// What an error of the system means, without its number.
fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        _ => error.to_string(),
    }
}

impl Input {
    /// Opens it and finds out what it holds, unless that is known.
    ///
    /// # Errors
    ///
    /// What is wrong with it; it is named.
    pub(crate) fn open(&self, format: Option<Format>) -> outspan::Result<SpanFile> {
        let mut options = ReadOptions::default();
        if let Some(format) = format {
            options = options.format(format);
        }
        let file = match self {
            Self::File(path) => SpanFile::open_path(path, options),
            Self::Stdin => SpanFile::open(io::stdin(), options.name("standard input")),
        }?;
        tracing::debug!(target: "outspan", "{} holds {}", file.name(), file.format());
        Ok(file)
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Stdin => f.write_str("standard input"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_named_before_anything_is_sent() {
        let directory = tempfile::tempdir().unwrap();
        let check = |path: &Path| Inputs::check(&[path.to_owned()]);
        let missing = check(&directory.path().join("missing.jsonl")).unwrap_err();
        assert!(
            missing.ends_with("missing.jsonl: no such file"),
            "{missing}"
        );
        let error = check(directory.path()).unwrap_err();
        assert!(error.ends_with("it is a directory"), "{error}");
        let twice = Inputs::check(&["-".into(), "-".into()]).unwrap_err();
        assert!(twice.contains("only once"), "{twice}");
    }

    #[test]
    fn the_bytes_of_all_files_are_known_unless_one_is_a_stream() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.jsonl");
        std::fs::write(&path, "0123456789").unwrap();
        let both = Inputs::check(&[path.clone(), path.clone()]).unwrap();
        assert_eq!(both.bytes, Some(20));
        assert_eq!(both.shown(), "2 files");
        assert!(both.contains(&directory.path().join("../").join(&path)));
        assert!(!both.contains(&directory.path().join("b.jsonl")));
        let stream = Inputs::check(&[path, "-".into()]).unwrap();
        assert_eq!(stream.bytes, None);
    }
}
