//! Runs an agent, and reads its admin address over raw HTTP, bounded in time.

use std::collections::BTreeMap;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::time::Instant;

use prometheus_parse::Scrape;
use prometheus_parse::Value as Sample;
use serde_json::Value;

use crate::running::LIMIT;
use crate::running::Ran;
use crate::running::Running;

/// An agent that is running.
pub(crate) struct Agent {
    running: Running,
}

/// An answer of the admin address.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Agent {
    /// Starts an agent on free ports; returns once it answers.
    #[track_caller]
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut agent = Self::with_admin("127.0.0.1:0", arguments);
        agent.running.wait_until_said("admin on ");
        agent
    }

    /// Starts an agent with a value for `--admin`; it may end at once.
    pub(crate) fn with_admin(admin: &str, arguments: &[&str]) -> Self {
        let addresses = [
            "--listen",
            "grpc://127.0.0.1:0",
            "--listen",
            "http://127.0.0.1:0",
        ];
        let arguments = [&["agent"], &addresses[..], &["--admin", admin], arguments].concat();
        Self {
            running: Running::start(&arguments, &[]),
        }
    }

    pub(crate) fn running(&mut self) -> &mut Running {
        &mut self.running
    }

    /// Waits for the end.
    #[track_caller]
    pub(crate) fn finish(self) -> Ran {
        self.running.finish()
    }

    /// The address that was said after the words, without its scheme.
    #[track_caller]
    fn address(&self, words: &str) -> String {
        let said = self.running.said();
        let line = said.lines().find_map(|line| line.strip_prefix(words));
        let line = line.unwrap_or_else(|| panic!("\"{words}\" was not said: {said}"));
        line.trim().to_owned()
    }

    /// Where OTLP/gRPC is received, as the library names it.
    pub(crate) fn grpc(&self) -> String {
        format!("http://{}", self.address("listening on grpc://"))
    }

    /// Where OTLP/HTTP is received.
    pub(crate) fn http(&self) -> String {
        format!("http://{}", self.address("listening on http://"))
    }

    /// Gets a page of the admin address.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Answer {
        get(&self.admin(), path)
    }

    /// Host and port of the admin address.
    pub(crate) fn admin(&self) -> String {
        self.address("admin on http://")
    }

    /// Reads `/status`.
    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        read_status(&self.admin())
    }

    /// Reads `/metrics`: each series with its value.
    #[track_caller]
    pub(crate) fn metrics(&self) -> Metrics {
        let answer = self.get("/metrics");
        assert_eq!(answer.status, 200, "{answer:?}");
        let scrape = Scrape::parse(answer.body.lines().map(|line| Ok(line.to_owned()))).unwrap();
        let series = scrape.samples.into_iter().map(|sample| {
            let (Sample::Counter(value) | Sample::Gauge(value)) = sample.value else {
                panic!("{sample:?}");
            };
            let labels = sample.labels.iter();
            let labels = labels.map(|(name, value)| (name.clone(), value.clone()));
            (sample.metric, labels.collect(), value)
        });
        Metrics {
            series: series.collect(),
        }
    }

    /// Reads `/status` until it is as wanted.
    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + LIMIT;
        loop {
            let status = self.status();
            if is_wanted(&status) {
                return status;
            }
            assert!(Instant::now() < end, "no {what}: {status:#}");
        }
    }
}

/// Reads `/status` of the address, and holds each destination to its account.
#[track_caller]
pub(crate) fn read_status(admin: &str) -> Value {
    let answer = get(admin, "/status");
    assert_eq!(answer.status, 200, "{answer:?}");
    let status: Value = serde_json::from_str(&answer.body).unwrap();
    for to in status["destinations"].as_array().unwrap() {
        assert_account_closes(to);
    }
    status
}

#[track_caller]
fn assert_account_closes(destination: &Value) {
    let spans = &destination["spans"];
    let of = |name: &str| spans[name].as_u64().unwrap();
    let dropped = spans["dropped"].as_object().unwrap().values();
    let dropped: u64 = dropped.map(|spans| spans.as_u64().unwrap()).sum();
    let parts = of("delivered") + of("refused") + dropped + of("queued") + of("in_flight");
    assert_eq!(of("received"), parts, "{destination:#}");
}

#[track_caller]
pub(crate) fn get(address: &str, path: &str) -> Answer {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    converse(address, request.as_bytes())
}

/// Posts what is no protobuf, though it says so.
#[track_caller]
pub(crate) fn post(address: &str, path: &str, body: &[u8]) -> Answer {
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut request = request.into_bytes();
    request.extend_from_slice(body);
    converse(address, &request)
}

#[track_caller]
fn converse(address: &str, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(request).unwrap();
    let mut text = Vec::new();
    stream.read_to_end(&mut text).unwrap();
    let text = String::from_utf8_lossy(&text);
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer {
        status,
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

/// What `/metrics` said.
#[derive(Debug)]
pub(crate) struct Metrics {
    series: Vec<(String, BTreeMap<String, String>, f64)>,
}

impl Metrics {
    /// The sum of the series that have these labels; there has to be one.
    #[track_caller]
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |of: &BTreeMap<String, String>| {
            labels
                .iter()
                .all(|(name, value)| of.get(*name).is_some_and(|v| v == value))
        };
        let wanted = self.series.iter().filter(|(n, of, _)| n == name && has(of));
        let values: Vec<f64> = wanted.map(|(_, _, value)| *value).collect();
        assert!(!values.is_empty(), "no {name} {labels:?} in {self:#?}");
        values.iter().sum()
    }
}
