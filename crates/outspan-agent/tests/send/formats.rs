//! Every format, however compressed, arrives whole over either transport.

use outspan_testkit::Collector;

use crate::input;
use crate::input::Files;
use crate::input::Packed;
use crate::program;

const PACKINGS: [Packed; 3] = [Packed::Plain, Packed::Gzip, Packed::Zstd];

fn grpc_url(collector: &Collector) -> String {
    collector.endpoint().replace("http", "grpc")
}

/// Sends a file in every packing to both transports and compares what arrives.
#[track_caller]
fn arrives(name: &str, content: &[u8], requests: &[input::ExportTraceServiceRequest]) {
    let files = Files::new();
    let expected = input::spans_of(requests);
    for packed in PACKINGS {
        let file = files.write(name, &input::pack(content, packed));
        for collector in [Collector::grpc(), Collector::http()] {
            let url = match collector.transport() {
                outspan_testkit::Transport::Grpc => grpc_url(&collector),
                outspan_testkit::Transport::Http => collector.endpoint(),
            };
            let ran = program::send(&[&file, "--to", &url]).expect_status(0);
            assert!(ran.stdout.is_empty(), "{packed:?} {url}: {ran:?}");
            assert_eq!(
                input::in_order(collector.spans()),
                expected,
                "{packed:?} {url}"
            );
            assert_eq!(collector.complaints(), [""; 0]);
        }
    }
}

#[test]
fn json_lines_arrive() {
    let requests = input::requests(7, 13);
    arrives("spans.jsonl", &input::json_lines(&requests), &requests);
}

#[test]
fn a_json_document_over_many_lines_arrives() {
    let request = input::request(0..20);
    arrives("spans.json", &input::json_document(&request), &[request]);
}

#[test]
fn one_protobuf_request_arrives() {
    let request = input::request(0..20);
    let bytes = prost::Message::encode_to_vec(&request);
    arrives("spans.bin", &bytes, &[request]);
}

#[test]
fn length_prefixed_protobuf_arrives() {
    let requests = input::requests(7, 13);
    arrives("spans.pb", &input::length_prefixed(&requests), &requests);
}

#[test]
fn standard_input_arrives_in_every_packing() {
    let requests = input::requests(3, 5);
    for packed in PACKINGS {
        let collector = Collector::grpc();
        let bytes = input::pack(&input::json_lines(&requests), packed);
        let arguments = ["-", "--to", &grpc_url(&collector)];
        program::send_stdin(&arguments, &bytes)
            .expect_status(0)
            .expect_said(&["delivered 15 spans from standard input"]);
        let arrived = input::in_order(collector.spans());
        assert_eq!(arrived, input::spans_of(&requests), "{packed:?}");
    }
}

#[test]
fn several_files_arrive_as_one_run() {
    let files = Files::new();
    let requests = input::requests(2, 4);
    let first = files.write("a.jsonl", &input::json_lines(&requests[..1]));
    let second = files.write("b.pb", &input::length_prefixed(&requests[1..]));
    let collector = Collector::grpc();
    program::send(&[&first, &second, "--to", &grpc_url(&collector)])
        .expect_status(0)
        .expect_said(&["delivered 8 spans from 2 files", "2 records"]);
    assert_eq!(
        input::in_order(collector.spans()),
        input::spans_of(&requests)
    );
    assert_eq!(collector.requests().len(), 1, "small records are merged");
}

#[test]
fn small_records_are_merged_and_large_ones_split() {
    let files = Files::new();
    let small = input::requests(100, 1);
    let large = [input::request(100..350)];
    let file = files.write(
        "both.jsonl",
        &input::json_lines(&[small.clone(), large.to_vec()].concat()),
    );
    let collector = Collector::grpc();
    let url = grpc_url(&collector);
    program::send(&[&file, "--to", &url, "--batch-spans", "60"]).expect_status(0);
    let sizes: Vec<usize> = collector
        .requests()
        .iter()
        .map(|r| r.span_count())
        .collect();
    assert_eq!(sizes.iter().sum::<usize>(), 350);
    assert!(sizes.iter().all(|&spans| spans <= 60), "{sizes:?}");
    assert!(sizes.len() <= 8, "{sizes:?}");
    let expected = input::spans_of(&[small, large.to_vec()].concat());
    assert_eq!(input::in_order(collector.spans()), expected);

    collector.clear();
    program::send(&[&file, "--to", &url, "--batch-bytes", "2KiB"]).expect_status(0);
    let requests = collector.requests();
    assert!(requests.len() > 10, "{}", requests.len());
    assert!(requests.iter().all(|request| request.message.len() <= 2048));
    assert_eq!(input::in_order(collector.spans()), expected);
}

#[test]
fn an_empty_file_is_delivered_by_doing_nothing() {
    let files = Files::new();
    let file = files.write("empty.jsonl", b"");
    let collector = Collector::grpc();
    program::send(&[&file, "--to", &grpc_url(&collector)])
        .expect_status(0)
        .expect_said(&["delivered 0 spans"]);
    assert_eq!(collector.connections(), 0);
}
