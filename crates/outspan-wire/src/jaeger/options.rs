//! What a writer can be asked for.

/// Says in which of Thrift's forms data is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// `TBinaryProtocol`: what a Jaeger collector reads over HTTP, and an agent on UDP port 6832. The default.
    #[default]
    Binary,
    /// `TCompactProtocol`: what a Jaeger agent reads on UDP port 6831.
    Compact,
}

/// Says by whose rules OTLP becomes Jaeger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// OpenTelemetry's specification of Jaeger exporters (`trace/sdk_exporters/jaeger.md`, removed in 2024), with what it
    /// leaves open filled in such that nothing is lost. The default, because all SDK exporters for Jaeger followed it.
    #[default]
    OpenTelemetry,
    /// What the OpenTelemetry Collector made of OTLP for Jaeger, for queries made for that.
    Collector,
}

/// Says what stands around the spans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Envelope {
    /// The Thrift struct `Batch` alone: the body of an HTTP request, or a file. The default.
    #[default]
    Batch,
    /// The oneway message `emitBatch` of the service `Agent`: a UDP datagram.
    EmitBatch,
}

/// Says how spans are written.
///
/// # Examples
///
/// ```
/// use outspan_wire::jaeger::Protocol;
/// use outspan_wire::jaeger::WriteOptions;
///
/// let options = WriteOptions::datagram().protocol(Protocol::Binary);
/// assert_eq!(options.bytes_max, 65_000);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriteOptions {
    /// Binary, the default, or compact.
    pub protocol: Protocol,
    /// OpenTelemetry's rules, the default, or the Collector's.
    pub dialect: Dialect,
    /// A batch alone, the default, or the message of a datagram.
    pub envelope: Envelope,
    /// How many bytes a message may have, before compression.
    ///
    /// The default is 5 MiB, which HTTP servers accept; [`datagram`](Self::datagram) has 65,000.
    pub bytes_max: usize,
    /// Whether a process, span or log gets the tag `outspan.otlp` where its other tags do not say what OTLP said, such as
    /// which of them are about the instrumentation scope.
    ///
    /// On by default, because without it some things come back as others. The Collector's dialect never has it.
    pub marks: bool,
}

impl WriteOptions {
    /// The default of [`bytes_max`](Self::bytes_max): 5 MiB.
    pub const DEFAULT_BYTES_MAX: usize = 5 << 20;

    /// How many bytes Jaeger's clients put into a datagram, and its agents read: 65,000.
    pub const DATAGRAM_BYTES_MAX: usize = 65_000;

    /// Creates options for UDP: compact, `emitBatch`, at most 65,000 bytes.
    pub fn datagram() -> Self {
        Self::default()
            .protocol(Protocol::Compact)
            .envelope(Envelope::EmitBatch)
            .bytes_max(Self::DATAGRAM_BYTES_MAX)
    }

    /// Sets Thrift's form.
    #[must_use]
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Sets the rules.
    #[must_use]
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// Sets what stands around the spans.
    #[must_use]
    pub fn envelope(mut self, envelope: Envelope) -> Self {
        self.envelope = envelope;
        self
    }

    /// Sets how many bytes a message may have, before compression.
    #[must_use]
    pub fn bytes_max(mut self, bytes_max: usize) -> Self {
        self.bytes_max = bytes_max;
        self
    }

    /// Sets whether there may be tags `outspan.otlp`.
    #[must_use]
    pub fn marks(mut self, marks: bool) -> Self {
        self.marks = marks;
        self
    }
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            protocol: Protocol::default(),
            dialect: Dialect::default(),
            envelope: Envelope::default(),
            bytes_max: Self::DEFAULT_BYTES_MAX,
            marks: true,
        }
    }
}
