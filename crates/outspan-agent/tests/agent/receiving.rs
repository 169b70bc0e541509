//! Who may send, and how.

use std::io::Read;
use std::io::Write;
use std::net::TcpStream;

use outspan::Export;
use outspan::otlp;
use outspan_testkit::Certificates;
use outspan_testkit::Collector;
use outspan_testkit::Transport;
use outspan_testkit::batch_of;
use outspan_testkit::soon;

use crate::agent::Agent;
use crate::agent::LIMIT;
use crate::agent::assert_has_all;
use crate::agent::deliver;
use crate::agent::url_of;

#[tokio::test]
async fn senders_with_a_certificate_of_the_authority_get_in_and_others_do_not() {
    let certificates = Certificates::new();
    let authority = certificates.authority_file();
    let server = certificates.write("server", &certificates.server());
    let sender = certificates.write("sender", &certificates.client("sender"));
    let stranger = certificates.write("stranger", &certificates.untrusted_client("sender"));
    let collector = Collector::grpc();
    let files = [&server.certificate, &server.key, &authority];
    let [certificate, key, senders] = files.map(|path| path.to_str().unwrap());
    let agent = Agent::start_secure(&[
        "--listen-cert",
        certificate,
        "--listen-key",
        key,
        "--listen-client-ca",
        senders,
        "--to",
        &url_of(&collector),
    ]);
    let builder = |transport| match transport {
        Transport::Grpc => otlp::grpc(agent.grpc()),
        Transport::Http => otlp::http(agent.http()),
    };
    let trusting = || otlp::Tls::new().ca_file(&authority);
    let mut batches = Vec::new();
    for transport in [Transport::Grpc, Transport::Http] {
        let tls = trusting().identity_files(&sender.certificate, &sender.key);
        let batch = batch_of(5);
        deliver(&builder(transport).tls(tls).build().unwrap(), &batch).await;
        batches.push(batch);

        let unknown = trusting().identity_files(&stranger.certificate, &stranger.key);
        for tls in [trusting(), unknown] {
            let refused = builder(transport).tls(tls).build().unwrap();
            assert!(refused.export(batch_of(5), soon()).await.is_err());
        }
    }
    collector.wait_for_spans(10, LIMIT).await;
    agent.stop("TERM").expect_status(0);
    assert_has_all(&collector, &batches);
}

#[tokio::test]
async fn senders_with_a_token_get_in_and_others_are_told_which_to_give() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tokens");
    std::fs::write(&file, "f1le\n").unwrap();
    let collector = Collector::grpc();
    let agent = Agent::start(&[
        "--listen-token",
        &format!("@{}", file.display()),
        "--listen-token",
        "pla1n",
        "--to",
        &url_of(&collector),
    ]);
    let mut batches = Vec::new();
    for transport in [Transport::Grpc, Transport::Http] {
        let with = |token: &str| {
            let builder = match transport {
                Transport::Grpc => otlp::grpc(agent.grpc()),
                Transport::Http => otlp::http(agent.http()),
            };
            let builder = builder.header("authorization", format!("Bearer {token}"));
            builder.build().unwrap()
        };
        for token in ["f1le", "pla1n"] {
            let batch = batch_of(3);
            deliver(&with(token), &batch).await;
            batches.push(batch);
        }
        for sender in [with("wr0ng"), agent.sender(transport)] {
            let error = sender.export(batch_of(3), soon()).await.unwrap_err();
            assert!(!error.is_temporary(), "{error}");
            assert!(error.to_string().contains("token"), "{error}");
        }
    }
    collector.wait_for_spans(12, LIMIT).await;
    agent.stop("TERM").expect_status(0);
    assert_has_all(&collector, &batches);
}

#[test]
fn scripts_of_named_web_pages_may_send() {
    let agent = Agent::start(&["--cors-origin", "https://shop.example", "--to", "stdout:"]);
    let allowed = preflight(&agent, "https://shop.example");
    assert!(
        allowed.contains("access-control-allow-origin: https://shop.example\r\n"),
        "{allowed}"
    );
    let refused = preflight(&agent, "https://other.example");
    assert!(
        !refused.contains("access-control-allow-origin"),
        "{refused}"
    );
    agent.stop("TERM").expect_status(0);
}

/// Asks what a browser asks before it lets a script send. Returns the head of the answer in lower case.
fn preflight(agent: &Agent, origin: &str) -> String {
    let host = agent.http().trim_start_matches("http://");
    let mut connection = TcpStream::connect(host).unwrap();
    connection.set_read_timeout(Some(LIMIT)).unwrap();
    let request = format!(
        "OPTIONS /v1/traces HTTP/1.1\r\nhost: {host}\r\norigin: {origin}\r\n\
         access-control-request-method: POST\r\n\
         access-control-request-headers: content-type\r\nconnection: close\r\n\r\n"
    );
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer.to_ascii_lowercase()
}
