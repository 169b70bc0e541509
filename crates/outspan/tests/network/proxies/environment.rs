//! The proxy that the environment names, in processes of their own.

use std::process::Command;

use outspan::Export;
use outspan::otlp;
use outspan_testkit::Collector;
use outspan_testkit::Transport;
use outspan_testkit::batch_of;
use outspan_testkit::run_test;
use outspan_testkit::soon;

use crate::proxies::HOST;
use crate::proxies::fake::FakeProxy;
use crate::proxies::fake::Manner;

/// Set in the process that exports: where to.
const ENDPOINT: &str = "OUTSPAN_TEST_ENDPOINT";

/// What the environment may say about proxies.
const VARIABLES: [&str; 9] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "REQUEST_METHOD",
];

/// Not a test of its own: the program of the others.
#[test]
fn program() {
    let Ok(endpoint) = std::env::var(ENDPOINT) else {
        return;
    };
    run_test(async {
        let (transport, endpoint) = endpoint.split_once(' ').unwrap();
        let builder = match transport {
            "grpc" => otlp::grpc(endpoint),
            "http-without" => otlp::http(endpoint).no_proxy(),
            _ => otlp::http(endpoint),
        };
        match builder.build() {
            Err(error) => println!("not built: {error}"),
            Ok(exporter) => match exporter.export(batch_of(1), soon()).await {
                Ok(_) => println!("delivered"),
                Err(error) => println!("not delivered: {error}"),
            },
        }
    });
}

/// Exports in a process with these variables, and returns what it says.
async fn export_with(endpoint: String, variables: Vec<(&'static str, String)>) -> String {
    let exported = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "--nocapture", "proxies::environment::program"]);
        for name in VARIABLES {
            command.env_remove(name);
        }
        command.env(ENDPOINT, endpoint).envs(variables);
        command.output().unwrap()
    });
    let output = exported.await.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_environment_s_proxy_is_used_where_it_says() {
    run_test(async {
        for (transport, variable, request) in [
            ("http", "HTTP_PROXY", "POST http://collector.test"),
            ("http", "http_proxy", "POST http://collector.test"),
            ("http", "ALL_PROXY", "POST http://collector.test"),
            ("grpc", "HTTPS_PROXY", "CONNECT collector.test"),
            ("grpc", "https_proxy", "CONNECT collector.test"),
            ("grpc", "all_proxy", "CONNECT collector.test"),
        ] {
            let wire = if transport == "grpc" {
                Transport::Grpc
            } else {
                Transport::Http
            };
            let collector = Collector::over(wire).start();
            let proxy = FakeProxy::start(Manner::Http(None), collector.address()).await;
            let endpoint = format!("{transport} http://{HOST}:4317");
            let said = export_with(endpoint, vec![(variable, proxy.url("http", ""))]).await;
            assert!(
                said.contains("delivered") && !said.contains("not "),
                "{said}"
            );
            assert_eq!(collector.span_count(), 1);
            assert!(proxy.lines()[0].starts_with(request), "{:?}", proxy.lines());
        }
    });
}

#[test]
fn exceptions_and_this_machine_and_the_option_go_without() {
    run_test(async {
        let collector = Collector::http();
        let proxy = FakeProxy::start(Manner::Http(None), collector.address()).await;
        let proxy_url = || vec![("HTTP_PROXY", proxy.url("http", ""))];
        let here = format!("http {}", collector.endpoint_as("localhost"));
        let said = export_with(here, proxy_url()).await;
        assert!(
            said.contains("delivered") && !said.contains("not "),
            "{said}"
        );

        let endpoint = format!("http http://{HOST}:4317");
        let mut with_exception = proxy_url();
        with_exception.push(("NO_PROXY", "other, .test".to_owned()));
        let mut in_a_script = proxy_url();
        in_a_script.push(("REQUEST_METHOD", "GET".to_owned()));
        let without = endpoint.replace("http ", "http-without ");
        for (endpoint, variables) in [
            (endpoint.clone(), with_exception),
            (endpoint, in_a_script),
            (without, proxy_url()),
        ] {
            // Without the proxy nobody finds that host.
            let said = export_with(endpoint, variables).await;
            assert!(
                said.contains("not delivered: cannot connect: failed to lookup"),
                "{said}"
            );
        }
        assert_eq!(proxy.lines(), Vec::<String>::new());
        assert_eq!(collector.span_count(), 1);
    });
}

#[test]
fn a_variable_that_is_no_proxy_is_a_mistake_found_when_building() {
    run_test(async {
        let endpoint = format!("http http://{HOST}:4317");
        let variables = vec![("HTTP_PROXY", "socks4://me:hunter2@p".to_owned())];
        let said = export_with(endpoint, variables).await;
        assert!(said.contains("not built: invalid proxy"), "{said}");
        assert!(
            said.contains("HTTP_PROXY") && !said.contains("hunter2"),
            "{said}"
        );
    });
}

#[cfg(unix)]
#[test]
fn the_environment_s_proxy_is_not_asked_for_a_unix_socket() {
    run_test(async {
        for transport in ["grpc", "http"] {
            let collector = Collector::grpc();
            let proxy = FakeProxy::start(Manner::Http(None), collector.address()).await;
            let variables = ["ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY"]
                .map(|variable| (variable, proxy.url("http", "")));
            let endpoint = format!("{transport} unix:///nowhere/to/be/found.sock");
            let said = export_with(endpoint, variables.to_vec()).await;
            assert!(said.contains("not delivered: cannot connect"), "{said}");
            assert!(said.contains("is this its socket?"), "{said}");
            assert!(!said.contains("proxy"), "{said}");
        }
    });
}
