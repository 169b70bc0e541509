//! What requests look like.

use outspan::Compression;
use outspan::zipkin::Tls;
use outspan_testkit::Answer;
use outspan_testkit::Certificates;
use outspan_testkit::Collector;
use outspan_testkit::ServerTls;
use outspan_testkit::batch_of;
use outspan_testkit::span_ids;

use crate::support::Options;
use crate::support::Wire;
use crate::support::export;
use crate::support::over_each;

#[test]
fn a_request_says_what_it_is_and_who_sends_it() {
    over_each(|wire| async move {
        let collector = wire.collector();
        let batch = batch_of(3);
        let exporter = wire.exporter(&collector, Options::default());
        let delivery = export(&exporter, &batch).await.unwrap();
        assert_eq!(delivery.accepted, 3);
        assert_eq!(
            (delivery.attempt.attempts, delivery.attempt.status),
            (1, Some(202))
        );
        let server = collector.address().to_string();
        assert_eq!(delivery.attempt.server.as_deref(), Some(server.as_str()));
        let [request] = &collector.requests()[..] else {
            panic!("{wire:?}: one request is enough");
        };
        assert_eq!(delivery.attempt.wire_bytes, request.wire_bytes as u64);
        assert_eq!(request.content_type(), Some(wire.content_type()));
        assert_eq!(request.path, wire.path());
        assert_eq!(request.header("x-tenant"), Some("shop"));
        assert_eq!(request.compression(), None);
        let user_agent = request.header("user-agent").unwrap();
        assert!(user_agent.starts_with("outspan/"), "{user_agent}");
        assert_eq!(collector.span_ids(), span_ids(&batch));
        assert_eq!(collector.complaints(), [""; 0]);
    });
}

#[test]
fn bodies_are_compressed_on_request() {
    over_each(|wire| async move {
        for (compression, name) in [(Compression::Gzip, "gzip"), (Compression::Zstd, "zstd")] {
            let collector = wire.collector();
            let options = Options {
                compression,
                ..Options::default()
            };
            let exporter = wire.exporter(&collector, options);
            // Large enough to be compressed beside the runtime's thread, too.
            let batch = batch_of(1000);
            assert_eq!(export(&exporter, &batch).await.unwrap().accepted, 1000);
            let request = &collector.requests()[0];
            assert_eq!(request.compression(), Some(name));
            assert!(request.wire_bytes * 4 < request.message.len(), "{wire:?}");
            assert_eq!(collector.span_ids(), span_ids(&batch));
        }
    });
}

#[test]
fn user_and_password_are_shown_to_the_server_and_to_nobody_else() {
    over_each(|wire| async move {
        let collector = wire.collector();
        collector.script([
            Answer::require_header("authorization", "Basic c2hvcDpodW50ZXIyOng="),
            Answer::refuse(400, "hunter2:x is a bad password"),
        ]);
        let options = Options {
            basic_auth: Some(("shop", "hunter2:x")),
            ..Options::default()
        };
        let exporter = wire.exporter(&collector, options);
        assert_eq!(export(&exporter, &batch_of(1)).await.unwrap().accepted, 1);
        let error = export(&exporter, &batch_of(1)).await.unwrap_err();
        let shown = format!("{error} {error:?} {exporter:?}");
        assert!(shown.contains("bad password"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    });
}

#[test]
fn connections_are_encrypted_where_the_url_says_so() {
    over_each(|wire| async move {
        let certificates = Certificates::new();
        let tls = ServerTls::new(certificates.server());
        let collector = wire.set_up().tls(tls).start();
        let options = Options {
            tls: Some(Tls::new().ca_pem(certificates.authority())),
            ..Options::default()
        };
        let trusting = wire.exporter(&collector, options);
        assert_eq!(export(&trusting, &batch_of(2)).await.unwrap().accepted, 2);
        let distrustful = wire.exporter(&collector, Options::default());
        let error = export(&distrustful, &batch_of(2)).await.unwrap_err();
        assert!(error.to_string().contains("authority"), "{error}");
    });
}

#[test]
fn a_token_that_is_too_old_is_asked_for_anew() {
    over_each(|wire| async move {
        let collector = wire.collector();
        collector.always(Answer::require_header("authorization", "new"));
        let options = Options {
            token: Some(|refresh| if refresh { "new" } else { "old" }),
            ..Options::default()
        };
        let exporter = wire.exporter(&collector, options);
        let delivery = export(&exporter, &batch_of(1)).await.unwrap();
        assert_eq!((delivery.accepted, delivery.attempt.attempts), (1, 2));
    });
}

#[test]
fn a_url_with_a_path_is_used_as_it_is() {
    over_each(|wire| async move {
        if wire == Wire::HttpJson {
            return;
        }
        // A slash alone is what libraries for URLs write where there is no path.
        for (own, wanted) in [("/", wire.path()), ("/my/spans?k=v", "/my/spans?k=v")] {
            let collector = wire.set_up().path(wanted).start();
            let endpoint = format!("{}{own}", collector.endpoint());
            let exporter = wire.exporter_to(&endpoint, Options::default());
            assert_eq!(export(&exporter, &batch_of(1)).await.unwrap().accepted, 1);
        }
    });
}

#[test]
fn what_answers_something_else_has_taken_nothing() {
    over_each(|wire| async move {
        if wire == Wire::HttpJson {
            return;
        }
        let collector = wire.collector();
        collector.always(Answer::Garbage(outspan_testkit::Garbage::Html(200)));
        let exporter = wire.exporter(&collector, Options::default());
        let error = export(&exporter, &batch_of(1)).await.unwrap_err();
        assert!(error.to_string().contains("web page"), "{error}");
        assert!(!error.is_temporary());

        let otlp = Collector::grpc();
        let exporter = wire.exporter(&otlp, Options::default());
        let error = export(&exporter, &batch_of(1)).await.unwrap_err();
        assert!(error.to_string().contains("usually listens"), "{error}");
    });
}
