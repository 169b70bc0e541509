//! The JSON of Jaeger's query API: `GET /api/traces/{id}`.
//!
//! ```text
//! answer    = { "data": [ trace* ], "total": 0, "limit": 0, "offset": 0, "errors": null }
//! trace     = { "traceID": hex, "spans": [ span* ], "processes": { "p1": process, ... }, "warnings": null }
//! span      = { "traceID": hex, "spanID": hex, "flags": number, "operationName": text, "references": [ reference* ],
//!               "startTime": microseconds, "duration": microseconds, "tags": [ tag* ], "logs": [ log* ], "processID": "p1",
//!               "warnings": null }
//! reference = { "refType": "CHILD_OF" / "FOLLOWS_FROM", "traceID": hex, "spanID": hex }
//! log       = { "timestamp": microseconds, "fields": [ tag* ] }
//! tag       = { "key": text, "type": "string" / "bool" / "int64" / "float64" / "binary", "value": ... }
//! process   = { "serviceName": text, "tags": [ tag* ] }
//! ```
//!
//! Integers beyond 2^53 are texts, bytes are base64, and a trace id of 64 bits has 16 digits, as Jaeger writes them. The parent is
//! the first reference.
//!
//! Source: what Jaeger 2.20 answers (its repository, `internal/uimodel`).

mod read;
mod write;

pub use read::read_query_json;
pub use write::write_query_json;
