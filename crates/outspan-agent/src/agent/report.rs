//! What an agent says on standard error: that it started, that it stops, what became of everything.

use std::time::Duration;

use super::Agent;
use crate::screen::Screen;
use crate::screen::Tone;
use crate::signals::Signal;
use crate::units::show_counted;
use crate::units::show_duration;

/// Says where the agent listens and where it sends to.
pub(super) fn started(screen: &Screen, agent: &Agent) {
    for address in agent.addresses() {
        screen.say(format_args!("listening on {address}"));
    }
    for to in agent.status().destinations {
        screen.say(format_args!("sending to {}", to.name));
    }
}

/// Says that the agent stops, and what it still has to do.
pub(super) fn stopping(screen: &Screen, signal: Signal, agent: &Agent, limit: Duration) {
    let open: u64 = agent
        .status()
        .destinations
        .iter()
        .map(|to| to.account.open())
        .sum();
    let limit = show_duration(limit);
    screen.say(match open {
        0 => format!("{signal}: stopping"),
        _ => format!(
            "{signal}: delivering {} within {limit}; a second signal stops at once",
            show_counted(open, "span")
        ),
    });
}

/// Says that the agent stops without delivering what it holds.
pub(super) fn stopping_now(screen: &Screen, signal: Signal) {
    screen.tell(
        Tone::Warning,
        format_args!("{signal} again: stopping at once"),
    );
}

/// Says what became of everything, and returns the exit status.
pub(super) fn stopped(screen: &Screen, agent: &Agent) -> u8 {
    let status = agent.status();
    let refused = match status.refused() {
        0 => String::new(),
        refused => format!(", refused {}", show_counted(refused, "invalid span")),
    };
    screen.say(format_args!(
        "received {}{refused} in {}",
        show_counted(status.accepted(), "span"),
        show_duration(status.uptime)
    ));
    let mut is_complete = true;
    for to in &status.destinations {
        let account = &to.account;
        let is_whole = account.refused == 0 && account.dropped.total() == 0;
        is_complete &= is_whole;
        let mut text = format!(
            "{}: delivered {}",
            to.name,
            show_counted(account.delivered, "span")
        );
        if account.refused > 0 {
            text += &format!(", refused {}", account.refused);
        }
        if account.dropped.total() > 0 {
            text += &format!(", lost {} ({})", account.dropped.total(), account.dropped);
        }
        match is_whole {
            true => screen.say(text),
            false => screen.tell(Tone::Warning, text),
        }
    }
    u8::from(!is_complete)
}
