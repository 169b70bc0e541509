//! Files that other programs rename or remove while they are open.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use outspan::Compression;
use outspan::Export;
use outspan::Exporter;
use outspan::file;
use outspan::file::Builder;
use outspan::file::ReadOptions;
use outspan::file::SpanFile;
use outspan_testkit::batch_of;
use outspan_testkit::soon;
use tempfile::TempDir;
use tracing::field::Field;
use tracing::field::Visit;
use tracing_subscriber::layer::Context;
use tracing_subscriber::layer::SubscriberExt;

/// Every format, with and without compression and rotation.
fn builders(path: &Path) -> Vec<Builder> {
    let constructors: [fn(PathBuf) -> Builder; 2] = [file::json_lines, file::protobuf];
    let mut builders = Vec::new();
    for constructor in constructors {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let builder = || constructor(path.to_owned()).compression(compression);
            builders.push(builder());
            builders.push(builder().rotate_bytes(1 << 30));
            builders.push(builder().rotate_after(Duration::from_secs(3600)));
        }
    }
    builders
}

async fn write(exporter: &Exporter, spans: usize) {
    let delivery = exporter.export(batch_of(spans), soon()).await.unwrap();
    assert_eq!(delivery.accepted, spans as u64);
}

/// The spans of each record of a file.
fn records(path: &Path) -> Vec<usize> {
    let records = SpanFile::open_path(path, ReadOptions::default()).unwrap();
    records
        .map(|record| record.unwrap().checked.batch.spans())
        .collect()
}

/// Collects the log of this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl Log {
    fn begin(&self) -> tracing::subscriber::DefaultGuard {
        tracing::subscriber::set_default(tracing_subscriber::registry().with(self.clone()))
    }

    fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Log {
    fn on_event(&self, event: &tracing::Event<'_>, _context: Context<'_, S>) {
        let mut text = self.0.lock().unwrap();
        text.push_str(&format!("{} ", event.metadata().level()));
        event.record(&mut Line(&mut text));
        text.push('\n');
    }
}

struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, _field: &Field, value: &dyn std::fmt::Debug) {
        self.0.push_str(&format!("{value:?}"));
    }
}

#[tokio::test]
async fn renamed_file_is_followed_by_new_file_at_path() {
    outspan_testkit::alone!();
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("spans");
    let aside = directory.path().join("aside");
    for builder in builders(&path) {
        let log = Log::default();
        let _log = log.begin();
        let exporter = builder.build().unwrap();
        write(&exporter, 1).await;
        write(&exporter, 2).await;
        fs::rename(&path, &aside).unwrap();
        write(&exporter, 3).await;
        write(&exporter, 4).await;
        drop(exporter.shutdown(soon()).await.unwrap());
        assert_eq!(records(&aside), [1, 2]);
        assert_eq!(records(&path), [3, 4]);
        let text = log.text();
        assert!(text.contains("INFO") && text.contains("renamed"), "{text}");
        assert!(!text.contains("WARN"), "{text}");
        fs::remove_file(&path).unwrap();
    }
}

#[tokio::test]
async fn removed_file_is_made_anew_with_the_last_record() {
    outspan_testkit::alone!();
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("spans");
    for builder in builders(&path) {
        let log = Log::default();
        let _log = log.begin();
        let exporter = builder.build().unwrap();
        write(&exporter, 5).await;
        write(&exporter, 2).await;
        fs::remove_file(&path).unwrap();
        write(&exporter, 3).await;
        drop(exporter.shutdown(soon()).await.unwrap());
        assert_eq!(records(&path), [2, 3]);
        let text = log.text();
        assert!(
            text.contains("WARN")
                && text.contains("5 spans written to it are gone, 2 were written again"),
            "{text}"
        );
        fs::remove_file(&path).unwrap();
    }
}

#[tokio::test]
async fn removed_file_is_noticed_at_flush_and_shutdown() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("spans.jsonl");
    for with_sync in [true, false] {
        let exporter = file::json_lines(&path).sync(with_sync).build().unwrap();
        write(&exporter, 6).await;
        fs::remove_file(&path).unwrap();
        drop(exporter.flush(soon()).await.unwrap());
        assert_eq!(records(&path), [6]);
        write(&exporter, 7).await;
        fs::remove_file(&path).unwrap();
        drop(exporter.shutdown(soon()).await.unwrap());
        assert_eq!(records(&path), [7]);
        fs::remove_file(&path).unwrap();
    }
}

#[tokio::test]
async fn spans_of_a_removed_file_are_lost_when_no_new_file_can_be_made() {
    let directory = TempDir::new().unwrap();
    let inner = directory.path().join("inner");
    for with_sync in [true, false] {
        fs::create_dir(&inner).unwrap();
        let path = inner.join("spans.jsonl");
        let exporter = file::json_lines(&path).sync(with_sync).build().unwrap();
        write(&exporter, 5).await;
        write(&exporter, 2).await;
        fs::remove_dir_all(&inner).unwrap();
        drop(exporter.flush(soon()).await.unwrap_err());
        let drained = exporter.shutdown(soon()).await.unwrap();
        // Others could find the first ones before the file was removed.
        assert_eq!(drained.lost.of(outspan::DropReason::Failed), 2, "{drained}");
        let text = drained.to_string();
        assert!(text.contains("inner does not exist"), "{text}");
    }
}

#[tokio::test]
async fn file_put_in_place_of_the_open_one_is_continued() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("spans.pb");
    let other = directory.path().join("other.pb");
    let exporter = file::protobuf(&other).build().unwrap();
    write(&exporter, 9).await;
    drop(exporter.shutdown(soon()).await.unwrap());
    let exporter = file::protobuf(&path).build().unwrap();
    write(&exporter, 1).await;
    fs::rename(&other, &path).unwrap();
    write(&exporter, 2).await;
    drop(exporter.shutdown(soon()).await.unwrap());
    assert_eq!(records(&path), [9, 1, 2]);
}

#[tokio::test]
async fn exports_fail_for_now_while_no_new_file_can_be_made() {
    let directory = TempDir::new().unwrap();
    let inner = directory.path().join("inner");
    let path = inner.join("spans.jsonl");
    fs::create_dir(&inner).unwrap();
    let exporter = file::json_lines(&path).build().unwrap();
    write(&exporter, 1).await;
    fs::remove_dir_all(&inner).unwrap();
    let error = exporter.export(batch_of(2), soon()).await.unwrap_err();
    assert!(error.is_temporary(), "{error}");
    assert!(error.to_string().contains("cannot begin a new"), "{error}");
    exporter.flush(soon()).await.unwrap_err();
    fs::create_dir(&inner).unwrap();
    write(&exporter, 2).await;
    assert_eq!(records(&path), [1, 2]);
    fs::remove_dir_all(&inner).unwrap();
    let drained = exporter.shutdown(soon()).await.unwrap();
    assert_eq!(drained.lost.of(outspan::DropReason::Failed), 3, "{drained}");
}

#[tokio::test]
async fn symbolic_link_that_leads_elsewhere_is_followed() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("spans.jsonl");
    let [monday, tuesday] = ["monday", "tuesday"].map(|day| directory.path().join(day));
    fs::write(&monday, "").unwrap();
    std::os::unix::fs::symlink(&monday, &path).unwrap();
    let exporter = file::json_lines(&path).build().unwrap();
    write(&exporter, 1).await;
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&tuesday, &path).unwrap();
    write(&exporter, 2).await;
    drop(exporter.shutdown(soon()).await.unwrap());
    assert_eq!(records(&monday), [1]);
    assert_eq!(records(&tuesday), [2]);
}
