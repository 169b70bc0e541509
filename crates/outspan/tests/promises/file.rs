//! The promises that every exporter keeps, for files.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use outspan::Compression;
use outspan::Exporter;
use outspan::file;
use outspan::file::Builder;
use outspan::file::ReadOptions;
use outspan::file::SpanFile;
use outspan_testkit::SpanId;
use outspan_testkit::promises::Behaviour;
use outspan_testkit::promises::Rig;
use outspan_testkit::span_ids;

macro_rules! promises_of_files {
    ($rig:expr) => {
        outspan_testkit::promises!(
            $rig,
            exempt: {
                debug_shows_no_secret: "it is given no secret",
                refusal_is_permanent: "a file refuses no spans; src/exporters/file/appender.rs tests write errors",
                outage_is_temporary: "a disk cannot be filled here; src/exporters/file/appender.rs and tests/file.rs test full disks",
                returns_by_the_deadline: "a file answers; tests/stdout_promises.rs tests the thread that both share",
                a_dropped_future_leaks_nothing: "a file answers; tests/stdout_promises.rs tests the thread that both share",
            }
        );
    };
}

mod json_lines {
    use super::*;

    promises_of_files!(FileRig::new(|path| file::json_lines(path)));
}

mod protobuf {
    use super::*;

    promises_of_files!(FileRig::new(|path| file::protobuf(path)));
}

mod compressed {
    use super::*;

    promises_of_files!(FileRig::new(|path| {
        file::protobuf(path).compression(Compression::Zstd)
    }));
}

mod rotating {
    use super::*;

    // Each batch gets a file of its own.
    promises_of_files!(FileRig::new(|path| file::protobuf(path).rotate_bytes(1)));
}

/// A file that is always well.
struct FileRig<M> {
    directory: tempfile::TempDir,
    make: M,
}

impl<M: Fn(&std::path::Path) -> Builder + Send + Sync> FileRig<M> {
    fn new(make: M) -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            make,
        }
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("spans")
    }

    /// The files that were put aside, by their times, then the one that is written.
    fn paths(&self) -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(self.directory.path()).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let mut paths: Vec<_> = paths.filter(|path| *path != self.path()).collect();
        paths.sort();
        paths.push(self.path());
        paths
    }
}

impl<M: Fn(&std::path::Path) -> Builder + Send + Sync> Rig for FileRig<M> {
    async fn exporter(&self) -> Exporter {
        (self.make)(&self.path()).build().unwrap()
    }

    /// Does nothing: promises that need more are exempt.
    async fn behave(&self, _behaviour: Behaviour) {}

    async fn received(&self) -> Vec<SpanId> {
        let open = |path| SpanFile::open_path(path, ReadOptions::default()).unwrap();
        let records = self.paths().into_iter().flat_map(open);
        let batches = records.map(|record| record.unwrap().checked.batch);
        batches.flat_map(|batch| span_ids(&batch)).collect()
    }

    /// Bytes stand for calls: nothing is written without them.
    async fn calls(&self) -> usize {
        let bytes = |path| std::fs::metadata(path).unwrap().len() as usize;
        self.paths().into_iter().map(bytes).sum()
    }

    async fn wait_for_calls(&self, _calls: usize) {}

    async fn wait_until_idle(&self) {}

    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }
}
