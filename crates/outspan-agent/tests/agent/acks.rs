//! `--ack delivered`: an answer says what became of the spans.

use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use outspan::Batch;
use outspan::Deadline;
use outspan::Export;
use outspan::wire::PieceContent;
use outspan::wire::jaeger;
use outspan::wire::zipkin;
use outspan_testkit::Answer;
use outspan_testkit::AnswerCode;
use outspan_testkit::Collector;
use outspan_testkit::Gate;
use outspan_testkit::Transport;
use outspan_testkit::batch_of;
use outspan_testkit::soon;
use tokio::task::JoinHandle;

use crate::agent::Agent;
use crate::agent::LIMIT;
use crate::agent::Outcome;
use crate::agent::url_of;

/// How spans get to the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Grpc,
    Http,
    Zipkin,
    Jaeger,
}

impl Way {
    pub(crate) const ALL: [Self; 4] = [Self::Grpc, Self::Http, Self::Zipkin, Self::Jaeger];
}

/// The answer to a sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Success,
    /// Of how many spans the answer says that they were rejected, where its format has a number, and what it says.
    Partial(Option<u64>, String),
    /// To come back, after some time.
    Later(String),
}

impl Told {
    #[track_caller]
    pub(crate) fn expect_later(&self, words: &str) {
        match self {
            Self::Later(text) => assert!(text.contains(words), "{text}"),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn expect_partial(&self, spans: u64, words: &str) {
        let Self::Partial(rejected, text) = self else {
            panic!("{self:?}");
        };
        assert!(
            rejected.is_none_or(|rejected| rejected == spans),
            "{self:?}"
        );
        assert!(text.contains(words), "{text}");
        assert!(text.contains(&format!("{spans} spans were rejected")) || rejected.is_some());
    }
}

/// Starts an agent whose answers wait. Times end beyond a test, unless the test names them.
pub(crate) fn start(arguments: &[&str]) -> Agent {
    let listen = ["zipkin+http://127.0.0.1:0", "jaeger+http://127.0.0.1:0"];
    let listen = listen.map(|address| ["--listen", address]).concat();
    let mut given = [&listen[..], &["--ack", "delivered"]].concat();
    if !arguments.contains(&"--ack-timeout") {
        given.extend(["--ack-timeout", "50s"]);
    }
    if !arguments
        .iter()
        .any(|argument| argument.starts_with("file:") || argument.starts_with("stdout:"))
    {
        given.extend(["--timeout", "50s"]);
    }
    given.extend(arguments);
    Agent::start(&given)
}

fn pieces_of(pieces: impl Iterator<Item = PieceContent>) -> Vec<u8> {
    let mut bytes = pieces.map(|content| match content {
        PieceContent::Bytes(bytes) => bytes.to_vec(),
        other => panic!("{other:?}"),
    });
    let first = bytes.next().unwrap();
    assert!(bytes.next().is_none(), "one request");
    first
}

/// Address, path, content type and body of a request over HTTP/1.
fn request_of(
    agent: &Agent,
    way: Way,
    batch: &Batch,
) -> (String, &'static str, &'static str, Vec<u8>) {
    let request = batch.as_request();
    match way {
        Way::Grpc => unreachable!("HTTP/2"),
        Way::Http => (
            agent.address("http").to_owned(),
            "/v1/traces",
            "application/x-protobuf",
            request.to_vec(),
        ),
        Way::Zipkin => {
            let mut writer = zipkin::Writer::new(zipkin::WriteOptions::default());
            let pieces = writer.pieces(request);
            (
                agent.address("zipkin+http").to_owned(),
                "/api/v2/spans",
                "application/json",
                pieces_of(pieces.map(|piece| piece.unwrap().content)),
            )
        }
        Way::Jaeger => {
            let mut writer = jaeger::Writer::new(jaeger::WriteOptions::default());
            let pieces = writer.pieces(request);
            (
                agent.address("jaeger+http").to_owned(),
                "/api/traces?format=jaeger.thrift",
                "application/x-thrift",
                pieces_of(pieces.map(|piece| piece.unwrap().content)),
            )
        }
    }
}

/// Sends a request over HTTP/1, and leaves the answer in the connection.
pub(crate) fn begin(agent: &Agent, way: Way, batch: &Batch) -> TcpStream {
    let (address, path, content_type, body) = request_of(agent, way, batch);
    let mut connection = TcpStream::connect(&address).unwrap();
    connection.set_read_timeout(Some(LIMIT)).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).unwrap();
    connection.write_all(&body).unwrap();
    connection
}

pub(crate) fn read(mut connection: TcpStream) -> Told {
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).unwrap();
    let text = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("{text:?}"));
    let status = head.split(' ').nth(1).unwrap().to_owned();
    match status.as_str() {
        "200" | "202" if body.is_empty() => Told::Success,
        "200" | "202" => Told::Partial(None, body.to_owned()),
        "503" => {
            assert!(head.to_lowercase().contains("\r\nretry-after: "), "{head}");
            Told::Later(body.to_owned())
        }
        _ => panic!("{text}"),
    }
}

/// Sends a batch beside the test, once.
pub(crate) fn send(agent: &Agent, way: Way, batch: &Batch) -> JoinHandle<Told> {
    send_within(agent, way, batch, soon())
}

pub(crate) fn send_within(
    agent: &Agent,
    way: Way,
    batch: &Batch,
    until: Deadline,
) -> JoinHandle<Told> {
    if way != Way::Grpc {
        let connection = begin(agent, way, batch);
        return tokio::task::spawn_blocking(move || read(connection));
    }
    let (sender, batch) = (agent.sender(Transport::Grpc), batch.clone());
    tokio::spawn(async move {
        match sender.export(batch, until).await {
            Ok(delivery) if delivery.is_complete() => Told::Success,
            Ok(delivery) => {
                assert!(delivery.rest.is_empty(), "{delivery:?}");
                Told::Partial(Some(delivery.refused), delivery.message.unwrap_or_default())
            }
            Err(error) => {
                assert!(error.is_temporary(), "{error:?}");
                assert!(error.retry_after().is_some(), "{error:?}");
                Told::Later(format!("{error:?}"))
            }
        }
    })
}

pub(crate) async fn told(sending: JoinHandle<Told>) -> Told {
    tokio::time::timeout(LIMIT, sending).await.unwrap().unwrap()
}

#[tokio::test]
async fn answer_waits_until_every_destination_has_the_spans() {
    for way in Way::ALL {
        let (quick, slow) = (Collector::grpc(), Collector::http());
        let gate = Gate::new();
        slow.always(Answer::stall_until(&gate, Answer::Accept));
        let agent = start(&["--to", &url_of(&quick), "--to", &url_of(&slow)]);
        let sending = send(&agent, way, &batch_of(3));
        let is_open = Arc::new(AtomicBool::new(false));
        let was_open = Arc::clone(&is_open);
        let sending = tokio::spawn(async move {
            let told = told(sending).await;
            (told, was_open.load(Ordering::SeqCst))
        });
        quick.wait_for_spans(3, LIMIT).await;
        slow.wait_for_in_flight(1, LIMIT).await;
        is_open.store(true, Ordering::SeqCst);
        gate.open();
        assert_eq!(sending.await.unwrap(), (Told::Success, true), "{way:?}");
        assert_eq!(slow.span_count(), 3);
        agent.stop("TERM").expect_status(0);
    }
}

#[tokio::test]
async fn queued_answers_do_not_wait_for_destinations() {
    let collector = Collector::grpc();
    let gate = Gate::new();
    collector.always(Answer::stall_until(&gate, Answer::Accept));
    let agent = Agent::start(&["--ack", "queued", "--to", &url_of(&collector)]);
    agent.send(&batch_of(3)).await;
    gate.open();
    agent.stop("TERM").expect_status(0);
    assert_eq!(collector.span_count(), 3);
}

#[tokio::test]
async fn rejected_spans_of_the_sender_are_partial_success() {
    for way in Way::ALL {
        let (healthy, strict) = (Collector::grpc(), Collector::grpc());
        strict.always(Answer::refuse(
            AnswerCode::INVALID_ARGUMENT,
            "not like this",
        ));
        let agent = start(&["--to", &url_of(&healthy), "--to", &url_of(&strict)]);
        let told = told(send(&agent, way, &batch_of(4))).await;
        told.expect_partial(4, "not like this");
        assert_eq!(healthy.span_count(), 4);
        agent.stop("TERM").expect_status(1);
    }
}

#[tokio::test]
async fn rejections_in_part_reach_the_only_sender_of_a_batch() {
    for way in Way::ALL {
        let collector = Collector::grpc();
        collector.always(Answer::partial(2, "two are odd"));
        let agent = start(&["--to", &url_of(&collector)]);
        let told = told(send(&agent, way, &batch_of(4))).await;
        told.expect_partial(2, "two are odd");
        agent.stop("TERM").expect_status(1);
    }
}

#[tokio::test]
async fn rejected_spans_that_may_be_of_another_sender_are_not_told() {
    for way in Way::ALL {
        let collector = Collector::grpc();
        collector.always(Answer::partial(2, "two are odd"));
        let url = url_of(&collector);
        let batches = ["--batch-spans", "6", "--batch-delay", "1h"];
        let agent = start(&[&batches[..], &["--to", &url]].concat());
        let one = send(&agent, way, &batch_of(3));
        let other = send(&agent, Way::Grpc, &batch_of(3));
        assert_eq!(told(one).await, Told::Success, "{way:?}");
        assert_eq!(told(other).await, Told::Success);
        assert_eq!(collector.requests().len(), 1, "they share a batch");
        let ran = agent.stop("TERM").expect_status(1);
        assert_eq!(Outcome::of(&ran, &url).refused, 2, "they are counted");
    }
}

#[tokio::test]
async fn dropped_spans_are_unavailable() {
    for way in Way::ALL {
        let (healthy, dead) = (Collector::grpc(), Collector::grpc());
        dead.always(Answer::refuse(AnswerCode::UNAVAILABLE, "not now"));
        let to = [
            "--to",
            &url_of(&healthy),
            "--to",
            &url_of(&dead),
            "--retries",
            "0",
        ];
        let agent = start(&to);
        let told = told(send(&agent, way, &batch_of(4))).await;
        told.expect_later("not every destination has these spans");
        told.expect_later("not now");
        assert_eq!(healthy.span_count(), 4);
        agent.stop("TERM").expect_status(1);
    }
}

#[tokio::test]
async fn spans_that_one_destination_has_no_room_for_are_unavailable() {
    let (healthy, stalled) = (Collector::grpc(), Collector::grpc());
    stalled.always(Answer::Stall);
    let memory = ["--memory", "16MiB", "--shutdown-timeout", "500ms"];
    let to = ["--to", &url_of(&healthy), "--to", &url_of(&stalled)];
    let agent = start(&[&memory[..], &["--ack-timeout", "2s"], &to].concat());
    // The queue of each destination has 3 MiB.
    let large = || outspan_testkit::batch_with(110, |_, span| span.name = "x".repeat(10_000));
    let mut sending = Vec::new();
    for count in 1..=2 {
        sending.push(send(&agent, Way::Grpc, &large()));
        healthy.wait_for_spans(110 * count, LIMIT).await;
    }
    for sending in sending {
        told(sending).await.expect_later("this agent keeps them");
    }
    let third = told(send(&agent, Way::Grpc, &large())).await;
    third.expect_later("queue_full");
    assert_eq!(healthy.span_count(), 330);
    agent.stop("TERM").expect_status(1);
}

#[tokio::test]
async fn answer_out_of_time_is_unavailable_and_the_spans_are_kept() {
    for way in Way::ALL {
        let collector = Collector::grpc();
        let gate = Gate::new();
        collector.always(Answer::stall_until(&gate, Answer::Accept));
        let url = url_of(&collector);
        let agent = start(&["--ack-timeout", "300ms", "--to", &url]);
        let told = told(send(&agent, way, &batch_of(5))).await;
        told.expect_later("this agent keeps them");
        gate.open();
        collector.wait_for_spans(5, LIMIT).await;
        let ran = agent.stop("TERM").expect_status(0);
        assert_eq!(Outcome::of(&ran, &url), Outcome::all(5));
    }
}

#[tokio::test]
async fn answer_waits_no_longer_than_its_caller() {
    let collector = Collector::grpc();
    let gate = Gate::new();
    collector.always(Answer::stall_until(&gate, Answer::Accept));
    let url = url_of(&collector);
    let agent = start(&["--to", &url]);
    let until = Deadline::after(Duration::from_secs(3));
    let told = told(send_within(&agent, Way::Grpc, &batch_of(5), until)).await;
    told.expect_later("this agent keeps them");
    gate.open();
    agent.stop("TERM").expect_status(0);
    assert_eq!(collector.span_count(), 5);
}

#[tokio::test]
async fn sender_that_disconnects_loses_nothing() {
    for way in Way::ALL {
        let collector = Collector::grpc();
        let gate = Gate::new();
        collector.always(Answer::stall_until(&gate, Answer::Accept));
        let url = url_of(&collector);
        let agent = start(&["--to", &url]);
        match way {
            Way::Grpc => {
                let sending = send(&agent, way, &batch_of(5));
                collector.wait_for_in_flight(1, LIMIT).await;
                sending.abort();
                assert!(sending.await.unwrap_err().is_cancelled());
            }
            _ => {
                let connection = begin(&agent, way, &batch_of(5));
                collector.wait_for_in_flight(1, LIMIT).await;
                drop(connection);
            }
        }
        gate.open();
        collector.wait_for_spans(5, LIMIT).await;
        let ran = agent.stop("TERM").expect_status(0);
        assert_eq!(Outcome::of(&ran, &url), Outcome::all(5));
        ran.expect_said(&["received 5 spans in "]);
    }
}

#[tokio::test]
async fn answers_that_wait_are_bounded() {
    for way in Way::ALL {
        let collector = Collector::grpc();
        let gate = Gate::new();
        collector.always(Answer::stall_until(&gate, Answer::Accept));
        let url = url_of(&collector);
        let agent = start(&["--max-waiting-answers", "1", "--to", &url]);
        let first = send(&agent, Way::Grpc, &batch_of(5));
        collector.wait_for_in_flight(1, LIMIT).await;
        let second = told(send(&agent, way, &batch_of(7))).await;
        second.expect_later("--max-waiting-answers");
        gate.open();
        assert_eq!(told(first).await, Told::Success);
        let again = told(send(&agent, way, &batch_of(7))).await;
        assert_eq!(again, Told::Success, "{way:?}");
        let ran = agent.stop("TERM").expect_status(0);
        assert_eq!(Outcome::of(&ran, &url), Outcome::all(12));
    }
}

#[tokio::test]
async fn answers_that_wait_while_the_agent_stops_are_unavailable() {
    // All of them stop at the same time, because each takes the whole of its time.
    let mut stopping = Vec::new();
    for way in Way::ALL {
        let collector = Collector::grpc();
        collector.always(Answer::Stall);
        let mut agent = start(&["--shutdown-timeout", "4s", "--to", &url_of(&collector)]);
        let sending = send(&agent, way, &batch_of(5));
        collector.wait_for_in_flight(1, LIMIT).await;
        agent.running().signal("TERM");
        stopping.push((collector, agent, sending));
    }
    for (_collector, agent, sending) in stopping {
        told(sending).await.expect_later("this agent keeps them");
        agent.finish().expect_status(1);
    }
}

#[tokio::test]
async fn answer_waits_until_files_have_the_spans() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["spans.pb", "spans.jsonl"] {
        for way in Way::ALL {
            let file = directory.path().join(format!("{way:?}-{name}"));
            let to = format!("file:{}", file.display());
            let agent = start(&["--to", &to]);
            assert_eq!(told(send(&agent, way, &batch_of(5))).await, Told::Success);
            let written = std::fs::metadata(&file).unwrap().len();
            assert!(written > 0, "{way:?}: they are written before the answer");
            agent.stop("TERM").expect_status(0);
            assert_eq!(std::fs::metadata(&file).unwrap().len(), written);
        }
    }
}

#[tokio::test]
async fn request_that_is_split_is_answered_when_all_parts_are_delivered() {
    for way in Way::ALL {
        let collector = Collector::grpc();
        let bytes = batch_of(10).size();
        collector.always(Answer::AtMost { bytes });
        let url = url_of(&collector);
        let agent = start(&["--to", &url]);
        let answer = told(send(&agent, way, &batch_of(40))).await;
        assert_eq!(answer, Told::Success, "{way:?}");
        assert_eq!(collector.span_count(), 40);
        let ran = agent.stop("TERM").expect_status(0);
        assert_eq!(Outcome::of(&ran, &url), Outcome::all(40));
    }
}
