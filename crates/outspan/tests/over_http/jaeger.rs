//! What only the exporter to Jaeger's collector does.

use outspan_testkit::batch_from;
use outspan_testkit::request_with;

use crate::support::Options;
use crate::support::Wire;
use crate::support::export;
use crate::support::over_each;
use crate::thrift;

#[test]
fn a_request_holds_the_spans_of_one_process() {
    over_each(|wire| async move {
        if wire != Wire::Jaeger {
            return;
        }
        let mut request = request_with(2, |_, _| {});
        let other = request_with(3, |_, span| span.name = "other".to_owned());
        request.resource_spans.extend(other.resource_spans);
        let collector = wire.collector();
        let exporter = wire.exporter(&collector, Options::default());
        let delivery = export(&exporter, &batch_from(&request)).await.unwrap();
        assert_eq!((delivery.accepted, delivery.attempt.attempts), (5, 2));
        let bodies = collector.requests();
        let [first, second] = &bodies[..] else {
            panic!("{bodies:?}");
        };
        let batch = thrift::read_struct(&second.message).unwrap();
        assert_eq!(batch.field(1).field(1).text(), "promises");
        let spans = batch.field(2).list();
        assert_eq!(spans.len(), 3);
        assert_eq!(spans[0].field(5).text(), "other");
        let first = thrift::read_struct(&first.message).unwrap();
        assert_eq!(first.field(2).list().len(), 2);
    });
}
