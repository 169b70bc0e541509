//! Any bytes as each part of a gRPC call that comes as bytes: what is accepted is written back as it was, and bounded.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use outspan_wire::grpc::FrameError;
use outspan_wire::grpc::Prefix;
use outspan_wire::grpc::TIMEOUT_MAX;
use outspan_wire::grpc::read_binary;
use outspan_wire::grpc::read_code;
use outspan_wire::grpc::read_frame;
use outspan_wire::grpc::read_message;
use outspan_wire::grpc::read_timeout;
use outspan_wire::grpc::write_binary;
use outspan_wire::grpc::write_message;
use outspan_wire::grpc::write_timeout;

fuzz_target!(|data: &[u8]| {
    check_prefix(data);
    check_frame(data);
    check_timeout(data);
    check_message(data);
    check_binary(data);
    if let Some(code) = read_code(data) {
        let digits = code.to_string();
        assert!(data.trim_ascii().ends_with(digits.as_bytes()));
        assert_eq!(read_code(digits.as_bytes()), Some(code));
    }
});

/// Bytes come in pieces of any size: what the first ones say does not change with those that follow.
fn check_prefix(data: &[u8]) {
    let all = Prefix::read(data);
    for end in 0..data.len().min(Prefix::BYTES) {
        let part = Prefix::read(&data[..end]);
        assert!(part == Ok(None) || part == all);
    }
    if let Ok(Some(prefix)) = all {
        assert!(data.starts_with(&prefix.write()));
    }
}

fn check_frame(data: &[u8]) {
    match read_frame(data) {
        Ok(None) => assert!(data.is_empty()),
        Ok(Some((prefix, message))) => {
            assert_eq!([&prefix.write()[..], message].concat(), data);
        }
        Err(FrameError::Surplus(surplus)) => {
            let first = &data[..data.len() - surplus];
            assert!(surplus > 0 && matches!(read_frame(first), Ok(Some(_))));
        }
        Err(error) => assert!(error.to_string().len() < 200),
    }
}

fn check_timeout(data: &[u8]) {
    match read_timeout(data) {
        Ok(timeout) => {
            assert!(timeout <= TIMEOUT_MAX);
            let again =
                read_timeout(write_timeout(timeout).as_bytes()).expect("we read what we write");
            // Never longer than it was, but for the millisecond that is the least.
            assert!(again <= timeout.max(Duration::from_millis(1)));
        }
        Err(error) => assert!(error.to_string().len() < 300),
    }
}

fn check_message(data: &[u8]) {
    let text = read_message(data);
    let written = write_message(&text);
    assert!(written.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    assert_eq!(read_message(written.as_bytes()), text);
}

fn check_binary(data: &[u8]) {
    assert_eq!(
        read_binary(write_binary(data).as_bytes()).as_deref(),
        Some(data)
    );
    if let Some(bytes) = read_binary(data) {
        let written = write_binary(&bytes);
        let unpadded = data.strip_suffix(b"==").or_else(|| data.strip_suffix(b"="));
        assert_eq!(unpadded.unwrap_or(data), written.as_bytes());
    }
}
