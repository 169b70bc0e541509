//! `/status`: everything as JSON. The names of the fields are told in `docs/monitoring.md` and stay.

use outspan::Account;
use outspan::DropReason;
use outspan::Losses;
use outspan::engine::AckLevel;
use serde::Serialize;
use serde::Serializer;
use serde::ser::SerializeMap;

use super::health;
use super::snapshot::Snapshot;
use crate::pipeline::DestinationStatus;
use crate::receivers::AckStatus;
use crate::receivers::ReceiverStatus;

/// Writes a snapshot as JSON.
///
/// # Errors
///
/// If it cannot be written.
pub(super) fn encode(snapshot: &Snapshot) -> Result<Vec<u8>, serde_json::Error> {
    let mut text = serde_json::to_vec_pretty(&Body::of(snapshot))?;
    text.push(b'\n');
    Ok(text)
}

#[derive(Serialize)]
struct Body<'a> {
    version: &'static str,
    state: &'static str,
    ready: bool,
    /// Why it is not ready.
    reason: Option<String>,
    uptime_seconds: f64,
    listening: &'a [String],
    memory: Memory,
    connections: Connections,
    acks: Option<Acks>,
    receivers: Vec<Receiver>,
    destinations: Vec<Destination<'a>>,
}

#[derive(Serialize)]
struct Memory {
    max_bytes: usize,
    receiving_bytes: usize,
    receiving_max_bytes: usize,
    queued_bytes: usize,
    resident_bytes: Option<u64>,
}

#[derive(Serialize)]
struct Connections {
    open: u64,
    refused: u64,
}

#[derive(Serialize)]
struct Acks {
    level: &'static str,
    waiting: usize,
    max_waiting: usize,
    waiting_bytes: usize,
    max_waiting_bytes: usize,
}

#[derive(Serialize)]
struct Receiver {
    receiver: &'static str,
    transport: &'static str,
    requests: Requests,
    spans: Spans,
    bytes: u64,
}

#[derive(Serialize)]
struct Requests {
    accepted: u64,
    refused: u64,
    deferred: u64,
    broken: u64,
    dropped: u64,
    unacknowledged: u64,
}

#[derive(Serialize)]
struct Spans {
    accepted: u64,
    refused: u64,
    deferred: u64,
    dropped: u64,
}

#[derive(Serialize)]
struct Destination<'a> {
    name: &'a str,
    spans: DestinationSpans,
    queue: Queue,
    exports: usize,
    trouble: Option<String>,
    next_attempt_seconds: Option<f64>,
    causes: Causes<'a>,
}

#[derive(Serialize)]
struct DestinationSpans {
    received: u64,
    delivered: u64,
    refused: u64,
    dropped: Dropped,
    queued: u64,
    in_flight: u64,
}

#[derive(Serialize)]
struct Queue {
    bytes: usize,
    max_bytes: usize,
    batches: usize,
}

/// Writes every reason, also those that did not occur.
struct Dropped(Losses);

impl Serialize for Dropped {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(DropReason::ALL.len()))?;
        for reason in DropReason::ALL {
            map.serialize_entry(reason.as_str(), &self.0.of(reason))?;
        }
        map.end()
    }
}

/// Writes why spans were lost or refused, for each reason that occurred and is known.
struct Causes<'a>(&'a DestinationStatus);

impl Serialize for Causes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(refusal) = &self.0.refusal {
            map.serialize_entry("refused", &health::shorten(refusal))?;
        }
        for (reason, cause) in &self.0.causes {
            map.serialize_entry(reason.as_str(), &health::shorten(cause))?;
        }
        map.end()
    }
}

impl<'a> Body<'a> {
    fn of(snapshot: &'a Snapshot) -> Self {
        let agent = &snapshot.agent;
        let readiness = health::readiness(agent);
        Self {
            version: env!("CARGO_PKG_VERSION"),
            state: agent.state.as_str(),
            ready: readiness.is_ok(),
            reason: readiness.err(),
            uptime_seconds: agent.uptime.as_secs_f64(),
            listening: &snapshot.listening,
            memory: Memory {
                max_bytes: agent.memory.max,
                receiving_bytes: agent.memory.receiving,
                receiving_max_bytes: agent.memory.receiving_max,
                queued_bytes: agent.destinations.iter().map(|to| to.bytes).sum(),
                resident_bytes: snapshot.process.resident_bytes,
            },
            connections: Connections {
                open: agent.connections,
                refused: agent.connections_refused,
            },
            acks: agent.acks.as_ref().map(Acks::of),
            receivers: agent.receivers.iter().map(Receiver::of).collect(),
            destinations: agent.destinations.iter().map(Destination::of).collect(),
        }
    }
}

impl Acks {
    fn of(status: &AckStatus) -> Self {
        Self {
            level: match status.level {
                AckLevel::Delivered => "delivered",
                _ => "queued",
            },
            waiting: status.waiting,
            max_waiting: status.max_waiting,
            waiting_bytes: status.waiting_bytes,
            max_waiting_bytes: status.max_bytes,
        }
    }
}

impl Receiver {
    fn of(status: &ReceiverStatus) -> Self {
        Self {
            receiver: status.transport.receiver(),
            transport: status.transport.as_str(),
            requests: Requests {
                accepted: status.accepted_requests,
                refused: status.refused_requests,
                deferred: status.deferred_requests,
                broken: status.broken_requests,
                dropped: status.dropped_requests,
                unacknowledged: status.unacknowledged_requests,
            },
            spans: Spans {
                accepted: status.accepted_spans,
                refused: status.refused_spans,
                deferred: status.deferred_spans,
                dropped: status.dropped_spans,
            },
            bytes: status.bytes,
        }
    }
}

impl<'a> Destination<'a> {
    fn of(status: &'a DestinationStatus) -> Self {
        Self {
            name: &status.name,
            spans: DestinationSpans::of(&status.account),
            queue: Queue {
                bytes: status.bytes,
                max_bytes: status.bytes_max,
                batches: status.batches,
            },
            exports: status.exports,
            trouble: status.trouble.as_deref().map(health::shorten),
            next_attempt_seconds: status.next_attempt.map(|wait| wait.as_secs_f64()),
            causes: Causes(status),
        }
    }
}

impl DestinationSpans {
    fn of(account: &Account) -> Self {
        Self {
            received: account.received,
            delivered: account.delivered,
            refused: account.refused,
            dropped: Dropped(account.dropped),
            queued: account.queued,
            in_flight: account.in_flight,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use serde_json::json;

    use super::super::tests::snapshot;
    use super::*;
    use crate::agent::State;

    fn read(snapshot: &Snapshot) -> Value {
        serde_json::from_slice(&encode(snapshot).unwrap()).unwrap()
    }

    #[test]
    fn the_fields_are_those_that_are_promised() {
        let expected = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "state": "running",
            "ready": true,
            "reason": null,
            "uptime_seconds": 12.5,
            "listening": ["grpc://127.0.0.1:4317", "http://127.0.0.1:4318"],
            "memory": {
                "max_bytes": 268_435_456,
                "receiving_bytes": 4096,
                "receiving_max_bytes": 100_663_296,
                "queued_bytes": 11_000,
                "resident_bytes": 20_971_520
            },
            "connections": {"open": 7, "refused": 2},
            "acks": {
                "level": "delivered", "waiting": 3, "max_waiting": 1024, "waiting_bytes": 3000,
                "max_waiting_bytes": 100_663_296
            },
            "receivers": [
                {
                    "receiver": "otlp",
                    "transport": "grpc",
                    "requests": {"accepted": 101, "refused": 102, "deferred": 103, "broken": 104, "dropped": 105, "unacknowledged": 106},
                    "spans": {"accepted": 1001, "refused": 1002, "deferred": 1003, "dropped": 1004},
                    "bytes": 10_001
                },
                {
                    "receiver": "otlp",
                    "transport": "http",
                    "requests": {"accepted": 201, "refused": 202, "deferred": 203, "broken": 204, "dropped": 205, "unacknowledged": 206},
                    "spans": {"accepted": 2001, "refused": 2002, "deferred": 2003, "dropped": 2004},
                    "bytes": 20_001
                }
            ],
            "destinations": [
                {
                    "name": "grpc://one.example.com:4317",
                    "spans": {
                        "received": 3002,
                        "delivered": 2900,
                        "refused": 10,
                        "dropped": {
                            "queue_full": 1,
                            "failed": 2,
                            "too_large": 3,
                            "expired": 4,
                            "filtered": 5,
                            "shutdown": 6,
                            "encode": 7
                        },
                        "queued": 54,
                        "in_flight": 10
                    },
                    "queue": {"bytes": 10_000, "max_bytes": 50_331_648, "batches": 3},
                    "exports": 1,
                    "trouble": null,
                    "next_attempt_seconds": null,
                    "causes": {"refused": "no such tenant", "failed": "connection lost"}
                },
                {
                    "name": "http://two.example.com:4318",
                    "spans": {
                        "received": 3002,
                        "delivered": 3002,
                        "refused": 0,
                        "dropped": {
                            "queue_full": 0,
                            "failed": 0,
                            "too_large": 0,
                            "expired": 0,
                            "filtered": 0,
                            "shutdown": 0,
                            "encode": 0
                        },
                        "queued": 0,
                        "in_flight": 0
                    },
                    "queue": {"bytes": 1000, "max_bytes": 50_331_648, "batches": 0},
                    "exports": 0,
                    "trouble": "cannot connect to two.example.com:4318: refused",
                    "next_attempt_seconds": 90.5,
                    "causes": {}
                }
            ]
        });
        assert_eq!(read(&snapshot()), expected);
    }

    #[test]
    fn an_agent_that_is_not_ready_says_why() {
        let mut shown = snapshot();
        shown.agent.state = State::Stopping;
        let body = read(&shown);
        assert_eq!(body["state"], "stopping");
        assert_eq!(body["ready"], false);
        assert!(body["reason"].as_str().unwrap().contains("stopping"));
    }

    #[test]
    fn what_the_system_does_not_tell_is_null() {
        let mut shown = snapshot();
        shown.process = Default::default();
        assert_eq!(read(&shown)["memory"]["resident_bytes"], Value::Null);
    }

    #[test]
    fn every_field_is_told_in_the_page() {
        let page = include_str!("../../../../docs/monitoring.md");
        let mut names = Vec::new();
        collect_names(&read(&snapshot()), &mut names);
        assert!(names.len() > 40);
        for name in names {
            assert!(
                page.contains(&format!("`{name}`")) || page.contains(&format!("\"{name}\"")),
                "docs/monitoring.md does not tell of {name}"
            );
        }
    }

    fn collect_names(value: &Value, names: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    names.push(name.clone());
                    collect_names(value, names);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| collect_names(item, names)),
            _ => {}
        }
    }
}
