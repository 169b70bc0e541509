//! A small shop of seven services, as traces: what `outspan demo` shows and `outspan generate` sends.
//!
//! One seed makes the same visits each time. Time in them is made up, so a request of a second takes no second, and
//! nothing here has ids or dates: those come from whoever makes spans of it.

mod failures;
mod script;
mod shape;
#[cfg(test)]
mod tests;
mod visits;

use fastrand::Rng;

pub(crate) use self::shape::Service;
pub(crate) use self::shape::Span;
pub(crate) use self::shape::Status;
pub(crate) use self::shape::Trace;
pub(crate) use self::shape::Value;
pub(crate) use self::shape::Visit;

use self::script::Script;

/// Makes visits to the shop.
#[derive(Debug)]
pub(crate) struct Shop {
    random: Rng,
    errors: ErrorShare,
}

impl Shop {
    /// Opens a shop where so many of a hundred traces have errors.
    pub(crate) fn new(random: Rng, errors_percent: f64) -> Self {
        Self {
            random,
            errors: ErrorShare::new(errors_percent),
        }
    }

    /// The next visit. It fails when it is time for another error.
    pub(crate) fn visit(&mut self) -> Visit {
        let visit = match self.errors.is_due() {
            true => self.failing_visit(),
            false => self.good_visit(),
        };
        self.errors.count(&visit);
        visit
    }

    /// A visit without any error.
    pub(crate) fn good_visit(&mut self) -> Visit {
        match self.random.u32(0..100) {
            0..20 => self.tell("front page", visits::come_in),
            20..45 => self.tell("product", visits::look),
            45..65 => self.tell("cart", visits::fill_cart),
            65..95 => self.tell("checkout", visits::check_out),
            _ => self.tell("recommendations", visits::recommend),
        }
    }

    /// A visit of one trace, whose root ends with an error.
    pub(crate) fn failing_visit(&mut self) -> Visit {
        match self.random.u32(0..3) {
            0 => self.tell("payment timeout", failures::payment_times_out),
            1 => self.tell("stock deadlock", failures::stock_deadlocks),
            _ => self.tell("catalogue outage", failures::catalogue_is_down),
        }
    }

    fn tell(&mut self, about: &'static str, story: fn(&mut Script<'_>)) -> Visit {
        let mut script = Script::new(&mut self.random);
        story(&mut script);
        script.end(about)
    }
}

/// Keeps the share of traces with errors as exact as whole traces can be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ErrorShare {
    share: f64,
    traces: u64,
    failed: u64,
}

impl ErrorShare {
    pub(crate) fn new(percent: f64) -> Self {
        Self {
            share: percent / 100.0,
            traces: 0,
            failed: 0,
        }
    }

    /// Whether the next trace should have an error.
    pub(crate) fn is_due(&self) -> bool {
        (self.failed as f64) + 0.5 < self.share * (self.traces + 1) as f64
    }

    /// Counts the traces of a visit.
    pub(crate) fn count(&mut self, visit: &Visit) {
        let failed = visit.traces.iter().filter(|trace| trace.has_error());
        self.failed += failed.count() as u64;
        self.traces += visit.traces.len() as u64;
    }
}
