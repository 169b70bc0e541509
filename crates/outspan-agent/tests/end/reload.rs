//! SIGHUP without a terminal: files of certificates and tokens are read again.

use std::fs;

use outspan::Export;
use outspan::Secret;
use outspan::otlp;
use outspan_testkit::Answer;
use outspan_testkit::Certificates;
use outspan_testkit::Collector;
use outspan_testkit::batch_of;
use outspan_testkit::soon;

use crate::agent::Agent;
use crate::agent::LIMIT;
use crate::agent::has_setsid;
use crate::agent::skip;
use crate::agent::url_of;

// No word of a log line contains one of these.
const OLD_TOKEN: &str = "0ld-t0ken";
const NEW_TOKEN: &str = "n3w-t0ken";
const FIRST_HEADER: &str = "f1rst-tenant";
const SECOND_HEADER: &str = "sec0nd-tenant";

#[tokio::test]
async fn hang_up_reloads_tokens_and_headers_and_keeps_those_of_broken_files() {
    if !has_setsid() {
        skip("SIGHUP without a terminal needs setsid");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (tokens, header) = (
        directory.path().join("tokens"),
        directory.path().join("header"),
    );
    fs::write(&tokens, OLD_TOKEN).unwrap();
    fs::write(&header, FIRST_HEADER).unwrap();
    let collector = Collector::grpc();
    collector.always(Answer::Accept);
    let mut agent = Agent::start(&[
        "--listen-token",
        &format!("@{}", tokens.display()),
        "--to",
        &url_of(&collector),
        "--header",
        &format!("tenant=@{}", header.display()),
    ]);
    let address = format!("http://{}", agent.grpc());
    let send = async |token: &str| {
        let sender =
            otlp::grpc(&address).header("authorization", Secret::new(format!("Bearer {token}")));
        sender.build().unwrap().export(batch_of(1), soon()).await
    };
    send(OLD_TOKEN).await.unwrap();
    collector.wait_for_spans(1, LIMIT).await;

    fs::write(&tokens, NEW_TOKEN).unwrap();
    fs::write(&header, SECOND_HEADER).unwrap();
    agent.running().signal("HUP");
    agent
        .running()
        .wait_until_said("SIGHUP: reloaded files of grpc://");
    let said = agent.running().said();
    assert!(said.contains("SIGHUP: reloaded tokens of "), "{said}");
    send(OLD_TOKEN).await.unwrap_err();
    send(NEW_TOKEN).await.unwrap();
    collector.wait_for_spans(2, LIMIT).await;

    fs::remove_file(&tokens).unwrap();
    fs::remove_file(&header).unwrap();
    agent.running().signal("HUP");
    let kept = "error: SIGHUP: not reloaded, the content of before stays in use: ";
    agent.running().wait_until_said(&format!("{kept}grpc://"));
    let said = agent.running().said();
    assert!(
        said.contains(&format!("{kept}cannot read tokens")),
        "{said}"
    );
    send(NEW_TOKEN).await.unwrap();
    collector.wait_for_spans(3, LIMIT).await;
    let ran = agent.stop("TERM").expect_status(0);
    for secret in [OLD_TOKEN, NEW_TOKEN, FIRST_HEADER, SECOND_HEADER] {
        assert!(!ran.stderr.contains(secret), "{ran:#?}");
    }
    let requests = collector.requests();
    let tenants: Vec<_> = requests
        .iter()
        .map(|r| r.header("tenant").unwrap())
        .collect();
    assert_eq!(tenants, [FIRST_HEADER, SECOND_HEADER, SECOND_HEADER]);
}

#[tokio::test]
async fn hang_up_reloads_certificates_of_listeners_and_keeps_those_of_broken_files() {
    if !has_setsid() {
        skip("SIGHUP without a terminal needs setsid");
        return;
    }
    let certificates = Certificates::new();
    let server = certificates.write("server", &certificates.server());
    let [certificate, key] =
        [&server.certificate, &server.key].map(|path| path.to_str().unwrap().to_owned());
    let collector = Collector::grpc();
    let mut agent = Agent::start(&[
        "--listen",
        "grpcs://localhost:0",
        "--listen-cert",
        &certificate,
        "--listen-key",
        &key,
        "--to",
        &url_of(&collector),
    ]);
    let secure = agent.secure();
    let send = async || {
        let tls = otlp::Tls::new()
            .ca_file(certificates.authority_file())
            .server_name("localhost");
        let sender = otlp::grpc(format!("https://{secure}")).tls(tls).build();
        sender.unwrap().export(batch_of(1), soon()).await
    };
    send().await.unwrap();
    certificates.write("server", &certificates.server());
    agent.running().signal("HUP");
    agent
        .running()
        .wait_until_said("SIGHUP: reloaded certificate and key of ");
    send().await.unwrap();
    fs::write(&key, "no key").unwrap();
    agent.running().signal("HUP");
    agent.running().wait_until_said(
        "the content of before stays in use: certificate and key: no usable private key",
    );
    send().await.unwrap();
    agent.stop("TERM").expect_status(0);
    assert_eq!(collector.span_count(), 3);
}

/// The files may have changed after the reload that is running read them.
#[test]
fn hang_up_during_a_reload_is_followed_by_another_one() {
    if !has_setsid() {
        skip("SIGHUP without a terminal needs setsid");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let [tokens, pipe] = ["tokens", "pipe"].map(|name| directory.path().join(name));
    fs::write(&tokens, OLD_TOKEN).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    if !made.is_ok_and(|status| status.success()) {
        skip("a file that is slow to read needs mkfifo");
        return;
    }
    let option = format!("@{}", tokens.display());
    let mut agent = Agent::start(&["--listen-token", &option, "--to", "grpc://localhost:1"]);
    fs::remove_file(&tokens).unwrap();
    fs::hard_link(&pipe, &tokens).unwrap();
    agent.running().signal("HUP");
    // Opens when the reload reads it.
    let mut slow = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    fs::remove_file(&tokens).unwrap();
    fs::write(&tokens, NEW_TOKEN).unwrap();
    for _ in 0..20 {
        agent.running().signal("HUP");
    }
    let told = "SIGHUP: the reload before is still running";
    agent.running().wait_until_said(told);
    std::io::Write::write_all(&mut slow, OLD_TOKEN.as_bytes()).unwrap();
    drop(slow);
    let reloaded = format!("SIGHUP: reloaded tokens of {}\n", tokens.display());
    agent.running().wait_until_said(&reloaded.repeat(2));
    let ran = agent.stop("TERM").expect_status(0);
    assert_eq!(ran.stderr.matches(told).count(), 1, "{ran:#?}");
}
