//! The promises that every exporter keeps, for exporters that write.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::io;
use std::io::Write;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use outspan::Exporter;
use outspan::stdout;
use outspan_testkit::SpanId;
use outspan_testkit::promises::Behaviour;
use outspan_testkit::promises::Rig;
use tokio::sync::watch;

mod spans_one_by_one {
    use super::*;

    outspan_testkit::promises!(
        WriterRig::new(|writer| stdout::json_lines().writer(writer).build().unwrap()),
        exempt: {
            debug_shows_no_secret: "it is given no secret",
        }
    );
}

mod otlp_json_lines {
    use super::*;

    outspan_testkit::promises!(
        WriterRig::new(|writer| stdout::otlp_json_lines().writer(writer).build().unwrap()),
        exempt: {
            debug_shows_no_secret: "it is given no secret",
        }
    );
}

mod trees {
    use super::*;

    outspan_testkit::promises!(
        WriterRig::new(|writer| stdout::trees().writer(writer).build().unwrap()),
        exempt: {
            debug_shows_no_secret: "it is given no secret",
            a_dropped_future_leaks_nothing: "an export is done when the spans are held; the writer is asked later",
        }
    );
}

/// A writer that misbehaves on request and can be asked which spans it got.
#[derive(Clone)]
struct Paper(Arc<watch::Sender<State>>);

#[derive(Clone)]
struct State {
    behaviour: Behaviour,
    text: Vec<u8>,
    calls: usize,
    is_busy: bool,
}

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send_modify(|state| {
            state.calls += 1;
            state.is_busy = true;
        });
        let mut changes = self.0.subscribe();
        let may_answer = changes.wait_for(|state| state.behaviour != Behaviour::NeverAnswer);
        let behaviour = futures_executor::block_on(may_answer).unwrap().behaviour;
        self.0.send_modify(|state| {
            state.is_busy = false;
            if behaviour == Behaviour::Accept {
                state.text.extend_from_slice(bytes);
            }
        });
        match behaviour {
            Behaviour::Refuse => Err(io::ErrorKind::PermissionDenied.into()),
            Behaviour::Overload => Err(io::ErrorKind::StorageFull.into()),
            Behaviour::Outage => Err(io::Error::other("unplugged")),
            Behaviour::Accept | Behaviour::NeverAnswer => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct WriterRig<M> {
    paper: Paper,
    make: M,
}

impl<M: Fn(Paper) -> Exporter + Send + Sync> WriterRig<M> {
    fn new(make: M) -> Self {
        let state = State {
            behaviour: Behaviour::Accept,
            text: Vec::new(),
            calls: 0,
            is_busy: false,
        };
        Self {
            paper: Paper(Arc::new(watch::Sender::new(state))),
            make,
        }
    }

    async fn wait(&self, condition: impl FnMut(&State) -> bool) {
        self.paper.0.subscribe().wait_for(condition).await.unwrap();
    }
}

impl<M: Fn(Paper) -> Exporter + Send + Sync> Rig for WriterRig<M> {
    async fn exporter(&self) -> Exporter {
        (self.make)(self.paper.clone())
    }

    async fn behave(&self, behaviour: Behaviour) {
        self.paper
            .0
            .send_modify(|state| state.behaviour = behaviour);
    }

    async fn received(&self) -> Vec<SpanId> {
        let text = self.paper.0.borrow().text.clone();
        span_ids(std::str::from_utf8(&text).unwrap())
    }

    async fn calls(&self) -> usize {
        self.paper.0.borrow().calls
    }

    async fn wait_for_calls(&self, calls: usize) {
        self.wait(|state| state.calls >= calls).await;
    }

    async fn wait_until_idle(&self) {
        self.wait(|state| !state.is_busy).await;
    }

    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Finds the ids of the spans in any of our formats.
fn span_ids(text: &str) -> Vec<SpanId> {
    text.lines().flat_map(ids_of_line).collect()
}

fn ids_of_line(line: &str) -> Vec<SpanId> {
    match line.starts_with('{') {
        true => ids_of_json(line),
        false => id_of_tree_line(line).into_iter().collect(),
    }
}

/// A tree shows names only; those of the testkit's spans hold the id.
fn id_of_tree_line(line: &str) -> Option<SpanId> {
    let name = line.strip_prefix("  span ")?;
    let (number, _) = name.split_once(' ')?;
    Some(SpanId::new(&number.parse::<u64>().unwrap().to_be_bytes()))
}

fn ids_of_json(line: &str) -> Vec<SpanId> {
    if let Ok(request) = serde_json::from_str::<ExportTraceServiceRequest>(line)
        && !request.resource_spans.is_empty()
    {
        let envelopes = request.resource_spans.into_iter();
        let scopes = envelopes.flat_map(|envelope| envelope.scope_spans);
        let spans = scopes.flat_map(|scope| scope.spans);
        return spans.map(|span| SpanId::new(&span.span_id)).collect();
    }
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    let id = u64::from_str_radix(value["span_id"].as_str().unwrap(), 16).unwrap();
    vec![SpanId::new(&id.to_be_bytes())]
}
