//! Destinations that can misbehave and be asked what arrived.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use outspan::Exporter;

use crate::Act;
use crate::Answer;
use crate::AnswerCode;
use crate::Collector;
use crate::ScriptedExporter;
use crate::SpanId;

/// Puts an exporter in front of a destination that can misbehave and be asked what arrived.
pub trait Rig: Send + Sync {
    /// Makes an exporter whose destination is this rig's. The destination is healthy at first.
    fn exporter(&self) -> impl Future<Output = Exporter> + Send;

    /// Sets how the destination behaves from now on.
    fn behave(&self, behaviour: Behaviour) -> impl Future<Output = ()> + Send;

    /// The ids of every span that the destination has taken, in any order.
    fn received(&self) -> impl Future<Output = Vec<SpanId>> + Send;

    /// How often the destination has been asked to take something.
    fn calls(&self) -> impl Future<Output = usize> + Send;

    /// Waits until the destination has been asked at least so often.
    fn wait_for_calls(&self, calls: usize) -> impl Future<Output = ()> + Send;

    /// Waits until the destination works on nothing.
    fn wait_until_idle(&self) -> impl Future<Output = ()> + Send;

    /// The secrets that exporters of this rig are made with; without any, the rig is exempt from
    /// [`debug_shows_no_secret`](super::debug_shows_no_secret).
    fn secrets(&self) -> Vec<String>;
}

/// Says how a destination behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// It takes everything.
    Accept,
    /// It refuses everything, for good.
    Refuse,
    /// It is there and asks to come again later, without saying when.
    Overload,
    /// It cannot be reached.
    Outage,
    /// It takes the call and never answers.
    NeverAnswer,
}

/// Tests an OTLP exporter, or anything around one, against a [`Collector`].
pub struct CollectorRig<M> {
    collector: Collector,
    make: M,
    secrets: Vec<String>,
}

impl<M: Fn(&Collector) -> Exporter + Send + Sync> CollectorRig<M> {
    /// Takes the collector, and how to make an exporter that sends to it.
    pub fn new(collector: Collector, make: M) -> Self {
        Self {
            collector,
            make,
            secrets: Vec::new(),
        }
    }

    /// Names a secret that the exporters are made with.
    #[must_use]
    pub fn secret(mut self, secret: &str) -> Self {
        self.secrets.push(secret.to_owned());
        self
    }

    /// The collector.
    pub fn collector(&self) -> &Collector {
        &self.collector
    }
}

/// How long a rig waits for what is sure to come.
const SOON: Duration = Duration::from_secs(10);

impl<M: Fn(&Collector) -> Exporter + Send + Sync> Rig for CollectorRig<M> {
    async fn exporter(&self) -> Exporter {
        (self.make)(&self.collector)
    }

    async fn behave(&self, behaviour: Behaviour) {
        if behaviour == Behaviour::Outage {
            return self.collector.stop();
        }
        self.collector.restart();
        self.collector.always(match behaviour {
            Behaviour::Accept | Behaviour::Outage => Answer::Accept,
            Behaviour::Refuse => Answer::refuse(AnswerCode::INVALID_ARGUMENT, "the rig refuses"),
            Behaviour::Overload => Answer::refuse(AnswerCode::UNAVAILABLE, "the rig is busy"),
            Behaviour::NeverAnswer => Answer::Stall,
        });
    }

    async fn received(&self) -> Vec<SpanId> {
        self.collector.span_ids()
    }

    async fn calls(&self) -> usize {
        self.collector.requests().len()
    }

    async fn wait_for_calls(&self, calls: usize) {
        self.collector.wait_for_requests(calls, SOON).await;
    }

    async fn wait_until_idle(&self) {
        self.collector.wait_for_in_flight(0, SOON).await;
    }

    fn secrets(&self) -> Vec<String> {
        self.secrets.clone()
    }
}

impl<M> fmt::Debug for CollectorRig<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CollectorRig")
            .field("collector", &self.collector)
            .finish_non_exhaustive()
    }
}

/// Tests a combinator around a [`ScriptedExporter`].
pub struct ScriptedRig<M> {
    destination: ScriptedExporter,
    make: M,
}

impl<M: Fn(Exporter) -> Exporter + Send + Sync> ScriptedRig<M> {
    /// Takes how to wrap an exporter.
    pub fn new(make: M) -> Self {
        Self {
            destination: ScriptedExporter::new(),
            make,
        }
    }

    /// The script that the wrapped exporters follow.
    pub fn destination(&self) -> &ScriptedExporter {
        &self.destination
    }
}

impl<M: Fn(Exporter) -> Exporter + Send + Sync> Rig for ScriptedRig<M> {
    async fn exporter(&self) -> Exporter {
        (self.make)(self.destination.exporter())
    }

    async fn behave(&self, behaviour: Behaviour) {
        self.destination.always(match behaviour {
            Behaviour::Accept => Act::Deliver,
            Behaviour::Refuse => Act::refused(),
            Behaviour::Overload | Behaviour::Outage => Act::unavailable(),
            Behaviour::NeverAnswer => Act::Stall,
        });
    }

    async fn received(&self) -> Vec<SpanId> {
        self.destination.received()
    }

    async fn calls(&self) -> usize {
        let exports = self.destination.exports();
        let with_spans = exports.iter().filter(|call| !call.span_ids().is_empty());
        with_spans.count()
    }

    async fn wait_for_calls(&self, calls: usize) {
        self.destination.wait_for_exports(calls).await;
    }

    async fn wait_until_idle(&self) {
        self.destination.wait_until_idle().await;
    }

    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }
}

impl<M> fmt::Debug for ScriptedRig<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedRig")
            .field("destination", &self.destination)
            .finish_non_exhaustive()
    }
}
