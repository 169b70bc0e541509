//! What the exporter to files tells of what a crash left; alone in its process, because the log is the process's.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::fs;

use outspan::Export;
use outspan::file;
use outspan_testkit::Written;
use outspan_testkit::batch_of;
use outspan_testkit::soon;

#[tokio::test]
async fn what_is_cut_off_the_end_of_a_file_is_told_and_nothing_else_is() {
    let lines = Written::default();
    let writer = lines.clone();
    tracing_subscriber::fmt()
        .with_ansi(false)
        .without_time()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .init();

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spans.pb");
    let batch = batch_of(3);
    let write = async || {
        let exporter = file::protobuf(&path).build().unwrap();
        exporter.export(batch.clone(), soon()).await.unwrap();
        drop(exporter.shutdown(soon()).await.unwrap());
        fs::read(&path).unwrap()
    };
    let whole = write().await;
    let twice = write().await;
    assert_eq!(twice, whole.repeat(2));
    assert_eq!(lines.take(), "", "there was nothing to cut");

    fs::write(&path, [&whole[..], &whole[..5]].concat()).unwrap();
    assert_eq!(write().await, twice);
    let told = lines.take();
    let place = path.display();
    assert!(told.contains("WARN"), "{told}");
    assert!(
        told.contains(&format!(
            "cut 5 bytes of an unfinished record off the end of {place}"
        )),
        "{told}"
    );
}
