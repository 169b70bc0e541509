//! Destinations that misbehave as a script says, and know the truth about every span.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use outspan::Attempt;
use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::Drained;
use outspan::Error;
use outspan::ErrorKind;
use outspan::Export;
use outspan::Exporter;
use outspan::Result;

/// What a scripted panic says.
pub(crate) const PANIC: &str = "the script says panic";

/// What a destination does with one export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Takes everything.
    Deliver,
    /// Takes the first half of the spans and refuses the others for good.
    RefuseHalf,
    /// Takes nothing, for now.
    Fail,
    /// Refuses everything, for good.
    Refuse,
    /// Asks to come again in three seconds.
    Throttle,
    /// Takes the first half; the rest fails for now.
    DeliverHalf,
    /// Takes the first half; the rest fails for good.
    DeliverHalfForGood,
    /// Takes everything, and the connection breaks before the answer.
    Disconnect,
    /// Takes everything, and never answers.
    TakeAndHang,
    /// Says at the deadline that it passed.
    Stall,
    /// Never ends, whatever the deadline says.
    Hang,
    /// Panics.
    Panic,
    /// Finds more than two spans too large, and takes others.
    TakeTwo,
    /// Finds a single span too large.
    TooLarge,
    /// Takes everything, after two seconds.
    Slow,
}

/// What a destination does when it is asked to shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    AtOnce,
    Fail,
    Hang,
}

/// What a destination does with one export after the other.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) acts: Vec<Act>,
    /// What it does when the acts are over.
    pub(crate) then: Act,
    pub(crate) leave: Leave,
}

impl Script {
    pub(crate) fn always(act: Act) -> Self {
        Self::first([], act)
    }

    pub(crate) fn first(acts: impl IntoIterator<Item = Act>, then: Act) -> Self {
        Self {
            acts: acts.into_iter().collect(),
            then,
            leave: Leave::AtOnce,
        }
    }
}

/// One export as the destination saw it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) asked: Vec<u64>,
    /// What the destination has of it.
    pub(crate) arrived: Vec<u64>,
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    pub(crate) answered: bool,
}

impl Call {
    /// Whether nobody can know what the destination has of it.
    pub(crate) fn is_lost(&self) -> bool {
        !self.answered || self.arrived.len() as u64 > self.accepted
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Destination {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    then: Act,
    leave: Leave,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    acts: VecDeque<Act>,
    calls: Vec<Call>,
    flushes: u32,
    shutdowns: u32,
}

impl Destination {
    pub(crate) fn new(script: Script) -> Self {
        Self {
            shared: Arc::new(Shared {
                then: script.then,
                leave: script.leave,
                state: Mutex::new(State {
                    acts: script.acts.into(),
                    ..State::default()
                }),
            }),
        }
    }

    pub(crate) fn exporter(&self) -> Exporter {
        Exporter::new(self.clone())
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    pub(crate) fn flushes(&self) -> u32 {
        self.state().flushes
    }

    pub(crate) fn shutdowns(&self) -> u32 {
        self.state().shutdowns
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    fn begin(&self, asked: &[u64]) -> (usize, Option<Act>) {
        let mut state = self.state();
        let act = match state.shutdowns {
            0 => Some(state.acts.pop_front().unwrap_or(self.shared.then)),
            _ => None,
        };
        state.calls.push(Call {
            asked: asked.to_vec(),
            arrived: Vec::new(),
            accepted: 0,
            refused: 0,
            answered: false,
        });
        (state.calls.len() - 1, act)
    }

    fn keep(&self, place: usize, arrived: &[u64]) {
        self.state().calls[place].arrived = arrived.to_vec();
    }

    fn answer(&self, place: usize, answer: Result<Delivery>) -> Result<Delivery> {
        let call = &mut self.state().calls[place];
        call.answered = true;
        if let Ok(delivery) = &answer {
            call.accepted = delivery.accepted;
            call.refused = delivery.refused;
        }
        answer
    }

    async fn act(
        &self,
        act: Act,
        place: usize,
        batch: &Batch,
        until: Deadline,
    ) -> Result<Delivery> {
        let ids = ids(batch);
        let half = ids.len().div_ceil(2);
        let failure = || Error::unavailable("the script says fail").with_attempt(Attempt::one());
        match act {
            Act::Fail => return Err(failure()),
            Act::Refuse => {
                return Err(Error::refused("the script says refuse").with_attempt(Attempt::one()));
            }
            Act::Throttle => {
                let error =
                    Error::throttled("the script says throttle").with_attempt(Attempt::one());
                return Err(error.with_retry_after(Duration::from_secs(3)));
            }
            Act::Stall => {
                until.passed().await;
                return Err(
                    Error::timeout("the script says stall", until).with_attempt(Attempt::one())
                );
            }
            Act::Hang => std::future::pending().await,
            Act::Panic => std::panic::panic_any(PANIC),
            Act::TakeTwo if ids.len() > 2 => return Err(Error::too_large("more than two spans")),
            Act::TooLarge => return Err(Error::too_large("the script says too large")),
            // Sleeps: on the clock of the test, as the script says.
            Act::Slow => tokio::time::sleep(Duration::from_secs(2)).await,
            _ => {}
        }
        let kept = match act {
            Act::RefuseHalf | Act::DeliverHalf | Act::DeliverHalfForGood => half,
            _ => ids.len(),
        };
        self.keep(place, &ids[..kept]);
        let halves = || batch.split_by_spans(half);
        match act {
            Act::RefuseHalf => {
                let refused = (ids.len() - half) as u64;
                Ok(Delivery::partial(batch, refused, "the script says refuse"))
            }
            Act::DeliverHalf => Ok(halved(halves(), failure())),
            Act::DeliverHalfForGood => {
                let error = Error::new(ErrorKind::Internal, "the script says break");
                Ok(halved(halves(), error.with_attempt(Attempt::one())))
            }
            Act::Disconnect => Err(failure()),
            Act::TakeAndHang => std::future::pending().await,
            _ => Ok(Delivery::of(batch)),
        }
    }
}

/// The first part delivered, the others left.
fn halved(mut parts: impl Iterator<Item = Batch>, error: Error) -> Delivery {
    let mut delivery = parts.next().as_ref().map(Delivery::of).unwrap_or_default();
    for part in parts {
        delivery.leave(part, error.clone());
    }
    delivery
}

impl Export for Destination {
    async fn export(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        let (place, act) = self.begin(&ids(&batch));
        let answer = match act {
            Some(act) => self.act(act, place, &batch, until).await,
            None => Err(Error::shut_down()),
        };
        self.answer(place, answer)
    }

    async fn flush(&self, _until: Deadline) -> Result<Drained> {
        self.state().flushes += 1;
        Ok(Drained::default())
    }

    async fn shutdown(&self, _until: Deadline) -> Result<Drained> {
        self.state().shutdowns += 1;
        match self.shared.leave {
            Leave::AtOnce => Ok(Drained::default()),
            Leave::Fail => Err(Error::unavailable("the script says fail")),
            Leave::Hang => std::future::pending().await,
        }
    }
}

/// The ids of a batch's spans, in order.
pub(crate) fn ids(batch: &Batch) -> Vec<u64> {
    let ids = batch.iter().map(|span| u64::from_be_bytes(span.span_id()));
    ids.collect()
}

/// An attribute that nobody should send.
pub(crate) fn password() -> KeyValue {
    KeyValue {
        key: "db.password".to_owned(),
        value: Some(AnyValue {
            value: Some(Value::StringValue("hunter2".to_owned())),
        }),
        ..KeyValue::default()
    }
}
