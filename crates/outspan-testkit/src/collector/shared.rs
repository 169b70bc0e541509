//! The state that the test and the collector's thread share.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::Answer;
use super::CollectedRequest;
use super::Compression;
use super::Foreign;
use super::OnConnect;
use super::Outcome;
use super::Transport;

/// How many requests are kept at most.
const REQUESTS_MAX: usize = 100_000;

/// How many bytes of messages are kept at most: what a long test sends, and far below what a
/// machine has.
const MESSAGE_BYTES_MAX: usize = 512 << 20;

/// How many complaints are kept at most.
const COMPLAINTS_MAX: usize = 1000;

/// Holds everything about one collector, whether it runs or is stopped.
pub(super) struct Shared {
    pub(super) transport: Transport,
    pub(super) path: String,
    pub(super) compress_answers: Option<Compression>,
    pub(super) foreign: Option<Foreign>,
    state: Mutex<State>,
    version: watch::Sender<u64>,
}

/// Holds what changes.
pub(super) struct State {
    pub(super) answers: VecDeque<Answer>,
    pub(super) default_answer: Answer,
    pub(super) on_connect: OnConnect,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) requests: Vec<CollectedRequest>,
    pub(super) complaints: Vec<String>,
    pub(super) connections_accepted: u64,
    pub(super) connections_open: usize,
    pub(super) in_flight: usize,
    pub(super) in_flight_most: usize,
    pub(super) spans_kept: usize,
    message_bytes: usize,
    cleared: usize,
}

/// Names a request for [`Shared::settle`]: its number since the start, cleared ones included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket(usize);

impl Shared {
    pub(super) fn new(
        transport: Transport,
        path: String,
        compress_answers: Option<Compression>,
        foreign: Option<Foreign>,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        Self {
            transport,
            path,
            compress_answers,
            foreign,
            state: Mutex::new(State {
                answers: VecDeque::new(),
                default_answer: Answer::Accept,
                on_connect: OnConnect::Serve,
                tls,
                requests: Vec::new(),
                complaints: Vec::new(),
                connections_accepted: 0,
                connections_open: 0,
                in_flight: 0,
                in_flight_most: 0,
                spans_kept: 0,
                message_bytes: 0,
                cleared: 0,
            }),
            version: watch::Sender::new(0),
        }
    }

    /// Gives access to the state without telling those who wait for it to change.
    pub(super) fn read(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes whoever waits for it.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.read());
        self.version.send_modify(|version| *version += 1);
        result
    }

    /// Waits until the state looks as wanted.
    pub(super) async fn until(&self, wanted: impl Fn(&State) -> bool) {
        let mut version = self.version.subscribe();
        while !wanted(&self.read()) {
            if version.changed().await.is_err() {
                return;
            }
        }
    }

    /// Takes the next answer of the script, or the standing one.
    pub(super) fn next_answer(&self) -> Answer {
        let mut state = self.read();
        let scripted = state.answers.pop_front();
        scripted.unwrap_or_else(|| state.default_answer.clone())
    }

    /// Keeps a request; `None` when there is no room for it.
    pub(super) fn record(&self, request: CollectedRequest) -> Option<Ticket> {
        self.change(|state| {
            let bytes = state.message_bytes.saturating_add(request.message.len());
            if state.requests.len() >= REQUESTS_MAX || bytes > MESSAGE_BYTES_MAX {
                return None;
            }
            state.message_bytes = bytes;
            state.requests.push(request);
            Some(Ticket(state.cleared + state.requests.len() - 1))
        })
    }

    /// Writes down what became of a request.
    pub(super) fn settle(&self, ticket: Ticket, outcome: Outcome) {
        self.change(|state| {
            let place = ticket.0.checked_sub(state.cleared);
            let request = place.and_then(|place| state.requests.get_mut(place));
            if let Some(request) = request {
                state.spans_kept -= request.kept();
                request.outcome = outcome;
                state.spans_kept += request.kept();
            }
        });
    }

    /// Forgets all requests and complaints.
    pub(super) fn clear(&self) {
        self.change(|state| {
            state.cleared += state.requests.len();
            state.requests.clear();
            state.complaints.clear();
            state.message_bytes = 0;
            state.spans_kept = 0;
            state.in_flight_most = state.in_flight;
        });
    }

    /// Writes down something that no correct exporter does.
    pub(super) fn complain(&self, complaint: String) {
        self.change(|state| {
            if state.complaints.len() < COMPLAINTS_MAX {
                state.complaints.push(complaint);
            }
        });
    }

    /// Counts a request as being worked on for as long as the guard lives.
    pub(super) fn enter(self: &Arc<Self>) -> InFlight {
        self.change(|state| {
            state.in_flight += 1;
            state.in_flight_most = state.in_flight_most.max(state.in_flight);
        });
        InFlight(Arc::clone(self))
    }
}

/// Counts one request as in flight until it is dropped, answered or not.
pub(super) struct InFlight(Arc<Shared>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.change(|state| state.in_flight -= 1);
    }
}
