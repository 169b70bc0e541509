//! Visits that end with an error: one trace each, from the cause up to the customer.

use super::script::At;
use super::script::Failure;
use super::script::Outcome;
use super::script::Script;
use super::shape::Service;
use super::visits;

/// The card provider does not answer, twice.
pub(super) fn payment_times_out(script: &mut Script<'_>) {
    check_out(script, |s, at| {
        let items = s.random.i64(1..=3);
        visits::reserve(s, at, items)?;
        s.call(at, Service::Payment, ("shop.Payment", "Charge"), |s, at| {
            for attempt in 1..=2 {
                let url = "https://cards.example.com/v2/charges";
                s.post(at, "cards.example.com", url, |s, at| {
                    s.set(at, "http.request.resend_count", attempt - 1);
                    s.pass(1_000_000, 1_000_400);
                    s.fail(at, "timeout", "no answer within 1 s");
                });
                s.event(at, "no answer", vec![("attempt", attempt.into())]);
            }
            let stack = "shop::payment::charge\n  at src/charge.rs:87\nshop::payment::serve\n  at src/main.rs:41";
            s.exception(at, "shop::payment::Timeout", "cards.example.com: no answer within 1 s", stack);
            Err(failure(4, 504, "DEADLINE_EXCEEDED", "the card provider does not answer"))
        })
    });
}

/// The database of the stock ends one of two transactions that wait for each other.
pub(super) fn stock_deadlocks(script: &mut Script<'_>) {
    check_out(script, |s, at| {
        s.call(at, Service::Stock, ("shop.Stock", "Reserve"), |s, at| {
            let text =
                "UPDATE stock SET reserved = reserved + $1 WHERE product = $2 AND free >= $1";
            s.statement(at, ("UPDATE", "stock"), text, |s, at| {
                s.pass(1_000_000, 1_050_000);
                s.set(at, "db.response.status_code", "40P01");
                let stack = "shop::stock::reserve\n  at src/reserve.rs:112\nshop::stock::serve\n  at src/main.rs:48";
                s.exception(at, "shop::stock::Deadlock", "deadlock detected", stack);
                s.fail(at, "40P01", "deadlock detected");
            });
            Err(failure(13, 500, "INTERNAL", "cannot reserve: deadlock detected"))
        })
    });
}

/// The cache is gone, and the database has no connection left for those who come instead.
pub(super) fn catalogue_is_down(script: &mut Script<'_>) {
    let product = script.random.u32(1..=240);
    let path = format!("/products/{product}");
    script.request("GET", "/products/{id}", path, |s, at| {
        let began = s.now();
        let found = s.call(
            at,
            Service::Catalogue,
            ("shop.Catalogue", "GetProduct"),
            |s, at| {
                s.set(at, "product.id", i64::from(product));
                s.event(at, "cache unreachable", vec![("cache.errors", 3.into())]);
                let text = "SELECT * FROM products WHERE id = $1";
                s.statement(at, ("SELECT", "products"), text, |s, at| {
                    s.pass(250_000, 251_000);
                    let stack = "shop::catalogue::Pool::get\n  at src/pool.rs:64\nshop::catalogue::find\n  at src/find.rs:23";
                    s.exception(at, "shop::catalogue::PoolExhausted", "32 of 32 connections are taken", stack);
                    s.fail(at, "shop::catalogue::PoolExhausted", "32 of 32 connections are taken");
                });
                Err(failure(14, 503, "UNAVAILABLE", "no connection to the database"))
            },
        );
        s.meanwhile(began, |s| visits::show_cart(s, at))?;
        found
    });
}

/// An order that comes to an end in `work`.
fn check_out(script: &mut Script<'_>, work: impl FnOnce(&mut Script<'_>, At) -> Outcome<()>) {
    let order = format!("o-{}", script.random.u32(100_000..999_999));
    script.request("POST", "/checkout", "/checkout".to_owned(), |s, at| {
        let method = ("shop.Checkout", "PlaceOrder");
        s.call(at, Service::Checkout, method, |s, at| {
            s.set(at, "order.id", order.clone());
            visits::show_cart(s, at)?;
            work(s, at)
        })?;
        Ok(201)
    });
}

fn failure(grpc: i64, http: i64, kind: &'static str, message: &'static str) -> Failure {
    Failure {
        grpc,
        http,
        kind,
        message: message.into(),
    }
}
