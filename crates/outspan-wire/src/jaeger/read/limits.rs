//! What a reader accepts.

/// How much the readers of this module accept at once.
///
/// What they hold in memory while they read is a small multiple of one span, and what they return is about as large as what
/// they were given; these bounds keep both in proportion whatever comes.
///
/// # Examples
///
/// ```
/// use outspan_wire::jaeger::ReadLimits;
///
/// let mut limits = ReadLimits::default();
/// limits.bytes_max = 256 << 20;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadLimits {
    /// Bytes of the input; the default is 64 MiB, more than any client or collector sends.
    pub bytes_max: usize,
    /// Spans in the input; the default is 1,000,000.
    pub spans_max: usize,
    /// Tags, references, logs and fields of logs of one span or process, all together; the default is 100,000.
    pub items_max: usize,
    /// How deep structs, lists and maps may nest in what is skipped; the default is 64, as in Thrift's own libraries. What is
    /// known nests three deep. JSON has a bound of its own.
    pub depth_max: usize,
    /// Bytes of memory that reading may take besides the input, in all; the default is no bound of its own. The request that
    /// is returned takes up to half of it. Fewer items than [`items_max`](Self::items_max) are read where their list would
    /// take more.
    pub memory_max: usize,
}

/// What a tag takes at most while a span is read: its place in a list that grows by doubling.
const ITEM_BYTES: usize = 256;

impl ReadLimits {
    /// The same with no more items than there is memory for.
    pub(super) fn within_memory(mut self) -> Self {
        self.items_max = self.items_max.min(self.memory_max / ITEM_BYTES);
        self
    }
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self {
            bytes_max: 64 << 20,
            spans_max: 1_000_000,
            items_max: 100_000,
            depth_max: 64,
            memory_max: usize::MAX,
        }
    }
}
