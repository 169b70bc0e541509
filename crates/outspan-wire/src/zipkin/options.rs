//! What a writer can be asked for.

/// Says in which form spans are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// A JSON array of spans, `application/json`. The default, because every Zipkin backend reads it.
    #[default]
    Json,
    /// A `ListOfSpans` of `zipkin.proto`, `application/x-protobuf`.
    Protobuf,
}

/// Says by whose rules OTLP becomes Zipkin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// OpenTelemetry's specification of Zipkin exporters (`trace/sdk_exporters/zipkin.md`), with what it leaves open filled
    /// in such that nothing is lost. The default, for Zipkin itself and for backends that speak its protocol.
    #[default]
    Specification,
    /// What the OpenTelemetry Collector's Zipkin exporter writes, for backends and queries made for that.
    Collector,
}

/// Says how spans are written.
///
/// # Examples
///
/// ```
/// use outspan_wire::zipkin::Format;
/// use outspan_wire::zipkin::WriteOptions;
///
/// let options = WriteOptions::default().format(Format::Protobuf).bytes_max(500_000);
/// assert!(options.marks);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriteOptions {
    /// JSON, the default, or protobuf.
    pub format: Format,
    /// The specification's rules, the default, or the Collector's.
    pub dialect: Dialect,
    /// How many bytes a message may have, before compression.
    ///
    /// The default is 5 MiB, half of what a Zipkin server accepts by default.
    pub bytes_max: usize,
    /// Whether a span gets the tag `outspan.otlp` where the other tags do not say which of them are about the resource, the
    /// scope or the span, and which were numbers.
    ///
    /// On by default, because without it all attributes come back as texts of the span. The Collector's dialect never has
    /// it.
    pub marks: bool,
}

impl WriteOptions {
    /// The default of [`bytes_max`](Self::bytes_max): 5 MiB.
    pub const DEFAULT_BYTES_MAX: usize = 5 << 20;

    /// Sets the form.
    #[must_use]
    pub fn format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// Sets the rules.
    #[must_use]
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// Sets how many bytes a message may have, before compression.
    #[must_use]
    pub fn bytes_max(mut self, bytes_max: usize) -> Self {
        self.bytes_max = bytes_max;
        self
    }

    /// Sets whether spans may get the tag `outspan.otlp`.
    #[must_use]
    pub fn marks(mut self, marks: bool) -> Self {
        self.marks = marks;
        self
    }
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            format: Format::default(),
            dialect: Dialect::default(),
            bytes_max: Self::DEFAULT_BYTES_MAX,
            marks: true,
        }
    }
}
