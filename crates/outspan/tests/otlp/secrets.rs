//! Values that nobody may see, whatever a server does with them.

use outspan::Error;
use outspan::Exporter;
use outspan::Result;
use outspan::otlp::OutgoingRequest;
use outspan_testkit::Answer;
use outspan_testkit::AnswerCode;
use outspan_testkit::Collector;
use outspan_testkit::batch_of;

use crate::support::Wire;
use crate::support::export;

over_each_wire![
    a_refusal_that_repeats_secrets_shows_none,
    a_warning_that_repeats_secrets_shows_none,
    a_long_refusal_is_cut_after_its_secrets_are_gone,
    debug_shows_none,
];

const SECRETS: [&str; 6] = [
    "fixed-hunter2",
    "provided-hunter2",
    "signed-hunter2",
    "p@ssword-hunter2",
    "p%40ssword-hunter2",
    "Basic dXNlcjpwQHNzd29yZC1odW50ZXIy",
];

fn exporter(wire: Wire, collector: &Collector) -> Exporter {
    let endpoint = collector
        .endpoint()
        .replace("://", "://user:p%40ssword-hunter2@");
    wire.to(&endpoint)
        .header("x-fixed", "fixed-hunter2")
        .header_provider(|_| async {
            Ok(vec![(
                "x-provided".to_owned(),
                "Bearer provided-hunter2".into(),
            )])
        })
        .interceptor(|request: &mut OutgoingRequest<'_>| -> Result<()> {
            request.set_header("x-signed", "signed-hunter2")
        })
        .build()
        .unwrap()
}

fn assert_silent(shown: &str) {
    for secret in SECRETS {
        assert!(!shown.contains(secret), "{secret} is in {shown}");
    }
}

fn shown(error: &Error) -> [String; 3] {
    [
        error.to_string(),
        format!("{error:?}"),
        format!("{error:#?}"),
    ]
}

async fn a_refusal_that_repeats_secrets_shows_none(wire: Wire) {
    let collector = wire.collector();
    let exporter = exporter(wire, &collector);
    for code in [
        AnswerCode::INVALID_ARGUMENT,
        AnswerCode::UNAUTHENTICATED,
        AnswerCode::UNAVAILABLE,
        AnswerCode::TOO_LARGE,
    ] {
        collector.always(Answer::refuse(
            code,
            &format!("I saw {}!", SECRETS.join(" and ")),
        ));
        let error = export(&exporter, &batch_of(1)).await.unwrap_err();
        assert!(error.to_string().contains("I saw ***"), "{error}");
        shown(&error).iter().for_each(|text| assert_silent(text));
    }
    let request = &collector.requests()[0];
    assert_eq!(request.header("x-fixed"), Some("fixed-hunter2"));
    assert_eq!(request.header("x-signed"), Some("signed-hunter2"));
}

async fn a_warning_that_repeats_secrets_shows_none(wire: Wire) {
    let collector = wire.collector();
    let words = format!("I saw {}!", SECRETS.join(" and "));
    collector.always(Answer::partial(1, &words));
    let delivery = export(&exporter(wire, &collector), &batch_of(2))
        .await
        .unwrap();
    assert_eq!(delivery.refused, 1);
    let message = delivery.message.unwrap();
    assert!(message.contains("I saw ***"), "{message}");
    assert_silent(&message);
}

async fn a_long_refusal_is_cut_after_its_secrets_are_gone(wire: Wire) {
    let collector = wire.collector();
    let exporter = exporter(wire, &collector);
    for before in 285..300 {
        let words = format!("{} fixed-hunter2", "x".repeat(before));
        collector.always(Answer::refuse(AnswerCode::INVALID_ARGUMENT, &words));
        let error = export(&exporter, &batch_of(1)).await.unwrap_err();
        assert!(!error.to_string().contains("fixed"), "{error}");
    }
}

async fn debug_shows_none(wire: Wire) {
    let collector = wire.collector();
    let exporter = exporter(wire, &collector);
    assert_silent(&format!("{exporter:?} {exporter:#?}"));
    collector.stop();
    let error = export(&exporter, &batch_of(1)).await.unwrap_err();
    shown(&error).iter().for_each(|text| assert_silent(text));
    let builder = wire
        .to("http://user:p%40ssword-hunter2@host/?k=signed-hunter2")
        .header("authorization", "fixed-hunter2");
    assert_silent(&format!("{builder:?} {builder:#?}"));
}
