//! Where every span is: on one line while it runs, and at the end, when it adds up.

use std::time::Duration;

use outspan::Account;

use crate::pipeline::DestinationStatus;
use crate::units::show_count;
use crate::units::show_counted;
use crate::units::show_duration;
use crate::units::show_rate;

/// Holds the numbers of one moment.
#[derive(Clone, Debug)]
pub(super) struct Numbers {
    pub(super) elapsed: Duration,
    /// What the shop made.
    pub(super) made: u64,
    pub(super) traces: u64,
    /// What became of it in the library, over all services.
    pub(super) library: Account,
    /// Spans that the agent accepted, and those that it refused because they are invalid.
    pub(super) received: u64,
    pub(super) invalid: u64,
    /// What became of what the agent accepted.
    pub(super) destinations: Vec<DestinationStatus>,
    /// What people saw, where anything is shown.
    pub(super) shown: Option<ShownNumbers>,
}

/// Says what was shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShownNumbers {
    pub(super) spans: u64,
    pub(super) traces: u64,
    /// Whether everything is shown that comes.
    pub(super) is_all: bool,
}

impl Numbers {
    /// Says how things stand, on one line.
    pub(super) fn line(&self) -> String {
        let made = show_count(self.made);
        let delivered = show_count(self.library.delivered);
        let received = show_count(self.received);
        let queued = show_count(self.queued());
        let lost = show_count(self.lost());
        let rate = show_rate(self.made, self.elapsed);
        let passed_on = match self.shown {
            Some(shown) => format!("{} shown", show_count(shown.spans)),
            None => format!("{} passed on", show_count(self.passed_on())),
        };
        format!(
            "{made} made, {delivered} delivered, {received} received, {passed_on}, {queued} queued, {lost} lost, {rate}"
        )
    }

    /// Whether every span that was made came to where it should, as far as each station knows.
    pub(super) fn is_complete(&self) -> bool {
        let library = &self.library;
        library.received == self.made
            && library.delivered == self.made
            && self.received >= self.made
            && self.destinations.iter().all(|to| {
                to.account.received == self.received && to.account.delivered == self.received
            })
    }

    /// Says what became of everything, a line for each station.
    pub(super) fn summary(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "made {} in {} by 7 services in {} ({})",
            show_counted(self.made, "span"),
            show_counted(self.traces, "trace"),
            show_duration(self.elapsed),
            show_rate(self.made, self.elapsed),
        )];
        lines.push(self.of_library());
        lines.push(self.agent());
        for to in &self.destinations {
            let received = show_count(to.account.received);
            let ends = ends_of(&to.account);
            lines.push(format!("{}: {received} received = {ends}", to.name));
        }
        lines.extend(self.shown.map(|shown| self.window(shown)));
        lines.push(self.verdict());
        lines
    }

    fn of_library(&self) -> String {
        let seen = show_count(self.library.received);
        let ends = ends_of(&self.library);
        match self.made.saturating_sub(self.library.received) {
            0 => format!("library: {seen} made = {ends}"),
            unseen => format!(
                "library: {seen} made in time = {ends} ({} came when it had stopped)",
                show_count(unseen)
            ),
        }
    }

    /// What the library delivered, as the agent saw it.
    fn agent(&self) -> String {
        let mut line = format!("agent: {} received", show_count(self.received));
        let delivered = self.library.delivered;
        if self.invalid > 0 {
            line += &format!(", {} refused as invalid", show_count(self.invalid));
        }
        if self.received > delivered {
            let more = show_count(self.received - delivered);
            line += &format!(" ({more} of them again, or after the library had stopped waiting)");
        }
        if self.received < delivered {
            let less = show_count(delivered - self.received);
            line += &format!(" ({less} fewer than the library delivered)");
        }
        line
    }

    fn window(&self, shown: ShownNumbers) -> String {
        let seen = format!(
            "shown: {} in {}",
            show_counted(shown.spans, "span"),
            show_counted(shown.traces, "tree")
        );
        let unseen = self.passed_on().saturating_sub(shown.spans);
        match unseen {
            0 => seen,
            _ if shown.is_all => seen,
            _ => format!(
                "{seen}, {} not, so that you can read; --trees 0 shows all",
                show_count(unseen)
            ),
        }
    }

    fn verdict(&self) -> String {
        match (self.is_complete(), self.lost_at_last()) {
            (true, _) => "nothing was lost".to_owned(),
            (false, 0) => "the numbers do not agree, please report this bug".to_owned(),
            (false, lost) => format!("{} lost or refused", were(lost)),
        }
    }

    /// What the slowest destination has.
    fn passed_on(&self) -> u64 {
        let each = self.destinations.iter().map(|to| to.account.delivered);
        each.min().unwrap_or(0)
    }

    fn queued(&self) -> u64 {
        let each = self.destinations.iter().map(|to| to.account.open());
        self.library.open() + each.sum::<u64>()
    }

    /// Spans that did not come to where they should, for each destination.
    fn lost(&self) -> u64 {
        let each = self.destinations.iter().map(|to| lost(&to.account));
        lost(&self.library) + self.invalid + each.sum::<u64>()
    }

    /// The same at the end, when nothing is on its way any more.
    fn lost_at_last(&self) -> u64 {
        // What the SDK does not take any more, because it is being shut down, the library never saw.
        let unseen = self.made.saturating_sub(self.library.received);
        self.lost() + self.queued() + unseen
    }
}

fn were(spans: u64) -> String {
    let verb = if spans == 1 { "was" } else { "were" };
    format!("{} {verb}", show_counted(spans, "span"))
}

fn lost(account: &Account) -> u64 {
    account.refused + account.dropped.total()
}

/// What became of the spans of an account, in a sum.
fn ends_of(account: &Account) -> String {
    let mut text = format!("{} delivered", show_count(account.delivered));
    if account.refused > 0 {
        text += &format!(" + {} refused", show_count(account.refused));
    }
    let dropped = account.dropped.total();
    text += &format!(" + {} lost", show_count(dropped));
    if dropped > 0 {
        text += &format!(" ({})", account.dropped);
    }
    if account.open() > 0 {
        text += &format!(" + {} cut off", show_count(account.open()));
    }
    text
}

#[cfg(test)]
mod tests {
    use outspan::DropReason;

    use super::*;

    fn account(delivered: u64, lost: u64) -> Account {
        let mut account = Account::default();
        account.received = delivered + lost;
        account.delivered = delivered;
        account.dropped.add(DropReason::Shutdown, lost);
        account
    }

    fn numbers(library: Account, received: u64, destination: Account) -> Numbers {
        Numbers {
            elapsed: Duration::from_secs(5),
            made: 1000,
            traces: 90,
            library,
            received,
            invalid: 0,
            destinations: vec![DestinationStatus {
                name: "standard output".into(),
                account: destination,
                bytes: 0,
                bytes_max: 1,
                batches: 0,
                exports: 0,
                trouble: None,
                next_attempt: None,
                causes: Vec::new(),
                refusal: None,
            }],
            shown: Some(ShownNumbers {
                spans: 120,
                traces: 11,
                is_all: false,
            }),
        }
    }

    #[test]
    fn a_good_end_adds_up() {
        let numbers = numbers(account(1000, 0), 1000, account(1000, 0));
        assert!(numbers.is_complete());
        assert_eq!(
            numbers.summary(),
            [
                "made 1,000 spans in 90 traces by 7 services in 5.00 s (200 spans/s)",
                "library: 1,000 made = 1,000 delivered + 0 lost",
                "agent: 1,000 received",
                "standard output: 1,000 received = 1,000 delivered + 0 lost",
                "shown: 120 spans in 11 trees, 880 not, so that you can read; --trees 0 shows all",
                "nothing was lost",
            ]
        );
        assert_eq!(
            numbers.line(),
            "1,000 made, 1,000 delivered, 1,000 received, 120 shown, 0 queued, 0 lost, 200 spans/s"
        );
    }

    #[test]
    fn every_loss_is_told_where_it_happened() {
        let lossy = numbers(account(990, 10), 990, account(983, 7));
        assert!(!lossy.is_complete());
        let told = lossy.summary().join("\n");
        assert!(
            told.contains("library: 1,000 made = 990 delivered + 10 lost ("),
            "{told}"
        );
        assert!(
            told.contains("standard output: 990 received = 983 delivered + 7 lost ("),
            "{told}"
        );
        assert!(told.ends_with("17 spans were lost or refused"), "{told}");
    }

    #[test]
    fn what_a_second_signal_cut_off_is_lost() {
        let mut library = account(990, 0);
        library.received = 1000;
        library.queued = 10;
        let cut = numbers(library, 990, account(990, 0)).summary();
        assert_eq!(
            cut[1],
            "library: 1,000 made = 990 delivered + 0 lost + 10 cut off"
        );
        assert_eq!(
            cut.last().map(String::as_str),
            Some("10 spans were lost or refused")
        );
    }

    #[test]
    fn what_was_made_too_late_is_lost() {
        let late = numbers(account(998, 0), 998, account(998, 0)).summary();
        assert_eq!(
            late[1],
            "library: 998 made in time = 998 delivered + 0 lost (2 came when it had stopped)"
        );
        assert_eq!(
            late.last().map(String::as_str),
            Some("2 spans were lost or refused")
        );
    }

    #[test]
    fn numbers_that_do_not_agree_are_not_called_complete() {
        let lost_on_the_way = numbers(account(1000, 0), 999, account(999, 0));
        assert!(!lost_on_the_way.is_complete());
        let told = lost_on_the_way.summary().join("\n");
        assert!(
            told.contains("(1 fewer than the library delivered)"),
            "{told}"
        );
        let twice = numbers(account(1000, 0), 1010, account(1010, 0));
        assert!(twice.is_complete(), "what was sent again is not lost");
        assert!(twice.summary()[2].contains("10 of them again"));
    }
}
