//! Request headers: fixed ones, ones asked for at each attempt, and the hook that may change a request.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;

use crate::Error;
use crate::Result;
use crate::Secret;

/// Headers that belong to the protocol; setting them would break requests.
const RESERVED: [&str; 9] = [
    "content-type",
    "content-length",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "te",
    "grpc-accept-encoding",
    "grpc-encoding",
    "grpc-timeout",
];

/// Gives the headers of each attempt, such as a token that expires.
///
/// It is asked at each attempt with `refresh` false; when the destination answers 401 or `UNAUTHENTICATED`, it is asked
/// once more with `refresh` true, and the attempt is repeated with the new headers. Closures that return a future
/// implement it. It runs within the attempt's deadline, on the [runtime](crate::Runtime) of the
/// exporter, which is the library's one thread by default: it must not block.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "grpc")] {
/// use outspan::{Result, Secret, otlp};
///
/// async fn token(refresh: bool) -> Result<Vec<(String, Secret)>> {
///     let token = if refresh { "fetched anew" } else { "from the cache" };
///     Ok(vec![("authorization".into(), Secret::new(format!("Bearer {token}")))])
/// }
///
/// let exporter = otlp::grpc("http://localhost:4317").header_provider(token).build();
/// # drop(exporter);
/// # }
/// ```
pub trait HeaderProvider: Send + Sync + 'static {
    /// Returns names and values.
    ///
    /// # Errors
    ///
    /// An error ends the attempt and is the attempt's error; make it temporary if trying again can help.
    fn headers(&self, refresh: bool) -> impl Future<Output = Result<Vec<(String, Secret)>>> + Send;
}

impl<F, R> HeaderProvider for F
where
    F: Fn(bool) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Vec<(String, Secret)>>> + Send,
{
    fn headers(&self, refresh: bool) -> impl Future<Output = Result<Vec<(String, Secret)>>> + Send {
        self(refresh)
    }
}

type Provided<'a> = Pin<Box<dyn Future<Output = Result<Vec<(String, Secret)>>> + Send + 'a>>;

trait ProvideBoxed: Send + Sync {
    fn headers_boxed(&self, refresh: bool) -> Provided<'_>;
}

impl<P: HeaderProvider> ProvideBoxed for P {
    fn headers_boxed(&self, refresh: bool) -> Provided<'_> {
        Box::pin(self.headers(refresh))
    }
}

/// Sees each request just before it is sent, and may change it: to sign it, for example.
///
/// Closures implement it. It must not block.
pub trait Intercept: Send + Sync + 'static {
    /// Looks at a request and changes it.
    ///
    /// # Errors
    ///
    /// An error ends the attempt and is the attempt's error.
    fn intercept(&self, request: &mut OutgoingRequest<'_>) -> Result<()>;
}

impl<F> Intercept for F
where
    F: Fn(&mut OutgoingRequest<'_>) -> Result<()> + Send + Sync + 'static,
{
    fn intercept(&self, request: &mut OutgoingRequest<'_>) -> Result<()> {
        self(request)
    }
}

/// A request that is about to be sent.
pub struct OutgoingRequest<'a> {
    pub(crate) url: String,
    pub(crate) headers: &'a mut HeaderMap,
    pub(crate) body: &'a mut Bytes,
    secrets: &'a mut Vec<Secret>,
}

impl OutgoingRequest<'_> {
    /// The method, which is always `POST`.
    pub fn method(&self) -> &'static str {
        "POST"
    }

    /// The whole URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The value of a header, if it is set and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Sets a header, in place of one of the same name.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) if name or value cannot stand in a header, or the name belongs to the protocol.
    pub fn set_header(&mut self, name: &str, value: impl Into<Secret>) -> Result<()> {
        let value = value.into();
        let (name, parsed) = parse_header(name, &value)?;
        self.headers.insert(name, parsed);
        self.secrets.push(value);
        Ok(())
    }

    /// The body: compressed if compression is on, for gRPC without the five bytes before the message.
    pub fn body(&self) -> &Bytes {
        self.body
    }

    /// Replaces the body.
    pub fn set_body(&mut self, body: impl Into<Bytes>) {
        *self.body = body.into();
    }
}

impl fmt::Debug for OutgoingRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutgoingRequest")
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// The headers of an exporter, fixed and asked for.
#[derive(Clone, Default)]
pub(crate) struct Headers {
    fixed: HeaderMap,
    secrets: Vec<Secret>,
    provider: Option<Arc<dyn ProvideBoxed>>,
    intercept: Option<Arc<dyn Intercept>>,
}

impl Headers {
    /// Adds a fixed header, in place of one of the same name.
    pub(crate) fn set(&mut self, name: &str, value: Secret) -> Result<()> {
        let (name, parsed) = parse_header(name, &value)?;
        self.fixed.insert(name, parsed);
        self.secrets.push(value);
        Ok(())
    }

    /// Adds values that must not be shown, though they are not headers.
    pub(crate) fn keep_secret(&mut self, values: impl IntoIterator<Item = Secret>) {
        self.secrets.extend(values);
    }

    /// Adds a fixed header whose value is no secret.
    pub(crate) fn set_public(&mut self, name: &str, value: &str) -> Result<()> {
        let (name, mut parsed) = parse_header(name, &Secret::new(value))?;
        parsed.set_sensitive(false);
        self.fixed.insert(name, parsed);
        Ok(())
    }

    pub(crate) fn set_provider(&mut self, provider: impl HeaderProvider) {
        self.provider = Some(Arc::new(provider));
    }

    pub(crate) fn set_intercept(&mut self, intercept: impl Intercept) {
        self.intercept = Some(Arc::new(intercept));
    }

    /// Whether asking again may give other headers.
    pub(crate) fn can_refresh(&self) -> bool {
        self.provider.is_some()
    }

    /// Puts the headers of one attempt into `map`, and returns the values that must not be shown.
    pub(crate) async fn apply(&self, map: &mut HeaderMap, refresh: bool) -> Result<Vec<Secret>> {
        for (name, value) in &self.fixed {
            map.insert(name, value.clone());
        }
        let mut secrets = self.secrets.clone();
        if let Some(provider) = &self.provider {
            for (name, value) in provider.headers_boxed(refresh).await? {
                let (name, parsed) = parse_header(&name, &value)?;
                map.insert(name, parsed);
                secrets.push(value);
            }
        }
        Ok(secrets)
    }

    /// Lets the hook see and change the request. The values that it sets join `secrets`.
    pub(crate) fn intercept(
        &self,
        uri: &http::Uri,
        headers: &mut HeaderMap,
        body: &mut Bytes,
        secrets: &mut Vec<Secret>,
    ) -> Result<()> {
        let Some(hook) = &self.intercept else {
            return Ok(());
        };
        hook.intercept(&mut OutgoingRequest {
            url: uri.to_string(),
            headers,
            body,
            secrets,
        })
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.fixed.keys()).finish()
    }
}

/// Takes every secret out of a text of the destination's.
pub(crate) fn scrub(text: &str, secrets: &[Secret]) -> String {
    /// Shorter values would blot out ordinary words.
    const SHORTEST: usize = 4;

    let mut clean = text.to_owned();
    for secret in secrets {
        // A server may repeat a token without the word before it.
        for part in [
            secret.expose(),
            secret.expose().rsplit(' ').next().unwrap_or_default(),
        ] {
            if part.len() >= SHORTEST && clean.contains(part) {
                clean = clean.replace(part, "***");
            }
        }
    }
    clean
}

fn parse_header(name: &str, value: &Secret) -> Result<(HeaderName, HeaderValue)> {
    let parsed: HeaderName = name
        .parse()
        .map_err(|_| Error::config(format!("invalid header name \"{}\"", name.escape_debug())))?;
    if RESERVED.contains(&parsed.as_str()) {
        return Err(Error::config(format!(
            "header \"{parsed}\" belongs to the protocol and cannot be set"
        )));
    }
    let mut value = HeaderValue::from_str(value.expose()).map_err(|_| {
        Error::config(format!(
            "the value of header \"{parsed}\" has a character that headers cannot hold"
        ))
    })?;
    value.set_sensitive(true);
    Ok((parsed, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_headers_are_named_without_their_values() {
        let mut headers = Headers::default();
        let error = headers.set("a b", "x".into()).unwrap_err();
        assert_eq!(error.to_string(), "invalid header name \"a b\"");
        let error = headers.set("x-key", "sec\nret".into()).unwrap_err();
        assert!(error.to_string().contains("x-key") && !error.to_string().contains("sec"));
        assert!(headers.set("Content-Type", "x".into()).is_err());
    }

    #[test]
    fn a_secret_that_comes_back_is_taken_out() {
        let secrets = [Secret::new("Bearer abcdef")];
        assert_eq!(scrub("token abcdef is old", &secrets), "token *** is old");
        assert_eq!(scrub("Bearer abcdef", &secrets), "***");
    }

    #[test]
    fn a_short_secret_does_not_blot_out_words() {
        assert_eq!(scrub("an abc", &[Secret::new("abc")]), "an abc");
        assert_eq!(scrub("an abcd", &[Secret::new("abcd")]), "an ***");
        assert_eq!(scrub("no end", &[Secret::new("")]), "no end");
    }
}
