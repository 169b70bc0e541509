//! Forms of a batch that exporters make: JSON, other formats, compressed bytes.
//!
//! A form is made on a thread for blocking work, at most once at a time. Making it goes on when the export that asked for it
//! gives up, and the next attempt finds what was made; so a form that takes longer than an attempt is not started anew for
//! each of them.
//!
//! # Memory
//!
//! A form can be many times as large as its batch, so its memory is taken before it is made: from the budget of the queue
//! that exports the batch, where there is room. A queue that is full gets it from a pool that the whole process shares,
//! [`POOL_BYTES`], of which no queue takes more than [`QUEUE_POOL_BYTES`]. What a form turns out not to need is given back
//! at once, the rest when its last byte is dropped. Batches that no queue exports pay nothing: their callers hold them, and
//! each exporter makes only few forms at a time.

// No exporter needs all of it.
#![cfg_attr(
    not(all(feature = "_otlp", feature = "http", feature = "zipkin")),
    allow(dead_code)
)]

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;

use crate::Batch;
use crate::Error;
use crate::Result;
use crate::batch::Encoding;
use crate::budget::Budget;
use crate::budget::POOL_PIECE;
use crate::budget::QUEUE_POOL_BYTES;
use crate::budget::forms_pool;
use crate::runtime::Runtime;

/// The largest plain form, in bytes, whatever an exporter allows: four times a batch of the usual size.
pub(crate) const FORM_BYTES_MAX: usize = 16 << 20;

/// How many bytes of forms queues may hold together beyond their budgets.
const POOL_BYTES: usize = 32 << 20;

/// Forms of batches below this size, in bytes, are made at once and not counted.
const SMALL: usize = 16 << 10;

static POOL: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(forms_pool(POOL_BYTES)));

/// Says which form of a batch it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FormKey {
    /// The whole batch as OTLP, for every exporter that wants it so.
    Otlp { encoding: Encoding, limit: usize },
    /// Messages of one exporter, from a span on.
    Messages { exporter: u64, first: usize },
}

/// The forms of a batch, by their keys.
#[derive(Default)]
pub(crate) struct Forms {
    forms: Mutex<Vec<(FormKey, Arc<Form>)>>,
}

/// A form that is made or being made.
#[derive(Default)]
struct Form {
    made: OnceLock<Result<Vec<Message>>>,
    done: Notify,
}

/// What it takes to make a form.
pub(crate) struct Recipe<F> {
    pub(crate) key: FormKey,
    /// How much memory it may take while it is made, in bytes.
    pub(crate) memory: usize,
    pub(crate) make: F,
}

impl Forms {
    /// Returns the form, and whether the caller has to make it.
    fn get_or_begin(&self, key: FormKey) -> (Arc<Form>, bool) {
        let mut forms = self.lock();
        if let Some((_, form)) = forms.iter().find(|(known, _)| *known == key) {
            return (Arc::clone(form), false);
        }
        let form = Arc::<Form>::default();
        forms.push((key, Arc::clone(&form)));
        (form, true)
    }

    /// Lets go of a form that is made. An export that sends it keeps its bytes; one that is being made stays for the next attempt.
    pub(crate) fn forget(&self, key: FormKey) {
        self.lock()
            .retain(|(known, form)| *known != key || form.made.get().is_none());
    }

    /// Lets go of every form that is made. Those that are being made stay, because making them anew would take as long.
    pub(crate) fn forget_made(&self) {
        self.lock().retain(|(_, form)| form.made.get().is_none());
    }

    /// Returns how many bytes the forms have that are made.
    pub(crate) fn bytes(&self) -> usize {
        let forms = self.lock();
        let made = forms.iter().filter_map(|(_, form)| form.made.get());
        let messages = made.filter_map(|made| made.as_ref().ok()).flatten();
        messages
            .filter_map(|message| message.body.as_ref().ok())
            .map(Bytes::len)
            .sum()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(FormKey, Arc<Form>)>> {
        self.forms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Form {
    async fn wait(&self) -> Result<Vec<Message>> {
        loop {
            // Registered before the look, so that no wake-up between the two is missed.
            let done = self.done.notified();
            if let Some(made) = self.made.get() {
                return made.clone();
            }
            done.await;
        }
    }

    fn finish(&self, made: Result<Vec<Message>>) {
        // It fails where somebody else was first, whose result is as good.
        self.made.set(made).unwrap_or_default();
        self.done.notify_waiters();
    }
}

impl fmt::Debug for Forms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let forms = self.lock();
        let keys = forms.iter().map(|(key, _)| key);
        f.debug_list().entries(keys).finish()
    }
}

/// Returns a form of a batch, and makes it if it is not made yet.
///
/// # Cancellation
///
/// Dropping the future does not stop making the form; another call for the same form waits for it.
pub(crate) async fn form_of<F>(batch: &Batch, recipe: Recipe<F>) -> Result<Vec<Message>>
where
    F: FnOnce() -> Result<Vec<Message>> + Send + 'static,
{
    let Recipe { key, memory, make } = recipe;
    let (form, is_ours) = batch.forms().get_or_begin(key);
    if !is_ours {
        return form.wait().await;
    }
    if batch.size() <= SMALL {
        // A conversion that panics must not leave later exports waiting for it.
        let unfinished = Unfinished(Arc::clone(&form));
        form.finish(make());
        drop(unfinished);
        return form.wait().await;
    }
    let payer = batch.payer().cloned();
    let runtime = Runtime::surrounding();
    let maker = runtime.clone();
    // Made here, so that the wait also ends when the work never starts because the runtime has ended.
    let unfinished = Unfinished(Arc::clone(&form));
    let work = async move {
        let mut charge = Charge::take(payer, memory).await;
        let made = maker.blocking(make).await.and_then(|made| made);
        let made = made.map(|messages| {
            let bytes = messages.iter().map(Message::len).sum();
            charge.shrink_to(bytes);
            let charge = Arc::new(charge);
            let messages = messages.into_iter();
            messages
                .map(|message| message.paid_by(&charge))
                .collect::<Vec<_>>()
        });
        unfinished.0.finish(made);
        drop(unfinished);
    };
    drop(runtime.detach(work)?);
    form.wait().await
}

/// Ends the wait for a form whose making ended early, such as at the end of the runtime.
struct Unfinished(Arc<Form>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.0.made.get().is_none() {
            self.0
                .finish(Err(Error::internal("making a form of a batch was ended")));
        }
    }
}

/// Memory that was taken for a form. Dropping it gives the memory back.
#[derive(Debug)]
pub(crate) struct Charge {
    bytes: usize,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// Nobody counts.
    Nobody,
    Budget(Arc<Budget>),
    Pool {
        common: OwnedSemaphorePermit,
        queue: OwnedSemaphorePermit,
    },
}

impl Charge {
    /// Takes memory, and waits for it where there is none.
    async fn take(payer: Option<Arc<Budget>>, bytes: usize) -> Self {
        let Some(budget) = payer else {
            return Self {
                bytes,
                source: Source::Nobody,
            };
        };
        if budget.try_take(bytes, 0) {
            return Self {
                bytes,
                source: Source::Budget(budget),
            };
        }
        let pieces = bytes.min(QUEUE_POOL_BYTES).div_ceil(POOL_PIECE) as u32;
        // The queue's own part first: a queue that has used it up must not stand in the way of others.
        let queue = budget.pool().acquire_many_owned(pieces).await;
        let common = Arc::clone(&POOL).acquire_many_owned(pieces).await;
        let source = match (common, queue) {
            (Ok(common), Ok(queue)) => Source::Pool { common, queue },
            // The pools are never closed.
            _ => Source::Nobody,
        };
        Self { bytes, source }
    }

    /// Gives back what is beyond `bytes`.
    fn shrink_to(&mut self, bytes: usize) {
        let Some(spare) = self.bytes.checked_sub(bytes) else {
            return;
        };
        self.bytes = bytes;
        match &mut self.source {
            Source::Nobody => {}
            Source::Budget(budget) => budget.give_back(spare, 0),
            Source::Pool { common, queue } => {
                let kept = bytes.div_ceil(POOL_PIECE);
                for permit in [common, queue] {
                    let spare = permit.num_permits().saturating_sub(kept);
                    drop(permit.split(spare));
                }
            }
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Source::Budget(budget) = &self.source {
            budget.give_back(self.bytes, 0);
        }
    }
}

/// Bytes together with the memory that was taken for them.
struct Paid {
    bytes: Bytes,
    _charge: Arc<Charge>,
}

impl AsRef<[u8]> for Paid {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// One request's worth of a batch in the form of a destination.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// Which spans of the batch, counted from 0.
    pub(crate) spans: Range<usize>,
    /// Their bytes, compressed, or why there are none.
    pub(crate) body: Result<Bytes>,
}

impl Message {
    /// How many bytes it has.
    pub(crate) fn len(&self) -> usize {
        self.body.as_ref().map_or(0, Bytes::len)
    }

    /// Holds a charge for as long as anybody holds the bytes.
    pub(crate) fn paid_by(self, charge: &Arc<Charge>) -> Self {
        Self {
            body: self.body.map(|body| paid(body, charge)),
            ..self
        }
    }
}

/// Keeps a charge for as long as the bytes are held by anybody.
fn paid(bytes: Bytes, charge: &Arc<Charge>) -> Bytes {
    match charge.source {
        Source::Nobody => bytes,
        _ => Bytes::from_owner(Paid {
            bytes,
            _charge: Arc::clone(charge),
        }),
    }
}
