//! How a collector behaves: one answer a request.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use tokio::sync::watch;

use crate::CollectedRequest;

/// Says what a [`Collector`](crate::Collector) does with one request.
///
/// Answers are queued with [`Collector::script`](crate::Collector::script) and used up one a
/// request; with none left, [`Collector::always`](crate::Collector::always) decides.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Keeps the spans and says so.
    Accept,
    /// Keeps the spans but the last `rejected` of the request, and says so in a partial success.
    ///
    /// With `rejected` 0 and a message it is OTLP's warning: everything was taken.
    PartialSuccess {
        /// How many spans are refused.
        rejected: i64,
        /// The reason, for people.
        message: String,
    },
    /// Keeps nothing and answers an error.
    Refuse {
        /// The status code.
        code: AnswerCode,
        /// The reason, for people.
        message: String,
    },
    /// Keeps nothing and asks to come again later.
    RetryLater {
        /// The status code, such as [`AnswerCode::UNAVAILABLE`].
        code: AnswerCode,
        /// When to come again.
        delay: RetryDelay,
    },
    /// Reads the request and never answers it.
    Stall,
    /// Reads the request, waits until the gate is open, and then gives the other answer.
    StallUntil(Gate, Box<Self>),
    /// Closes the connection instead of answering.
    Disconnect(Disconnect),
    /// Answers something that no OTLP receiver should.
    Garbage(Garbage),
    /// Accepts a request that has this header, and answers
    /// [`AnswerCode::UNAUTHENTICATED`] to any other.
    RequireHeader {
        /// The header's name, lower case.
        name: String,
        /// The value it has to have.
        value: String,
    },
    /// Accepts a request of at most this many bytes, compressed and uncompressed, and answers a
    /// larger one as a stock Collector does: RESOURCE_EXHAUSTED without RetryInfo, or HTTP 413.
    AtMost {
        /// The largest request it takes, in bytes.
        bytes: usize,
    },
    /// Asks a function that has seen the request.
    Decide(Decision),
}

impl Answer {
    /// Makes an [`Answer::Refuse`].
    pub fn refuse(code: impl Into<AnswerCode>, message: &str) -> Self {
        Self::Refuse {
            code: code.into(),
            message: message.to_owned(),
        }
    }

    pub(super) fn refuse_with(code: AnswerCode, message: String) -> Self {
        Self::Refuse { code, message }
    }

    /// Makes an [`Answer::RetryLater`] that names a delay.
    pub fn retry_after(code: impl Into<AnswerCode>, delay: Duration) -> Self {
        Self::RetryLater {
            code: code.into(),
            delay: RetryDelay::After(delay),
        }
    }

    /// Makes an [`Answer::PartialSuccess`].
    pub fn partial(rejected: i64, message: &str) -> Self {
        Self::PartialSuccess {
            rejected,
            message: message.to_owned(),
        }
    }

    /// Makes an [`Answer::RequireHeader`].
    pub fn require_header(name: &str, value: &str) -> Self {
        Self::RequireHeader {
            name: name.to_ascii_lowercase(),
            value: value.to_owned(),
        }
    }

    /// Makes an [`Answer::StallUntil`].
    pub fn stall_until(gate: &Gate, then: Self) -> Self {
        Self::StallUntil(gate.clone(), Box::new(then))
    }

    /// Makes an [`Answer::Decide`].
    pub fn decide(decision: impl Fn(&CollectedRequest) -> Self + Send + Sync + 'static) -> Self {
        Self::Decide(Decision(Arc::new(decision)))
    }
}

/// Chooses an answer when the request is there. Made by [`Answer::decide`].
#[derive(Clone)]
pub struct Decision(Arc<dyn Fn(&CollectedRequest) -> Answer + Send + Sync>);

impl Decision {
    pub(super) fn choose(&self, request: &CollectedRequest) -> Answer {
        (self.0)(request)
    }
}

impl fmt::Debug for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decision")
    }
}

/// Says when a client may come again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RetryDelay {
    /// RetryInfo over gRPC; over HTTP `Retry-After` in seconds, rounded up.
    After(Duration),
    /// `Retry-After` as a date over HTTP; over gRPC RetryInfo with what is left until then.
    At(SystemTime),
    /// A `Retry-After` that is neither; over gRPC status details that are no protobuf.
    Nonsense,
}

/// Says where the connection breaks.
///
/// Over HTTP/2 that ends every request that shares the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disconnect {
    /// When the request's headers have arrived, with a reset (RST). The request is not recorded.
    BeforeReading,
    /// When the request has been read whole, with a reset. Its spans are not kept.
    AfterReading,
    /// After the headers and the first bytes of the answer, with an end (FIN), so that the client
    /// surely reads those first. The spans are kept: the receiver had
    /// taken them, and the sender cannot know.
    MidAnswer,
}

/// Says what nonsense is answered.
///
/// Whatever it is, the spans are not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Garbage {
    /// A message that is not protobuf (nor JSON, where JSON was sent).
    Message,
    /// A page of HTML, as a proxy or a web server answers, with this HTTP status.
    Html(u16),
    /// A sound message under the content type `text/plain`.
    ContentType,
    /// A message that ends too early: a gRPC frame shorter than its prefix says, an HTTP body cut
    /// within a field.
    Truncated,
    /// A sound message of about this many bytes (a warning with a very long text).
    Oversize(usize),
    /// This many zero bytes behind a few bytes of gzip.
    Bomb(usize),
    /// No message at all: over gRPC headers with an OK status that end the stream, over HTTP an
    /// empty body. (An empty body is a sound protobuf answer, but no JSON.)
    Empty,
    /// A message without a status: no gRPC trailers; over HTTP no content type.
    NoStatus,
    /// A status that does not exist: gRPC 99, HTTP 599.
    UnknownStatus,
}

/// Holds a status for both transports; each collector uses its own half.
///
/// A plain number becomes one, too: below 17 it is a gRPC code, else an HTTP status, and the other
/// half is the closest match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerCode {
    /// The gRPC status code.
    pub grpc: u16,
    /// The HTTP status.
    pub http: u16,
}

impl AnswerCode {
    /// Bad data, for good: INVALID_ARGUMENT, 400.
    pub const INVALID_ARGUMENT: Self = Self { grpc: 3, http: 400 };
    /// No or wrong credentials: UNAUTHENTICATED, 401.
    pub const UNAUTHENTICATED: Self = Self {
        grpc: 16,
        http: 401,
    };
    /// Credentials that do not suffice: PERMISSION_DENIED, 403.
    pub const PERMISSION_DENIED: Self = Self { grpc: 7, http: 403 };
    /// Nothing there: UNIMPLEMENTED, 404.
    pub const UNIMPLEMENTED: Self = Self {
        grpc: 12,
        http: 404,
    };
    /// Over a size limit: RESOURCE_EXHAUSTED, 413.
    pub const TOO_LARGE: Self = Self { grpc: 8, http: 413 };
    /// Too much at once: RESOURCE_EXHAUSTED, 429.
    pub const THROTTLED: Self = Self { grpc: 8, http: 429 };
    /// A fault of the receiver: INTERNAL, 500.
    pub const INTERNAL: Self = Self {
        grpc: 13,
        http: 500,
    };
    /// Not able to work just now: UNAVAILABLE, 503.
    pub const UNAVAILABLE: Self = Self {
        grpc: 14,
        http: 503,
    };

    /// Which of the two halves a plain number is, by gRPC's own table of HTTP statuses.
    const PAIRS: [(u16, u16); 16] = [
        (1, 499),
        (2, 520),
        (3, 400),
        (4, 504),
        (5, 404),
        (6, 409),
        (7, 403),
        (8, 429),
        (9, 412),
        (10, 409),
        (11, 416),
        (12, 501),
        (13, 500),
        (14, 503),
        (15, 507),
        (16, 401),
    ];
}

impl From<u16> for AnswerCode {
    fn from(number: u16) -> Self {
        if number < 17 {
            let pair = Self::PAIRS.iter().find(|pair| pair.0 == number);
            let http = pair.map_or(200, |pair| pair.1);
            return Self { grpc: number, http };
        }
        let pair = Self::PAIRS.iter().find(|pair| pair.1 == number);
        let grpc = pair.map_or(2, |pair| pair.0);
        Self { grpc, http: number }
    }
}

/// Says what happens when somebody connects, before any request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OnConnect {
    /// Speaks the protocol.
    #[default]
    Serve,
    /// Takes the connection and never says a word, also not a TLS handshake.
    Silence,
    /// Says these bytes, whatever was asked, and closes.
    Say(Vec<u8>),
    /// Resets the connection at once.
    Reset,
    /// Speaks TLS where it is set up, and then sends the same over and over until the connection ends. It answers nothing.
    Flood {
        /// What it sends.
        with: Flood,
        /// Whether it reads what the client sends. If not, the client's acknowledgements fill the connection.
        reads: bool,
    },
}

/// Says what a server floods its client with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// HTTP/2 PING frames, each of which wants an acknowledgement.
    Ping,
    /// Empty HTTP/2 SETTINGS frames, each of which wants an acknowledgement.
    Settings,
    /// HTTP/2 WINDOW_UPDATE frames for the connection, one byte each.
    WindowUpdate,
    /// Interim responses of HTTP/1.1 (`100 Continue`).
    Continue,
}

impl Flood {
    /// What comes once, before the flood: an HTTP/2 server begins with its SETTINGS.
    pub(super) fn preface(self) -> &'static [u8] {
        match self {
            Self::Continue => b"",
            _ => Self::Settings.unit(),
        }
    }

    /// What comes over and over. Of a frame: length (3 bytes), type, flags, stream (4 bytes), payload.
    pub(super) fn unit(self) -> &'static [u8] {
        match self {
            Self::Ping => b"\x00\x00\x08\x06\x00\x00\x00\x00\x00outspan!",
            Self::Settings => b"\x00\x00\x00\x04\x00\x00\x00\x00\x00",
            Self::WindowUpdate => b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x01",
            Self::Continue => b"HTTP/1.1 100 Continue\r\n\r\n",
        }
    }
}

/// Holds requests back until a test opens it. Clones are the same gate.
#[derive(Clone, Debug)]
pub struct Gate {
    open: Arc<watch::Sender<bool>>,
}

impl Gate {
    /// Makes a closed gate.
    pub fn new() -> Self {
        Self {
            open: Arc::new(watch::Sender::new(false)),
        }
    }

    /// Lets everything through from now on.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Holds back what comes from now on.
    pub fn close(&self) {
        self.open.send_replace(false);
    }

    /// Waits until the gate is open.
    ///
    /// # Cancellation
    ///
    /// Dropping the future changes nothing.
    pub async fn passed(&self) {
        let mut watched = self.open.subscribe();
        watched
            .wait_for(|open| *open)
            .await
            .expect("the gate is held by self, so its sender lives");
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_number_is_a_code_of_its_own_transport() {
        assert_eq!(AnswerCode::from(14), AnswerCode::UNAVAILABLE);
        assert_eq!(AnswerCode::from(503), AnswerCode::UNAVAILABLE);
        assert_eq!(AnswerCode::from(502), AnswerCode { grpc: 2, http: 502 });
        assert_eq!(AnswerCode::from(401), AnswerCode::UNAUTHENTICATED);
    }
}
