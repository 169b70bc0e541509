//! The OTLP exporter, the combinators and stacks of them keep what every exporter promises.

#![cfg(all(feature = "grpc", feature = "http"))]
// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use outspan::Compression;
use outspan::Exporter;
use outspan::Retry;
use outspan::combinators::Balance;
use outspan::combinators::BalanceBy;
use outspan::combinators::FanOut;
use outspan::combinators::Limited;
use outspan::combinators::Measured;
use outspan::combinators::Queued;
use outspan::combinators::Scrubbed;
use outspan::combinators::WaitFor;
use outspan::engine::BatchLimits;
use outspan::otlp;
use outspan::otlp::OutgoingRequest;
use outspan::otlp::Tls;
use outspan_testkit::Act;
use outspan_testkit::Certificates;
use outspan_testkit::Collector;
use outspan_testkit::ScriptedExporter;
use outspan_testkit::ServerTls;
use outspan_testkit::Transport;
use outspan_testkit::promises::CollectorRig;
use outspan_testkit::promises::ScriptedRig;

mod otlp_over_grpc {
    use super::*;

    outspan_testkit::promises!(
        CollectorRig::new(Collector::grpc(), |collector: &Collector| {
            with_secrets(otlp::grpc(with_password(collector)))
        })
        .secret("hunter2")
    );
}

mod otlp_over_http {
    use super::*;

    outspan_testkit::promises!(
        CollectorRig::new(Collector::http(), |collector: &Collector| {
            with_secrets(otlp::http(with_password(collector)))
        })
        .secret("hunter2")
    );
}

mod otlp_json_over_http {
    use super::*;

    outspan_testkit::promises!(
        CollectorRig::new(Collector::http(), |collector: &Collector| {
            let builder = otlp::http(with_password(collector));
            with_secrets(builder.protocol(otlp::Protocol::HttpJson))
        })
        .secret("hunter2")
    );
}

mod otlp_over_grpc_with_tls_and_zstd {
    use super::*;

    outspan_testkit::promises!(
        secure(Transport::Grpc, |collector| otlp::grpc(with_password(
            collector
        )))
        .secret("hunter2")
    );
}

mod otlp_over_http_with_tls_and_zstd {
    use super::*;

    outspan_testkit::promises!(
        secure(Transport::Http, |collector| otlp::http(with_password(
            collector
        )))
        .secret("hunter2")
    );
}

mod timeout {
    use super::*;

    outspan_testkit::promises!(
        ScriptedRig::new(|child| child.timeout(Duration::from_secs(60))),
        exempt: {
            debug_shows_no_secret: "a timeout is given no secret",
        }
    );
}

mod retry {
    use super::*;

    outspan_testkit::promises!(
        ScriptedRig::new(|child| child.retry(quick())),
        exempt: {
            debug_shows_no_secret: "a retry is given no secret",
        }
    );
}

mod logged {
    use super::*;

    outspan_testkit::promises!(
        ScriptedRig::new(|child| child.logged()),
        exempt: {
            debug_shows_no_secret: "a logged exporter is given no secret",
        }
    );
}

mod measured {
    use super::*;

    outspan_testkit::promises!(
        ScriptedRig::new(|child| {
            let measured = Measured::new(child)
                .report_every(Duration::from_millis(1))
                .on_failure_rate(0.1, Duration::from_secs(1), |_| {});
            measured.build().unwrap().0
        }),
        exempt: {
            debug_shows_no_secret: "a measured exporter is given no secret",
        }
    );
}

mod queued {
    use super::*;

    outspan_testkit::promises!(
        ScriptedRig::new(|child| Queued::new(child).retry(quick()).build().unwrap()),
        exempt: {
            a_dropped_future_leaks_nothing: "its futures end at once: success means accepted",
            debug_shows_no_secret: "a queue is given no secret",
        }
    );
}

mod queued_and_merged {
    use super::*;

    outspan_testkit::promises!(
        ScriptedRig::new(|child| {
            let limits = BatchLimits {
                delay: Duration::from_millis(1),
                ..BatchLimits::default()
            };
            Queued::new(child).retry(quick()).batches(limits).build().unwrap()
        }),
        exempt: {
            a_dropped_future_leaks_nothing: "its futures end at once: success means accepted",
            debug_shows_no_secret: "a queue is given no secret",
        }
    );
}

mod balance {
    use super::*;

    outspan_testkit::promises!(
        ScriptedRig::new(|child| Balance::new().to("only", child).build().unwrap()),
        exempt: {
            debug_shows_no_secret: "a balance is given no secret",
        }
    );
}

mod balance_by_trace_id {
    use super::*;

    outspan_testkit::promises!(
        ScriptedRig::new(|child| {
            let down = ScriptedExporter::new();
            down.always(Act::unavailable());
            let balance = Balance::new().to("down", down.exporter()).to("up", child);
            balance.by(BalanceBy::TraceId).build().unwrap()
        }),
        exempt: {
            debug_shows_no_secret: "a balance is given no secret",
        }
    );
}

mod fallback {
    use super::*;

    outspan_testkit::promises!(
        ScriptedRig::new(|child| {
            let down = ScriptedExporter::new();
            down.always(Act::unavailable());
            down.exporter().fallback(child)
        }),
        exempt: {
            debug_shows_no_secret: "a fallback is given no secret",
        }
    );
}

mod fan_out {
    use super::*;

    outspan_testkit::promises!(
        ScriptedRig::new(|child| {
            let fan_out = FanOut::new().to("only", child);
            fan_out.build().unwrap()
        }),
        exempt: {
            debug_shows_no_secret: "a fan-out is given no secret",
        }
    );
}

mod fan_out_to_the_first {
    use super::*;

    outspan_testkit::promises!(
        ScriptedRig::new(|child| {
            let other = ScriptedExporter::new();
            let fan_out = FanOut::new().to("first", child).to("behind", other.exporter());
            fan_out.wait_for(WaitFor::First).build().unwrap()
        }),
        exempt: {
            debug_shows_no_secret: "a fan-out is given no secret",
        }
    );
}

mod filtered {
    use super::*;

    outspan_testkit::promises!(
        ScriptedRig::new(|child| child.filtered(|span| span.name() != "unwanted")),
        exempt: {
            debug_shows_no_secret: "a filter is given no secret",
        }
    );
}

mod mapped {
    use super::*;

    outspan_testkit::promises!(
        ScriptedRig::new(|child| child.mapped(|_, edit| edit.set("environment", "test"))),
        exempt: {
            debug_shows_no_secret: "a change is given no secret",
        }
    );
}

mod scrubbed {
    use super::*;

    outspan_testkit::promises!(
        ScriptedRig::new(|child| Exporter::new(Scrubbed::new(child).key("greeting"))),
        exempt: {
            debug_shows_no_secret: "scrubbing is given no secret",
        }
    );
}

mod limited {
    use super::*;

    outspan_testkit::promises!(
        ScriptedRig::new(|child| {
            let rates = Limited::new().spans_per_second(1000).bytes_per_second(1 << 20);
            child.limited(rates.concurrency(4))
        }),
        exempt: {
            debug_shows_no_secret: "a limit is given no secret",
        }
    );
}

mod a_stack {
    use super::*;

    outspan_testkit::promises!(
        CollectorRig::new(Collector::grpc(), |collector: &Collector| {
            with_secrets(otlp::grpc(with_password(collector)))
                .timeout(Duration::from_secs(10))
                .retry(quick())
                .export_deadline(Duration::from_secs(60))
        })
        .secret("hunter2")
    );
}

fn quick() -> Retry {
    Retry::default().initial_interval(Duration::from_millis(10))
}

fn with_password(collector: &Collector) -> String {
    collector
        .endpoint()
        .replace("://", "://user:password-hunter2@")
}

fn with_secrets(builder: otlp::Builder) -> Exporter {
    builder
        .header("x-key", "key-hunter2")
        .header_provider(|_| async { Ok(vec![("x-token".to_owned(), "token-hunter2".into())]) })
        .interceptor(|request: &mut OutgoingRequest<'_>| {
            request.set_header("x-signature", "signature-hunter2")
        })
        .build()
        .unwrap()
}

fn secure(
    transport: Transport,
    builder: impl Fn(&Collector) -> otlp::Builder + Send + Sync,
) -> CollectorRig<impl Fn(&Collector) -> Exporter + Send + Sync> {
    let certificates = Certificates::new();
    let tls = ServerTls::new(certificates.server()).demand_client(certificates.authority());
    let client = certificates.client("promises");
    let authority = certificates.authority();
    let collector = Collector::over(transport).tls(tls).start();
    CollectorRig::new(collector, move |collector: &Collector| {
        let tls = Tls::new()
            .ca_pem(&authority)
            .identity_pem(&client.certificate, &client.key);
        let builder = builder(collector).tls(tls).compression(Compression::Zstd);
        with_secrets(builder)
    })
}
