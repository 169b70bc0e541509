//! Who takes part, and how that changes.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::Semaphore;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::breaker::Breakers;
use super::super::route::Destination;
use crate::Deadline;
use crate::Drained;
use crate::Error;
use crate::Export;
use crate::Exporter;
use crate::Result;
use crate::guard::GRACE;
use crate::guard::call_guarded;
use crate::guard::run_drain;
use crate::runtime::Runtime;

/// The least time between two look-ups.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// How long a member that is gone has to deliver what it holds.
const RETIREMENT: Duration = Duration::from_secs(30);

/// How many look-ups may run at the same time: those that did not end in time and cannot be stopped, and a new one. Each has a
/// thread.
const LOOK_UPS_MAX: usize = 4;

/// How many addresses a name may stand for.
const ADDRESSES_MAX: usize = 64;

/// The members at this moment.
pub(super) struct Members {
    /// What every member is made with.
    breakers: Breakers,
    current: watch::Sender<Arc<[Arc<Destination>]>>,
    /// Whether addresses are looked up, so that members may still come.
    is_resolved: bool,
    state: Mutex<State>,
    wanted: Notify,
    /// Members that are gone and not shut down yet.
    retiring: watch::Sender<usize>,
    /// The end of the shutdown, once it has begun: members that are gone end by then as well.
    closing: watch::Sender<Option<Deadline>>,
}

/// Counts a member as retiring, however its shutdown ends.
struct Retiring(Arc<Members>);

impl Retiring {
    fn begin(members: &Arc<Members>) -> Self {
        members.retiring.send_modify(|retiring| *retiring += 1);
        Self(Arc::clone(members))
    }
}

impl Drop for Retiring {
    fn drop(&mut self) {
        self.0.retiring.send_modify(|retiring| *retiring -= 1);
    }
}

#[derive(Debug, Default)]
struct State {
    is_closed: bool,
    /// What members achieved that are gone.
    retired: Drained,
    trouble: Option<String>,
}

impl Members {
    pub(super) fn new(
        listed: Vec<Arc<Destination>>,
        breakers: Breakers,
        is_resolved: bool,
    ) -> Self {
        Self {
            breakers,
            current: watch::Sender::new(listed.into()),
            is_resolved,
            state: Mutex::default(),
            wanted: Notify::new(),
            retiring: watch::Sender::new(0),
            closing: watch::Sender::new(None),
        }
    }

    /// The members; waits for the first look-up if it has to.
    ///
    /// # Errors
    ///
    /// When no member is known in time.
    pub(super) async fn known(&self, until: Deadline) -> Result<Arc<[Arc<Destination>]>> {
        let members = self.current();
        if !members.is_empty() {
            return Ok(members);
        }
        let mut current = self.current.subscribe();
        let has_members = current.wait_for(|members| !members.is_empty());
        match until.run(has_members).await {
            Some(Ok(members)) => Ok(Arc::clone(&members)),
            _ => Err(Error::unavailable(match &self.lock().trouble {
                Some(trouble) => format!("no member is known: {trouble}"),
                None => "no member is known: the name has no address yet".to_owned(),
            })),
        }
    }

    pub(super) fn current(&self) -> Arc<[Arc<Destination>]> {
        Arc::clone(&self.current.borrow())
    }

    /// Takes no more members, and hands out those that are there. Those that are gone end by `until`.
    pub(super) fn close(&self, until: Deadline) -> Arc<[Arc<Destination>]> {
        self.lock().is_closed = true;
        self.closing.send_replace(Some(until));
        self.wanted.notify_one();
        self.current()
    }

    /// Whether members may come and go.
    pub(super) fn may_change(&self) -> bool {
        self.is_resolved && !self.lock().is_closed
    }

    /// Has addresses looked up before their time.
    pub(super) fn look_up_soon(&self) {
        if self.is_resolved {
            self.wanted.notify_one();
        }
    }

    /// What members achieved that are gone, since the last time; waits until they are shut down.
    pub(super) async fn retired(&self, until: Deadline) -> Drained {
        let mut retiring = self.retiring.subscribe();
        // Out of time, what is not told now is told the next time.
        drop(
            until
                .run(retiring.wait_for(|retiring| *retiring == 0))
                .await,
        );
        std::mem::take(&mut self.lock().retired)
    }

    /// Looks addresses up for as long as anybody holds the members.
    pub(super) fn look_up_again_and_again(
        self: &Arc<Self>,
        look_up: Box<dyn Fn() -> io::Result<Vec<SocketAddr>> + Send + Sync>,
        make: Box<dyn Fn(SocketAddr) -> Result<Exporter> + Send + Sync>,
        every: Duration,
        timeout: Duration,
    ) -> Result<()> {
        let members = Arc::downgrade(self);
        let look_ups = LookUps {
            look_up: Arc::new(look_up),
            threads: Arc::new(Semaphore::new(LOOK_UPS_MAX)),
            timeout,
        };
        let work = async move {
            loop {
                let found = look_ups.ask().await;
                if !Self::update(&members, found, &make) {
                    return;
                }
                let looked_up_at = Instant::now();
                if !Self::wait(&members, looked_up_at + every).await {
                    return;
                }
                tokio::time::sleep_until(looked_up_at + PAUSE).await;
            }
        };
        // It ends by itself when the members are gone.
        drop(Runtime::shared().detach(work)?);
        Ok(())
    }

    /// Waits until addresses are wanted; false when nobody is there any more.
    async fn wait(members: &Weak<Self>, at: Instant) -> bool {
        while Instant::now() < at {
            let Some(members) = members.upgrade() else {
                return false;
            };
            // Looked after now and then, so that members that nobody holds are let go.
            let look = at.min(Instant::now() + PAUSE);
            tokio::select! {
                () = members.wanted.notified() => return true,
                () = tokio::time::sleep_until(look) => {}
            }
        }
        true
    }

    /// Takes note of what was found; false when nobody is there any more.
    fn update(
        members: &Weak<Self>,
        found: io::Result<Vec<SocketAddr>>,
        make: &(dyn Fn(SocketAddr) -> Result<Exporter> + Send + Sync),
    ) -> bool {
        let Some(members) = members.upgrade() else {
            return false;
        };
        let found = found.map_err(|e| e.to_string()).and_then(|found| {
            let is_empty = found.is_empty();
            (!is_empty)
                .then_some(found)
                .ok_or_else(|| "the name has no address".to_owned())
        });
        match found {
            Ok(found) => members.replace(found, make),
            Err(trouble) => members.keep(trouble),
        }
        !members.lock().is_closed
    }

    /// Keeps the members that are known, and says once why.
    fn keep(&self, trouble: String) {
        let is_news = self.lock().trouble.replace(trouble.clone()).is_none();
        if is_news {
            let known = self.current().len();
            tracing::warn!(target: "outspan", "addresses cannot be looked up, keeping the {known} that are known: {trouble}");
        }
    }

    fn replace(
        self: &Arc<Self>,
        mut found: Vec<SocketAddr>,
        make: &(dyn Fn(SocketAddr) -> Result<Exporter> + Send + Sync),
    ) {
        found.sort_unstable();
        found.dedup();
        found.truncate(ADDRESSES_MAX);
        let before = self.current();
        let mut members = Vec::with_capacity(found.len());
        let mut trouble = None;
        for address in found {
            let name = address.to_string();
            if let Some(known) = before.iter().find(|member| *member.name == *name) {
                members.push(Arc::clone(known));
                continue;
            }
            // A panic must not end the look-ups: the next one tries again.
            let made = call_guarded("function that makes members", || make(address));
            match made.and_then(|made| made) {
                Ok(exporter) => {
                    let member = Destination::new(&name, exporter, &self.breakers);
                    members.push(Arc::new(member));
                }
                Err(error) => trouble = Some(format!("{name}: {}", error.chain())),
            }
        }
        if let Some(trouble) = trouble {
            self.keep(trouble);
        } else {
            self.lock().trouble = None;
        }
        if members.is_empty() || self.lock().is_closed {
            return;
        }
        let gone: Vec<_> = before
            .iter()
            .filter(|member| !members.iter().any(|other| other.name == member.name))
            .cloned()
            .collect();
        self.current.send_replace(members.into());
        gone.into_iter().for_each(|member| self.retire(member));
    }

    /// Shuts a member down that is gone, and keeps what it says.
    fn retire(self: &Arc<Self>, member: Arc<Destination>) {
        let retiring = Retiring::begin(self);
        let work = async move {
            let members = &retiring.0;
            let drained = members.shut_down(&member).await;
            match drained {
                Ok(drained) => members.lock().retired.merge(&drained),
                Err(error) => tracing::warn!(
                    target: "outspan",
                    member = %member.name,
                    error = %error.chain(),
                    "shutdown of a member that is gone failed"
                ),
            }
        };
        // It fails only where the library's thread cannot start, and then no address was looked up.
        drop(Runtime::shared().detach(work));
    }

    /// Shuts a member down, within its own time or that of the shutdown of all, if that ends before.
    async fn shut_down(&self, member: &Destination) -> Result<Drained> {
        let until = Deadline::after(RETIREMENT);
        let mut closing = self.closing.subscribe();
        let shutdown = member.exporter.shutdown(until);
        let end = tokio::select! {
            biased;
            drained = run_drain(until, GRACE / 2, "shutdown", shutdown) => return drained,
            end = closing.wait_for(Option::is_some) => end.ok().and_then(|end| *end),
        };
        // The first call was dropped: this one goes on where it stopped.
        let until = until.min(end.unwrap_or(until));
        let shutdown = member.exporter.shutdown(until);
        run_drain(until, GRACE, "shutdown", shutdown).await
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Members")
            .field("current", &self.current())
            .field("state", &*self.lock())
            .finish_non_exhaustive()
    }
}

/// Looks addresses up, each time on a thread of its own, because the system's call blocks and cannot be stopped.
struct LookUps {
    look_up: Arc<Box<dyn Fn() -> io::Result<Vec<SocketAddr>> + Send + Sync>>,
    threads: Arc<Semaphore>,
    timeout: Duration,
}

impl LookUps {
    /// Looks up once. What a look-up finds after its time is ignored.
    async fn ask(&self) -> io::Result<Vec<SocketAddr>> {
        let Ok(permit) = Arc::clone(&self.threads).try_acquire_owned() else {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("{LOOK_UPS_MAX} look-ups have not ended"),
            ));
        };
        let look_up = Arc::clone(&self.look_up);
        let (found, answer) = oneshot::channel();
        std::thread::Builder::new()
            .name("outspan-lookup".into())
            .spawn(move || {
                let answer = call_guarded("look-up of addresses", || look_up());
                // The permit is given back first: the next look-up may start as soon as the result arrives.
                drop(permit);
                drop(found.send(answer.unwrap_or_else(|e| Err(io::Error::other(e.to_string())))));
            })?;
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(answer) => answer.unwrap_or_else(|e| Err(io::Error::other(e))),
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("the look-up did not end within {:?}", self.timeout),
            )),
        }
    }
}
