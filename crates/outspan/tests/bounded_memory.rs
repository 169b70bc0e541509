//! Batches that become much larger when they are split or written in another format take little more memory than they have.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]
#![cfg(all(
    feature = "grpc",
    feature = "http",
    feature = "zipkin",
    feature = "jaeger"
))]

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use outspan::Batch;
use outspan::Compression;
use outspan::Deadline;
use outspan::DropReason;
use outspan::Export;
use outspan::Exporter;
use outspan::Retry;
use outspan::engine::Ack;
use outspan::engine::BatchLimits;
use outspan::engine::MemoryQueue;
use outspan::engine::Merger;
use outspan::http_json;
use outspan::http_post;
use outspan::jaeger;
use outspan::otlp;
use outspan::stdout;
use outspan::zipkin;
use outspan_testkit::batch_of;
use outspan_testkit::soon;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

const MIB: u64 = 1 << 20;

fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(content);
    out
}

fn text_attribute(content: &[u8]) -> Vec<u8> {
    [field(1, b"key"), field(2, &field(1, content))].concat()
}

/// So many spans with one resource, each with more fields.
fn batch(resource: &[u8], spans: usize, more: &[u8]) -> Batch {
    let mut scope_spans = Vec::new();
    for number in 1..=spans as u64 {
        let span = [
            field(1, &[1; 16]),
            field(2, &number.to_be_bytes()),
            field(5, b"hostile"),
            more.to_vec(),
        ];
        scope_spans.extend(field(2, &span.concat()));
    }
    let resource_spans = [field(1, resource), field(2, &scope_spans)].concat();
    let checked = Batch::from_request(field(1, &resource_spans)).unwrap();
    assert_eq!((checked.batch.spans(), checked.refused), (spans, 0));
    checked.batch
}

/// A thousand spans that hold only ids, and a resource of three megabytes.
fn thousand_of_a_large_resource() -> Batch {
    batch(&field(1, &text_attribute(&vec![b'x'; 3 << 20])), 1000, &[])
}

#[test]
fn splits_hold_one_part_at_a_time() {
    let batch = thousand_of_a_large_resource();
    let size = batch.size() as u64;
    for (bytes, fewest, most) in [
        (1 << 20, 1000, 1000),
        (4 << 20, 1, 1),
        (size as usize - 10_000, 2, 10),
    ] {
        let mut parts = 0;
        let mut spans = 0;
        let memory = allocation_counter::measure(|| {
            for part in batch.split_by_bytes(bytes) {
                parts += 1;
                spans += part.spans();
            }
        });
        assert_eq!(spans, 1000);
        assert!(
            (fewest..=most).contains(&parts),
            "{parts} parts of {bytes} bytes"
        );
        assert!(memory.bytes_max <= 4 * size, "{memory:?}");
    }
    let mut parts = 0;
    let memory = allocation_counter::measure(|| parts = batch.split_by_spans(1).count());
    assert_eq!(parts, 1000);
    assert!(memory.bytes_max <= 4 * size, "{memory:?}");
}

#[test]
fn a_merged_batch_of_a_large_resource_stays_whole() {
    let batch = thousand_of_a_large_resource();
    let size = batch.size() as u64;
    let limits = BatchLimits::default();
    let mut merged = Vec::new();
    let memory = allocation_counter::measure(|| {
        let mut merger = Merger::default();
        merger.put(batch);
        merged = merger.finish(&limits);
    });
    let [whole] = &merged[..] else {
        panic!("{merged:?}");
    };
    assert_eq!(whole.spans(), 1000);
    assert!(memory.bytes_max <= 4 * size, "{memory:?}");

    // What does not grow is split as before.
    let ordinary = batch_of(20_000);
    let mut merger = Merger::default();
    merger.put(ordinary);
    let parts = merger.finish(&limits);
    assert_eq!(parts.iter().map(Batch::spans).sum::<usize>(), 20_000);
    assert!(
        parts
            .iter()
            .all(|part| part.spans() <= limits.spans && part.size() <= limits.bytes)
    );
    assert!(parts.len() >= 3);
}

/// Takes requests over HTTP/1.1 and keeps nothing of them.
async fn listening() -> (SocketAddr, Arc<AtomicUsize>) {
    answering("200 OK").await
}

/// Answers requests over HTTP/1.1 with a status, and keeps nothing of them.
async fn answering(status: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let count = Arc::clone(&count);
            tokio::spawn(async move { answer_all(stream, status, &count).await });
        }
    });
    (address, requests)
}

async fn answer_all(mut stream: TcpStream, status: &str, count: &AtomicUsize) -> io::Result<()> {
    let mut seen = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let head_end = loop {
            if let Some(place) = seen.windows(4).position(|end| end == b"\r\n\r\n") {
                break place + 4;
            }
            match stream.read(&mut buffer).await? {
                0 => return Ok(()),
                read => seen.extend_from_slice(&buffer[..read]),
            }
        };
        let head = String::from_utf8_lossy(&seen[..head_end]).to_lowercase();
        let length = head.split("content-length: ").nth(1).unwrap();
        let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
        let mut left = length.saturating_sub(seen.len() - head_end);
        while left > 0 {
            let wanted = left.min(buffer.len());
            left -= stream.read(&mut buffer[..wanted]).await?;
        }
        seen.clear();
        count.fetch_add(1, Ordering::SeqCst);
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await?;
    }
}

/// One exporter for each format, with what it calls its form.
fn exporters(address: SocketAddr) -> Vec<(&'static str, Exporter)> {
    let url = |path: &str| format!("http://{address}{path}");
    let json = |compression| {
        otlp::http(url("/v1/traces"))
            .protocol(otlp::Protocol::HttpJson)
            .compression(compression)
            .build()
            .unwrap()
    };
    let protobuf = |compression| {
        otlp::http(url("/v1/traces"))
            .compression(compression)
            .build()
            .unwrap()
    };
    let zipkin = |format| {
        zipkin::http(url("/api/v2/spans"))
            .format(format)
            .build()
            .unwrap()
    };
    let poster = http_post::to(url("/"));
    vec![
        ("gzip", protobuf(Compression::Gzip)),
        ("zstd", protobuf(Compression::Zstd)),
        ("json", json(Compression::None)),
        ("zipkin json", zipkin(zipkin::Format::Json)),
        ("zipkin protobuf", zipkin(zipkin::Format::Protobuf)),
        (
            "jaeger",
            jaeger::collector(url("/api/traces")).build().unwrap(),
        ),
        ("plain json", http_json::exporter(poster).unwrap()),
        (
            "stdout",
            stdout::json_lines().writer(io::sink()).build().unwrap(),
        ),
    ]
}

/// Batches that become too large where `bytes` of control characters do.
fn hostile(bytes: usize) -> Vec<(&'static str, Batch)> {
    let controls = text_attribute(&vec![1; bytes]);
    vec![
        ("controls", batch(&[], 1, &field(9, &controls))),
        ("empty attributes", batch(&[], 1, &[0x4A, 0].repeat(32_768))),
        (
            "a resource of controls",
            batch(&field(1, &controls), 3, &[]),
        ),
    ]
}

/// Only one test at a time measures the process.
static MEASURING: Mutex<()> = Mutex::new(());

fn status(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(key)).unwrap();
    let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes << 10
}

/// How much the process grew at most meanwhile.
#[cfg(target_os = "linux")]
fn growth(work: impl FnOnce()) -> u64 {
    // Sets the peak to what is held now (proc_pid_clear_refs(5)).
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS:");
    work();
    status("VmHWM:").saturating_sub(before)
}

#[cfg(target_os = "linux")]
#[test]
fn every_format_takes_little_memory_and_every_span_is_accounted_for() {
    let _alone = MEASURING.lock().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (address, _requests) = runtime.block_on(listening());
    let large = hostile(3 << 20);
    let small = hostile(2 << 20);
    for (form, exporter) in exporters(address) {
        // These have a lower limit, and take their time without optimisation.
        let hostile = match form.starts_with("stdout") {
            true => &small,
            false => &large,
        };
        for (name, batch) in hostile {
            let spans = batch.spans() as u64;
            let grown = growth(|| {
                let until = Deadline::after(Duration::from_secs(120));
                let result = runtime.block_on(exporter.export(batch.clone(), until));
                match result {
                    Ok(delivery) => {
                        let left = delivery.undelivered();
                        assert_eq!(delivery.accepted + left, spans, "{form}, {name}");
                        assert!(
                            delivery.rest.iter().all(|rest| rest.error.is_too_large()),
                            "{form}, {name}: {:?}",
                            delivery.rest
                        );
                        let held: usize = delivery.rest.iter().map(|rest| rest.batch.size()).sum();
                        assert!(held <= 4 * batch.size(), "{form}, {name}: {held}");
                    }
                    Err(error) => assert!(error.is_too_large(), "{form}, {name}: {error}"),
                }
                let flushed = runtime.block_on(exporter.flush(until));
                assert!(flushed.is_ok(), "{form}, {name}: {flushed:?}");
            });
            // The form, the part that it is made of, and what the other tests take meanwhile.
            assert!(grown <= 64 * MIB, "{form}, {name}: {} MiB", grown / MIB);
        }
    }
}

/// Finds every batch too large, and forgets it.
#[derive(Debug)]
struct TooLarge;

impl Export for TooLarge {
    async fn export(&self, _batch: Batch, _until: Deadline) -> outspan::Result<outspan::Delivery> {
        Err(outspan::Error::too_large("nothing fits"))
    }

    async fn flush(&self, _until: Deadline) -> outspan::Result<outspan::Drained> {
        Ok(outspan::Drained::default())
    }

    async fn shutdown(&self, _until: Deadline) -> outspan::Result<outspan::Drained> {
        Ok(outspan::Drained::default())
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_size_that_is_refused_for_every_part_takes_little_memory() {
    let _alone = MEASURING.lock().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (address, requests) = runtime.block_on(answering("413 Payload Too Large"));
    let url = |path: &str| format!("http://{address}{path}");
    let over_http = otlp::http(url("/v1/traces"))
        .compression(Compression::None)
        .build()
        .unwrap();
    let fan_out = outspan::combinators::FanOut::new()
        .to("http", over_http.clone())
        .to("own", Exporter::new(TooLarge))
        .build()
        .unwrap();
    for (name, exporter, spans) in [
        ("own", Exporter::new(TooLarge), 300),
        ("http", over_http, 300),
        ("fan-out", fan_out, 100),
    ] {
        // The resource is as large as the parts together are not: 300 of them take 870 MiB.
        let resource = field(1, &text_attribute(&vec![b'x'; 2_900 << 10]));
        let batch = batch(&resource, spans, &[]);
        let memory = batch.memory();
        let queue = MemoryQueue::builder(exporter)
            .bytes(4 * memory)
            .export_limit(None)
            .start()
            .unwrap();
        let mut most = 0;
        let grown = growth(|| {
            let permit = queue.try_reserve(memory, spans).unwrap();
            queue.push(batch.clone(), permit, Ack::none()).unwrap();
            let until = Deadline::after(Duration::from_secs(120));
            let flush = async {
                let flush = queue.flush(until);
                let mut flush = std::pin::pin!(flush);
                loop {
                    most = most.max(queue.bytes());
                    let turn = Deadline::after(Duration::from_millis(1));
                    if let Some(flushed) = turn.run(&mut flush).await {
                        return flushed;
                    }
                }
            };
            drop(runtime.block_on(flush).unwrap());
        });
        let account = queue.account();
        let lost = account.dropped.of(DropReason::TooLarge) + account.refused;
        assert_eq!(lost, spans as u64, "{name}: {account}");
        assert!(account.closes() && account.open() == 0, "{name}: {account}");
        assert_eq!(queue.bytes(), 0, "{name}");
        assert!(most <= 4 * memory, "{name}: {most} bytes are counted");
        assert!(grown <= 48 * MIB, "{name}: {} MiB", grown / MIB);
    }
    assert!(requests.load(Ordering::SeqCst) >= 2 * 300 - 1);
}

#[tokio::test]
async fn an_error_names_the_span_that_is_too_large() {
    let (address, requests) = listening().await;
    let exporter = zipkin::http(format!("http://{address}"))
        .max_request_bytes(100_000)
        .build()
        .unwrap();
    let one = batch(&[], 1, &field(9, &text_attribute(&vec![1; 50_000])));
    let error = exporter.export(one, soon()).await.unwrap_err();
    let words = error.to_string();
    assert!(words.contains("span \"hostile\" has "), "{words}");
    assert!(words.contains("limit of 100000"), "{words}");
    assert_eq!(requests.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_resource_over_the_limit_makes_its_spans_too_large_at_once() {
    let (address, requests) = listening().await;
    let exporter = otlp::http(format!("http://{address}"))
        .max_request_bytes(2 << 20)
        .build()
        .unwrap();
    let queue = MemoryQueue::builder(exporter).start().unwrap();
    let batch = thousand_of_a_large_resource();
    let permit = queue.try_reserve(batch.memory(), 1000).unwrap();
    queue.push(batch, permit, Ack::none()).unwrap();
    let drained = queue.flush(soon()).await.unwrap();
    assert_eq!(drained.lost.of(DropReason::TooLarge), 1000);
    assert_eq!(queue.account().dropped.of(DropReason::TooLarge), 1000);
    assert_eq!((queue.bytes(), queue.batches()), (0, 0));
    assert_eq!(requests.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_form_that_outlasts_the_attempt_is_made_once() {
    let (address, requests) = listening().await;
    let calls = Arc::new(AtomicUsize::new(0));
    let (release, released) = mpsc::channel::<()>();
    let (begin, begun) = mpsc::channel();
    let released = Mutex::new(released);
    let counting = Arc::clone(&calls);
    let poster = http_post::to(format!("http://{address}"))
        .build(move |batch| {
            if batch.spans() > 1 {
                counting.fetch_add(1, Ordering::SeqCst);
                begin.send(()).unwrap();
                let limit = Duration::from_secs(60);
                released.lock().unwrap().recv_timeout(limit).unwrap();
            }
            Ok(vec![b'x'; 10])
        })
        .unwrap();
    let queue = MemoryQueue::builder(Exporter::new(Posting(poster)))
        .attempt_timeout(Some(Duration::from_millis(50)))
        .retry(Retry::default().initial_interval(Duration::from_millis(1)))
        .start()
        .unwrap();
    let large = batch_of(2000);
    assert!(large.size() > 16 << 10);
    let permit = queue.try_reserve(large.memory(), 2000).unwrap();
    queue.push(large, permit, Ack::none()).unwrap();
    tokio::task::spawn_blocking(move || begun.recv_timeout(Duration::from_secs(60)).unwrap())
        .await
        .unwrap();
    // Attempts go by until the log says what takes the time.
    let waiting = async {
        while !queue
            .trouble()
            .is_some_and(|error| error.contains("nothing of them was sent"))
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting)
        .await
        .unwrap();
    // Others are delivered meanwhile.
    let small = batch_of(1);
    let permit = queue.try_reserve(small.memory(), 1).unwrap();
    queue.push(small, permit, Ack::none()).unwrap();
    let delivered = async {
        while queue.account().delivered < 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), delivered)
        .await
        .unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    release.send(()).unwrap();
    let drained = queue
        .flush(Deadline::after(Duration::from_secs(60)))
        .await
        .unwrap();
    assert!(drained.is_complete(), "{drained:?}");
    assert_eq!(queue.account().delivered, 2001);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!(requests.load(Ordering::SeqCst), 2);
}

/// Hands batches to a poster.
#[derive(Debug)]
struct Posting(http_post::Poster);

impl Export for Posting {
    async fn export(&self, batch: Batch, until: Deadline) -> outspan::Result<outspan::Delivery> {
        self.0.deliver(batch, until).await
    }

    async fn flush(&self, _until: Deadline) -> outspan::Result<outspan::Drained> {
        Ok(outspan::Drained::default())
    }

    async fn shutdown(&self, _until: Deadline) -> outspan::Result<outspan::Drained> {
        self.0.close();
        Ok(outspan::Drained::default())
    }
}

#[tokio::test]
async fn batches_that_wait_for_a_destination_keep_no_forms() {
    // Nobody listens there any more.
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let (tell, told) = mpsc::channel();
    let exporter = otlp::http(format!("http://{address}"))
        .protocol(otlp::Protocol::HttpJson)
        .interceptor(move |_: &mut otlp::OutgoingRequest<'_>| {
            // The receiver goes when the test has seen enough.
            tell.send(()).unwrap_or_default();
            Ok(())
        })
        .build()
        .unwrap();
    let interval = Duration::from_millis(1);
    let queue = MemoryQueue::builder(exporter)
        .retry(
            Retry::default()
                .initial_interval(interval)
                .max_interval(interval),
        )
        .start()
        .unwrap();
    let batches: Vec<_> = (0..20).map(|_| batch_of(1000)).collect();
    let memory: usize = batches.iter().map(Batch::memory).sum();
    for batch in batches {
        let permit = queue.try_reserve(batch.memory(), batch.spans()).unwrap();
        queue.push(batch, permit, Ack::none()).unwrap();
    }
    // Every batch has had its turn, and most of them more than one.
    tokio::task::spawn_blocking(move || {
        for _ in 0..60 {
            told.recv_timeout(Duration::from_secs(60)).unwrap();
        }
    })
    .await
    .unwrap();
    // At most the forms of attempts under way are there beside the batches.
    let form = 4 * memory / 20;
    let held = queue.bytes();
    assert!(held <= memory + 4 * form, "{held} of {memory}");
    assert_eq!(queue.account().queued + queue.account().in_flight, 20_000);
    queue.abort().await;
    let given_back = async {
        while queue.bytes() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), given_back)
        .await
        .unwrap();
}
