//! What an agent says on standard error: that it started, that it stops, what became of everything.

use std::time::Duration;

use outspan::Account;

use super::Agent;
use super::Ending;
use super::Status;
use super::memory::Division;
use crate::arguments::AgentArguments;
use crate::destination::BROKEN_PIPE;
use crate::pipeline::DestinationStatus;
use crate::screen::Screen;
use crate::screen::Tone;
use crate::signals::Signal;
use crate::units::show_bytes;
use crate::units::show_count;
use crate::units::show_counted;
use crate::units::show_duration;

/// Says where the agent listens and where it sends to, and which limits are not those that were asked for.
pub(super) fn started(screen: &Screen, agent: &Agent, arguments: &AgentArguments) {
    for address in agent.addresses() {
        screen.say(format_args!("listening on {address}"));
    }
    for consumed in agent.consumed() {
        screen.say(format_args!("consuming {consumed}"));
    }
    let destinations = agent.status().destinations;
    for to in &destinations {
        screen.say(format_args!("sending to {}", to.name));
    }
    for line in lowered(arguments, destinations.len()) {
        screen.say(line);
    }
}

/// The limits that the bound of memory lowers.
fn lowered(arguments: &AgentArguments, destinations: usize) -> Vec<String> {
    let memory = show_bytes(arguments.memory as u64);
    let division = Division::of(arguments.memory, destinations);
    let request = division.queue.min(division.receiving);
    let mut lines = Vec::new();
    if request < arguments.receiving.max_request_size {
        lines.push(format!(
            "requests may have {} at most, because --memory is {memory}",
            show_bytes(request as u64)
        ));
    }
    if let Some(asked) = arguments.receiving.max_connections
        && division.connections < asked as usize
    {
        lines.push(format!(
            "there may be {} at most, because --memory is {memory}",
            show_counted(division.connections as u64, "connection")
        ));
    }
    lines
}

/// Says that the agent stops before it has accepted anything.
pub(super) fn stopped_early(screen: &Screen, signal: Signal) {
    screen.say(format_args!("{signal}: stopping, nothing was accepted yet"));
}

/// Says which files were read again, and which could not be used.
pub(super) fn reloaded(screen: &Screen, outcomes: Vec<Result<String, String>>) {
    if outcomes.is_empty() {
        screen.say("SIGHUP: no files of certificates or tokens to reload");
    }
    for outcome in outcomes {
        match outcome {
            Ok(what) => screen.say(format_args!("SIGHUP: reloaded {what}")),
            Err(why) => screen.tell(
                Tone::Error,
                format_args!("SIGHUP: not reloaded, the content of before stays in use: {why}"),
            ),
        }
    }
}

/// Says that the agent stops, and what it still has to do.
pub(super) fn stopping(screen: &Screen, why: Ending, agent: &Agent, limit: Duration) {
    let status = agent.status();
    if is_quiet_end(why, &status) {
        return;
    }
    let why = match why {
        Ending::Signal(signal) => signal.to_string(),
        Ending::ReaderGone => "nobody reads standard output any more".into(),
    };
    // The largest number, not the sum: with several destinations most spans are in several queues.
    let accounts = status.destinations.iter().map(|to| to.account.open());
    let limit = show_duration(limit);
    screen.say(match accounts.max().unwrap_or_default() {
        0 => format!("{why}: stopping"),
        open => format!(
            "{why}: delivering {} within {limit}; a second signal stops at once",
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
pub(super) fn stopped(screen: &Screen, why: Ending, agent: &Agent) -> u8 {
    let status = agent.status();
    if is_quiet_end(why, &status) {
        return BROKEN_PIPE;
    }
    match status.dropped() {
        0 => screen.say(received(&status)),
        _ => screen.tell(Tone::Warning, received(&status)),
    }
    for to in &status.destinations {
        match is_whole(&to.account) {
            true => screen.say(outcome(to)),
            false => screen.tell(Tone::Warning, outcome(to)),
        }
        for line in causes(to) {
            screen.tell(Tone::Warning, line);
        }
    }
    let is_complete =
        status.dropped() == 0 && status.destinations.iter().all(|to| is_whole(&to.account));
    match why {
        Ending::ReaderGone => BROKEN_PIPE,
        Ending::Signal(_) => u8::from(!is_complete),
    }
}

/// Whether the agent ends as any program does whose output is read no more: without a word, like `head` expects it.
fn is_quiet_end(why: Ending, status: &Status) -> bool {
    why == Ending::ReaderGone && status.destinations.len() == 1
}

fn is_whole(account: &Account) -> bool {
    account.refused == 0 && account.dropped.total() == 0
}

fn received(status: &Status) -> String {
    let accepted = show_counted(status.accepted(), "span");
    let refused = match status.refused() {
        0 => String::new(),
        refused => format!(", refused {}", show_counted(refused, "invalid span")),
    };
    let dropped = match status.dropped() {
        0 => String::new(),
        dropped => format!(
            ", lost {} that came over UDP and found no room",
            show_counted(dropped, "span")
        ),
    };
    format!(
        "received {accepted}{refused}{dropped} in {}",
        show_duration(status.uptime)
    )
}

/// Says what became of every span that was handed to a destination's queue.
fn outcome(to: &DestinationStatus) -> String {
    let account = &to.account;
    let delivered = show_count(account.delivered);
    let received = show_counted(account.received, "span");
    let mut text = format!("{}: delivered {delivered} of {received}", to.name);
    if account.refused > 0 {
        text += &format!(", refused {}", show_count(account.refused));
    }
    let lost = account.dropped.total();
    if lost > 0 {
        text += &format!(", lost {} ({})", show_count(lost), account.dropped);
    }
    text
}

/// Says why spans were lost or refused, a line for each cause that is known.
fn causes(to: &DestinationStatus) -> Vec<String> {
    let name = &to.name;
    let refusal = to.refusal.iter();
    let refusal = refusal.map(|why| format!("{name}: refused because of: {why}"));
    let dropped = to.causes.iter();
    let dropped = dropped.map(|(reason, why)| format!("{name}: lost ({reason}) because of: {why}"));
    refusal.chain(dropped).collect()
}
