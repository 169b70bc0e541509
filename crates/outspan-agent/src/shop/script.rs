//! What visits are told with: a clock of their own, spans around work, calls between services.

use std::borrow::Cow;

use fastrand::Rng;
use outspan::wire::otlp::SpanKind;

use super::shape::Event;
use super::shape::Link;
use super::shape::Service;
use super::shape::Span;
use super::shape::Status;
use super::shape::Trace;
use super::shape::Value;
use super::shape::Visit;

/// Writes down one visit. Time is made up and passes where [`pass`](Self::pass) says so.
#[derive(Debug)]
pub(super) struct Script<'a> {
    pub(super) random: &'a mut Rng,
    /// Nanoseconds since the visit began.
    now: u64,
    done: Vec<Trace>,
    spans: Vec<Span>,
}

/// A span of the trace that is being told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At(usize);

/// Says why a call failed, for each of those whom it concerns.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// gRPC's status code.
    pub(super) grpc: i64,
    /// The status that the customer's browser gets.
    pub(super) http: i64,
    /// The value of `error.type`.
    pub(super) kind: &'static str,
    pub(super) message: Cow<'static, str>,
}

/// What a call comes to.
pub(super) type Outcome<R> = std::result::Result<R, Failure>;

impl<'a> Script<'a> {
    pub(super) fn new(random: &'a mut Rng) -> Self {
        Self {
            random,
            now: 0,
            done: Vec::new(),
            spans: Vec::new(),
        }
    }

    /// Ends the visit.
    pub(super) fn end(mut self, about: &'static str) -> Visit {
        self.end_trace();
        Visit {
            about,
            traces: self.done,
        }
    }

    /// Ends the trace; what comes now belongs to the next one.
    pub(super) fn end_trace(&mut self) {
        let spans = std::mem::take(&mut self.spans);
        self.done.push(Trace { spans });
    }

    /// Lets time pass, in microseconds.
    pub(super) fn pass(&mut self, least: u64, most: u64) {
        self.now += self.random.u64(least * 1000..=most * 1000);
    }

    /// Does something at the same time as what was done since `began`, which is a time that [`now`](Self::now) told.
    pub(super) fn meanwhile<R>(&mut self, began: u64, work: impl FnOnce(&mut Self) -> R) -> R {
        let end_of_other = std::mem::replace(&mut self.now, began);
        let result = work(self);
        self.now = self.now.max(end_of_other);
        result
    }

    /// The time, in nanoseconds since the visit began.
    pub(super) fn now(&self) -> u64 {
        self.now
    }

    /// Makes a span around some work. Time passes on the way in and on the way out.
    pub(super) fn span<R>(
        &mut self,
        service: Service,
        parent: Option<At>,
        name: impl Into<Cow<'static, str>>,
        kind: SpanKind,
        work: impl FnOnce(&mut Self, At) -> R,
    ) -> R {
        let at = At(self.spans.len());
        self.spans.push(Span {
            service,
            parent: parent.map(|at| at.0),
            name: name.into(),
            kind,
            start: self.now,
            end: self.now,
            attributes: Vec::new(),
            events: Vec::new(),
            links: Vec::new(),
            status: Status::Unset,
        });
        self.pass(20, 400);
        let result = work(self, at);
        self.pass(20, 400);
        self.spans[at.0].end = self.now;
        result
    }

    /// Sets an attribute.
    pub(super) fn set(&mut self, at: At, key: &'static str, value: impl Into<Value>) {
        self.spans[at.0].attributes.push((key, value.into()));
    }

    /// Sets attributes that are texts known before.
    pub(super) fn set_all(&mut self, at: At, attributes: &[(&'static str, &'static str)]) {
        for (key, value) in attributes {
            self.set(at, key, *value);
        }
    }

    /// Adds an event that happens now.
    pub(super) fn event(
        &mut self,
        at: At,
        name: &'static str,
        attributes: Vec<(&'static str, Value)>,
    ) {
        let time = self.now;
        self.spans[at.0].events.push(Event {
            name,
            time,
            attributes,
        });
    }

    /// Adds the event of an exception (semantic conventions, "Exceptions on spans").
    pub(super) fn exception(
        &mut self,
        at: At,
        kind: &'static str,
        message: &'static str,
        stack: &'static str,
    ) {
        let attributes = vec![
            ("exception.type", kind.into()),
            ("exception.message", message.into()),
            ("exception.stacktrace", stack.into()),
        ];
        self.event(at, "exception", attributes);
    }

    /// Adds a link to a span of the trace before.
    pub(super) fn link(&mut self, at: At, to: At, attributes: Vec<(&'static str, Value)>) {
        if let Some(trace) = self.done.len().checked_sub(1) {
            self.spans[at.0].links.push(Link {
                trace,
                span: to.0,
                attributes,
            });
        }
    }

    /// Ends a span with an error.
    pub(super) fn fail(
        &mut self,
        at: At,
        kind: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) {
        self.set(at, "error.type", kind);
        self.spans[at.0].status = Status::Error(message.into());
    }

    /// Ends a span with the word that all is well.
    pub(super) fn succeed(&mut self, at: At) {
        self.spans[at.0].status = Status::Ok;
    }

    /// The service of a span.
    fn service(&self, at: At) -> Service {
        self.spans[at.0].service
    }

    /// Makes a request of a browser, which is a trace's root.
    pub(super) fn request(
        &mut self,
        method: &'static str,
        route: &'static str,
        path: String,
        work: impl FnOnce(&mut Self, At) -> Outcome<i64>,
    ) {
        const BROWSERS: [&str; 4] = [
            "Mozilla/5.0 (X11; Linux x86_64; rv:148.0) Gecko/20100101 Firefox/148.0",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 19_3 like Mac OS X) AppleWebKit/605.1.15",
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/144.0.0.0 Safari/537.36",
            "shop-app/7.2 (Android 16)",
        ];
        let name = format!("{method} {route}");
        self.span(Service::Frontend, None, name, SpanKind::Server, |s, at| {
            let browser = BROWSERS[s.random.usize(0..BROWSERS.len())];
            let address = format!("203.0.113.{}", s.random.u8(1..=254));
            s.set(at, "http.request.method", method);
            s.set(at, "http.route", route);
            s.set(at, "url.path", path);
            s.set(at, "url.scheme", "https");
            s.set(at, "network.protocol.version", "2");
            s.set(at, "server.address", "shop.example.com");
            s.set(at, "client.address", address);
            s.set(at, "user_agent.original", browser);
            let status = match work(s, at) {
                Ok(status) => status,
                Err(failure) => {
                    s.fail(at, failure.kind, failure.message);
                    failure.http
                }
            };
            s.set(at, "http.response.status_code", status);
        });
    }

    /// Calls another service over gRPC: a span on either side, and the network in between.
    pub(super) fn call<R>(
        &mut self,
        from: At,
        to: Service,
        (rpc_service, rpc_method): (&'static str, &'static str),
        work: impl FnOnce(&mut Self, At) -> Outcome<R>,
    ) -> Outcome<R> {
        let name = format!("{rpc_service}/{rpc_method}");
        let caller = self.service(from);
        let describe = |s: &mut Self, at: At| {
            s.set(at, "rpc.system", "grpc");
            s.set(at, "rpc.service", rpc_service);
            s.set(at, "rpc.method", rpc_method);
            s.set(at, "server.address", to.name());
            s.set(at, "server.port", 8080);
        };
        let end = |s: &mut Self, at: At, outcome: &Outcome<R>| match outcome {
            Ok(_) => s.set(at, "rpc.grpc.status_code", 0),
            Err(failure) => {
                s.set(at, "rpc.grpc.status_code", failure.grpc);
                s.fail(at, failure.kind, failure.message.clone());
            }
        };
        let server_name = name.clone();
        self.span(caller, Some(from), name, SpanKind::Client, |s, client| {
            describe(s, client);
            s.pass(150, 700);
            let outcome = s.span(
                to,
                Some(client),
                server_name,
                SpanKind::Server,
                |s, server| {
                    describe(s, server);
                    let outcome = work(s, server);
                    end(s, server, &outcome);
                    outcome
                },
            );
            s.pass(150, 700);
            end(s, client, &outcome);
            outcome
        })
    }

    /// Asks the service's database.
    pub(super) fn query(
        &mut self,
        parent: At,
        (operation, table): (&'static str, &'static str),
        text: &'static str,
        rows: i64,
    ) {
        self.statement(parent, (operation, table), text, |s, at| {
            s.pass(400, 9_000);
            s.set(at, "db.response.returned_rows", rows);
        });
    }

    /// Asks the service's database, which does what `work` says.
    pub(super) fn statement<R>(
        &mut self,
        parent: At,
        (operation, table): (&'static str, &'static str),
        text: &'static str,
        work: impl FnOnce(&mut Self, At) -> R,
    ) -> R {
        let service = self.service(parent);
        let name = format!("{operation} {table}");
        self.span(service, Some(parent), name, SpanKind::Client, |s, at| {
            s.set(at, "db.system.name", "postgresql");
            s.set(at, "db.namespace", service.name());
            s.set(at, "db.operation.name", operation);
            s.set(at, "db.collection.name", table);
            s.set(at, "db.query.text", text);
            s.set(at, "server.address", "db.example.com");
            s.set(at, "server.port", 5432);
            work(s, at)
        })
    }

    /// Asks the service's cache; true if it knew.
    pub(super) fn cache(&mut self, parent: At, command: &'static str, key: String) -> bool {
        let service = self.service(parent);
        self.span(service, Some(parent), command, SpanKind::Client, |s, at| {
            s.set(at, "db.system.name", "redis");
            s.set(at, "db.operation.name", command);
            s.set(at, "db.query.text", format!("{command} {key}"));
            s.set(at, "server.address", "cache.example.com");
            s.pass(80, 500);
            let is_hit = s.random.u32(0..10) < 7;
            s.set(at, "cache.hit", is_hit);
            is_hit
        })
    }

    /// Asks somebody else's service over HTTP.
    pub(super) fn post<R>(
        &mut self,
        parent: At,
        host: &'static str,
        url: &'static str,
        work: impl FnOnce(&mut Self, At) -> R,
    ) -> R {
        let service = self.service(parent);
        self.span(service, Some(parent), "POST", SpanKind::Client, |s, at| {
            s.set(at, "http.request.method", "POST");
            s.set(at, "url.full", url);
            s.set(at, "server.address", host);
            s.set(at, "server.port", 443);
            s.set(at, "network.protocol.version", "1.1");
            work(s, at)
        })
    }

    /// Does something inside a service.
    pub(super) fn step(
        &mut self,
        parent: At,
        name: &'static str,
        work: impl FnOnce(&mut Self, At),
    ) {
        let service = self.service(parent);
        self.span(service, Some(parent), name, SpanKind::Internal, work);
    }
}
