//! What went wrong, and what to do next.

mod marks;

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::Attempt;
use crate::DropReason;

use self::marks::Marks;

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Says whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Yours: an option, a file or a variable is wrong. Nothing was sent.
    Config,
    /// The data: the destination looked at it, or at our credentials, and said no for good.
    Refused,
    /// The data: too many bytes for the destination. Splitting helps, down to one span.
    TooLarge,
    /// Theirs: the destination cannot be reached or says that it is not able to work just now.
    Unavailable,
    /// Theirs: the destination asks us to slow down.
    Throttled,
    /// Theirs: no answer in time. The data may have arrived.
    Timeout,
    /// The exporter was shut down before or during the call.
    ShutDown,
    /// Ours: an invariant did not hold, a panic was caught, or an answer made no sense.
    Internal,
}

impl ErrorKind {
    /// Names the kind in one lower-case word, as metrics and logs show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Refused => "refused",
            Self::TooLarge => "too_large",
            Self::Unavailable => "unavailable",
            Self::Throttled => "throttled",
            Self::Timeout => "timeout",
            Self::ShutDown => "shut_down",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Tells what failed, with what, and whether trying again can help.
///
/// Opaque on purpose: [`kind`](Self::kind) and the predicates are what programs read,
/// [`chain`](Self::chain) is what people read. Neither ever holds a secret.
#[derive(Clone)]
pub struct Error {
    inner: Box<Inner>,
}

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    temporary: bool,
    message: String,
    context: Vec<(&'static str, String)>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
    retry_after: Option<Duration>,
    limit: Option<u64>,
    attempt: Attempt,
    marks: Marks,
}

impl Error {
    /// Makes an error. Kinds [`Unavailable`](ErrorKind::Unavailable), [`Throttled`](ErrorKind::Throttled) and
    /// [`Timeout`](ErrorKind::Timeout) start out temporary, the others permanent.
    ///
    /// `message` is lower case, without a full stop, and says what failed with what.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let temporary = matches!(
            kind,
            ErrorKind::Unavailable | ErrorKind::Throttled | ErrorKind::Timeout
        );
        Self {
            inner: Box::new(Inner {
                kind,
                temporary,
                message: message.into(),
                context: Vec::new(),
                source: None,
                retry_after: None,
                limit: None,
                attempt: Attempt::default(),
                marks: Marks::default(),
            }),
        }
    }

    /// Makes a [`Config`](ErrorKind::Config) error.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    /// Makes a [`Refused`](ErrorKind::Refused) error, which is permanent.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Refused, message)
    }

    /// Makes a [`TooLarge`](ErrorKind::TooLarge) error, which is permanent for this batch but not for its parts.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::TooLarge, message)
    }

    /// Makes an [`Unavailable`](ErrorKind::Unavailable) error, which is temporary.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    /// Makes a [`Throttled`](ErrorKind::Throttled) error, which is temporary.
    pub fn throttled(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Throttled, message)
    }

    /// Makes a [`Timeout`](ErrorKind::Timeout) error, which is temporary, and names the limit that passed.
    pub fn timeout(message: impl Into<String>, until: crate::Deadline) -> Self {
        Self::new(
            ErrorKind::Timeout,
            format!("{}: {} passed", message.into(), until.limit()),
        )
    }

    /// Makes a [`ShutDown`](ErrorKind::ShutDown) error.
    pub fn shut_down() -> Self {
        Self::new(ErrorKind::ShutDown, "the exporter is shut down")
    }

    /// Makes an [`Internal`](ErrorKind::Internal) error, which is permanent.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Adds a name and a value that help to find the place. Never put a secret here.
    #[must_use]
    pub fn with_context(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.inner.context.push((name, value.into()));
        self
    }

    /// Adds a name and a value, in place of the value that the name has.
    #[must_use]
    pub(crate) fn with_new_context(mut self, name: &'static str, value: String) -> Self {
        self.inner.context.retain(|(known, _)| *known != name);
        self.with_context(name, value)
    }

    /// Adds the cause. [`chain`](Self::chain) shows it, the error's own text does not.
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.inner.source = Some(Arc::new(source));
        self
    }

    /// Sets whether the same call may succeed later.
    #[must_use]
    pub fn with_temporary(mut self, temporary: bool) -> Self {
        self.inner.temporary = temporary;
        self
    }

    /// Sets how long the destination asked us to wait.
    #[must_use]
    pub fn with_retry_after(mut self, delay: Duration) -> Self {
        self.inner.retry_after = Some(delay);
        self
    }

    /// Sets how many bytes the destination takes at once, as it said so with [`TooLarge`](ErrorKind::TooLarge).
    ///
    /// The bytes are those of OTLP, as [`Batch::size`](crate::Batch::size) counts them. An exporter whose format has more or
    /// fewer bytes converts the destination's number, roughly.
    ///
    /// The [`Exporter`](crate::Exporter) around an implementation cuts the batch into parts of this size. It halves the batch
    /// where no limit is named, where the batch has no more bytes than that, and where parts of this size are too large as well.
    /// Errors of other kinds ignore it.
    #[must_use]
    pub fn with_limit(mut self, bytes: u64) -> Self {
        self.inner.limit = Some(bytes);
        self
    }

    /// Sets what was measured, in place of what was set before.
    #[must_use]
    pub fn with_attempt(mut self, attempt: Attempt) -> Self {
        self.inner.attempt = attempt;
        self
    }

    /// Changes what was measured.
    #[must_use]
    pub(crate) fn map_attempt(mut self, change: impl FnOnce(Attempt) -> Attempt) -> Self {
        self.inner.attempt = change(self.inner.attempt);
        self
    }

    /// Whose turn it is.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// Whether the same call may succeed later. Retries act on it, and fallbacks.
    pub fn is_temporary(&self) -> bool {
        self.inner.temporary
    }

    /// Whether a smaller batch may succeed.
    pub fn is_too_large(&self) -> bool {
        self.inner.kind == ErrorKind::TooLarge
    }

    /// How long the destination asked us to wait, if it did.
    pub fn retry_after(&self) -> Option<Duration> {
        self.inner.retry_after
    }

    /// How many bytes of OTLP the destination takes at once, if it said so.
    pub fn limit(&self) -> Option<u64> {
        self.inner.limit
    }

    /// What was measured until the export failed: attempts, bytes, the status and the address of the destination.
    pub fn attempt(&self) -> &Attempt {
        &self.inner.attempt
    }

    /// Shows the error with its context and all of its causes, each once: what a line of a log or a message for people needs.
    ///
    /// # Examples
    ///
    /// ```
    /// use outspan::Error;
    ///
    /// let cause = std::io::Error::other("no route to host");
    /// let error = Error::unavailable("cannot connect").with_source(cause);
    /// assert_eq!(error.to_string(), "cannot connect");
    /// assert_eq!(error.chain().to_string(), "cannot connect: no route to host");
    /// ```
    pub fn chain(&self) -> impl fmt::Display + '_ {
        Chain(self)
    }

    /// The message without context and causes.
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// Why spans that failed with this error count as dropped.
    pub fn drop_reason(&self) -> DropReason {
        match self.inner.kind {
            ErrorKind::TooLarge => DropReason::TooLarge,
            ErrorKind::ShutDown => DropReason::Shutdown,
            _ => DropReason::Failed,
        }
    }
}

impl fmt::Display for Error {
    /// Writes the message and the context, without the causes: those are in [`source`](StdError::source), and programs that
    /// print them after each other print each once. [`chain`](Self::chain) writes all in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)?;
        for (name, value) in &self.inner.context {
            write!(f, ", {name}: {value}")?;
        }
        Ok(())
    }
}

/// What [`Error::chain`] returns.
struct Chain<'a>(&'a Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)?;
        let mut said = self.0.to_string();
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !said.contains(&text) {
                write!(f, ": {text}")?;
                said.push_str(&text);
            }
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    /// Shows the text and the kind in one line, because that is what a `main` that returns an error prints; `{:#?}` shows
    /// the parts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !f.alternate() {
            let temporary = if self.is_temporary() {
                ", temporary"
            } else {
                ""
            };
            return write!(f, "{} ({}{temporary})", self.chain(), self.kind());
        }
        let mut out = f.debug_struct("Error");
        out.field("kind", &self.inner.kind)
            .field("temporary", &self.inner.temporary)
            .field("message", &self.chain().to_string());
        if let Some(delay) = self.inner.retry_after {
            out.field("retry_after", &delay);
        }
        if let Some(limit) = self.inner.limit {
            out.field("limit", &limit);
        }
        out.field("attempt", &self.inner.attempt)
            .finish_non_exhaustive()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner
            .source
            .as_deref()
            .map(|e| e as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_decide_what_is_temporary_until_told_otherwise() {
        assert!(Error::unavailable("x").is_temporary());
        assert!(Error::throttled("x").is_temporary());
        assert!(!Error::refused("x").is_temporary());
        assert!(!Error::too_large("x").is_temporary());
        assert!(Error::internal("x").with_temporary(true).is_temporary());
    }

    #[test]
    fn a_main_that_returns_an_error_prints_its_words() {
        let error = Error::unavailable("cannot connect");
        assert_eq!(
            format!("{error:?}"),
            "cannot connect (unavailable, temporary)"
        );
        assert!(format!("{error:#?}").contains("kind: Unavailable"));
    }

    #[test]
    fn the_text_holds_message_context_and_causes_once_each() {
        let cause = std::io::Error::other("connection refused");
        let error = Error::unavailable("cannot connect")
            .with_context("endpoint", "http://localhost:4317")
            .with_source(cause);
        let own = "cannot connect, endpoint: http://localhost:4317";
        assert_eq!(error.to_string(), own);
        assert_eq!(
            error.chain().to_string(),
            format!("{own}: connection refused")
        );
        assert!(format!("{error:?}").starts_with(&error.chain().to_string()));
    }

    #[test]
    fn causes_that_are_printed_one_by_one_are_printed_once() {
        let cause = std::io::Error::other("connection refused");
        let error = Error::unavailable("cannot connect").with_source(cause);
        let mut printed = vec![error.to_string()];
        let mut cause = error.source();
        while let Some(error) = cause {
            printed.push(error.to_string());
            cause = error.source();
        }
        assert_eq!(printed, ["cannot connect", "connection refused"]);
    }
}
