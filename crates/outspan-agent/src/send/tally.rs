//! What became of every span and record.

use outspan::Delivery;
use outspan::Drained;

use crate::units::show_count;
use crate::units::show_counted;

/// Counts what was read and what became of it.
///
/// `read = delivered + refused + failed + invalid + waiting`, at all times, in spans.
/// Records that could not be read are counted apart, because nobody knows how many spans they held.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Records that were read.
    pub(crate) records: u64,
    /// Records that could not be read.
    pub(crate) bad_records: u64,
    /// Spans of the records that were read.
    pub(crate) read: u64,
    /// Spans that the destination acknowledged.
    pub(crate) delivered: u64,
    /// Spans that the destination refused for good.
    pub(crate) refused: u64,
    /// Spans that were not delivered for any other reason.
    pub(crate) failed: u64,
    /// Spans without valid ids, which no destination would take.
    pub(crate) invalid: u64,
    /// Bytes of payload that went over the wire, attempts that failed included.
    pub(crate) wire_bytes: u64,
    /// Whether closing the exporter failed.
    pub(crate) is_not_closed: bool,
    /// What the destination said and what went wrong, each text once.
    pub(crate) reasons: Reasons,
}

impl Tally {
    /// A record was read: it holds `valid` spans, and `invalid` ones that end here.
    pub(crate) fn record(&mut self, valid: u64, invalid: u64, reason: Option<&str>) {
        self.records += 1;
        self.read += valid + invalid;
        self.invalid += invalid;
        if invalid > 0 {
            let reason = reason.unwrap_or("no valid trace id and span id");
            self.reasons.add(Outcome::Invalid, reason, invalid);
        }
    }

    /// A record could not be read.
    pub(crate) fn bad_record(&mut self, reason: &str) {
        self.bad_records += 1;
        self.reasons.add(Outcome::Bad, reason, 1);
    }

    /// An export of `spans` spans came to an end.
    pub(crate) fn settle(&mut self, spans: u64, result: &outspan::Result<Delivery>) {
        match result {
            Ok(delivery) => self.settle_delivery(spans, delivery),
            Err(error) => {
                self.wire_bytes += error.attempt().wire_bytes;
                self.fail_with(spans, error);
            }
        }
    }

    fn settle_delivery(&mut self, spans: u64, delivery: &Delivery) {
        self.wire_bytes += delivery.attempt.wire_bytes;
        // No more than the batch held, whatever an exporter claims, so that the account closes.
        let accepted = delivery.accepted.min(spans);
        let refused = delivery.refused.min(spans - accepted);
        self.delivered += accepted;
        self.refused += refused;
        match &delivery.message {
            Some(message) if refused > 0 => self.reasons.add(Outcome::Refused, message, refused),
            Some(warning) => self.reasons.add(Outcome::Warning, warning, 1),
            None if refused > 0 => {
                let silent = "the destination gave no reason";
                self.reasons.add(Outcome::Refused, silent, refused);
            }
            None => {}
        }
        let mut left = spans - accepted - refused;
        for part in &delivery.rest {
            let spans = left.min(part.batch.spans() as u64);
            self.fail_with(spans, &part.error);
            left -= spans;
        }
        if left > 0 {
            self.fail(left, "the exporter did not say what became of them");
        }
    }

    /// Counts an error's spans as refused where the destination refused them, else as failed.
    fn fail_with(&mut self, spans: u64, error: &outspan::Error) {
        let text = error.chain().to_string();
        match error.kind() {
            outspan::ErrorKind::Refused | outspan::ErrorKind::TooLarge => {
                self.refused += spans;
                self.reasons.add(Outcome::Refused, &text, spans);
            }
            _ => self.fail(spans, &text),
        }
    }

    /// Spans were not delivered.
    pub(crate) fn fail(&mut self, spans: u64, reason: &str) {
        if spans > 0 {
            self.failed += spans;
            self.reasons.add(Outcome::Failed, reason, spans);
        }
    }

    /// Closing the exporter lost spans that it had taken.
    pub(crate) fn drained(&mut self, drained: &Drained) {
        let refused = drained.refused.min(self.delivered);
        self.delivered -= refused;
        self.refused += refused;
        if refused > 0 {
            let text = "refused when the exporter was closed";
            self.reasons.add(Outcome::Refused, text, refused);
        }
        let lost = (drained.lost.total() + drained.left).min(self.delivered);
        self.delivered -= lost;
        self.fail(lost, "lost when the exporter was closed");
    }

    /// The exporter could not be closed as it should, so what it was still writing may be missing.
    pub(crate) fn not_closed(&mut self, reason: &str) {
        self.is_not_closed = true;
        self.reasons.add(Outcome::Closing, reason, 1);
    }

    /// Spans that have not come to an end yet.
    pub(crate) fn waiting(&self) -> u64 {
        let settled = self.delivered + self.refused + self.failed + self.invalid;
        self.read.saturating_sub(settled)
    }

    /// Whether everything that was read was delivered.
    pub(crate) fn is_complete(&self) -> bool {
        self.delivered == self.read && self.bad_records == 0 && !self.is_not_closed
    }
}

/// Says what became of what a reason stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The destination refused spans.
    Refused,
    /// Spans were not delivered.
    Failed,
    /// Spans have no valid ids.
    Invalid,
    /// A record cannot be read.
    Bad,
    /// The exporter could not be closed as it should.
    Closing,
    /// The destination said something and took everything.
    Warning,
}

/// Keeps each text once, with how often it was the reason. Bounded: what comes late is counted without its text.
#[derive(Debug, Default)]
pub(crate) struct Reasons {
    known: Vec<Reason>,
    further: Vec<(Outcome, u64)>,
}

#[derive(Debug)]
struct Reason {
    outcome: Outcome,
    text: String,
    count: u64,
}

impl Reasons {
    /// How many texts are kept for each outcome.
    const TEXTS_MAX: usize = 5;

    fn add(&mut self, outcome: Outcome, text: &str, count: u64) {
        let same = |reason: &&mut Reason| reason.outcome == outcome && reason.text == text;
        if let Some(known) = self.known.iter_mut().find(same) {
            known.count += count;
            return;
        }
        let of_outcome = self.known.iter().filter(|known| known.outcome == outcome);
        if of_outcome.count() < Self::TEXTS_MAX {
            self.known.push(Reason {
                outcome,
                text: text.to_owned(),
                count,
            });
            return;
        }
        match self.further.iter_mut().find(|(known, _)| *known == outcome) {
            Some((_, further)) => *further += count,
            None => self.further.push((outcome, count)),
        }
    }

    /// Writes the reasons for an outcome, one a line, each with its count when there are several.
    pub(crate) fn write(&self, out: &mut String, outcome: Outcome) {
        let further = self.further.iter().find(|(known, _)| *known == outcome);
        let known = self.known.iter().filter(|known| known.outcome == outcome);
        let several = further.is_some() || known.clone().count() > 1;
        for reason in known {
            write_reason(out, several.then_some(reason.count), &reason.text);
        }
        if let Some((_, count)) = further {
            write_reason(out, Some(*count), "other reasons");
        }
    }
}

fn write_reason(out: &mut String, count: Option<u64>, text: &str) {
    let count = count.map(|count| format!("{}: ", show_count(count)));
    let count = count.unwrap_or_default();
    out.push_str(&format!("    {count}{}\n", printable(text)));
}

/// Shows text of others on one line, without characters that act on a terminal, and not more than a screen of it.
pub(crate) fn printable(text: &str) -> String {
    const CHARACTERS_MAX: usize = 1000;

    let mut out = String::with_capacity(text.len().min(CHARACTERS_MAX));
    for (i, c) in text.trim().chars().enumerate() {
        if i == CHARACTERS_MAX {
            out.push('…');
            break;
        }
        match c {
            '\n' | '\r' | '\t' => out.push(' '),
            c if c.is_control() || is_direction(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// Whether a character turns the direction of writing, which makes a line read as something else.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Says what became of everything that was read, a line each, with the reasons below.
pub(crate) fn show_outcomes(tally: &Tally) -> String {
    let outcomes = [
        (
            tally.refused,
            "span",
            "refused by the destination",
            Outcome::Refused,
        ),
        (tally.failed, "span", "failed", Outcome::Failed),
        (tally.invalid, "span", "invalid, not sent", Outcome::Invalid),
        (tally.bad_records, "record", "bad, not sent", Outcome::Bad),
    ];
    let mut out = format!("  {} delivered\n", show_counted(tally.delivered, "span"));
    for (count, noun, what, outcome) in outcomes {
        if count > 0 {
            out.push_str(&format!("  {} {what}\n", show_counted(count, noun)));
            tally.reasons.write(&mut out, outcome);
        }
    }
    if tally.is_not_closed {
        out.push_str("  closing the destination failed, so the last spans may be missing\n");
        tally.reasons.write(&mut out, Outcome::Closing);
    }
    out
}

#[cfg(test)]
mod tests {
    use outspan::Error;

    use super::*;

    #[test]
    fn every_span_that_was_read_comes_to_one_end() {
        let mut tally = Tally::default();
        tally.record(90, 2, Some("the trace id is zero"));
        tally.record(8, 0, None);
        assert_eq!((tally.read, tally.waiting()), (100, 98));
        let mut partial = Delivery::default();
        partial.accepted = 45;
        partial.refused = 5;
        partial.message = Some("too old".into());
        tally.settle(50, &Ok(partial));
        tally.settle(40, &Err(Error::unavailable("cannot connect")));
        tally.settle(8, &Err(Error::refused("no")));
        assert_eq!(tally.waiting(), 0);
        assert!(!tally.is_complete());
        assert_eq!(
            show_outcomes(&tally),
            "  45 spans delivered\n  \
               13 spans refused by the destination\n    5: too old\n    8: no\n  \
               40 spans failed\n    cannot connect\n  \
               2 spans invalid, not sent\n    the trace id is zero\n"
        );
    }

    #[test]
    fn an_exporter_that_says_too_much_or_too_little_cannot_break_the_account() {
        let mut tally = Tally::default();
        tally.record(20, 0, None);
        let mut boast = Delivery::default();
        boast.accepted = 100;
        boast.refused = 100;
        tally.settle(10, &Ok(boast));
        assert_eq!((tally.delivered, tally.refused), (10, 0));
        tally.settle(10, &Ok(Delivery::default()));
        assert_eq!((tally.failed, tally.waiting()), (10, 0));
    }

    #[test]
    fn what_is_lost_at_the_end_was_not_delivered() {
        let mut tally = Tally::default();
        tally.record(10, 0, None);
        let mut all = Delivery::default();
        all.accepted = 10;
        tally.settle(10, &Ok(all));
        assert!(tally.is_complete());
        let mut drained = Drained::default();
        drained.lost.add(outspan::DropReason::Failed, 3);
        drained.refused = 1;
        tally.drained(&drained);
        assert_eq!((tally.delivered, tally.failed, tally.refused), (6, 3, 1));
        assert!(!tally.is_complete());
    }

    #[test]
    fn reasons_are_bounded_and_none_is_uncounted() {
        let mut tally = Tally::default();
        for i in 0..100 {
            tally.bad_record(&format!("line {i}"));
        }
        let shown = show_outcomes(&tally);
        assert!(shown.contains("100 records bad"), "{shown}");
        assert!(
            shown.contains("1: line 4\n    95: other reasons"),
            "{shown}"
        );
        assert!(!shown.contains("line 5"), "{shown}");
    }

    #[test]
    fn words_of_a_server_cannot_act_on_the_terminal() {
        assert_eq!(printable("a\x1b[31m\nb\u{202e}"), "a\\u{1b}[31m b\\u{202e}");
        assert_eq!(printable(&"x".repeat(5000)).chars().count(), 1001);
    }
}
