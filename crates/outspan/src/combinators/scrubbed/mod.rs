//! Taking credentials out of spans.

mod names;
mod texts;

use outspan_wire::otlp::ArrayView;
use outspan_wire::otlp::AttributeOwner;
use outspan_wire::otlp::AttributeSlot;
use outspan_wire::otlp::AttributeView;
use outspan_wire::otlp::AttributesView;
use outspan_wire::otlp::Decision;
use outspan_wire::otlp::EncodeValue;
use outspan_wire::otlp::ResourceSpansView;
use outspan_wire::otlp::Rewrite;
use outspan_wire::otlp::ScopeSpansView;
use outspan_wire::otlp::Settled;
use outspan_wire::otlp::SpanEdit;
use outspan_wire::otlp::SpanView;
use outspan_wire::otlp::ValueView;
use outspan_wire::otlp::ValueWriter;
use outspan_wire::otlp::Written;
use outspan_wire::otlp::rewrite;

use self::names::Named;
use self::texts::REDACTED;
use self::texts::Style;
use self::texts::redacted;
use super::mapped::EditCounts;
use super::mapped::Edited;
use super::mapped::send_edited;
use super::mapped::unreadable;
use crate::Batch;
use crate::Deadline;
use crate::Delivery;
use crate::Drained;
use crate::Export;
use crate::Exporter;
use crate::Result;
use crate::guard::call_guarded;

/// Replaces well-known credentials by `REDACTED`.
///
/// It looks at the attributes of resources, scopes, spans, events and links, into lists and maps as well, and at the names
/// and status messages of spans. What it replaces, so that the key still shows that there was something:
///
/// - **Values under keys that say so.** The case of letters and the characters between words do not matter, and any words may
///   come before: `http.request.header.authorization`, `X-Api-Key` and `dbPassword` are such keys. Their last words:
///   - `authorization` (with `proxy-authorization`; RFC 9110, sections 11.6.2 and 11.7.2), `cookie`, `set-cookie` (RFC 6265);
///   - `password`, `passwd`, `passphrase`, `pwd`, `secret` (with `client_secret`; RFC 6749, section 2.3.1), `credential`, `credentials`;
///   - `token` (with `access_token` and `refresh_token`: RFC 6749, section 1.5; `x-amz-security-token`; `x-vault-token`), `jwt`. Numbers under such
///     keys stay, because language models count tokens;
///   - `api-key`, `access-key`, `access-key-id`, `secret-key`, `private-key`, `account-key`, `signing-key`, `encryption-key`, `subscription-key`,
///     `functions-key`, `x-honeycomb-team`: the headers and settings of vendors;
///   - what [`key`](Self::key) adds.
/// - **User and password of URLs**, wherever they stand: `https://REDACTED:REDACTED@host/`, as the semantic conventions want it for `url.full`
///   (RFC 3986, section 3.2.1).
/// - **Parameters of URLs** (`?`, `&`, `;`, `#`) with such names, and those that sign a URL: `sig` (Azure), `Signature` and `AWSAccessKeyId` (the
///   semantic conventions' list for `url.query`), `X-Amz-Signature`, `X-Amz-Credential`, `X-Goog-Signature`, `X-Goog-Credential`.
/// - **Options of command lines** with such names, if the value comes after `=`: `--password=REDACTED`, `-Dkey.password=REDACTED`.
/// - **Settings of connection strings** with such names, where the key ends in `connection_string` or `dsn`: `Server=db;Password=REDACTED`, also
///   `user:password@tcp(host)/db`.
///
/// Truth values and empty ones stay. It knows names, not contents: a password in a log line or in the text of a query goes
/// on. What is not replaced is copied byte for byte; a batch without credentials goes on as it is, without a copy.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "http")] {
/// use outspan::Exporter;
/// use outspan::combinators::Scrubbed;
/// use outspan::otlp;
///
/// # fn build() -> outspan::Result<()> {
/// let exporter = otlp::http("http://localhost:4318").build()?;
/// let scrubbed = Scrubbed::new(exporter).key("app.card_number");
/// let counts = scrubbed.counts();
/// let exporter = Exporter::new(scrubbed);
/// assert_eq!(counts.changed_attributes(), 0);
/// # drop(exporter);
/// # Ok(())
/// # }
/// # build().unwrap();
/// # }
/// ```
///
/// # What success means
///
/// What it means inside.
///
/// # Errors
///
/// It creates none of its own. Errors from inside pass through.
///
/// # Cancellation
///
/// Dropping the future drops the inner export.
///
/// # What it holds
///
/// The batch of each export that is under way, and its changed copy. Flush and shutdown go inside.
///
/// # Where it belongs
///
/// Outside everything that leaves the process or writes to a disk. Scrubbing twice changes nothing the second time.
#[derive(Debug)]
pub struct Scrubbed {
    inner: Exporter,
    keys: Vec<String>,
    counts: EditCounts,
}

impl Scrubbed {
    /// Wraps `inner`, which gets spans without credentials.
    pub fn new(inner: Exporter) -> Self {
        Self {
            inner,
            keys: Vec::new(),
            counts: EditCounts::default(),
        }
    }

    /// Replaces the value of the attribute `key` as well. The whole key has to be this one; the case of letters does not matter.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.keys.push(key.into());
        self
    }

    /// What it replaced, from now on and before.
    pub fn counts(&self) -> EditCounts {
        self.counts.clone()
    }

    /// The batch without credentials, or nothing if it has none.
    fn scrub(&self, batch: &Batch) -> Result<Option<Edited>> {
        let mut scrubbing = Scrubbing { keys: &self.keys };
        if !scrubbing.finds_any(batch) {
            return Ok(None);
        }
        let rewritten = rewrite(batch.as_request(), &mut scrubbing).map_err(unreadable)?;
        Ok(Edited::new(batch, rewritten))
    }
}

impl Export for Scrubbed {
    async fn export(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        let edited = call_guarded("scrubber", || self.scrub(&batch))??;
        send_edited(&self.inner, batch, edited, &self.counts, until).await
    }

    async fn flush(&self, until: Deadline) -> Result<Drained> {
        self.inner.flush(until).await
    }

    async fn shutdown(&self, until: Deadline) -> Result<Drained> {
        self.inner.shutdown(until).await
    }
}

impl Exporter {
    /// Replaces well-known credentials; see [`Scrubbed`] for the list.
    #[must_use]
    pub fn scrubbed(self) -> Self {
        Self::new(Scrubbed::new(self))
    }
}

/// Finds credentials and replaces them.
struct Scrubbing<'a> {
    /// Keys that the user added.
    keys: &'a [String],
}

/// What is done with the value of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Treatment {
    /// It is a credential.
    Replace { numbers: bool },
    /// It may have credentials in it.
    Search(Style),
}

impl Scrubbing<'_> {
    fn finds_any(&self, batch: &Batch) -> bool {
        batch.view().resource_spans().any(|resource| {
            self.is_in(resource.resource().attributes())
                || resource.scope_spans().any(|scope| {
                    self.is_in(scope.scope().attributes())
                        || scope.spans().any(|span| self.is_in_span(&span))
                })
        })
    }

    fn is_in_span(&self, span: &SpanView<'_>) -> bool {
        is_in_text(span.name())
            || is_in_text(span.status().message())
            || self.is_in(span.attributes())
            || span.events().any(|event| self.is_in(event.attributes()))
            || span.links().any(|link| self.is_in(link.attributes()))
    }

    fn is_in(&self, attributes: AttributesView<'_>) -> bool {
        attributes
            .iter()
            .any(|attribute| self.is_in_attribute(attribute))
    }

    fn is_in_attribute(&self, attribute: AttributeView<'_>) -> bool {
        self.is_in_value(self.treatment(attribute.key()), attribute.value())
    }

    fn is_in_value(&self, treatment: Treatment, value: ValueView<'_>) -> bool {
        match (treatment, value) {
            (_, ValueView::Empty | ValueView::Bool(_)) => false,
            (Treatment::Replace { numbers }, ValueView::Int(_) | ValueView::Double(_)) => numbers,
            (Treatment::Replace { .. }, ValueView::Str(text)) => !is_done(text),
            (Treatment::Replace { .. }, ValueView::Bytes(bytes)) => !bytes.is_empty(),
            (Treatment::Replace { .. }, ValueView::Array(items)) => !is_done_list(items),
            (Treatment::Replace { .. }, ValueView::Map(map)) => map.iter().next().is_some(),
            (Treatment::Search(style), ValueView::Str(text)) => redacted(text, style).is_some(),
            (Treatment::Search(_), ValueView::Array(items)) => {
                items.iter().any(|item| self.is_in_value(treatment, item))
            }
            (Treatment::Search(_), ValueView::Map(map)) => {
                map.iter().any(|entry| self.is_in_attribute(entry))
            }
            (Treatment::Search(_), _) => false,
        }
    }

    fn treatment(&self, key: &str) -> Treatment {
        if self
            .keys
            .iter()
            .any(|known| known.eq_ignore_ascii_case(key))
        {
            return Treatment::Replace { numbers: true };
        }
        match names::name(key) {
            Some(Named::Credential) => Treatment::Replace { numbers: true },
            Some(Named::Token) => Treatment::Replace { numbers: false },
            Some(Named::ConnectionString) => Treatment::Search(Style::Connection),
            None if key.eq_ignore_ascii_case("url.query") => Treatment::Search(Style::Query),
            None => Treatment::Search(Style::Text),
        }
    }
}

impl Rewrite for Scrubbing<'_> {
    fn resource(&mut self, resource: ResourceSpansView<'_>) -> Decision {
        change_if(self.is_in(resource.resource().attributes()))
    }

    fn scope(&mut self, scope: ScopeSpansView<'_>) -> Decision {
        change_if(self.is_in(scope.scope().attributes()))
    }

    fn span(&mut self, span: &SpanView<'_>, edit: &mut SpanEdit) -> Decision {
        if let Some(name) = redacted(span.name(), Style::Text) {
            edit.name(name);
        }
        if let Some(message) = redacted(span.status().message(), Style::Text) {
            edit.status_message(message);
        }
        change_if(self.is_in_span(span))
    }

    fn attribute(
        &mut self,
        _owner: AttributeOwner<'_>,
        attribute: AttributeView<'_>,
        slot: AttributeSlot<'_>,
    ) -> Settled {
        if !self.is_in_attribute(attribute) {
            return slot.keep();
        }
        let scrubbed = Clean {
            scrubbing: self,
            treatment: self.treatment(attribute.key()),
            value: attribute.value(),
        };
        slot.set(attribute.key(), scrubbed)
    }
}

/// A value without its credentials.
struct Clean<'a> {
    scrubbing: &'a Scrubbing<'a>,
    treatment: Treatment,
    value: ValueView<'a>,
}

impl EncodeValue for Clean<'_> {
    fn encode(&self, writer: ValueWriter<'_>) -> Written {
        let scrubbing = self.scrubbing;
        match (self.treatment, self.value) {
            (Treatment::Replace { .. }, value) if !scrubbing.is_in_value(self.treatment, value) => {
                value.encode(writer)
            }
            // A list stays one, because backends give each key one type.
            (Treatment::Replace { .. }, ValueView::Array(_)) => {
                writer.array(|items| items.push(REDACTED))
            }
            (Treatment::Replace { .. }, _) => writer.string(REDACTED),
            (Treatment::Search(style), ValueView::Str(text)) => {
                writer.string(redacted(text, style).as_deref().unwrap_or(text))
            }
            (treatment @ Treatment::Search(_), ValueView::Array(items)) => writer.array(|list| {
                for value in items.iter() {
                    list.push(Clean {
                        scrubbing,
                        treatment,
                        value,
                    });
                }
            }),
            (Treatment::Search(_), ValueView::Map(map)) => writer.map(|entries| {
                for entry in map.iter() {
                    let value = Clean {
                        scrubbing,
                        treatment: scrubbing.treatment(entry.key()),
                        value: entry.value(),
                    };
                    entries.entry(entry.key(), value);
                }
            }),
            (Treatment::Search(_), value) => value.encode(writer),
        }
    }
}

fn is_in_text(text: &str) -> bool {
    redacted(text, Style::Text).is_some()
}

fn is_done(text: &str) -> bool {
    text.is_empty() || text == REDACTED
}

/// Whether a list that should hide credentials does: it is empty, or one word.
fn is_done_list(items: ArrayView<'_>) -> bool {
    let mut items = items.iter();
    match (items.next(), items.next()) {
        (None, _) => true,
        (Some(ValueView::Str(only)), None) => is_done(only),
        _ => false,
    }
}

fn change_if(found: bool) -> Decision {
    match found {
        true => Decision::Change,
        false => Decision::Keep,
    }
}
