//! Proxies, unix sockets, and files that are put aside.

use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::thread;

use outspan_testkit::Collector;

use crate::input;
use crate::input::Files;
use crate::program;

/// Answers one connection with `words`, and tells what it was asked.
fn proxy(words: &'static str) -> (SocketAddr, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(program::LIMIT)).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        stream.write_all(words.as_bytes()).unwrap();
        String::from_utf8(head).unwrap()
    });
    (address, asked)
}

#[test]
fn spans_go_through_the_proxy_of_the_option_or_the_environment() {
    const REFUSAL: &str = "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n";

    let files = Files::new();
    let file = files.write("shop.jsonl", &input::json_lines(&input::requests(1, 1)));
    let send = [
        "shop.jsonl",
        "--to",
        "grpc://collector.test",
        "--retries",
        "0",
    ];
    let send = [&[file.as_str()], &send[1..]].concat();
    // The user and the password are `me` and `hunter2`.
    let basic = "Proxy-Authorization: Basic bWU6aHVudGVyMg==";
    for from in ["option", "variable of the option", "environment"] {
        let (address, asked) = proxy(REFUSAL);
        let url = format!("http://me:hunter2@{address}");
        let (option, variable): (&[&str], _) = match from {
            "option" => (&["--proxy", &url], ("UNUSED", url.as_str())),
            "environment" => (&[], ("HTTPS_PROXY", url.as_str())),
            _ => (&["--proxy", "env:MY_PROXY"], ("MY_PROXY", url.as_str())),
        };
        let ran = program::start(&[&send, option].concat(), &[variable]).finish();
        let head = asked.join().unwrap();
        assert!(head.starts_with("CONNECT collector.test:4317 "), "{head}");
        assert!(head.contains(basic), "{from}: {head}");
        let refused = format!("proxy http://{address} refused the tunnel to collector.test:4317");
        assert!(ran.stderr.contains(&refused), "{from}: {}", ran.stderr);
        assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
        assert_ne!(ran.status, Some(0));
    }
}

#[test]
fn none_is_no_proxy() {
    let files = Files::new();
    let file = files.write("shop.jsonl", &input::json_lines(&input::requests(1, 1)));
    let collector = Collector::http();
    // Port 1 is nobody's.
    let variables = [("HTTP_PROXY", "http://127.0.0.1:1"), ("NO_PROXY", "")];
    let to = collector.endpoint_as("localhost");
    let send = [file.as_str(), "--to", &to, "--proxy", "none"];
    program::start(&send, &variables).finish().expect_status(0);
    assert_eq!(collector.span_count(), 1);
}

#[cfg(unix)]
#[test]
fn spans_go_to_a_unix_socket() {
    use std::os::unix::net::UnixListener;
    use std::os::unix::net::UnixStream;

    fn copy(mut from: impl Read + Send + 'static, mut to: impl Write + Send + 'static) {
        // Whoever hangs up first ends it.
        thread::spawn(move || drop(std::io::copy(&mut from, &mut to)));
    }

    let files = Files::new();
    let file = files.write("shop.jsonl", &input::json_lines(&input::requests(2, 1)));
    let directory = tempfile::tempdir().unwrap();
    for (collector, scheme) in [
        (Collector::grpc(), "unix"),
        (Collector::http(), "http+unix"),
    ] {
        let socket = directory.path().join(scheme);
        let listener = UnixListener::bind(&socket).unwrap();
        let address = collector.address();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream: UnixStream = stream.unwrap();
                let collector = std::net::TcpStream::connect(address).unwrap();
                copy(stream.try_clone().unwrap(), collector.try_clone().unwrap());
                copy(collector, stream);
            }
        });
        let path = socket.display().to_string();
        let to = match scheme {
            "unix" => format!("unix://{path}"),
            _ => format!("http+unix://{}", path.replace('/', "%2F")),
        };
        program::send(&[&file, "--to", &to]).expect_status(0);
        assert_eq!(collector.span_count(), 2, "{scheme}");
    }
    let nobody = format!("unix:{}/nobody", directory.path().display());
    let ran = program::send(&[&file, "--to", &nobody, "--retries", "0"]);
    assert!(ran.stderr.contains("is this its socket?"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("4317"), "{}", ran.stderr);
}

#[test]
fn a_file_is_put_aside_when_it_is_large() {
    let files = Files::new();
    let file = files.write("shop.jsonl", &input::json_lines(&input::requests(6, 1)));
    let directory = tempfile::tempdir().unwrap();
    let to = format!("file:{}/out.pb", directory.path().display());
    let options = [
        "--rotate-bytes",
        "1B",
        "--keep-files",
        "2",
        "--batch-spans",
        "1",
    ];
    let send = [&[file.as_str(), "--to", &to], &options[..]].concat();
    program::send(&send).expect_status(0);
    let names = std::fs::read_dir(directory.path()).unwrap();
    let mut names: Vec<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names[0].starts_with("out-2") && names[1].starts_with("out-2"));
    assert_eq!(names[2], "out.pb");
}

#[test]
fn options_without_a_meaning_are_mistakes() {
    for (to, option, value) in [
        ("stdout:", "--proxy", "http://p"),
        ("unix:/c.sock", "--proxy", "http://p"),
        ("grpc://c", "--rotate-bytes", "1MiB"),
        ("grpc://c", "--rotate-after", "1h"),
        ("stdout:", "--keep-files", "3"),
    ] {
        let ran = program::send(&["-", "--to", to, option, value]).expect_status(2);
        let words = format!("{option} has no meaning here");
        assert!(ran.stderr.contains(&words), "{}", ran.stderr);
    }
    let ran = program::send(&["-", "--to", "grpc://c", "--proxy", "ftp://p"]).expect_status(2);
    assert!(
        ran.stderr.contains("invalid proxy \"ftp://p\""),
        "{}",
        ran.stderr
    );
}
