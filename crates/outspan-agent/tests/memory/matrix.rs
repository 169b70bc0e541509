//! The combinations, and what is checked of each.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use crate::agent::Agent;
use crate::agent::send;
use crate::destinations;
use crate::destinations::Destination;
use crate::destinations::State;
use crate::pairwise;
use crate::requests;

/// The bound of memory, in MiB.
const MEMORY: usize = 64;

/// How much more the process may have, in MiB: what the program itself takes, and what the allocator does not give back.
const RESIDENT_SURPLUS: usize = 64;

/// How much larger than the bound the address space is, in MiB.
const SPACE_SURPLUS: usize = 512;

/// For how long a destination that does not take spans is watched, so that they are tried more than once.
const WATCHED: Duration = Duration::from_millis(1000);

/// How soon ordinary spans have to arrive. A program that is not optimised converts about 10 MiB a second.
const SOON: Duration = Duration::from_secs(15);

/// How many ordinary spans are sent while the others are.
const ORDINARY_MAX: u32 = 40;

/// How many combinations run side by side.
const SIDE_BY_SIDE: usize = 2;

/// Requests that one run of a combination sends, in the usual run.
const GROUPS: [&[requests::Kind]; 3] = [
    &[
        requests::Kind::LargeResource,
        requests::Kind::EmptyAttributes,
        requests::Kind::DeepValues,
        requests::Kind::Bomb,
    ],
    &[
        requests::Kind::LargeScope,
        requests::Kind::EmptyEvents,
        requests::Kind::WideValues,
    ],
    &[
        requests::Kind::TinyResources,
        requests::Kind::EmptyLinks,
        requests::Kind::ControlCharacters,
    ],
];

/// A destination, its state, and what is sent.
#[derive(Clone, Debug)]
struct Combination {
    destination: destinations::Kind,
    state: State,
    requests: Vec<requests::Kind>,
}

/// What came of a combination.
#[derive(Debug, Default)]
struct Outcome {
    peak: f64,
    resident: f64,
    answers: Vec<u16>,
    ordinary_accepted: BTreeSet<u32>,
    ordinary_seen: BTreeSet<u32>,
    seconds: f64,
    faults: Vec<String>,
}

impl fmt::Display for Combination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let requests: Vec<_> = self.requests.iter().map(|kind| kind.name()).collect();
        let (destination, state) = (self.destination.name(), self.state.name());
        write!(f, "{destination}, {state}, {}", requests.join(" + "))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answers: Vec<_> = self.answers.iter().map(u16::to_string).collect();
        write!(
            f,
            "{:6.1} MiB  {:6.1} MiB  {:5.1} s  {:2} of {:2}  {}",
            self.peak,
            self.resident,
            self.seconds,
            self.ordinary_seen.len(),
            self.ordinary_accepted.len(),
            answers.join(" ")
        )
    }
}

/// Every combination that makes sense, with these lists of requests.
fn all(groups: &[&[requests::Kind]]) -> Vec<Combination> {
    let mut all = Vec::new();
    for requests in groups {
        for destination in destinations::Kind::ALL {
            for state in State::ALL
                .into_iter()
                .filter(|state| state.fits(destination))
            {
                all.push(Combination {
                    destination,
                    state,
                    requests: requests.to_vec(),
                });
            }
        }
    }
    all
}

/// The usual choice: every destination with every state, every group of requests with both.
fn usual() -> Vec<Combination> {
    let place_of = |combination: &Combination| {
        let destination = combination.destination;
        let is_group = |group: &&&[requests::Kind]| **group == combination.requests;
        let places = [
            GROUPS.iter().position(|group| is_group(&group)),
            destinations::Kind::ALL
                .iter()
                .position(|kind| *kind == destination),
            State::ALL
                .iter()
                .position(|state| *state == combination.state),
        ];
        places.into_iter().flatten().collect::<Vec<_>>()
    };
    let all = all(&GROUPS);
    let rows: Vec<_> = all.iter().map(place_of).collect();
    let chosen = pairwise::choose(&rows);
    all.into_iter()
        .filter(|combination| chosen.contains(&place_of(combination)))
        .collect()
}

fn chosen() -> Vec<Combination> {
    let asked = std::env::var("OUTSPAN_MEMORY_MATRIX").unwrap_or_default();
    if asked.is_empty() {
        return usual();
    }
    let alone: Vec<_> = requests::Kind::ALL
        .iter()
        .map(std::slice::from_ref)
        .collect();
    let mut all = all(&alone);
    if asked != "all" {
        all.retain(|combination| combination.to_string().contains(&asked));
    }
    all
}

#[test]
fn the_usual_choice_has_every_destination_in_every_state() {
    let usual = usual();
    assert!(usual.len() <= 60, "{}", usual.len());
    for combination in all(&GROUPS[..1]) {
        let is_there = usual.iter().any(|chosen| {
            chosen.destination == combination.destination && chosen.state == combination.state
        });
        assert!(is_there, "{combination}");
    }
}

#[test]
fn memory_stays_within_the_bound_whatever_is_sent() {
    let open = Mutex::new(chosen().into_iter());
    let failed = Mutex::new(Vec::new());
    println!("  peak        at the end   time   arrived   answers");
    thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                loop {
                    // Not held while the combination runs.
                    let next = open.lock().unwrap().next();
                    let Some(combination) = next else {
                        return;
                    };
                    let outcome = run(&combination);
                    println!("{outcome}  {combination}");
                    for fault in &outcome.faults {
                        println!("      {fault}");
                        failed
                            .lock()
                            .unwrap()
                            .push(format!("{combination}: {fault}"));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(
        failed.is_empty(),
        "{} faults:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

fn run(combination: &Combination) -> Outcome {
    let begun = Instant::now();
    let (destination, stdout) = Destination::start(combination.destination, combination.state);
    let space = MEMORY + SPACE_SURPLUS;
    let mut agent = Agent::start(MEMORY, space, &destination.arguments, stdout);
    let mut run = Run {
        agent: &mut agent,
        destination: &destination,
        outcome: Outcome::default(),
        ordinary: 0,
    };
    if let Err(fault) = run.send_and_watch(combination) {
        // What went wrong first is often that it ended.
        let fault = run.end_of_program().unwrap_or(fault);
        run.outcome.faults.push(fault);
    }
    let mut outcome = run.outcome;
    outcome.seconds = begun.elapsed().as_secs_f64();
    outcome
}

/// A combination that runs.
struct Run<'a> {
    agent: &'a mut Agent,
    destination: &'a Destination,
    outcome: Outcome,
    /// How many ordinary spans were sent.
    ordinary: u32,
}

impl Run<'_> {
    fn send_and_watch(&mut self, combination: &Combination) -> Result<(), String> {
        self.send_ordinary()?;
        let address = self.agent.http().to_owned();
        let requests = combination.requests.clone();
        let sender = thread::spawn(move || {
            let sent = requests.into_iter().map(|kind| {
                let answer = send(&address, kind.gzipped(), true);
                answer.map_err(|e| format!("{}: no answer: {e}", kind.name()))
            });
            sent.collect::<Vec<_>>()
        });
        while !sender.is_finished() {
            if self.ordinary < ORDINARY_MAX {
                self.send_ordinary()?;
            }
            self.look()?;
            // Sleeps: a few ordinary spans while the others are read, not as many as possible.
            thread::sleep(Duration::from_millis(20));
        }
        for answer in sender.join().map_err(|_| "the sender panicked")? {
            match answer {
                Ok(status) => self.outcome.answers.push(status),
                Err(fault) => self.outcome.faults.push(fault),
            }
        }
        self.send_ordinary()?;
        match combination.state {
            State::Up => self.wait_for_ordinary(),
            _ => self.watch(),
        }?;
        self.outcome.resident = self.agent.resident("VmRSS:").unwrap_or_default();
        self.agent.stop()
    }

    /// Sends an ordinary span. It may be sent back to be sent later, and has to be answered.
    fn send_ordinary(&mut self) -> Result<(), String> {
        self.ordinary += 1;
        let number = self.ordinary;
        let body = requests::ordinary(number);
        match send(self.agent.http(), &body, false) {
            Ok(200) => {
                self.outcome.ordinary_accepted.insert(number);
                Ok(())
            }
            Ok(429 | 503) => Ok(()),
            Ok(status) => Err(format!("an ordinary span was answered with {status}")),
            Err(e) => {
                self.look()?;
                Err(format!("an ordinary span was not answered: {e}"))
            }
        }
    }

    /// How the program ended, if it does within a moment: the end of its connections comes first.
    fn end_of_program(&mut self) -> Option<String> {
        let end = Instant::now() + Duration::from_secs(1);
        while self.agent.ended().is_none() && Instant::now() < end {
            // Sleeps: the end of another program tells nobody.
            thread::sleep(Duration::from_millis(10));
        }
        let how = self.agent.ended()?;
        let said = |line: &&str| !line.starts_with([' ', '\t']) && !line.contains("backtrace");
        let log: Vec<_> = self
            .agent
            .log()
            .lines()
            .rev()
            .filter(said)
            .take(1)
            .collect();
        Some(format!("the program ended with {how}: {}", log.join(" / ")))
    }

    /// Looks at what has to be right at all times.
    fn look(&mut self) -> Result<crate::agent::Status, String> {
        if self.agent.ended().is_some() {
            return Err("the program ended".to_owned());
        }
        if let Some(peak) = self.agent.resident("VmHWM:") {
            self.outcome.peak = peak;
            if peak > (MEMORY + RESIDENT_SURPLUS) as f64 {
                return Err(format!("{peak:.1} MiB are resident"));
            }
        }
        let status = self.agent.status()?;
        if status.received != status.settled + status.open {
            return Err(format!("the account is not balanced: {status:?}"));
        }
        Ok(status)
    }

    /// Waits until the ordinary spans that were accepted have arrived.
    fn wait_for_ordinary(&mut self) -> Result<(), String> {
        let end = Instant::now() + SOON;
        loop {
            let status = self.look()?;
            self.outcome.ordinary_seen = self.destination.seen();
            let missing: Vec<_> = self
                .outcome
                .ordinary_accepted
                .difference(&self.outcome.ordinary_seen)
                .collect();
            if missing.is_empty() {
                return Ok(());
            }
            if Instant::now() > end {
                let log = self.agent.log().to_owned();
                return Err(format!(
                    "ordinary spans did not arrive in time: {missing:?}, {status:?}\n{log}"
                ));
            }
            // Sleeps: another program's destination tells nobody when it has something.
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Watches a destination that takes nothing.
    fn watch(&mut self) -> Result<(), String> {
        let end = Instant::now() + WATCHED;
        loop {
            let status = self.look()?;
            if status.received < status.accepted {
                return Err(format!("accepted spans are not accounted for: {status:?}"));
            }
            if Instant::now() > end {
                return Ok(());
            }
            // Sleeps: what must not happen has no end to wait for.
            thread::sleep(Duration::from_millis(20));
        }
    }
}
