//! Requests that are small on the wire and large in memory, in protobuf and gzipped.

use std::io::Write;
use std::sync::OnceLock;

use flate2::Compression;
use flate2::write::GzEncoder;

const MIB: usize = 1 << 20;

/// Names a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    LargeResource,
    LargeScope,
    EmptyAttributes,
    EmptyEvents,
    EmptyLinks,
    ControlCharacters,
    DeepValues,
    WideValues,
    TinyResources,
    Bomb,
}

impl Kind {
    pub(crate) const ALL: [Self; 10] = [
        Self::LargeResource,
        Self::LargeScope,
        Self::EmptyAttributes,
        Self::EmptyEvents,
        Self::EmptyLinks,
        Self::ControlCharacters,
        Self::DeepValues,
        Self::WideValues,
        Self::TinyResources,
        Self::Bomb,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::LargeResource => "large resource",
            Self::LargeScope => "large scope",
            Self::EmptyAttributes => "empty attributes",
            Self::EmptyEvents => "empty events",
            Self::EmptyLinks => "empty links",
            Self::ControlCharacters => "control characters",
            Self::DeepValues => "deep values",
            Self::WideValues => "wide values",
            Self::TinyResources => "tiny resources",
            Self::Bomb => "bomb",
        }
    }

    /// The request, gzipped. Made once.
    pub(crate) fn gzipped(self) -> &'static [u8] {
        static MADE: [OnceLock<Vec<u8>>; Kind::ALL.len()] = [const { OnceLock::new() }; 10];
        MADE[self as usize].get_or_init(|| gzip(&self.request()))
    }

    /// The request in protobuf.
    fn request(self) -> Vec<u8> {
        let text = |bytes: usize| field(1, &vec![b'a'; bytes]);
        let attribute = |value: &[u8]| [field(1, b"a"), field(2, value)].concat();
        match self {
            Self::LargeResource => {
                let resource = field(1, &field(1, &attribute(&text(3 * MIB))));
                let spans = (1..=1000).flat_map(|number| field(2, &span(number, &[])));
                let scope_spans = field(2, &spans.collect::<Vec<_>>());
                field(1, &[resource, scope_spans].concat())
            }
            Self::LargeScope => {
                let scope = field(1, &field(1, &vec![b's'; 3 * MIB]));
                let spans = (1..=1000).flat_map(|number| field(2, &span(number, &[])));
                let spans = spans.collect::<Vec<_>>();
                field(1, &field(2, &[scope, spans].concat()))
            }
            Self::EmptyAttributes => one_span(&[0x4a, 0].repeat(3 * MIB)),
            Self::EmptyEvents => one_span(&[0x5a, 0].repeat(3 * MIB)),
            Self::EmptyLinks => one_span(&[0x6a, 0].repeat(3 * MIB)),
            Self::ControlCharacters => one_span(&field(5, &vec![1; 12 * MIB])),
            Self::DeepValues => {
                let deep = (0..24).fold(text(1), |inner, _| field(5, &field(1, &inner)));
                let attribute = field(9, &attribute(&deep));
                one_span(&attribute.repeat(4 * MIB / attribute.len()))
            }
            Self::WideValues => {
                let values = field(5, &[0x0a, 0].repeat(4 * MIB));
                one_span(&field(9, &attribute(&values)))
            }
            Self::TinyResources => {
                let tiny = |number| field(1, &field(2, &field(2, &span(number, &[]))));
                let spans: Vec<_> = (1..=5000).flat_map(tiny).collect();
                [spans, [0x0a, 0].repeat(2 * MIB)].concat()
            }
            Self::Bomb => one_span(&field(9, &attribute(&text(20 * MIB)))),
        }
    }
}

/// A request whose spans are small, and gigabytes where each is written with what is said of the resource: gzipped.
pub(crate) fn written_large() -> Vec<u8> {
    let attribute = [field(1, b"a"), field(2, &field(1, &vec![1; 500_000]))].concat();
    let resource = field(1, &field(1, &attribute));
    let spans = (1..=5000).flat_map(|number| field(2, &span(number, &[])));
    let scope_spans = field(2, &spans.collect::<Vec<_>>());
    gzip(&field(1, &[resource, scope_spans].concat()))
}

/// A request of one span with a name by which destinations know it.
pub(crate) fn ordinary(number: u32) -> Vec<u8> {
    let name = field(
        5,
        format!("{}{number:04}", super::destinations::MARK).as_bytes(),
    );
    let service = [field(1, b"service.name"), field(2, &field(1, b"shop"))].concat();
    let resource = field(1, &field(1, &service));
    let id = 1 << 40 | u64::from(number);
    let scope_spans = field(2, &field(2, &span(id, &name)));
    field(1, &[resource, scope_spans].concat())
}

fn one_span(fields: &[u8]) -> Vec<u8> {
    field(1, &field(2, &field(2, &span(1, fields))))
}

fn span(number: u64, fields: &[u8]) -> Vec<u8> {
    let mut trace_id = [7; 16];
    trace_id[..8].copy_from_slice(&number.to_be_bytes());
    [
        &field(1, &trace_id)[..],
        &field(2, &number.to_be_bytes()),
        fields,
    ]
    .concat()
}

/// A field of protobuf that holds bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 6);
    out.push(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
    out
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn requests_are_valid_and_small_on_the_wire() {
    for kind in Kind::ALL {
        let request = kind.request();
        // Bounds on the elements of a span may leave it out; what it is made of is right.
        let checked = outspan::Batch::from_request(request.clone()).unwrap();
        assert!(
            checked.batch.spans() + checked.refused > 0,
            "{}",
            kind.name()
        );
        let packed = kind.gzipped().len();
        assert!(packed * 4 < request.len(), "{}: {packed}", kind.name());
    }
    let checked = outspan::Batch::from_request(ordinary(7)).unwrap();
    assert_eq!(
        checked.batch.iter().next().unwrap().name(),
        "~ordinary-0007"
    );
}
