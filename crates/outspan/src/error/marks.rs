//! What the exporters and combinators of this crate know of a failure beyond what programs read.
//!
//! The marks are facts about one call, set where they are known and read by what stands further out: the splitter, a retry,
//! the driver of a queue. They travel with the error because it is all that a failed export returns, through any number of
//! combinators, also those of users. Nothing of them is public. An error without marks, as users make it, is right
//! everywhere: it is temporary or not, and the destination is to blame.

use std::error::Error as StdError;

use super::Error;
use super::ErrorKind;

/// All marks of an error.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marks {
    /// Set by a retry, read by retries around it.
    has_retried: bool,
    /// Set by connections and by what joins errors, read by a queue that is shut down.
    connection_refused: bool,
    /// Set by a fan-out, read by a queue that is shut down.
    is_partial: bool,
    /// Set by the splitter and by exporters that divide batches, read by the splitter.
    is_for_each_span: bool,
    /// Set where nothing was sent, read by the driver and the splitter.
    blame: Blame,
}

/// What a failure says about the destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Blame {
    /// The destination failed.
    #[default]
    Destination,
    /// Nothing was sent, so the failure says nothing about the destination.
    #[cfg(any(feature = "_network", test))]
    Nobody,
    /// The export achieved something and stopped, and goes on in its next turn.
    NextTurn,
}

impl Error {
    /// Marks that a retry has given up, so that no retry outside starts over.
    #[must_use]
    pub(crate) fn with_retries_used_up(mut self) -> Self {
        self.inner.marks.has_retried = true;
        self
    }

    /// Whether a retry has already given up on this error. Read by retries alone.
    pub(crate) fn retries_used_up(&self) -> bool {
        self.inner.marks.has_retried
    }

    /// Marks that each span of the batch is too large by itself, so that dividing the batch does not help.
    #[must_use]
    pub(crate) fn for_each_span(mut self) -> Self {
        self.inner.marks.is_for_each_span = true;
        self
    }

    /// Whether the parts of a batch may succeed where the batch was too large.
    pub(crate) fn is_divisible(&self) -> bool {
        self.is_too_large() && !self.inner.marks.is_for_each_span
    }

    /// Marks that nothing was sent, so that the error says nothing about the destination.
    #[cfg(any(feature = "_network", test))]
    #[must_use]
    pub(crate) fn before_sending(mut self) -> Self {
        self.inner.marks.blame = Blame::Nobody;
        self
    }

    /// Whether nothing was sent, so that the error says nothing about the destination.
    pub(crate) fn is_before_sending(&self) -> bool {
        self.inner.marks.blame != Blame::Destination
    }

    /// Makes the error of a batch that ends its turn so that other batches are sent. It says nothing about the destination;
    /// the rest of the batch is sent in the next turn.
    pub(crate) fn giving_way() -> Self {
        Self::new(ErrorKind::Timeout, "other batches wait for their turn").for_next_turn()
    }

    /// Marks that an export achieved something and stopped, and goes on in its next turn.
    #[must_use]
    pub(crate) fn for_next_turn(mut self) -> Self {
        self.inner.marks.blame = Blame::NextTurn;
        self
    }

    /// Whether an export stopped, and goes on in its next turn.
    pub(crate) fn is_giving_way(&self) -> bool {
        self.inner.marks.blame == Blame::NextTurn
    }

    /// Marks that nothing listens at the destination's address.
    #[must_use]
    pub(crate) fn with_connection_refused(mut self) -> Self {
        self.inner.marks.connection_refused = true;
        self
    }

    /// Whether nothing listens at the destination's address: the system refused the connection, as the mark or an I/O error
    /// among the sources says.
    pub(crate) fn is_connection_refused(&self) -> bool {
        let refused = std::io::ErrorKind::ConnectionRefused;
        let mut source = StdError::source(self);
        let mut is_refused = self.inner.marks.connection_refused;
        while let Some(error) = source {
            let io = error.downcast_ref::<std::io::Error>();
            is_refused |= io.is_some_and(|error| error.kind() == refused);
            source = error.source();
        }
        is_refused
    }

    /// Marks that other destinations of the same batch took it.
    #[must_use]
    pub(crate) fn with_partial(mut self) -> Self {
        self.inner.marks.is_partial = true;
        self
    }

    /// Whether other destinations of the same batch took it, so that they may take further ones.
    pub(crate) fn is_partial(&self) -> bool {
        self.inner.marks.is_partial
    }
}
