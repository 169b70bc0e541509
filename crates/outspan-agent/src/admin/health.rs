//! Whether the agent works, and whether it takes spans.

use crate::agent::State;
use crate::agent::Status;
use crate::pipeline::DestinationStatus;

/// Less room than this in a queue, in bytes, is none: it is what a request of a few hundred spans takes.
const ROOM: usize = 64 << 10;

/// Says how the process is, in words.
pub(super) fn health(state: State) -> String {
    match state {
        State::Running => "ok".to_owned(),
        state => format!("ok, {}", state.as_str()),
    }
}

/// Says whether spans are taken.
///
/// # Errors
///
/// Why not, in words.
pub(super) fn readiness(status: &Status) -> Result<(), String> {
    match status.state {
        State::Running => {}
        State::Stopping => return Err("stopping: no spans are taken any more".to_owned()),
        State::Stopped => return Err("stopped".to_owned()),
    }
    let has_room = status.destinations.iter().any(|to| !is_full(to));
    if has_room || status.destinations.is_empty() {
        return Ok(());
    }
    let queues: Vec<String> = status.destinations.iter().map(full_queue).collect();
    let queues = queues.join("; ");
    Err(format!("every queue is full: {queues}"))
}

fn is_full(to: &DestinationStatus) -> bool {
    let free = to.bytes_max.saturating_sub(to.bytes);
    // A small queue is full when a sixteenth is left.
    free < ROOM.min(to.bytes_max / 16).max(1)
}

fn full_queue(to: &DestinationStatus) -> String {
    let queue = format!("{}: {} of {} bytes", to.name, to.bytes, to.bytes_max);
    match &to.trouble {
        Some(trouble) => format!("{queue}, {}", shorten(trouble)),
        None => queue,
    }
}

/// How much of a destination's words is shown, in bytes. Answers have a bound, and so have their parts.
const WORDS_MAX: usize = 1024;

/// Cuts words of others that are too long to be shown.
pub(super) fn shorten(words: &str) -> String {
    if words.len() <= WORDS_MAX {
        return words.to_owned();
    }
    let end = words.floor_char_boundary(WORDS_MAX);
    let kept = words.get(..end).unwrap_or_default();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::super::tests::snapshot;
    use super::*;

    #[test]
    fn one_queue_with_room_is_enough_to_be_ready() {
        let mut agent = snapshot().agent;
        agent.destinations[0].bytes = agent.destinations[0].bytes_max;
        assert_eq!(readiness(&agent), Ok(()));
        agent.destinations[1].bytes = agent.destinations[1].bytes_max - 100;
        let why = readiness(&agent).unwrap_err();
        for part in [
            "every queue is full",
            &agent.destinations[0].name,
            &agent.destinations[1].name,
        ] {
            assert!(why.contains(part), "{why}");
        }
    }

    #[test]
    fn full_means_no_room_for_an_ordinary_request_or_a_sixteenth() {
        let mut to = snapshot().agent.destinations[0].clone();
        for (max, bytes, expected) in [
            (96 << 20, (96 << 20) - ROOM, false),
            (96 << 20, (96 << 20) - ROOM + 1, true),
            (16 << 10, 15 << 10, false),
            (16 << 10, (15 << 10) + 1, true),
            // Compressed forms may pass the bound.
            (16 << 10, 17 << 10, true),
            (1, 0, false),
            (1, 1, true),
        ] {
            (to.bytes_max, to.bytes) = (max, bytes);
            assert_eq!(is_full(&to), expected, "{bytes} of {max}");
        }
    }

    #[test]
    fn an_agent_that_stops_is_healthy_and_not_ready() {
        let mut shown = snapshot();
        assert_eq!(health(State::Running), "ok");
        shown.agent.state = State::Stopping;
        assert_eq!(health(State::Stopping), "ok, stopping");
        assert!(readiness(&shown.agent).unwrap_err().contains("stopping"));
        shown.agent.state = State::Stopped;
        assert_eq!(health(State::Stopped), "ok, stopped");
        assert_eq!(readiness(&shown.agent).unwrap_err(), "stopped");
    }

    #[test]
    fn long_words_are_cut_between_characters() {
        assert_eq!(shorten("down"), "down");
        let cut = shorten(&"ä".repeat(WORDS_MAX));
        assert_eq!(cut.len(), WORDS_MAX + "…".len());
        assert!(shorten(&format!("x{}", "ä".repeat(WORDS_MAX))).ends_with("ä…"));
    }
}
