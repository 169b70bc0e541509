//! Files that are put aside when they are large or old.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

mod golden;

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use outspan::Batch;
use outspan::Compression;
use outspan::Error;
use outspan::ErrorKind;
use outspan::Export;
use outspan::Exporter;
use outspan::file;
use outspan::file::Builder;
use outspan::file::ReadOptions;
use outspan::file::SpanFile;
use tempfile::TempDir;

use golden::batch;
use golden::plain;
use golden::soon;

/// As short as an age can be: a file is old as soon as it has a record.
const AT_ONCE: Duration = Duration::from_nanos(1);

fn numbered(number: u64) -> Batch {
    batch(&plain("shop", &[(1, number, 0, "GET /")]))
}

async fn write(exporter: &Exporter, number: u64) -> Result<(), Error> {
    let delivery = exporter.export(numbered(number), soon()).await?;
    assert_eq!(delivery.accepted, 1);
    Ok(())
}

/// The files that were put aside, in the order of their names, and at the end the one by the first name if it is there.
fn files(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path.parent().unwrap()).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths.filter(|file| file != path).collect();
    files.sort();
    files.extend(path.exists().then(|| path.to_owned()));
    files
}

/// Which spans are in a file, in order; every record of it is whole.
fn spans(file: &Path) -> Vec<u64> {
    let opened = SpanFile::open_path(file, ReadOptions::default()).unwrap();
    let records = opened.map(|record| record.unwrap().checked.batch);
    let number = |batch: Batch| {
        let span = batch.iter().next().unwrap();
        u64::from_be_bytes(span.span_id())
    };
    records.map(number).collect()
}

fn spans_of_each(path: &Path) -> Vec<Vec<u64>> {
    files(path).iter().map(|file| spans(file)).collect()
}

/// How many bytes a record has.
async fn record_bytes(builder: impl Fn(PathBuf) -> Builder) -> u64 {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("one");
    let exporter = builder(path.clone()).build().unwrap();
    write(&exporter, 10).await.unwrap();
    fs::metadata(path).unwrap().len()
}

#[tokio::test]
async fn no_file_grows_beyond_its_bound_and_every_record_is_whole_and_in_order() {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        for make in [file::json_lines, file::protobuf] {
            let make = |path: PathBuf| make(path).compression(compression);
            let bound = record_bytes(make).await * 3 + 2;
            let directory = TempDir::new().unwrap();
            let path = directory.path().join("spans.data");
            let exporter = make(path.clone()).rotate_bytes(bound).build().unwrap();
            for number in 10..20 {
                write(&exporter, number).await.unwrap();
            }
            drop(exporter.shutdown(soon()).await.unwrap());
            let spans = spans_of_each(&path);
            assert_eq!(spans.concat(), Vec::from_iter(10..20));
            if compression == Compression::None {
                let lengths: Vec<_> = spans.iter().map(Vec::len).collect();
                assert_eq!(lengths, [3, 3, 3, 1]);
            }
            assert!(spans.len() >= 4);
            for file in files(&path) {
                assert!(fs::metadata(&file).unwrap().len() <= bound, "{file:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_file_is_filled_to_its_bound() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("spans.pb");
    let bound = record_bytes(file::protobuf).await * 2;
    let exporter = file::protobuf(&path).rotate_bytes(bound).build().unwrap();
    for number in 10..13 {
        write(&exporter, number).await.unwrap();
    }
    assert_eq!(spans_of_each(&path), [vec![10, 11], vec![12]]);
}

#[tokio::test]
async fn a_record_larger_than_the_bound_has_a_file_of_its_own() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("spans.jsonl");
    let exporter = file::json_lines(&path).rotate_bytes(1).build().unwrap();
    for number in 1..4 {
        write(&exporter, number).await.unwrap();
    }
    assert_eq!(spans_of_each(&path), [[1], [2], [3]]);
    for aside in &files(&path)[..2] {
        let name = aside.file_name().unwrap().to_str().unwrap();
        assert!(
            name.starts_with("spans-2") && name.ends_with(".jsonl"),
            "{name}"
        );
        assert_eq!(name.len(), "spans-2026-11-22T20-15-30.123.jsonl".len());
    }
}

#[tokio::test]
async fn the_earliest_files_are_removed_and_nobody_else_s() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("spans.pb");
    let other = directory.path().join("spans-of-others.pb");
    fs::write(&other, "theirs").unwrap();
    let builder = file::protobuf(&path).rotate_bytes(1).keep_files(2);
    let exporter = builder.build().unwrap();
    for number in 1..10 {
        write(&exporter, number).await.unwrap();
        assert!(files(&path).len() <= 1 + 2 + 1);
    }
    assert_eq!(fs::read(&other).unwrap(), b"theirs");
    fs::remove_file(other).unwrap();
    assert_eq!(spans_of_each(&path), [[7], [8], [9]]);
}

#[tokio::test]
async fn while_an_early_file_cannot_be_removed_exports_fail_and_nothing_is_lost() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("spans.pb");
    let stuck = directory.path().join("spans-2001-01-01T00-00-00.000.pb");
    fs::create_dir(&stuck).unwrap();
    let builder = file::protobuf(&path).rotate_bytes(1).keep_files(1);
    let exporter = builder.build().unwrap();
    write(&exporter, 1).await.unwrap();
    let error = write(&exporter, 2).await.unwrap_err();
    assert!(error.is_temporary());
    assert!(error.to_string().contains("cannot remove"), "{error}");
    fs::remove_dir(&stuck).unwrap();
    write(&exporter, 2).await.unwrap();
    assert_eq!(spans_of_each(&path), [[1], [2]]);
}

#[tokio::test]
async fn an_old_file_is_put_aside_without_another_export() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("spans.pb");
    let exporter = file::protobuf(&path).rotate_after(AT_ONCE).build().unwrap();
    for number in 1..4 {
        write(&exporter, number).await.unwrap();
        // What is due comes before what is asked for.
        drop(exporter.flush(soon()).await.unwrap());
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        assert_eq!(files(&path).len() as u64, number + 1);
    }
    assert_eq!(spans_of_each(&path), [vec![1], vec![2], vec![3], vec![]]);
}

#[tokio::test]
async fn a_young_file_stays_and_so_does_an_empty_one() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("spans.pb");
    let builder = || file::protobuf(&path).rotate_after(Duration::from_secs(3600));
    for number in 1..4 {
        let exporter = builder().build().unwrap();
        write(&exporter, number).await.unwrap();
        drop(exporter.shutdown(soon()).await.unwrap());
    }
    assert_eq!(spans_of_each(&path), [[1, 2, 3]]);

    let empty = directory.path().join("empty.pb");
    let exporter = file::protobuf(&empty)
        .rotate_after(AT_ONCE)
        .build()
        .unwrap();
    drop(exporter.flush(soon()).await.unwrap());
    drop(exporter.shutdown(soon()).await.unwrap());
    assert_eq!(files(&empty).len(), 2);
}

#[tokio::test]
async fn a_file_that_is_continued_counts_with_what_it_has() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("spans.jsonl");
    let exporter = file::json_lines(&path).build().unwrap();
    write(&exporter, 1).await.unwrap();
    drop(exporter.shutdown(soon()).await.unwrap());

    let length = fs::metadata(&path).unwrap().len();
    let builder = file::json_lines(&path).rotate_bytes(length + 1);
    let exporter = builder.build().unwrap();
    write(&exporter, 2).await.unwrap();
    drop(exporter.shutdown(soon()).await.unwrap());
    assert_eq!(spans_of_each(&path), [[1], [2]]);

    // It was made before this exporter, so it is old.
    let builder = file::json_lines(&path).rotate_after(AT_ONCE);
    let exporter = builder.build().unwrap();
    drop(exporter.flush(soon()).await.unwrap());
    assert_eq!(spans_of_each(&path), [vec![1], vec![2], vec![]]);
}

#[tokio::test]
async fn what_a_crash_left_unfinished_is_in_no_file_that_is_put_aside() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("spans.pb");
    let exporter = file::protobuf(&path).build().unwrap();
    write(&exporter, 1).await.unwrap();
    drop(exporter.shutdown(soon()).await.unwrap());
    let mut torn = fs::read(&path).unwrap();
    torn.extend([0, 0, 0, 99, 10]);
    fs::write(&path, torn).unwrap();

    let exporter = file::protobuf(&path).rotate_bytes(1).build().unwrap();
    write(&exporter, 2).await.unwrap();
    assert_eq!(spans_of_each(&path), [[1], [2]]);
}

#[tokio::test]
async fn a_file_that_others_moved_is_theirs() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("spans.pb");
    let exporter = file::protobuf(&path).rotate_bytes(1).build().unwrap();
    write(&exporter, 1).await.unwrap();
    let moved = directory.path().join("moved.pb");
    fs::rename(&path, &moved).unwrap();
    write(&exporter, 2).await.unwrap();
    assert_eq!(files(&path), [moved.clone(), path.clone()]);
    assert_eq!(spans_of_each(&path), [[1], [2]]);

    // What others put there is neither moved nor written to.
    fs::remove_file(&path).unwrap();
    fs::write(&path, "theirs").unwrap();
    let error = write(&exporter, 3).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.is_temporary());
    assert!(error.to_string().contains("cannot begin a new"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"theirs");
    fs::remove_file(&path).unwrap();
    write(&exporter, 3).await.unwrap();
    assert_eq!(spans(&path), [3]);
}

#[tokio::test]
async fn while_no_new_file_can_be_made_exports_fail_and_nothing_is_lost() {
    let parent = TempDir::new().unwrap();
    let directory = parent.path().join("d");
    let elsewhere = parent.path().join("elsewhere");
    fs::create_dir(&directory).unwrap();
    let path = directory.join("spans.pb");
    let exporter = file::protobuf(&path).rotate_bytes(1).build().unwrap();
    write(&exporter, 1).await.unwrap();
    fs::rename(&directory, &elsewhere).unwrap();
    for _ in 0..2 {
        let error = write(&exporter, 2).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.is_temporary());
        let place = directory.display().to_string();
        assert!(error.to_string().contains(&place), "{error}");
        drop(exporter.flush(soon()).await.unwrap());
    }
    fs::rename(&elsewhere, &directory).unwrap();
    write(&exporter, 2).await.unwrap();
    assert_eq!(spans_of_each(&path), [[1], [2]]);
}

#[tokio::test]
async fn the_new_file_has_one_writer_as_well() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("spans.pb");
    let exporter = file::protobuf(&path).rotate_bytes(1).build().unwrap();
    write(&exporter, 1).await.unwrap();
    write(&exporter, 2).await.unwrap();
    let error = file::protobuf(&path).build().unwrap_err();
    assert!(error.to_string().contains("another exporter"), "{error}");
    // Nobody holds the one that was put aside.
    let aside = file::protobuf(&files(&path)[0]).build().unwrap();
    write(&aside, 3).await.unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn behind_a_link_it_is_the_file_that_is_put_aside() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("spans.pb");
    let links = TempDir::new().unwrap();
    let link = links.path().join("link.pb");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let exporter = file::protobuf(&link).rotate_bytes(1).build().unwrap();
    write(&exporter, 1).await.unwrap();
    write(&exporter, 2).await.unwrap();
    assert_eq!(spans_of_each(&path), [[1], [2]]);
    assert_eq!(spans(&link), [2]);
    assert_eq!(files(&link), [link]);
}

#[cfg(unix)]
#[tokio::test]
async fn new_files_are_as_private_as_the_first() {
    use std::os::unix::fs::PermissionsExt;

    let directory = TempDir::new().unwrap();
    let path = directory.path().join("spans.pb");
    let exporter = file::protobuf(&path).rotate_bytes(1).build().unwrap();
    write(&exporter, 1).await.unwrap();
    write(&exporter, 2).await.unwrap();
    for file in files(&path) {
        let mode = fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn bounds_that_make_no_sense_are_mistakes() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("spans.pb");
    let said = |builder: Builder| {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    };
    let new = || file::protobuf(&path);
    assert!(said(new().keep_files(3)).contains("needs rotate_bytes or rotate_after"));
    assert!(said(new().rotate_bytes(0)).contains("more than nothing"));
    assert!(said(new().rotate_after(Duration::ZERO)).contains("more than nothing"));
    assert!(said(new().rotate_bytes(1).keep_files(0)).contains("at least 1"));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    #[cfg(unix)]
    assert!(said(file::json_lines("/dev/null").rotate_bytes(1)).contains("it is no file"));
}
