//! Collecting until full or due.
//!
//! ```text
//!   add ──▶ open collection ──full, due, a flush or the end──▶ hand over
//!           └──────────────── all under one lock ──────────────────────┘
//! ```
//!
//! Taking the open collection and handing it over happens under the lock of the batcher. So a flush or a shutdown that
//! comes in between waits for the lock, and then finds every span behind the batcher. Without that, spans between the two
//! steps would be in nobody's hands: a flush would miss them, and a shutdown would come before them.

use std::fmt;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// What a batcher collects into.
pub(crate) trait Collect: Send + 'static {
    /// What is added.
    type Item;

    /// Whether an item fits into what is collected. It is never asked of an empty collection.
    fn fits(&self, item: &Self::Item) -> bool;

    /// Adds an item, whether it fits or not.
    fn put(&mut self, item: Self::Item);

    /// Whether waiting for more makes no sense.
    fn is_full(&self) -> bool;
}

/// Collects items until there are enough or the first one has waited long enough, then hands them over.
pub(crate) struct Batcher<C: Collect> {
    /// How long the first item waits for others.
    delay: Duration,
    begin: Box<dyn Fn() -> C + Send + Sync>,
    /// Called under the lock. It must not call the batcher, and it must not block.
    hand_over: Box<dyn Fn(C) + Send + Sync>,
    state: Mutex<State<C>>,
    /// Tells the timers that a collection was opened.
    opened: watch::Sender<()>,
    /// The same as in `state`, for those who need not wait for the lock.
    is_closed: AtomicBool,
}

struct State<C> {
    open: Option<Open<C>>,
    is_closed: bool,
}

struct Open<C> {
    collection: C,
    due: Instant,
}

impl<C: Collect> Batcher<C> {
    /// Makes a batcher. `begin` makes an empty collection, `hand_over` gets those that are full or due, one after the other,
    /// and must neither block nor use the batcher.
    pub(crate) fn new(
        delay: Duration,
        begin: impl Fn() -> C + Send + Sync + 'static,
        hand_over: impl Fn(C) + Send + Sync + 'static,
    ) -> Self {
        Self {
            delay,
            begin: Box::new(begin),
            hand_over: Box::new(hand_over),
            state: Mutex::new(State {
                open: None,
                is_closed: false,
            }),
            opened: watch::Sender::new(()),
            is_closed: AtomicBool::new(false),
        }
    }

    /// Adds an item, and hands over what is full by that.
    ///
    /// Returns the item if the batcher is closed.
    pub(crate) fn add(&self, item: C::Item) -> Result<(), C::Item> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(item);
        }
        if let Some(open) = state.open.take_if(|open| !open.collection.fits(&item)) {
            (self.hand_over)(open.collection);
        }
        let is_new = state.open.is_none();
        let open = state.open.get_or_insert_with(|| Open {
            collection: (self.begin)(),
            // A delay that no clock can express is no delay that ends.
            due: Instant::now()
                .checked_add(self.delay)
                .unwrap_or_else(far_away),
        });
        open.collection.put(item);
        if let Some(open) = state.open.take_if(|open| open.collection.is_full()) {
            (self.hand_over)(open.collection);
            return Ok(());
        }
        drop(state);
        if is_new {
            self.opened.send_replace(());
        }
        Ok(())
    }

    /// Hands over what is collected now. Returns false if nothing is.
    pub(crate) fn flush(&self) -> bool {
        let mut state = self.lock();
        let Some(open) = state.open.take() else {
            return false;
        };
        (self.hand_over)(open.collection);
        true
    }

    /// Takes no more items, and hands over what is collected.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        self.is_closed.store(true, Ordering::Relaxed);
        if let Some(open) = state.open.take() {
            (self.hand_over)(open.collection);
        }
    }

    /// Takes no more items, and gives up what is collected.
    pub(crate) fn discard(&self) -> Option<C> {
        let mut state = self.lock();
        state.is_closed = true;
        self.is_closed.store(true, Ordering::Relaxed);
        state.open.take().map(|open| open.collection)
    }

    /// Whether it takes no more items. It may be closed at any time afterwards.
    pub(crate) fn is_closed(&self) -> bool {
        // Relaxed: it orders nothing. `add` looks again, under the lock.
        self.is_closed.load(Ordering::Relaxed)
    }

    /// Reads the open collection, if there is one.
    pub(crate) fn read<R>(&self, read: impl FnOnce(&C) -> R) -> Option<R> {
        self.lock().open.as_ref().map(|open| read(&open.collection))
    }

    /// Hands over collections that are due, until it is dropped.
    ///
    /// It may run several times at once, on several runtimes: then one of them that stops delays nothing.
    pub(crate) async fn run(&self) {
        let mut opened = self.opened.subscribe();
        loop {
            // Before the look: a collection that is opened after it is a change.
            opened.mark_unchanged();
            let due = self.lock().open.as_ref().map(|open| open.due);
            let Some(due) = due else {
                // It fails only when the sender is gone, and this batcher holds that.
                drop(opened.changed().await);
                continue;
            };
            tokio::time::sleep_until(due).await;
            let mut state = self.lock();
            // Another collection may have been opened meanwhile, which is due later.
            let is_due = |open: &mut Open<C>| open.due <= Instant::now();
            if let Some(open) = state.open.take_if(is_due) {
                (self.hand_over)(open.collection);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As far in the future as a timer can be without trouble.
fn far_away() -> Instant {
    const YEARS: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

    Instant::now() + YEARS
}

impl<C: Collect> fmt::Debug for Batcher<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batcher")
            .field("delay", &self.delay)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Collects up to three numbers, even and odd ones apart.
    #[derive(Default)]
    struct Numbers(Vec<u32>);

    impl Collect for Numbers {
        type Item = u32;

        fn fits(&self, item: &u32) -> bool {
            self.0.iter().all(|number| number % 2 == item % 2)
        }

        fn put(&mut self, item: u32) {
            self.0.push(item);
        }

        fn is_full(&self) -> bool {
            self.0.len() >= 3
        }
    }

    type Handed = Arc<Mutex<Vec<Vec<u32>>>>;

    fn batcher(delay: Duration) -> (Arc<Batcher<Numbers>>, Handed) {
        let handed = Handed::default();
        let into = Arc::clone(&handed);
        let hand_over = move |numbers: Numbers| into.lock().unwrap().push(numbers.0);
        let batcher = Batcher::new(delay, Numbers::default, hand_over);
        (Arc::new(batcher), handed)
    }

    fn handed(handed: &Handed) -> Vec<Vec<u32>> {
        handed.lock().unwrap().clone()
    }

    #[test]
    fn full_collections_are_handed_over_and_misfits_begin_another() {
        let (batcher, all) = batcher(HOUR);
        for number in [2, 4, 6, 8, 1, 3] {
            batcher.add(number).unwrap();
        }
        assert_eq!(handed(&all), [vec![2, 4, 6], vec![8]]);
        assert_eq!(batcher.read(|open| open.0.len()), Some(2));
        assert!(batcher.flush());
        assert!(!batcher.flush(), "nothing is left");
        assert_eq!(handed(&all), [vec![2, 4, 6], vec![8], vec![1, 3]]);
        assert_eq!(batcher.read(|open| open.0.len()), None);
    }

    #[test]
    fn closed_batcher_hands_over_and_returns_items() {
        let (batcher, all) = batcher(HOUR);
        batcher.add(1).unwrap();
        batcher.close();
        assert_eq!(batcher.add(3), Err(3));
        assert!(batcher.is_closed());
        assert_eq!(handed(&all), [vec![1]]);

        let (batcher, all) = self::batcher(HOUR);
        batcher.add(5).unwrap();
        assert_eq!(batcher.discard().map(|open| open.0), Some(vec![5]));
        assert_eq!(batcher.add(7), Err(7));
        assert!(handed(&all).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn collection_is_handed_over_when_its_first_item_is_due() {
        let (batcher, all) = batcher(Duration::from_millis(200));
        let timer = tokio::spawn({
            let batcher = Arc::clone(&batcher);
            async move { batcher.run().await }
        });
        batcher.add(1).unwrap();
        tokio::time::advance(Duration::from_millis(150)).await;
        batcher.add(3).unwrap();
        tokio::task::yield_now().await;
        assert!(handed(&all).is_empty());
        tokio::time::advance(Duration::from_millis(50)).await;
        tokio::task::yield_now().await;
        assert_eq!(handed(&all), [vec![1, 3]]);
        // One that is opened while the timer waits for another is due by its own clock.
        batcher.add(2).unwrap();
        tokio::time::advance(Duration::from_millis(150)).await;
        batcher.flush();
        batcher.add(4).unwrap();
        tokio::time::advance(Duration::from_millis(150)).await;
        tokio::task::yield_now().await;
        assert_eq!(handed(&all), [vec![1, 3], vec![2]]);
        tokio::time::advance(Duration::from_millis(50)).await;
        tokio::task::yield_now().await;
        assert_eq!(handed(&all), [vec![1, 3], vec![2], vec![4]]);
        timer.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn delay_beyond_every_clock_never_ends() {
        let (batcher, all) = batcher(Duration::MAX);
        batcher.add(1).unwrap();
        let year = Duration::from_secs(365 * 24 * 60 * 60);
        drop(tokio::time::timeout(year, batcher.run()).await);
        assert!(handed(&all).is_empty());
    }

    /// A flush that comes while a full collection is being handed over returns only when it was handed over.
    #[test]
    fn flush_waits_for_hand_over_in_progress() {
        let (entered, is_entered) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let handed = Handed::default();
        let into = Arc::clone(&handed);
        let may_go_on = Mutex::new(may_go_on);
        let hand_over = move |numbers: Numbers| {
            entered.send(()).unwrap();
            may_go_on.lock().unwrap().recv().unwrap();
            into.lock().unwrap().push(numbers.0);
        };
        let batcher = Arc::new(Batcher::new(HOUR, Numbers::default, hand_over));
        std::thread::scope(|scope| {
            scope.spawn(|| (1..=5).step_by(2).for_each(|n| batcher.add(n).unwrap()));
            is_entered.recv().unwrap();
            let flushed = scope.spawn(|| {
                batcher.flush();
                handed.lock().unwrap().len()
            });
            assert!(
                batcher.state.try_lock().is_err(),
                "handing over is one step"
            );
            go_on.send(()).unwrap();
            assert_eq!(flushed.join().unwrap(), 1);
        });
    }
}
