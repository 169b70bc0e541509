//! Compression, pieces, ends: what bodies are made of.

use std::io::Write;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use flate2::write::GzEncoder;
use flate2::write::ZlibEncoder;
use proptest::prelude::*;

use super::*;
use crate::receivers::inflate::ZSTD_WINDOW_MAX;

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

/// zstd whose header does not say how long the content is, with a window of two to the power of `window_log`.
pub(super) fn zstd_with_window(bytes: &[u8], window_log: u32) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.window_log(window_log).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Every way to compress, with the name that headers give it.
fn compressed(bytes: &[u8]) -> [(&'static str, Vec<u8>); 4] {
    [
        ("gzip", gzip(bytes)),
        ("deflate", zlib(bytes)),
        ("deflate", deflate(bytes)),
        ("zstd", zstd(bytes)),
    ]
}

async fn send(rig: &Rig, encoding: &str, body: Vec<u8>) -> Seen {
    let request = post(Form::Protobuf, Script::of(body)).with("content-encoding", encoding);
    rig.send(request).await
}

/// The two bodies that gRPC and HTTP have for the same bytes.
fn both(encoding: &str, bytes: &[u8], cut: impl Fn(&[u8]) -> Script) -> [Request<Script>; 2] {
    [
        post(Form::Grpc, cut(&message(true, bytes))).with("grpc-encoding", encoding),
        post(Form::Protobuf, cut(bytes)).with("content-encoding", encoding),
    ]
}

#[tokio::test]
async fn every_compression_is_taken_in_pieces_of_any_size() {
    let rig = Rig::new();
    let plain = request(50).encode_to_vec();
    let mut sent = 0;
    for (encoding, body) in compressed(&plain) {
        for bytes in [1, 2, 3, 7, 100, body.len()] {
            for request in both(encoding, &body, |body| Script::cut(body, bytes)) {
                let seen = rig.send(request).await;
                assert_eq!(seen.status, 200, "{encoding} {bytes} {seen:?}");
                sent += 50;
            }
        }
    }
    assert_eq!(rig.delivered().await, sent);
}

#[tokio::test]
async fn other_compressions_are_refused_with_what_is_taken() {
    let rig = Rig::new();
    for encoding in ["br", "snappy", "gzip, zstd", "lz4"] {
        let seen = send(&rig, encoding, vec![1]).await;
        assert_eq!(seen.status, 415, "{encoding}");
        assert_eq!(seen.header("accept-encoding"), Some("gzip, deflate, zstd"));
    }
    let request = post(Form::Grpc, Script::of(message(true, b"x"))).with("grpc-encoding", "snappy");
    let status = rig.send(request).await.grpc();
    assert_eq!(status.code(), tonic::Code::Unimplemented);
    assert!(status.message().contains("snappy") && status.message().contains("zstd"));
}

#[tokio::test]
async fn a_plain_message_is_taken_whatever_the_header_names() {
    let rig = Rig::new();
    for encoding in ["gzip", "snappy", "identity"] {
        let request = post_spans(Form::Grpc, 1).with("grpc-encoding", encoding);
        assert_eq!(
            rig.send(request).await.grpc().code(),
            tonic::Code::Ok,
            "{encoding}"
        );
    }
}

#[tokio::test]
async fn a_compressed_message_needs_a_header_that_says_with_what() {
    let rig = Rig::new();
    let body = || Script::of(message(true, &gzip(b"")));
    let bare = rig.send(post(Form::Grpc, body())).await.grpc();
    let identity = post(Form::Grpc, body()).with("grpc-encoding", "identity");
    let identity = rig.send(identity).await.grpc();
    for status in [bare, identity] {
        assert_eq!(status.code(), tonic::Code::Internal);
        assert!(status.message().contains("grpc-encoding"));
    }
}

#[tokio::test]
async fn members_of_gzip_and_frames_of_zstd_follow_one_another() {
    let rig = Rig::new();
    let parts = [request(1).encode_to_vec(), request(2).encode_to_vec()];
    for bytes in [1, 5, 10_000] {
        let members = parts.clone().map(|part| gzip(&part)).concat();
        let request = post(Form::Protobuf, Script::cut(&members, bytes));
        assert_eq!(
            rig.send(request.with("content-encoding", "gzip"))
                .await
                .status,
            200
        );
        // A skippable frame in between.
        let skipped = [&[0x5A, 0x2A, 0x4D, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        let frames = [zstd(&parts[0]), skipped, zstd_with_window(&parts[1], 17)].concat();
        let request = post(Form::Protobuf, Script::cut(&frames, bytes));
        assert_eq!(
            rig.send(request.with("content-encoding", "zstd"))
                .await
                .status,
            200
        );
    }
    assert_eq!(rig.delivered().await, 3 * 6);
}

#[tokio::test]
async fn what_breaks_off_is_refused_at_every_byte() {
    let rig = Rig::new();
    for (encoding, body) in compressed(&request(1).encode_to_vec()) {
        for end in 1..body.len() {
            let seen = send(&rig, encoding, body[..end].to_vec()).await;
            assert_eq!(seen.status, 400, "{encoding} {end}");
            let message = seen.http_status().message;
            assert!(message.contains(encoding), "{message}");
        }
    }
    assert_eq!(rig.delivered().await, 0);
}

#[tokio::test]
async fn what_follows_the_end_is_refused() {
    let rig = Rig::new();
    for (encoding, body) in compressed(&request(1).encode_to_vec()) {
        for surplus in [&b"x"[..], &[0; 20], b"garbage behind it"] {
            for request in both(encoding, &[&body, surplus].concat(), |b| Script::cut(b, 64)) {
                let seen = rig.send(request).await;
                match seen.status.as_u16() {
                    200 => assert_eq!(
                        seen.grpc().code(),
                        tonic::Code::InvalidArgument,
                        "{encoding}"
                    ),
                    status => assert_eq!(status, 400, "{encoding} {surplus:?}"),
                }
            }
        }
    }
}

#[tokio::test]
async fn a_damaged_checksum_is_found() {
    let rig = Rig::new();
    let mut body = gzip(&request(1).encode_to_vec());
    let crc = body.len() - 8;
    body[crc] ^= 1;
    assert_eq!(send(&rig, "gzip", body).await.status, 400);
}

#[tokio::test]
async fn no_bytes_at_all_are_an_empty_request_however_they_are_said_to_be_compressed() {
    let rig = Rig::new();
    for encoding in ["gzip", "deflate", "zstd"] {
        assert_eq!(send(&rig, encoding, Vec::new()).await.status, 200);
        let request =
            post(Form::Grpc, Script::of(message(true, b""))).with("grpc-encoding", encoding);
        assert_eq!(rig.send(request).await.grpc().code(), tonic::Code::Ok);
    }
}

#[tokio::test]
async fn an_empty_json_text_is_no_json() {
    let rig = Rig::new();
    assert_eq!(
        rig.send(post(Form::Json, Script::default())).await.status,
        400
    );
}

#[tokio::test]
async fn a_message_of_grpc_ends_where_its_prefix_says() {
    let rig = Rig::new();
    let whole = encoded(Form::Grpc, &request(1));
    let two = [whole.clone(), whole.clone()].concat();
    for (body, words) in [
        (&b""[..], "no message"),
        (&whole[..3], "after 3 of the 5 bytes"),
        (&whole[..9], "after 4 of its"),
        (&two, "more than one"),
        (&[7, 0, 0, 0, 0], "its first byte is 7"),
    ] {
        for bytes in [1, 4, 1000] {
            let status = rig
                .send(post(Form::Grpc, Script::cut(body, bytes)))
                .await
                .grpc();
            assert_eq!(status.code(), tonic::Code::Internal);
            assert!(status.message().contains(words), "{}", status.message());
        }
    }
    assert_eq!(rig.counted(Transport::Grpc).refused_requests, 15);
}

#[tokio::test]
async fn content_in_one_piece_does_not_hold_the_readers_buffer() {
    let rig = Rig::new();
    let large = request(500).encode_to_vec();
    let mut content =
        Content::begin(&rig.intake, 1 << 20, Encoding::Identity, Some(large.len())).unwrap();
    // The end of a buffer of a connection, which is much larger.
    let mut buffer = vec![0; 64 << 10];
    buffer.extend_from_slice(&large);
    let piece = Bytes::from(buffer).slice(64 << 10..);
    content
        .add(piece.clone(), &mut Turns::default())
        .await
        .unwrap();
    let (bytes, taken) = content.finish().unwrap();
    assert_eq!(bytes, piece);
    assert!(piece.is_unique() || bytes.as_ptr() != piece.as_ptr());
    assert_eq!(taken.bytes(), large.len());
}

#[tokio::test]
async fn a_content_holds_on_to_no_more_than_its_length() {
    let rig = Rig::new();
    let plain = request(100).encode_to_vec();
    for (body, encoding, declared) in [
        (plain.clone(), Encoding::Identity, None),
        (gzip(&plain), Encoding::Gzip, Some(1 << 19)),
    ] {
        let mut content = Content::begin(&rig.intake, 1 << 20, encoding, declared).unwrap();
        for piece in body.chunks(1000) {
            let piece = Bytes::copy_from_slice(piece);
            content.add(piece, &mut Turns::default()).await.unwrap();
        }
        let (bytes, taken) = content.finish().unwrap();
        assert_eq!(bytes, plain);
        assert!(
            taken.bytes() < plain.len() + 64,
            "{} of {}",
            taken.bytes(),
            plain.len()
        );
    }
}

/// The end of a bare stream says nothing of its length, so input may be used up while output waits.
#[tokio::test]
async fn contents_that_end_near_a_slice_come_out_whole() {
    let rig = Rig::new();
    for length in (1..=3).flat_map(|slices| slices * 4096 - 2..=slices * 4096 + 8) {
        let plain = vec![0; length];
        for (encoding, body) in [
            (Encoding::Deflate, deflate(&plain)),
            (Encoding::Zstd, zstd(&plain)),
        ] {
            let mut content = Content::begin(&rig.intake, 1 << 20, encoding, None).unwrap();
            let mut turns = Turns::default();
            content.add(body.into(), &mut turns).await.unwrap();
            let (bytes, _) = content.finish().unwrap();
            assert_eq!(bytes.len(), length, "{}", encoding.as_str());
        }
    }
}

/// Counts how often a future gives others their turn.
async fn turns_of<T>(future: impl Future<Output = T>) -> (T, usize) {
    let mut future = std::pin::pin!(future);
    let mut turns = 0;
    let output = poll_fn(|context| {
        let polled = future.as_mut().poll(context);
        turns += usize::from(polled.is_pending());
        polled
    });
    let output = output.await;
    (output, turns)
}

/// Ten gigabytes of zeros in ten megabytes: gzip's best, repeated.
fn bomb() -> Vec<Bytes> {
    // gzip of 10 MiB of zeros has about 10 KiB; as members they follow one another.
    let member = Bytes::from(gzip(&vec![0; 10 << 20]));
    vec![member; 1024]
}

#[tokio::test]
async fn a_bomb_costs_the_bound_and_lets_others_work() {
    let limit = 4 << 20;
    let rig = Rig::with(|plan| {
        plan.settings.max_request_bytes = limit;
        plan.memory = limit + (256 << 10);
    });
    let bytes: usize = bomb().iter().map(Bytes::len).sum();
    assert!(bytes > 9 << 20 && bytes < 12 << 20, "{bytes}");
    let request = post(Form::Protobuf, Script::pieces(bomb())).with("content-encoding", "gzip");
    let (seen, turns) = turns_of(rig.send(request)).await;
    assert_eq!(seen.status, 413, "{seen:?}");
    assert!(turns >= limit / (512 << 10), "{turns} turns");
    assert!(
        rig.counted(Transport::Http).bytes < 100 << 10,
        "the rest was not read"
    );

    let rig = Rig::with(|plan| {
        plan.settings.max_request_bytes = limit;
        plan.memory = limit + (3 << 20);
    });
    let zeros = zstd(&vec![0; 64 << 20]);
    assert!(zeros.len() < 8 << 10, "{}", zeros.len());
    let (seen, turns) = turns_of(send(&rig, "zstd", zeros)).await;
    assert_eq!(seen.status, 413);
    assert!(turns >= limit / (512 << 10), "{turns} turns");
}

#[tokio::test]
async fn endless_members_without_content_are_bounded_too() {
    let rig = Rig::with(|plan| plan.settings.max_request_bytes = 10_000);
    let member = Bytes::from(gzip(b""));
    let request = post(Form::Protobuf, Script::pieces(vec![member; 100_000]));
    let seen = rig.send(request.with("content-encoding", "gzip")).await;
    assert_eq!(seen.status, 413);
    assert!(rig.counted(Transport::Http).bytes <= 10_100);
}

#[tokio::test]
async fn a_window_of_zstd_is_bounded_and_counted() {
    let rig = Rig::with(|plan| plan.settings.max_request_bytes = 32 << 20);
    let plain = request(1).encode_to_vec();
    let seen = send(&rig, "zstd", zstd_with_window(&plain, 23)).await;
    assert_eq!(seen.status, 200, "{seen:?}");
    let seen = send(&rig, "zstd", zstd_with_window(&plain, 24)).await;
    assert_eq!(seen.status, 413);
    assert!(seen.http_status().message.contains("window"));

    // 2 MiB of window where there is 1 MiB in all: never; where others take it: later.
    let small = Rig::with(|plan| plan.memory = 1 << 20);
    let seen = send(&small, "zstd", zstd_with_window(&plain, 21)).await;
    assert_eq!(seen.status, 413);
    assert!(seen.http_status().message.contains("--memory"));
    let mut others = rig.intake.begin();
    assert!(others.grow(rig.intake.free() - (1 << 20)));
    let request = post(Form::Protobuf, Script::of(zstd_with_window(&plain, 21)));
    let response = rig
        .service
        .answer(Protocol::Otlp, request.with("content-encoding", "zstd"))
        .await;
    assert_eq!(response.status(), 503);
    assert_eq!(rig.intake.used(), others.bytes());
    assert_eq!(ZSTD_WINDOW_MAX, 8 << 20);
}

#[tokio::test]
async fn headers_of_zstd_of_every_shape_are_understood() {
    let rig = Rig::new();
    for size in [0, 1, 100, 255, 256, 257, 65_791, 65_792, 200_000] {
        let plain = request_with(1, |_, span| span.name = "n".repeat(size)).encode_to_vec();
        for window_log in [10, 12, 17] {
            assert_eq!(
                send(&rig, "zstd", zstd_with_window(&plain, window_log))
                    .await
                    .status,
                200
            );
        }
        let one_go = zstd::bulk::compress(&plain, 1).unwrap();
        assert_eq!(send(&rig, "zstd", one_go).await.status, 200, "{size}");
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn pieces_may_be_cut_anywhere(
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..8),
        which in 0..5_usize,
        form in prop_oneof![Just(Form::Grpc), Just(Form::Protobuf), Just(Form::Json)],
    ) {
        let plain = match form {
            Form::Grpc => request(3).encode_to_vec(),
            _ => encoded(form, &request(3)),
        };
        let all = compressed(&plain);
        let (encoding, content) = all.get(which).cloned().unwrap_or(("identity", plain));
        let body = match form {
            Form::Grpc => message(encoding != "identity", &content),
            _ => content,
        };
        let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(body.len())).collect();
        places.extend([0, body.len()]);
        places.sort_unstable();
        // Two cuts at one place make an empty piece.
        let pieces = places.windows(2).map(|ends| Bytes::copy_from_slice(&body[ends[0]..ends[1]]));
        let header = if form == Form::Grpc { "grpc-encoding" } else { "content-encoding" };
        let request = post(form, Script::pieces(pieces)).with(header, encoding);
        runtime().block_on(async {
            let rig = Rig::new();
            let seen = rig.send(request).await;
            prop_assert_eq!(seen.status, 200, "{:?}", seen);
            prop_assert_eq!(rig.delivered().await, 3);
            Ok(())
        })?;
    }

    #[test]
    fn whatever_comes_is_answered_and_given_back(
        pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..6),
        encoding in prop_oneof![Just("gzip"), Just("deflate"), Just("zstd"), Just("identity")],
        form in prop_oneof![Just(Form::Grpc), Just(Form::Protobuf), Just(Form::Json)],
        compressed: bool,
    ) {
        let pieces = match form {
            Form::Grpc => vec![message(compressed, &pieces.concat())],
            _ => pieces,
        };
        let header = if form == Form::Grpc { "grpc-encoding" } else { "content-encoding" };
        let request = post(form, Script::pieces(pieces)).with(header, encoding);
        runtime().block_on(async {
            let seen = Rig::new().send(request).await;
            match form {
                Form::Grpc => drop(seen.grpc()),
                _ if seen.status == 200 => drop(seen.http_response()),
                _ => drop(seen.http_status()),
            }
        });
    }
}

#[tokio::test]
async fn spans_that_are_left_out_are_charged_and_then_given_back() {
    let rig = Rig::new();
    let good = request(10).encode_to_vec();
    // A span without ids, of which most of the request is made.
    let padding = vec![b'x'; 600 << 10];
    let mut bad = Vec::new();
    push_field(&mut bad, 5, &padding);
    let scope = wrapped(2, &bad);
    let scopes = wrapped(2, &scope);
    let body = [wrapped(1, &scopes), good.clone()].concat();
    let mut taken = rig.intake.begin();
    assert!(taken.grow(body.len()));
    let before = rig.intake.used();
    let spans = Spans::read_within(Form::Protobuf, body.clone().into(), &mut taken, &rig.intake);
    let spans = spans.unwrap();
    assert_eq!((spans.batch.spans(), spans.refused), (10, 1));
    assert_eq!(spans.batch.size(), good.len());
    assert_eq!(
        rig.intake.used(),
        before + body.len(),
        "the copy is charged"
    );
    // Without room for the copy none is made.
    let mut others = rig.intake.begin();
    assert!(others.grow(rig.intake.free() - 1));
    let mut taken = rig.intake.begin();
    let refused = Spans::read_within(Form::Protobuf, body.into(), &mut taken, &rig.intake);
    assert_eq!(refused.unwrap_err().outcome, Outcome::Deferred);
}

fn wrapped(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    push_field(&mut out, number, bytes);
    out
}

fn push_field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
}
