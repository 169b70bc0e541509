//! Visits where all is well.

use outspan::wire::otlp::SpanKind;

use super::script::At;
use super::script::Outcome;
use super::script::Script;
use super::shape::Service;

/// Somebody opens the front page.
pub(super) fn come_in(script: &mut Script<'_>) {
    script.request("GET", "/", "/".to_owned(), |s, at| {
        let began = s.now();
        s.call(
            at,
            Service::Catalogue,
            ("shop.Catalogue", "ListFeatured"),
            |s, at| {
                let shelves = s.random.i64(2..=4);
                s.set(at, "shelf.count", shelves);
                for shelf in 0..shelves {
                    s.cache(at, "MGET", format!("shelf:{shelf}"));
                }
                Ok(())
            },
        )?;
        s.meanwhile(began, |s| show_cart(s, at))?;
        render(s, at, "front.html");
        Ok(200)
    });
}

/// Somebody looks at a product.
pub(super) fn look(script: &mut Script<'_>) {
    let product = script.random.u32(1..=240);
    let path = format!("/products/{product}");
    script.request("GET", "/products/{id}", path, |s, at| {
        let began = s.now();
        s.call(
            at,
            Service::Catalogue,
            ("shop.Catalogue", "GetProduct"),
            |s, at| {
                s.set(at, "product.id", i64::from(product));
                find_product(s, at, product);
                s.set(at, "product.price", f64::from(product) * 0.25 + 4.99);
                let tags: &[&str] = &["tea", "green", "größe: 100 g"];
                s.set(at, "product.tags", tags);
                Ok(())
            },
        )?;
        s.meanwhile(began, |s| show_cart(s, at))?;
        render(s, at, "product.html");
        Ok(200)
    });
}

/// Somebody puts something into the cart.
pub(super) fn fill_cart(script: &mut Script<'_>) {
    let path = "/cart/items".to_owned();
    script.request("POST", "/cart/items", path, |s, at| {
        let cart = s.random.u32(100_000..999_999);
        let quantity = s.random.i64(1..=5);
        s.call(at, Service::Cart, ("shop.Cart", "AddItem"), |s, at| {
            s.set(at, "cart.id", format!("c-{cart}"));
            s.set(at, "item.quantity", quantity);
            s.call(at, Service::Stock, ("shop.Stock", "Look"), |s, at| {
                let text = "SELECT free FROM stock WHERE product = $1";
                s.query(at, ("SELECT", "stock"), text, 1);
                let free = s.random.i64(5..400);
                s.set(at, "stock.free", free);
                Ok(())
            })?;
            if quantity > 4 {
                let attributes = vec![("limit", 4.into()), ("quantity", quantity.into())];
                s.event(at, "quantity limited", attributes);
            }
            s.cache(at, "HSET", format!("cart:{cart}"));
            Ok(())
        })?;
        Ok(303)
    });
}

/// Somebody orders and pays, and the order is sent later: another trace, with a link to the first.
pub(super) fn check_out(script: &mut Script<'_>) {
    let order = format!("o-{}", script.random.u32(100_000..999_999));
    let mut announced = None;
    script.request("POST", "/checkout", "/checkout".to_owned(), |s, at| {
        s.call(
            at,
            Service::Checkout,
            ("shop.Checkout", "PlaceOrder"),
            |s, at| {
                announced = place_order(s, at, &order)?;
                Ok(())
            },
        )?;
        Ok(if announced.is_some() { 201 } else { 402 })
    });
    if let Some(message) = announced {
        script.end_trace();
        script.pass(80_000, 1_500_000);
        send_parcel(script, message, &order);
    }
}

/// A job inside one service, that goes deep.
pub(super) fn recommend(script: &mut Script<'_>) {
    let name = "recommend";
    script.span(
        Service::Catalogue,
        None,
        name,
        SpanKind::Internal,
        |s, at| {
            s.set(at, "job.name", "recommendations");
            let text = "SELECT user_id, product FROM visits WHERE day = $1";
            let rows = s.random.i64(1_000..20_000);
            s.query(at, ("SELECT", "visits"), text, rows);
            refine(s, at, 1);
            s.succeed(at);
        },
    );
}

fn refine(script: &mut Script<'_>, parent: At, level: i64) {
    script.step(parent, "refine", |s, at| {
        s.set(at, "level", level);
        s.pass(2_000, 20_000);
        s.set(at, "loss", 1.0 / level as f64);
        if level < 5 {
            refine(s, at, level + 1);
        }
    });
}

/// Reads what is in the cart.
pub(super) fn show_cart(script: &mut Script<'_>, at: At) -> Outcome<()> {
    script.call(at, Service::Cart, ("shop.Cart", "GetCart"), |s, at| {
        let cart = s.random.u32(100_000..999_999);
        s.set(at, "cart.id", format!("c-{cart}"));
        s.cache(at, "HGETALL", format!("cart:{cart}"));
        Ok(())
    })
}

fn find_product(script: &mut Script<'_>, at: At, product: u32) {
    let key = format!("product:{product}");
    if script.cache(at, "GET", key.clone()) {
        return;
    }
    let text = "SELECT * FROM products WHERE id = $1";
    script.query(at, ("SELECT", "products"), text, 1);
    script.cache(at, "SET", key);
}

fn render(script: &mut Script<'_>, at: At, template: &'static str) {
    script.step(at, "render", |s, at| {
        s.set(at, "template.name", template);
        s.pass(900, 6_000);
    });
}

/// Reserves, charges, writes the order down, and announces it, unless the card is declined: that is no error of ours.
fn place_order(script: &mut Script<'_>, at: At, order: &str) -> Outcome<Option<At>> {
    let items = script.random.i64(1..=3);
    script.set(at, "order.id", order.to_owned());
    script.set(at, "order.items", items);
    show_cart(script, at)?;
    reserve(script, at, items)?;
    if !charge(script, at)? {
        script.event(
            at,
            "order cancelled",
            vec![("order.id", order.to_owned().into())],
        );
        return Ok(None);
    }
    let text = "INSERT INTO orders (id, items, total) VALUES ($1, $2, $3)";
    script.query(at, ("INSERT", "orders"), text, 0);
    let message = script.span(
        Service::Checkout,
        Some(at),
        "send orders",
        SpanKind::Producer,
        |s, at| {
            s.set_all(
                at,
                &[
                    ("messaging.system", "kafka"),
                    ("messaging.destination.name", "orders"),
                    ("messaging.operation.name", "send"),
                    ("messaging.operation.type", "send"),
                    ("messaging.destination.partition.id", "3"),
                ],
            );
            s.set(at, "messaging.kafka.message.key", order.to_owned());
            s.pass(600, 4_000);
            at
        },
    );
    Ok(Some(message))
}

/// Puts goods aside for an order.
pub(super) fn reserve(script: &mut Script<'_>, at: At, items: i64) -> Outcome<()> {
    script.call(at, Service::Stock, ("shop.Stock", "Reserve"), |s, at| {
        s.set(at, "item.count", items);
        let text = "UPDATE stock SET reserved = reserved + $1 WHERE product = $2 AND free >= $1";
        s.query(at, ("UPDATE", "stock"), text, 0);
        Ok(())
    })
}

/// Charges a card; false if it is declined. Now and then the first attempt is slow and comes to nothing.
fn charge(script: &mut Script<'_>, at: At) -> Outcome<bool> {
    script.call(at, Service::Payment, ("shop.Payment", "Charge"), |s, at| {
        let is_busy = s.random.u32(0..8) == 0;
        let is_declined = s.random.u32(0..12) == 0;
        if is_busy {
            charge_once(s, at, 429);
            s.event(at, "trying again", vec![("attempt", 1.into())]);
            s.pass(50_000, 80_000);
        }
        charge_once(s, at, if is_declined { 402 } else { 200 });
        if is_declined {
            s.set(at, "card.declined", true);
        }
        Ok(!is_declined)
    })
}

fn charge_once(script: &mut Script<'_>, at: At, status: i64) {
    let url = "https://cards.example.com/v2/charges";
    script.post(at, "cards.example.com", url, |s, at| {
        s.pass(35_000, 240_000);
        s.set(at, "http.response.status_code", status);
    });
}

/// Reads an order from the queue and sends it.
fn send_parcel(script: &mut Script<'_>, message: At, order: &str) {
    script.span(
        Service::Shipping,
        None,
        "process orders",
        SpanKind::Consumer,
        |s, at| {
            s.set_all(
                at,
                &[
                    ("messaging.system", "kafka"),
                    ("messaging.destination.name", "orders"),
                    ("messaging.operation.name", "process"),
                    ("messaging.operation.type", "process"),
                    ("messaging.consumer.group.name", "shipping"),
                    ("messaging.destination.partition.id", "3"),
                ],
            );
            let offset = s.random.i64(10_000..90_000);
            s.set(at, "messaging.kafka.offset", offset);
            let why = vec![("messaging.kafka.message.key", order.to_owned().into())];
            s.link(at, message, why);
            s.set(at, "order.id", order.to_owned());
            let text = "INSERT INTO parcels (id, order_id) VALUES ($1, $2)";
            s.query(at, ("INSERT", "parcels"), text, 0);
            let url = "https://parcels.example.com/v1/labels";
            s.post(at, "parcels.example.com", url, |s, at| {
                s.pass(20_000, 160_000);
                s.set(at, "http.response.status_code", 201);
            });
            s.event(at, "parcel ready", vec![("parcel.weight", 1.25.into())]);
        },
    );
}
