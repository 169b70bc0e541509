//! A small shop of several services that makes traces as real ones do, and says at the end what was delivered.
//!
//! ```text
//! cargo run --example shop                                         to an OTLP receiver at localhost:4318
//! OTEL_TRACES_EXPORTER=console cargo run --example shop            to the terminal
//! cargo run --example shop -- --file traces.jsonl --seed 1         to a file, the same one for the same seed
//! cargo run --example shop -- --traces 100000 --every 50           a trace every 50 ms, until Ctrl-C
//! ```
//!
//! It reads the environment that every OpenTelemetry program reads; see the documentation of `outspan::env`. The time in
//! the traces is made up, so that a request of a second takes no second.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use opentelemetry::Array;
use opentelemetry::Context;
use opentelemetry::KeyValue;
use opentelemetry::SpanId;
use opentelemetry::StringValue;
use opentelemetry::TraceId;
use opentelemetry::Value;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::SpanContext;
use opentelemetry::trace::SpanKind;
use opentelemetry::trace::Status;
use opentelemetry::trace::TraceContextExt;
use opentelemetry::trace::Tracer;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::IdGenerator;
use opentelemetry_sdk::trace::SdkTracer;
use outspan::Exporter;
use outspan::Guard;
use outspan::env::Settings;
use outspan::file;

const HELP: &str = "\
usage: shop [--traces NUMBER] [--seed NUMBER] [--file PATH] [--every MILLISECONDS]

  --traces NUMBER        how many traces to make (40)
  --seed NUMBER          the same traces for the same number, at a fixed date
  --file PATH            OTLP JSON lines into a file, instead of what the environment says
  --every MILLISECONDS   a pause after each trace (0); Ctrl-C ends the program early
";

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(text) => {
            eprint!("{text}");
            return ExitCode::from(2);
        }
    };
    // What the library says of trouble; the spans themselves do not come this way.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::WARN)
        .init();
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("shop: {}", error.chain());
            ExitCode::FAILURE
        }
    }
}

/// Opens the shop, serves customers, and closes it; true if every span was delivered.
fn run(options: &Options) -> outspan::Result<bool> {
    let mut shop = Shop::open(options)?;
    let stop = stop_on_ctrl_c();
    for number in 1..=options.traces {
        shop.serve();
        if options.file.is_some() && number % 8 == 0 {
            shop.flush()?;
        }
        if stop.recv_timeout(options.every).is_ok() {
            eprintln!("shop: stopping");
            break;
        }
    }
    shop.close(options)
}

/// The way for programs: a signal ends the work, `main` returns, and what is left is delivered on the way. Signals are the
/// program's business, so the library handles none.
fn stop_on_ctrl_c() -> Receiver<()> {
    let (stop, stopped) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("the system has a thread more");
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            // Nobody listens any more when the shop is closing anyway.
            stop.send(()).ok();
        }
    });
    stopped
}

/// What the command line says.
struct Options {
    traces: u64,
    seed: Option<u64>,
    file: Option<String>,
    every: Duration,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            traces: 40,
            seed: None,
            file: None,
            every: Duration::ZERO,
        };
        while let Some(name) = arguments.next() {
            if name == "--help" {
                return Err(HELP.to_owned());
            }
            let value = arguments.next();
            let value = value.ok_or(format!("shop: {name} needs a value\n\n{HELP}"))?;
            let number = || {
                let problem = |_| format!("shop: {name} {value}: expected a number\n\n{HELP}");
                value.parse::<u64>().map_err(problem)
            };
            match name.as_str() {
                "--traces" => options.traces = number()?,
                "--seed" => options.seed = Some(number()?),
                "--file" => options.file = Some(value),
                "--every" => options.every = Duration::from_millis(number()?),
                _ => return Err(format!("shop: unknown option {name}\n\n{HELP}")),
            }
        }
        Ok(options)
    }
}

/// A service with tracing of its own, as if it were a process of its own.
struct Service {
    name: &'static str,
    guard: Guard,
    tracer: SdkTracer,
}

impl Service {
    fn start(
        name: &'static str,
        version: &'static str,
        settings: &Settings,
        ids: &Ids,
        exporter: Option<&Exporter>,
    ) -> outspan::Result<Self> {
        let ids = ids.clone();
        let mut builder = outspan::builder()
            .settings(settings.clone())
            // There is one global provider in a process, and this is seven services.
            .global(false)
            .service_name(name)
            .attribute(KeyValue::new("service.namespace", "shop"))
            .attribute(KeyValue::new("service.version", version))
            .attribute(KeyValue::new("service.instance.id", format!("{name}-1")))
            .attribute(KeyValue::new("deployment.environment.name", "example"))
            .attribute(KeyValue::new("host.name", "shop-01.example.com"))
            .provider(|provider| provider.with_id_generator(ids));
        if let Some(exporter) = exporter {
            // Only a flush sends a batch, so that the file is the same for the same seed.
            builder = builder
                .exporter(exporter.clone())
                .batch(|batch| batch.delay(Duration::from_secs(3600)));
        }
        let guard = builder.init()?;
        let tracer = guard.tracer("shop");
        Ok(Self {
            name,
            guard,
            tracer,
        })
    }
}

/// Ids that come from a seed, if there is one.
#[derive(Clone, Debug)]
struct Ids(Arc<Mutex<fastrand::Rng>>);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        let mut random = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        TraceId::from_bytes(random.u128(1..).to_be_bytes())
    }

    fn new_span_id(&self) -> SpanId {
        let mut random = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        SpanId::from_bytes(random.u64(1..).to_be_bytes())
    }
}

/// A span that is open.
struct Open {
    context: Context,
}

impl Open {
    fn set(&self, key: &'static str, value: impl Into<Value>) {
        self.context.span().set_attribute(KeyValue::new(key, value));
    }

    fn fail(&self, error: &'static str, message: String) {
        self.set("error.type", error);
        self.context.span().set_status(Status::error(message));
    }
}

/// The services, the random numbers, and the time in the traces.
struct Shop {
    services: Vec<Service>,
    random: fastrand::Rng,
    now: SystemTime,
    /// Orders that the mailer has not seen yet.
    placed: Vec<SpanContext>,
    orders: u64,
    stock: u64,
}

impl Shop {
    fn open(options: &Options) -> outspan::Result<Self> {
        const SERVICES: [(&str, &str); 7] = [
            ("frontend", "3.4.1"),
            ("catalogue", "1.12.0"),
            ("cart", "2.0.3"),
            ("checkout", "1.7.2"),
            ("payment", "0.9.8"),
            ("stock", "1.1.0"),
            ("mailer", "1.0.5"),
        ];
        let random = match options.seed {
            Some(seed) => fastrand::Rng::with_seed(seed),
            None => fastrand::Rng::new(),
        };
        let now = match options.seed {
            // 2026-03-14 09:26:53 UTC
            Some(_) => UNIX_EPOCH + Duration::from_secs(1_773_480_413),
            None => SystemTime::now(),
        };
        let ids = Ids(Arc::new(Mutex::new(random.clone())));
        let exporter = match &options.file {
            Some(path) => Some(file::json_lines(path).truncate().build()?),
            None => None,
        };
        let mut settings = Settings::from_env()?;
        let mut services = Vec::new();
        for (name, version) in SERVICES {
            let service = Service::start(name, version, &settings, &ids, exporter.as_ref())?;
            services.push(service);
            // Mistakes in the environment are told once.
            settings.warnings.clear();
        }
        Ok(Self {
            services,
            random,
            now,
            placed: Vec::new(),
            orders: 1000,
            stock: 6,
        })
    }

    fn flush(&self) -> outspan::Result<()> {
        for service in &self.services {
            let drained = service.guard.flush(Duration::from_secs(10))?;
            if !drained.is_complete() {
                eprintln!("shop: {}: {drained}", service.name);
            }
        }
        Ok(())
    }

    /// Delivers what is left and prints what became of all spans; true if every one was delivered.
    fn close(self, options: &Options) -> outspan::Result<bool> {
        const TIME: Duration = Duration::from_secs(10);

        if options.file.is_some() {
            self.flush()?;
        }
        // All at once, so that one deadline holds for all.
        std::thread::scope(|scope| {
            for service in &self.services {
                scope.spawn(|| {
                    if let Err(error) = service.guard.shutdown(TIME) {
                        eprintln!("shop: {}: {}", service.name, error.chain());
                    }
                });
            }
        });
        let mut all = true;
        eprintln!("service      ended  delivered  refused  dropped");
        for service in &self.services {
            let account = service.guard.account();
            let (name, ended, delivered) = (service.name, account.received, account.delivered);
            let (refused, dropped) = (account.refused, account.dropped.total());
            eprintln!("{name:<10} {ended:>7} {delivered:>10} {refused:>8} {dropped:>8}");
            all &= delivered == ended;
        }
        Ok(all)
    }

    /// Serves one customer.
    fn serve(&mut self) {
        match self.random.u32(0..100) {
            0..35 => self.browse(),
            35..55 => self.add_to_cart(),
            55..88 => self.check_out(),
            88..95 => self.recommend(),
            _ => self.health(),
        }
        if self.placed.len() >= 4 {
            self.send_mails();
        }
        self.pass(20_000, 900_000);
    }

    /// Lets time pass, in microseconds.
    fn pass(&mut self, least: u64, most: u64) {
        let time = self.random.u64(least..=most);
        self.now += Duration::from_micros(time) + Duration::from_nanos(self.random.u64(0..1000));
    }

    /// Makes a span of a service around some work. Time passes on the way in and on the way out.
    fn span<R>(
        &mut self,
        service: &str,
        parent: &Context,
        name: impl Into<String>,
        kind: SpanKind,
        attributes: Vec<KeyValue>,
        work: impl FnOnce(&mut Self, &Open) -> R,
    ) -> R {
        let tracer = self
            .services
            .iter()
            .find(|known| known.name == service)
            .map(|known| known.tracer.clone())
            .expect("every service of this file is started");
        let span = tracer
            .span_builder(name.into())
            .with_kind(kind)
            .with_start_time(self.now)
            .with_attributes(attributes)
            .start_with_context(&tracer, parent);
        let open = Open {
            context: parent.with_span(span),
        };
        self.pass(20, 400);
        let result = work(self, &open);
        self.pass(20, 400);
        open.context.span().end_with_timestamp(self.now);
        result
    }

    /// Calls another service: a span on either side, and the trace context in the headers between them.
    fn call<R>(
        &mut self,
        from: &str,
        to: &'static str,
        method: (&'static str, &'static str),
        parent: &Context,
        work: impl FnOnce(&mut Self, &Open) -> R,
    ) -> R {
        let (rpc_service, rpc_method) = method;
        let attributes = |port: i64| {
            vec![
                KeyValue::new("rpc.system", "grpc"),
                KeyValue::new("rpc.service", rpc_service),
                KeyValue::new("rpc.method", rpc_method),
                KeyValue::new("server.address", to),
                KeyValue::new("server.port", port),
            ]
        };
        let name = format!("{rpc_service}/{rpc_method}");
        let client = attributes(8080);
        self.span(
            from,
            parent,
            name.clone(),
            SpanKind::Client,
            client,
            |shop, open| {
                let propagator = TraceContextPropagator::new();
                let mut headers = HashMap::new();
                propagator.inject_context(&open.context, &mut headers);
                shop.pass(150, 700);
                let remote = propagator.extract_with_context(&Context::new(), &headers);
                let result = shop.span(to, &remote, name, SpanKind::Server, attributes(8080), work);
                shop.pass(150, 700);
                open.set("rpc.grpc.status_code", 0);
                result
            },
        )
    }

    /// Asks a database.
    fn query(
        &mut self,
        service: &str,
        parent: &Context,
        (operation, table): (&'static str, &'static str),
        text: &'static str,
        rows: i64,
    ) {
        let attributes = vec![
            KeyValue::new("db.system.name", "postgresql"),
            KeyValue::new("db.namespace", "shop"),
            KeyValue::new("db.operation.name", operation),
            KeyValue::new("db.collection.name", table),
            KeyValue::new("db.query.text", text),
            KeyValue::new("server.address", "db.example.com"),
        ];
        let name = format!("{operation} {table}");
        self.span(
            service,
            parent,
            name,
            SpanKind::Client,
            attributes,
            |shop, open| {
                shop.pass(400, 9_000);
                open.set("db.response.returned_rows", rows);
            },
        );
    }

    /// Asks the cache; true if it knew.
    fn cached(
        &mut self,
        service: &str,
        parent: &Context,
        command: &'static str,
        key: String,
    ) -> bool {
        let attributes = vec![
            KeyValue::new("db.system.name", "redis"),
            KeyValue::new("db.operation.name", command),
            KeyValue::new("db.query.text", format!("{command} {key}")),
        ];
        self.span(
            service,
            parent,
            command,
            SpanKind::Client,
            attributes,
            |shop, open| {
                shop.pass(80, 500);
                let is_hit = shop.random.u32(0..10) < 7;
                open.set("cache.hit", is_hit);
                is_hit
            },
        )
    }

    /// A request of a browser, with the status that the work answers.
    fn request(
        &mut self,
        method: &'static str,
        route: &'static str,
        path: String,
        work: impl FnOnce(&mut Self, &Open) -> i64,
    ) {
        const BROWSERS: [&str; 3] = [
            "Mozilla/5.0 (X11; Linux x86_64; rv:148.0) Gecko/20100101 Firefox/148.0",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 19_3 like Mac OS X) AppleWebKit/605.1.15",
            "shop-app/7.2 (Android 16)",
        ];
        let browser = BROWSERS[self.random.usize(0..BROWSERS.len())];
        let address = format!("203.0.113.{}", self.random.u8(1..=254));
        let attributes = vec![
            KeyValue::new("http.request.method", method),
            KeyValue::new("http.route", route),
            KeyValue::new("url.path", path),
            KeyValue::new("url.scheme", "https"),
            KeyValue::new("network.protocol.version", "2"),
            KeyValue::new("client.address", address),
            KeyValue::new("user_agent.original", browser),
        ];
        let name = format!("{method} {route}");
        let nowhere = Context::new();
        self.span(
            "frontend",
            &nowhere,
            name,
            SpanKind::Server,
            attributes,
            |shop, open| {
                let status = work(shop, open);
                open.set("http.response.status_code", status);
                if status >= 500 {
                    open.fail("500", format!("answered {status}"));
                }
            },
        );
    }

    fn browse(&mut self) {
        let product = self.random.u32(1..=240);
        let path = format!("/products/{product}");
        self.request("GET", "/products/{id}", path, |shop, open| {
            let method = ("shop.Catalogue", "GetProduct");
            shop.call(
                "frontend",
                "catalogue",
                method,
                &open.context,
                |shop, open| {
                    open.set("product.id", i64::from(product));
                    if !shop.cached(
                        "catalogue",
                        &open.context,
                        "GET",
                        format!("product:{product}"),
                    ) {
                        let text = "SELECT * FROM products WHERE id = $1";
                        shop.query("catalogue", &open.context, ("SELECT", "products"), text, 1);
                        shop.cached(
                            "catalogue",
                            &open.context,
                            "SET",
                            format!("product:{product}"),
                        );
                    }
                    open.set("product.price", f64::from(product) * 0.25 + 4.99);
                    open.set("product.tags", texts(&["tea", "green", "größe: 100 g"]));
                },
            );
            shop.span(
                "frontend",
                &open.context,
                "render",
                SpanKind::Internal,
                vec![],
                |shop, open| {
                    open.set("template.name", "product.html");
                    shop.pass(900, 6_000);
                },
            );
            200
        });
    }

    fn add_to_cart(&mut self) {
        let cart = self.random.u32(100_000..999_999);
        self.request(
            "POST",
            "/cart/items",
            "/cart/items".to_owned(),
            |shop, open| {
                let method = ("shop.Cart", "AddItem");
                shop.call("frontend", "cart", method, &open.context, |shop, open| {
                    let quantity = shop.random.i64(1..=5);
                    open.set("cart.id", format!("c-{cart}"));
                    open.set("item.quantity", quantity);
                    shop.cached("cart", &open.context, "HSET", format!("cart:{cart}"));
                    if quantity == 5 {
                        let attributes = vec![
                            KeyValue::new("limit", 4),
                            KeyValue::new("quantity", quantity),
                        ];
                        open.context.span().add_event_with_timestamp(
                            "quantity limited",
                            shop.now,
                            attributes,
                        );
                    }
                });
                303
            },
        );
    }

    fn check_out(&mut self) {
        self.request("POST", "/checkout", "/checkout".to_owned(), |shop, open| {
            let method = ("shop.Checkout", "PlaceOrder");
            let placed = shop.call(
                "frontend",
                "checkout",
                method,
                &open.context,
                Self::place_order,
            );
            match placed {
                Ok(()) => 201,
                Err(status) => status,
            }
        });
    }

    /// Reserves, charges, writes the order down, and announces it; else says with which status the request ends.
    fn place_order(&mut self, open: &Open) -> Result<(), i64> {
        self.orders += 1;
        let order = format!("o-{}", self.orders);
        let items = self.random.i64(1..=3);
        open.set("order.id", order.clone());
        open.set("order.items", items);
        let prices: Vec<f64> = (0..items)
            .map(|_| self.random.u32(99..9_999).into())
            .collect();
        open.set(
            "order.prices",
            Value::Array(Array::F64(prices.iter().map(|p| p / 100.0).collect())),
        );

        let method = ("shop.Stock", "Reserve");
        let reserved = self.call("checkout", "stock", method, &open.context, |shop, open| {
            shop.reserve(open, items)
        });
        if !reserved {
            open.fail("OutOfStock", "nothing left to reserve".to_owned());
            return Err(409);
        }
        let method = ("shop.Payment", "Charge");
        let charged = self.call("checkout", "payment", method, &open.context, Self::charge);
        if let Err(status) = charged {
            open.fail("PaymentFailed", format!("{order} is not paid"));
            return Err(status);
        }
        let text = "INSERT INTO orders (id, items, total) VALUES ($1, $2, $3)";
        self.query("checkout", &open.context, ("INSERT", "orders"), text, 0);
        self.publish(&open.context, order);
        Ok(())
    }

    fn reserve(&mut self, open: &Open, items: i64) -> bool {
        let text = "UPDATE stock SET reserved = reserved + $1 WHERE product = $2 AND free >= $1";
        self.query("stock", &open.context, ("UPDATE", "stock"), text, 0);
        if self.stock == 0 {
            // New goods arrive.
            self.stock = 6;
            let error = "OutOfStock";
            let attributes = vec![
                KeyValue::new("exception.type", "shop::stock::OutOfStock"),
                KeyValue::new("exception.message", format!("{items} wanted, 0 left")),
                KeyValue::new(
                    "exception.stacktrace",
                    "shop::stock::reserve\n  at src/reserve.rs:112\nshop::stock::serve\n  at src/main.rs:48",
                ),
            ];
            open.context
                .span()
                .add_event_with_timestamp("exception", self.now, attributes);
            open.fail(error, "out of stock".to_owned());
            return false;
        }
        self.stock -= 1;
        open.set(
            "stock.levels",
            Value::Array(Array::I64(vec![items, self.stock as i64])),
        );
        true
    }

    /// Charges a card at a provider that is not ours, which now and then is slow or says no.
    fn charge(&mut self, open: &Open) -> Result<(), i64> {
        let fate = self.random.u32(0..8);
        let attempts = if fate == 1 { 2 } else { 1 };
        for attempt in 1..=attempts {
            let attributes = vec![
                KeyValue::new("http.request.method", "POST"),
                KeyValue::new("url.full", "https://cards.example.com/v2/charges"),
                KeyValue::new("server.address", "cards.example.com"),
                KeyValue::new("server.port", 443),
                KeyValue::new("http.request.resend_count", attempt - 1),
            ];
            let is_slow = attempt < attempts;
            self.span(
                "payment",
                &open.context,
                "POST",
                SpanKind::Client,
                attributes,
                |shop, open| {
                    if is_slow {
                        shop.pass(1_000_000, 1_000_400);
                        return open.fail("timeout", "no answer within 1 s".to_owned());
                    }
                    shop.pass(35_000, 240_000);
                    open.set(
                        "http.response.status_code",
                        if fate == 0 { 402 } else { 200 },
                    );
                },
            );
            if is_slow {
                let attributes = vec![KeyValue::new("attempt", attempt)];
                open.context
                    .span()
                    .add_event_with_timestamp("trying again", self.now, attributes);
                self.pass(50_000, 80_000);
            }
        }
        if fate == 0 {
            open.set("card.declined", true);
            open.fail("CardDeclined", "the card was declined".to_owned());
            return Err(402);
        }
        Ok(())
    }

    /// Announces an order on a queue, which others read later.
    fn publish(&mut self, parent: &Context, order: String) {
        let attributes = vec![
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.destination.name", "orders"),
            KeyValue::new("messaging.operation.name", "send"),
            KeyValue::new("messaging.operation.type", "send"),
            KeyValue::new("messaging.kafka.message.key", order),
            KeyValue::new("messaging.destination.partition.id", "3"),
        ];
        self.span(
            "checkout",
            parent,
            "send orders",
            SpanKind::Producer,
            attributes,
            |shop, open| {
                shop.pass(600, 4_000);
                shop.placed.push(open.context.span().span_context().clone());
            },
        );
    }

    /// Reads several orders at once: a trace of its own, with a link to each order's.
    fn send_mails(&mut self) {
        let placed = std::mem::take(&mut self.placed);
        let attributes = vec![
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.destination.name", "orders"),
            KeyValue::new("messaging.operation.name", "process"),
            KeyValue::new("messaging.operation.type", "process"),
            KeyValue::new("messaging.consumer.group.name", "mailer"),
            KeyValue::new("messaging.batch.message_count", placed.len() as i64),
        ];
        let nowhere = Context::new();
        self.pass(100_000, 2_000_000);
        self.span(
            "mailer",
            &nowhere,
            "process orders",
            SpanKind::Consumer,
            attributes,
            |shop, open| {
                for (number, order) in placed.iter().enumerate() {
                    let why = vec![KeyValue::new("messaging.message.index", number as i64)];
                    open.context.span().add_link(order.clone(), why);
                }
                for _ in &placed {
                    let attributes = vec![
                        KeyValue::new("server.address", "smtp.example.com"),
                        KeyValue::new("server.port", 587),
                        KeyValue::new("mail.template", "thank-you"),
                    ];
                    shop.span(
                        "mailer",
                        &open.context,
                        "send mail",
                        SpanKind::Client,
                        attributes,
                        |shop, open| {
                            shop.pass(12_000, 60_000);
                            open.set("mail.size", shop.random.i64(2_000..9_000));
                        },
                    );
                }
            },
        );
    }

    /// A job inside one service, that goes deep.
    fn recommend(&mut self) {
        let attributes = vec![
            KeyValue::new("job.name", "recommendations"),
            KeyValue::new(
                "job.flags",
                Value::Array(Array::Bool(vec![true, false, true])),
            ),
        ];
        let nowhere = Context::new();
        self.span(
            "catalogue",
            &nowhere,
            "recommend",
            SpanKind::Internal,
            attributes,
            |shop, open| {
                let text = "SELECT user_id, product FROM visits WHERE day = $1";
                shop.query(
                    "catalogue",
                    &open.context,
                    ("SELECT", "visits"),
                    text,
                    18_204,
                );
                shop.refine(&open.context, 1);
                open.context.span().set_status(Status::Ok);
            },
        );
    }

    fn refine(&mut self, parent: &Context, level: i64) {
        let attributes = vec![KeyValue::new("level", level)];
        self.span(
            "catalogue",
            parent,
            "refine",
            SpanKind::Internal,
            attributes,
            |shop, open| {
                shop.pass(2_000, 20_000);
                open.set("loss", 1.0 / level as f64);
                if level < 6 {
                    shop.refine(&open.context, level + 1);
                }
            },
        );
    }

    fn health(&mut self) {
        self.request("GET", "/healthz", "/healthz".to_owned(), |shop, open| {
            let checked = texts(&["catalogue", "cart", "checkout"]);
            let attributes = vec![KeyValue::new("dependencies", checked)];
            let span = open.context.span();
            span.add_event_with_timestamp("checked", shop.now, attributes);
            204
        });
    }
}

fn texts(texts: &[&'static str]) -> Value {
    let texts = texts.iter().map(|text| StringValue::from(*text));
    Value::Array(Array::String(texts.collect()))
}
