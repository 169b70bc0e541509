//! Runs `outspan agent`, and sends to it.

use std::collections::HashSet;
use std::process::Stdio;
use std::time::Duration;

use outspan::Batch;
use outspan::Delivery;
use outspan::Export;
use outspan::Exporter;
use outspan::Retry;
use outspan::otlp;
use outspan_testkit::Collector;
use outspan_testkit::Transport;
use outspan_testkit::soon;

pub(crate) use crate::running::LIMIT;
use crate::running::Ran;
use crate::running::Running;

/// An agent that runs on free ports of this machine.
pub(crate) struct Agent {
    running: Running,
    grpc: String,
    http: String,
}

impl Agent {
    /// Starts an agent and waits until it listens.
    #[track_caller]
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_with_output(arguments, Stdio::piped())
    }

    /// Starts an agent that wants TLS.
    #[track_caller]
    pub(crate) fn start_secure(arguments: &[&str]) -> Self {
        Self::listen(["grpcs", "https"], arguments, Stdio::piped())
    }

    /// Starts an agent with a standard output that nobody here reads.
    #[track_caller]
    pub(crate) fn start_with_output(arguments: &[&str], output: Stdio) -> Self {
        Self::listen(["grpc", "http"], arguments, output)
    }

    /// Starts an agent from a shell that does something first.
    #[cfg(unix)]
    #[track_caller]
    pub(crate) fn start_after(first: &str, arguments: &[&str], output: Stdio) -> Self {
        let start = |arguments: &[&str]| Running::start_after(first, arguments, output);
        Self::listen_with(["grpc", "http"], arguments, start)
    }

    #[track_caller]
    fn listen(schemes: [&str; 2], arguments: &[&str], output: Stdio) -> Self {
        let start = |arguments: &[&str]| Running::start_with_output(arguments, &[], output);
        Self::listen_with(schemes, arguments, start)
    }

    #[track_caller]
    fn listen_with(
        schemes: [&str; 2],
        arguments: &[&str],
        start: impl FnOnce(&[&str]) -> Running,
    ) -> Self {
        let [grpc, http] = schemes.map(|scheme| format!("{scheme}://127.0.0.1:0"));
        let address = ["--listen", &grpc, "--listen", &http, "--admin", "off"];
        let arguments = [&["agent"], &address[..], arguments].concat();
        let mut running = start(&arguments);
        running.wait_until_said("sending to");
        let address = |scheme: &str| {
            let start = format!("listening on {scheme}");
            let mut lines = running.said().lines();
            let address = lines.find_map(|line| line.strip_prefix(&start));
            format!("http{}", address.unwrap())
        };
        Self {
            grpc: address("grpc"),
            http: address("http"),
            running,
        }
    }

    /// The agent's address for OTLP over gRPC, as the library takes it.
    pub(crate) fn grpc(&self) -> &str {
        &self.grpc
    }

    /// The same for OTLP over HTTP.
    pub(crate) fn http(&self) -> &str {
        &self.http
    }

    /// What stands behind `SCHEME://` in the address with this scheme.
    #[track_caller]
    pub(crate) fn address(&self, scheme: &str) -> &str {
        let start = format!("listening on {scheme}://");
        let mut lines = self.running.said().lines();
        lines.find_map(|line| line.strip_prefix(&start)).unwrap()
    }

    /// A sender that makes one attempt for each batch.
    pub(crate) fn sender(&self, transport: Transport) -> Exporter {
        let builder = match transport {
            Transport::Grpc => otlp::grpc(&self.grpc),
            Transport::Http => otlp::http(&self.http),
        };
        builder.build().unwrap()
    }

    /// A sender that tries again for as long as a test may take.
    pub(crate) fn patient_sender(&self) -> Exporter {
        let retry = Retry::default()
            .initial_interval(Duration::from_millis(100))
            .max_elapsed(LIMIT);
        self.sender(Transport::Grpc).retry(retry)
    }

    /// Sends a batch that the agent has to take.
    pub(crate) async fn send(&self, batch: &Batch) {
        deliver(&self.sender(Transport::Grpc), batch).await;
    }

    pub(crate) fn running(&mut self) -> &mut Running {
        &mut self.running
    }

    /// Sends a signal and waits for the end.
    #[track_caller]
    pub(crate) fn stop(self, signal: &str) -> Ran {
        self.running.signal(signal);
        self.running.finish()
    }

    /// Waits for the end.
    #[track_caller]
    pub(crate) fn finish(self) -> Ran {
        self.running.finish()
    }
}

/// Delivers a batch as a whole.
pub(crate) async fn deliver(sender: &Exporter, batch: &Batch) -> Delivery {
    let delivery = sender.export(batch.clone(), soon()).await.unwrap();
    assert!(delivery.is_complete(), "{delivery:?}");
    delivery
}

/// The collector's address as `--to` takes it.
pub(crate) fn url_of(collector: &Collector) -> String {
    match collector.transport() {
        Transport::Grpc => collector.endpoint().replacen("http", "grpc", 1),
        Transport::Http => collector.endpoint(),
    }
}

/// Panics unless the collector has exactly the spans of the batches, each once.
#[track_caller]
pub(crate) fn assert_has_all(collector: &Collector, batches: &[Batch]) {
    let sent: Vec<_> = batches.iter().flat_map(outspan_testkit::span_ids).collect();
    let got = collector.span_ids();
    assert_eq!(got.len(), sent.len(), "spans");
    let sent: HashSet<_> = sent.into_iter().collect();
    let got: HashSet<_> = got.into_iter().collect();
    assert!(sent == got, "other spans than were sent");
    assert_eq!(collector.complaints(), [""; 0]);
}

/// What the summary says about a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) delivered: u64,
    pub(crate) received: u64,
    pub(crate) refused: u64,
    pub(crate) lost: u64,
}

impl Outcome {
    /// Reads the line about the destination: `URL: delivered 1 of 3 spans, refused 1, lost 1 (1 shutdown)`.
    #[track_caller]
    pub(crate) fn of(ran: &Ran, url: &str) -> Self {
        let start = format!("{url}: delivered ");
        let mut lines = ran.stderr.lines();
        let line = lines.find_map(|line| line.split_once(&start));
        let Some((_, line)) = line else {
            panic!("no line about {url}: {}", ran.stderr);
        };
        let number = |text: &str| -> u64 {
            let digits: String = text.chars().filter(|c| *c != ',').collect();
            digits.parse().unwrap()
        };
        let after = |word: &str| {
            let mut words = line.split(' ').skip_while(|found| *found != word);
            words.nth(1).map(|text| number(text.trim_end_matches(',')))
        };
        let outcome = Self {
            delivered: number(line.split(' ').next().unwrap()),
            received: after("of").unwrap(),
            refused: after("refused").unwrap_or_default(),
            lost: after("lost").unwrap_or_default(),
        };
        assert_eq!(
            outcome.received,
            outcome.delivered + outcome.refused + outcome.lost,
            "the summary adds up: {}",
            ran.stderr
        );
        outcome
    }

    /// An outcome without any loss.
    pub(crate) fn all(spans: u64) -> Self {
        Self {
            delivered: spans,
            received: spans,
            ..Self::default()
        }
    }
}
