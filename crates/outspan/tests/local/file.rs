//! Spans written to files.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use outspan::Compression;
use outspan::ErrorKind;
use outspan::Export;
use outspan::Exporter;
use outspan::file;
use outspan::file::Builder;
use outspan::file::ReadOptions;
use outspan::file::SpanFile;
use prost::Message;

use crate::golden::assert_golden;
use crate::golden::batch;
use crate::golden::everything;
use crate::golden::plain;
use crate::golden::soon;

type Constructor = fn(std::path::PathBuf) -> Builder;

const FORMATS: [Constructor; 2] = [file::json_lines, file::protobuf];
const COMPRESSIONS: [Compression; 3] = [Compression::None, Compression::Gzip, Compression::Zstd];

async fn write(exporter: &Exporter, request: &ExportTraceServiceRequest) {
    let batch = batch(request);
    let delivery = exporter.export(batch.clone(), soon()).await.unwrap();
    assert_eq!(delivery.accepted, batch.spans() as u64);
}

async fn write_and_close(builder: Builder, requests: &[ExportTraceServiceRequest]) {
    let exporter = builder.build().unwrap();
    for request in requests {
        write(&exporter, request).await;
    }
    drop(exporter.shutdown(soon()).await.unwrap());
}

fn requests() -> Vec<ExportTraceServiceRequest> {
    vec![
        plain("shop", &[(1, 1, 0, "GET /"), (1, 2, 1, "žluť \u{1b}[2J")]),
        plain("payment", &[(1, 3, 1, "charge")]),
        plain("shop", &[(2, 1, 0, "line\nfeed")]),
    ]
}

/// Decompresses with the decoders of other crates.
fn plain_bytes(path: &Path, compression: Compression) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    let mut plain = Vec::new();
    match compression {
        Compression::Gzip => {
            let mut decoder = flate2::read::MultiGzDecoder::new(&bytes[..]);
            decoder.read_to_end(&mut plain).unwrap();
        }
        Compression::Zstd => plain = zstd::decode_all(&bytes[..]).unwrap(),
        _ => plain = bytes,
    }
    plain
}

fn json_records(plain: &[u8]) -> Vec<ExportTraceServiceRequest> {
    let text = std::str::from_utf8(plain).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn protobuf_records(mut plain: &[u8]) -> Vec<ExportTraceServiceRequest> {
    let mut records = Vec::new();
    while !plain.is_empty() {
        let (length, rest) = plain.split_at(4);
        let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
        let (record, rest) = rest.split_at(length);
        records.push(ExportTraceServiceRequest::decode(record).unwrap());
        plain = rest;
    }
    records
}

#[tokio::test]
async fn others_read_what_we_write_in_every_format_and_compression() {
    let directory = tempfile::tempdir().unwrap();
    for compression in COMPRESSIONS {
        let path = directory.path().join(format!("spans.jsonl.{compression}"));
        write_and_close(
            file::json_lines(&path).compression(compression),
            &requests(),
        )
        .await;
        assert_eq!(json_records(&plain_bytes(&path, compression)), requests());

        let path = directory.path().join(format!("spans.pb.{compression}"));
        write_and_close(file::protobuf(&path).compression(compression), &requests()).await;
        assert_eq!(
            protobuf_records(&plain_bytes(&path, compression)),
            requests()
        );
    }
}

#[tokio::test]
async fn json_lines_look_as_they_should() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spans.jsonl");
    write_and_close(file::json_lines(&path), &[everything()]).await;
    assert_golden("file.jsonl", &fs::read_to_string(&path).unwrap());
}

#[tokio::test]
async fn the_usual_tools_decompress_it() {
    let directory = tempfile::tempdir().unwrap();
    for (compression, tool) in [(Compression::Gzip, "gzip"), (Compression::Zstd, "zstd")] {
        let path = directory.path().join(format!("spans.{tool}"));
        write_and_close(
            file::json_lines(&path).compression(compression),
            &requests(),
        )
        .await;
        let compressed = File::open(&path).unwrap();
        let output = match Command::new(tool).arg("-dc").stdin(compressed).output() {
            Ok(output) => output,
            Err(e) => {
                eprintln!("{tool} is not here ({e}); the decoders of other crates stand for it");
                continue;
            }
        };
        assert!(output.status.success());
        assert_eq!(json_records(&output.stdout), requests());
    }
}

#[tokio::test]
async fn a_file_that_is_there_is_continued_unless_told_otherwise() {
    let directory = tempfile::tempdir().unwrap();
    for (number, format) in FORMATS.into_iter().enumerate() {
        for compression in COMPRESSIONS {
            let path = directory
                .path()
                .join(format!("spans.{number}.{compression}"));
            let builder = || format(path.clone()).compression(compression);
            write_and_close(builder(), &requests()[..1]).await;
            write_and_close(builder(), &requests()[1..]).await;
            assert_eq!(
                read_names(&path),
                ["GET /", "žluť \u{1b}[2J", "charge", "line\nfeed"]
            );
            write_and_close(builder().truncate(), &requests()[1..2]).await;
            assert_eq!(read_names(&path), ["charge"]);
        }
    }
}

fn read_names(path: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for record in SpanFile::open_path(path, ReadOptions::default()).unwrap() {
        let batch = record.unwrap().checked.batch;
        names.extend(batch.iter().map(|span| span.name().to_owned()));
    }
    names
}

#[tokio::test]
async fn a_crash_in_the_middle_of_a_record_costs_that_record_alone() {
    let directory = tempfile::tempdir().unwrap();
    for (number, format) in FORMATS.into_iter().enumerate() {
        for compression in COMPRESSIONS {
            let path = directory
                .path()
                .join(format!("spans.{number}.{compression}"));
            let builder = || format(path.clone()).compression(compression);
            write_and_close(builder(), &requests()[..1]).await;
            let whole = fs::read(&path).unwrap();
            write_and_close(builder(), &requests()[1..2]).await;
            let both = fs::read(&path).unwrap();
            for end in whole.len() + 1..both.len() {
                fs::write(&path, &both[..end]).unwrap();
                write_and_close(builder(), &requests()[2..]).await;
                assert_tail_is_readable(&path, &format!("{number} {compression} {end}"));
            }
        }
    }
}

/// The first record and the last one are there, and nothing of the torn one between them passes for spans.
fn assert_tail_is_readable(path: &Path, case: &str) {
    let mut names = Vec::new();
    let mut bad = 0;
    let mut file = SpanFile::open_path(path, ReadOptions::default()).unwrap();
    for record in file.by_ref() {
        match record {
            Ok(record) => {
                names.extend(
                    record
                        .checked
                        .batch
                        .iter()
                        .map(|span| span.name().to_owned()),
                );
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Refused, "{case}: {error}");
                bad += 1;
            }
        }
    }
    assert!(!file.is_cut_short(), "{case}");
    assert!(bad <= 1, "{case}");
    names.retain(|name| name != "charge");
    assert_eq!(names, ["GET /", "žluť \u{1b}[2J", "line\nfeed"], "{case}");
}

#[tokio::test]
async fn a_file_of_something_else_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notes");
    let contents: [&[u8]; 5] = [
        b"dear diary",
        b"{\"resourceSpans\":[]}\n",
        b"\x00\x00\x00\x02\x0a\x00",
        b"\x1f\x8b broken",
        b"\x00",
    ];
    for content in contents {
        let mut refusals = 0;
        for format in FORMATS {
            for compression in COMPRESSIONS {
                fs::write(&path, content).unwrap();
                match format(path.clone()).compression(compression).build() {
                    Ok(exporter) => exporter.shutdown(soon()).await.map(drop).unwrap(),
                    Err(error) => {
                        refusals += 1;
                        assert_eq!(error.kind(), ErrorKind::Config);
                        assert!(error.to_string().contains("notes"), "{error}");
                        assert_eq!(fs::read(&path).unwrap(), content);
                    }
                }
            }
        }
        // Nothing is lost where the content may be the unfinished beginning of a record of ours.
        let may_be_ours = usize::from(content.len() < 4 || content[0] != b'd') * 3;
        assert!(refusals >= 6 - may_be_ours, "{}", content.escape_ascii());
    }
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_named_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("missing/spans.jsonl");
    let error = file::json_lines(&path).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let text = error.to_string();
    assert!(text.contains("missing does not exist, create it"), "{text}");

    let error = file::json_lines(directory.path()).build().unwrap_err();
    assert!(error.to_string().contains("it is a directory"), "{error}");

    let error = file::json_lines(directory.path().join("x"))
        .compression(Compression::Zstd)
        .compression_level(23)
        .build()
        .unwrap_err();
    assert!(error.to_string().contains("level 23"), "{error}");
    assert!(!directory.path().join("x").exists());
}

#[cfg(unix)]
#[tokio::test]
async fn a_new_file_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spans.jsonl");
    write_and_close(file::json_lines(&path), &requests()).await;
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );

    let shared = directory.path().join("shared.jsonl");
    fs::write(&shared, "").unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o640)).unwrap();
    write_and_close(file::json_lines(&shared), &requests()).await;
    assert_eq!(
        fs::metadata(&shared).unwrap().permissions().mode() & 0o777,
        0o640
    );
}

#[cfg(unix)]
#[tokio::test]
async fn a_directory_that_may_not_be_written_is_named() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o500)).unwrap();
    let path = directory.path().join("spans.jsonl");
    if File::create(&path).is_ok() {
        eprintln!("this user may write everywhere; there is nothing to refuse");
        return;
    }
    let error = file::json_lines(&path).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("spans.jsonl"), "{error}");
    assert!(
        error
            .to_string()
            .to_lowercase()
            .contains("permission denied"),
        "{error}"
    );
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_is_temporary_and_names_the_file() {
    for format in FORMATS {
        let exporter = format("/dev/full".into()).build().unwrap();
        let error = exporter
            .export(batch(&requests()[0]), soon())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.is_temporary());
        assert!(
            error.to_string().contains("/dev/full: the disk is full"),
            "{error}"
        );
        assert_eq!(error.attempt().attempts, 1);
        drop(exporter.shutdown(soon()).await.unwrap());
    }
}

#[tokio::test]
async fn a_file_has_one_writer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spans.jsonl");
    let first = file::json_lines(&path).build().unwrap();
    let error = file::protobuf(&path).truncate().build().unwrap_err();
    assert!(
        error
            .to_string()
            .contains("another exporter is writing to it"),
        "{error}"
    );
    write(&first, &requests()[0]).await;
    drop(first.shutdown(soon()).await.unwrap());
    let second = file::json_lines(&path).build().unwrap();
    write(&second, &requests()[1]).await;
    drop(second.shutdown(soon()).await.unwrap());
    assert_eq!(json_records(&fs::read(&path).unwrap()), requests()[..2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_exports_keep_records_whole() {
    let directory = tempfile::tempdir().unwrap();
    for compression in COMPRESSIONS {
        let path = directory.path().join(format!("spans.{compression}"));
        let exporter = file::protobuf(&path)
            .compression(compression)
            .build()
            .unwrap();
        let exports: Vec<_> = (1..=20)
            .map(|trace| {
                let exporter = exporter.clone();
                tokio::spawn(async move {
                    let spans: Vec<_> = (1..=100).map(|id| (trace, id, 0, "span")).collect();
                    exporter.export(batch(&plain("shop", &spans)), soon()).await
                })
            })
            .collect();
        for export in exports {
            assert_eq!(export.await.unwrap().unwrap().accepted, 100);
        }
        drop(exporter.shutdown(soon()).await.unwrap());
        let records = protobuf_records(&plain_bytes(&path, compression));
        assert_eq!(records.len(), 20);
        let mut traces: Vec<_> = records
            .iter()
            .map(|record| record.resource_spans[0].scope_spans[0].spans[0].trace_id[0])
            .collect();
        traces.sort_unstable();
        assert_eq!(traces, (1..=20).collect::<Vec<u8>>());
    }
}

#[tokio::test]
async fn a_batch_that_is_too_large_for_a_record_becomes_several() {
    let long = "x".repeat(1000);
    let spans: Vec<_> = (1..=40_000).map(|id| (1, id, 0, long.as_str())).collect();
    let request = plain("shop", &spans);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spans.pb");
    write_and_close(
        file::protobuf(&path).compression(Compression::Zstd),
        &[request],
    )
    .await;
    let file = SpanFile::open_path(&path, ReadOptions::default()).unwrap();
    let records: Vec<_> = file.map(Result::unwrap).collect();
    assert_eq!(records.len(), 3);
    assert!(
        records
            .iter()
            .all(|record| record.bytes <= 16 * 1024 * 1024)
    );
    let spans: usize = records
        .iter()
        .map(|record| record.checked.batch.spans())
        .sum();
    assert_eq!(spans, 40_000);
}

#[tokio::test]
async fn after_shutdown_exports_are_refused_and_the_file_is_closed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spans.jsonl");
    let exporter = file::json_lines(&path).build().unwrap();
    drop(exporter.flush(soon()).await.unwrap());
    drop(exporter.shutdown(soon()).await.unwrap());
    drop(exporter.shutdown(soon()).await.unwrap());
    let error = exporter
        .export(batch(&requests()[0]), soon())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ShutDown);
    assert_eq!(fs::read(&path).unwrap(), b"");
}

#[tokio::test]
async fn a_line_without_its_line_feed_is_ended_before_the_next() {
    let directory = tempfile::tempdir().unwrap();
    for compression in COMPRESSIONS {
        let path = directory.path().join(format!("spans.{compression}"));
        let line = serde_json::to_vec(&requests()[0]).unwrap();
        let mut compressed = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .unwrap();
        match compression {
            Compression::Gzip => {
                let mut encoder =
                    flate2::write::GzEncoder::new(&compressed, flate2::Compression::fast());
                encoder.write_all(&line).unwrap();
                encoder.finish().unwrap();
            }
            Compression::Zstd => {
                let frame = zstd::encode_all(&line[..], 1).unwrap();
                compressed.write_all(&frame).unwrap();
            }
            _ => compressed.write_all(&line).unwrap(),
        }
        write_and_close(
            file::json_lines(&path).compression(compression),
            &requests()[1..],
        )
        .await;
        assert_eq!(json_records(&plain_bytes(&path, compression)), requests());
    }
}

#[cfg(unix)]
#[test]
fn a_file_is_free_after_shutdown_though_other_threads_start_programs() {
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spans.jsonl");
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                Command::new("true").status().unwrap();
            }
        });
        let opened: Vec<_> = (0..200)
            .map(|_| {
                let exporter = file::json_lines(&path).build()?;
                futures_executor::block_on(exporter.shutdown(soon()))
            })
            .collect();
        is_done.store(true, Ordering::Relaxed);
        for result in opened {
            drop(result.unwrap());
        }
    });
}
