//! Look-ups of the addresses of balanced members that do not end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use outspan::Deadline;
use outspan::Export;
use outspan::combinators::Balance;
use outspan_testkit::ScriptedExporter;
use outspan_testkit::batch_of;
use outspan_testkit::soon;

const SECOND: Duration = Duration::from_secs(1);

/// A name server that may not answer.
struct NameServer {
    hangs: AtomicBool,
    asked: AtomicUsize,
    /// Its sender keeps look-ups waiting until it is dropped.
    end: Mutex<Option<mpsc::Sender<()>>>,
    ends: Mutex<Option<Arc<Mutex<mpsc::Receiver<()>>>>>,
}

impl NameServer {
    fn new(hangs: bool) -> Arc<Self> {
        let (end, ends) = mpsc::channel();
        Arc::new(Self {
            hangs: AtomicBool::new(hangs),
            asked: AtomicUsize::new(0),
            end: Mutex::new(Some(end)),
            ends: Mutex::new(Some(Arc::new(Mutex::new(ends)))),
        })
    }

    fn look_up(&self) -> io::Result<Vec<SocketAddr>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.hangs.load(Ordering::SeqCst) {
            let ends = self.ends.lock().unwrap().clone().unwrap();
            // Blocks until the sender is dropped.
            let ended = ends.lock().unwrap().recv();
            assert!(ended.is_err(), "nothing is sent");
        }
        Ok(vec![SocketAddr::from(([10, 0, 0, 1], 1))])
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Lets look-ups end that wait.
    fn release(&self) {
        self.hangs.store(false, Ordering::SeqCst);
        self.end.lock().unwrap().take();
    }
}

/// A balance of one member, whose look-ups may take 100 ms.
fn balance(server: &Arc<NameServer>, member: &ScriptedExporter) -> Balance {
    let (server, member) = (Arc::clone(server), member.clone());
    Balance::looked_up(move || server.look_up(), move |_| Ok(member.exporter()))
        .every(SECOND)
        .look_up_timeout(SECOND / 10)
}

async fn wait_until(what: impl Fn() -> bool) {
    let poll = async {
        while !what() {
            // Sleeps: look-ups begin on threads of their own, by the wall clock.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(20 * SECOND, poll).await.unwrap();
}

#[tokio::test]
async fn look_up_that_hangs_keeps_members_and_others_follow() {
    let (server, member) = (NameServer::new(false), ScriptedExporter::new());
    let exporter = balance(&server, &member).build().unwrap();
    exporter.export(batch_of(1), soon()).await.unwrap();
    let before = server.asked();
    server.hangs.store(true, Ordering::SeqCst);
    wait_until(|| server.asked() >= before + 2).await;
    exporter.export(batch_of(1), soon()).await.unwrap();
    assert_eq!(member.received().len(), 2);
    assert_eq!(member.shutdowns(), 0);
    server.release();
    drop(exporter.shutdown(soon()).await.unwrap());
}

#[tokio::test]
async fn first_look_up_that_hangs_is_named_and_tried_again() {
    let (server, member) = (NameServer::new(true), ScriptedExporter::new());
    let exporter = balance(&server, &member).build().unwrap();
    let deadline = Deadline::after(SECOND / 2);
    let error = exporter.export(batch_of(1), deadline).await.unwrap_err();
    assert!(error.is_temporary());
    let text = error.to_string();
    assert!(text.contains("did not end within 100ms"), "{text}");
    // The first one still hangs; the next one is answered.
    server.hangs.store(false, Ordering::SeqCst);
    exporter.export(batch_of(1), soon()).await.unwrap();
    server.release();
    drop(exporter.shutdown(soon()).await.unwrap());
}

#[tokio::test]
async fn look_ups_that_hang_are_bounded_in_number() {
    let (server, member) = (NameServer::new(true), ScriptedExporter::new());
    let exporter = balance(&server, &member).build().unwrap();
    wait_until(|| server.asked() == 4).await;
    let text = loop {
        let deadline = Deadline::after(SECOND / 10);
        let error = exporter.export(batch_of(1), deadline).await.unwrap_err();
        let text = error.to_string();
        if text.contains("4 look-ups have not ended") {
            break text;
        }
        assert!(text.contains("did not end"), "{text}");
    };
    assert_eq!(server.asked(), 4, "{text}");
    server.release();
    exporter.export(batch_of(1), soon()).await.unwrap();
    drop(exporter.shutdown(soon()).await.unwrap());
}
