use std::collections::BTreeSet;

use super::*;

fn visits(errors_percent: f64) -> Vec<Visit> {
    let mut shop = Shop::new(Rng::with_seed(7), errors_percent);
    (0..400).map(|_| shop.visit()).collect()
}

/// Panics unless everything that a trace is made of fits together.
fn check(visit: &Visit) {
    for (number, trace) in visit.traces.iter().enumerate() {
        for (at, span) in trace.spans.iter().enumerate() {
            assert_eq!(span.parent.is_none(), at == 0, "one root, which is first");
            assert!(span.start < span.end);
            if let Some(parent) = span.parent {
                assert!(parent < at);
                let parent = &trace.spans[parent];
                assert!(parent.start < span.start && span.end < parent.end);
            }
            for event in &span.events {
                assert!((span.start..=span.end).contains(&event.time));
            }
            for link in &span.links {
                assert!(link.trace < number);
                let linked = &visit.traces[link.trace].spans[link.span];
                assert!(linked.end < span.start);
            }
            let keys: BTreeSet<_> = span.attributes.iter().map(|(key, _)| key).collect();
            assert_eq!(keys.len(), span.attributes.len(), "{span:?}");
        }
    }
}

#[test]
fn one_seed_makes_the_same_visits_each_time() {
    assert_eq!(visits(10.0), visits(10.0));
    let mut other = Shop::new(Rng::with_seed(8), 10.0);
    assert_ne!(visits(10.0)[0], other.visit());
}

#[test]
fn every_visit_is_whole() {
    visits(10.0).iter().for_each(check);
}

#[test]
fn there_is_everything_that_traces_have() {
    let visits = visits(10.0);
    let spans = || visits.iter().flat_map(|v| &v.traces).flat_map(|t| &t.spans);
    let traces = visits.iter().flat_map(|visit| &visit.traces);
    // What the help of `outspan generate` says.
    assert!(
        traces
            .map(|trace| trace.spans.len())
            .all(|spans| (3..=15).contains(&spans))
    );
    let services: BTreeSet<Service> = spans().map(|span| span.service).collect();
    assert_eq!(services.len(), Service::ALL.len());
    let kinds: BTreeSet<i32> = spans().map(|span| span.kind.number()).collect();
    assert_eq!(kinds.len(), 5);
    let abouts: BTreeSet<&str> = visits.iter().map(|visit| visit.about).collect();
    assert_eq!(abouts.len(), 8);
    assert!(spans().any(|span| !span.links.is_empty()));
    assert!(spans().any(|span| span.events.iter().any(|e| e.name == "exception")));
    assert!(spans().any(|span| span.status == Status::Ok));
}

#[test]
fn the_share_of_traces_with_errors_is_exact() {
    for percent in [0.0, 1.0, 12.5, 50.0, 100.0] {
        let visits = visits(percent);
        let traces: Vec<_> = visits.iter().flat_map(|visit| &visit.traces).collect();
        let failed = traces.iter().filter(|trace| trace.has_error()).count();
        let wanted = traces.len() as f64 * percent / 100.0;
        assert!((failed as f64 - wanted).abs() <= 2.0, "{percent}: {failed}");
    }
}

#[test]
fn what_fails_is_one_trace_and_its_root_says_so() {
    let mut shop = Shop::new(Rng::with_seed(1), 0.0);
    for _ in 0..50 {
        let failing = shop.failing_visit();
        assert_eq!(failing.traces.len(), 1);
        assert!(matches!(
            failing.traces[0].spans[0].status,
            Status::Error(_)
        ));
        let good = shop.good_visit();
        assert!(!good.traces.iter().any(Trace::has_error), "{}", good.about);
    }
}

#[test]
fn a_visit_that_is_cut_is_still_whole() {
    let visits = visits(10.0);
    let linked = visits.iter().find(|visit| visit.traces.len() == 2).unwrap();
    for spans in 0..=linked.spans() + 1 {
        let mut visit = linked.clone();
        visit.limit_spans(spans);
        check(&visit);
        assert_eq!(visit.spans(), spans.min(linked.spans()));
        let mut visit = linked.clone();
        visit.limit_trace_spans(spans);
        check(&visit);
        assert!(visit.traces.iter().all(|t| t.spans.len() <= spans.max(1)));
    }
}

#[test]
fn a_trace_that_goes_on_is_still_whole() {
    let visits = visits(0.0);
    let mut trace = visits[0].traces[0].clone();
    for other in &visits[1..20] {
        let before = trace.spans.len();
        trace.go_on_with(&other.traces[0]);
        assert_eq!(trace.spans.len(), before + other.traces[0].spans.len() - 1);
    }
    check(&Visit {
        about: "long",
        traces: vec![trace],
    });
}
