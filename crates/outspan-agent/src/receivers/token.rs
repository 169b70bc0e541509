//! Bearer tokens that senders have to show.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::time::Duration;

use http::HeaderMap;
use http::header;
use outspan::Secret;
use tokio::time::Instant;

/// How often files are looked at again, at most: soon enough for a rotation, rare enough to cost nothing.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Holds the tokens that open the door; with none, it is open. Clones share the files.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tokens {
    fixed: Vec<Secret>,
    files: Option<Arc<Files>>,
}

/// Holds files with one token a line, which are read again while requests come.
#[derive(Debug)]
struct Files {
    files: Arc<Vec<TokenFile>>,
    next_look: Mutex<Instant>,
}

#[derive(Debug)]
struct TokenFile {
    path: PathBuf,
    state: RwLock<FileState>,
}

#[derive(Debug)]
struct FileState {
    tokens: Vec<Secret>,
    /// Whether the last attempt to read it failed; that is told once.
    is_broken: bool,
}

impl Tokens {
    /// Reads tokens as the command line gives them: `env:NAME`, `@FILE` (one token a line), or the token itself.
    ///
    /// # Errors
    ///
    /// Words for the user, which hold nothing of a token.
    pub(crate) fn parse(texts: &[String]) -> Result<Self, String> {
        let mut fixed = Vec::new();
        let mut files = Vec::new();
        for text in texts {
            if let Some(path) = text.strip_prefix('@') {
                files.push(TokenFile::open(path.into())?);
                continue;
            }
            let secret = match text.strip_prefix("env:") {
                Some(name) => {
                    Secret::env(name).map_err(|e| format!("invalid token: {}", e.chain()))?
                }
                None => Secret::new(text.trim()),
            };
            check(secret.expose()).map_err(|why| format!("invalid token: {why}"))?;
            fixed.push(secret);
        }
        let files = (!files.is_empty()).then(|| {
            Arc::new(Files {
                files: Arc::new(files),
                next_look: Mutex::new(Instant::now() + LOOK_INTERVAL),
            })
        });
        Ok(Self { fixed, files })
    }

    /// Whether there are none, so that everybody may come in.
    pub(super) fn is_empty(&self) -> bool {
        self.fixed.is_empty() && self.files.is_none()
    }

    /// Reads every file again. Says for each what became of it; what cannot be read leaves the tokens of before.
    pub(super) fn reload(&self) -> Vec<Result<String, String>> {
        let files = self.files.iter().flat_map(|files| files.files.iter());
        files.map(TokenFile::reload).collect()
    }

    /// Whether a request with these headers may come in.
    ///
    /// Files that may have changed are read again first, on a thread that may wait for a disk.
    pub(super) async fn allow(&self, headers: &HeaderMap) -> bool {
        if self.is_empty() {
            return true;
        }
        let Some(given) = bearer(headers) else {
            return false;
        };
        if let Some(files) = &self.files {
            files.look().await;
        }
        self.know(given)
    }

    /// Compares with every token, so that the time says nothing about which bytes are right.
    fn know(&self, given: &[u8]) -> bool {
        let mut is_known = matches_any(&self.fixed, given);
        for file in self.files.iter().flat_map(|files| files.files.iter()) {
            let state = file.state.read().unwrap_or_else(PoisonError::into_inner);
            is_known |= matches_any(&state.tokens, given);
        }
        is_known
    }
}

impl Files {
    async fn look(&self) {
        let now = Instant::now();
        {
            let mut next_look = self
                .next_look
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if now < *next_look {
                return;
            }
            *next_look = now + LOOK_INTERVAL;
        }
        let files = Arc::clone(&self.files);
        let read = tokio::task::spawn_blocking(move || {
            for file in files.iter() {
                file.read_again();
            }
        });
        // It fails only when the program ends; then the tokens of before still hold.
        drop(read.await);
    }
}

impl TokenFile {
    fn open(path: PathBuf) -> Result<Self, String> {
        let tokens = read_tokens(&path)?;
        let is_broken = false;
        Ok(Self {
            path,
            state: RwLock::new(FileState { tokens, is_broken }),
        })
    }

    /// Takes over what the file holds now, or says why the tokens of before stay.
    fn reload(&self) -> Result<String, String> {
        let read = read_tokens(&self.path);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.is_broken = read.is_err();
        state.tokens = read?;
        Ok(format!("tokens of {}", self.path.display()))
    }

    /// Takes over what the file holds now. What cannot be read leaves the tokens as they are: a rotation must not lock everybody out.
    fn read_again(&self) {
        let read = read_tokens(&self.path);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let was_broken = state.is_broken;
        state.is_broken = read.is_err();
        match read {
            Ok(tokens) => state.tokens = tokens,
            Err(why) if !was_broken => {
                tracing::warn!(target: "outspan", "{why}; its tokens of before still hold");
            }
            Err(_) => {}
        }
    }
}

fn read_tokens(path: &Path) -> Result<Vec<Secret>, String> {
    let shown = path.display();
    let text =
        fs::read_to_string(path).map_err(|e| format!("cannot read tokens from {shown}: {e}"))?;
    let mut tokens = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let token = line.trim();
        if token.is_empty() {
            continue;
        }
        check(token)
            .map_err(|why| format!("invalid token in {shown}, line {}: {why}", index + 1))?;
        tokens.push(Secret::new(token));
    }
    match tokens.is_empty() {
        true => Err(format!("{shown} holds no token: write one a line")),
        false => Ok(tokens),
    }
}

/// Whether a sender can show it in a header: RFC 6750 knows visible ASCII characters only.
fn check(token: &str) -> Result<(), &'static str> {
    if token.is_empty() {
        return Err("it is empty");
    }
    match token.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(()),
        false => Err("only visible ASCII characters can stand in a header"),
    }
}

/// The token that the request shows: `authorization: Bearer TOKEN`, the scheme in any case (RFC 6750).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| token.trim_ascii())
}

fn matches_any(tokens: &[Secret], given: &[u8]) -> bool {
    let mut is_known = false;
    for token in tokens {
        is_known |= is_equal(token.expose().as_bytes(), given);
    }
    is_known
}

/// Compares all bytes, also after the first difference. Only the length shows in the time it takes.
fn is_equal(ours: &[u8], given: &[u8]) -> bool {
    if ours.len() != given.len() {
        return false;
    }
    let mut difference = 0;
    for (our, given) in ours.iter().zip(given) {
        // Keeps the compiler from ending early.
        difference |= std::hint::black_box(our ^ given);
    }
    difference == 0
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::log::Log;

    fn headers(authorization: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::AUTHORIZATION,
            HeaderValue::from_str(authorization).unwrap(),
        );
        headers
    }

    #[tokio::test]
    async fn without_tokens_everybody_may_come_in() {
        assert!(Tokens::default().allow(&HeaderMap::new()).await);
    }

    #[tokio::test]
    async fn each_of_several_tokens_opens_and_nothing_else_does() {
        let tokens = Tokens::parse(&["one".into(), "twoo".into()]).unwrap();
        for right in ["Bearer one", "bearer twoo", "BEARER  one "] {
            assert!(tokens.allow(&headers(right)).await, "{right}");
        }
        for wrong in [
            "Bearer on",
            "Bearer onee",
            "Basic one",
            "one",
            "Bearer ",
            "Bearer",
            "Bearer twoz",
        ] {
            assert!(!tokens.allow(&headers(wrong)).await, "{wrong}");
        }
        assert!(!tokens.allow(&HeaderMap::new()).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_is_read_again_when_it_changes_and_kept_when_it_cannot_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens");
        fs::write(&path, "old\n\nother\n").unwrap();
        let tokens = Tokens::parse(&[format!("@{}", path.display())]).unwrap();
        assert!(tokens.allow(&headers("Bearer old")).await);
        assert!(tokens.allow(&headers("Bearer other")).await);

        fs::write(&path, "new").unwrap();
        tokio::time::advance(LOOK_INTERVAL / 2).await;
        assert!(tokens.allow(&headers("Bearer old")).await, "not looked yet");
        tokio::time::advance(LOOK_INTERVAL).await;
        assert!(
            tokens.allow(&headers("Bearer new")).await,
            "the first request already sees it"
        );
        assert!(!tokens.allow(&headers("Bearer old")).await);

        fs::write(&path, "newer").unwrap();
        tokio::time::advance(LOOK_INTERVAL / 2).await;
        assert!(tokens.allow(&headers("Bearer new")).await, "not looked yet");
        fs::remove_file(&path).unwrap();
        tokio::time::advance(LOOK_INTERVAL).await;
        assert!(tokens.allow(&headers("Bearer new")).await);
    }

    #[test]
    fn that_a_file_cannot_be_read_is_told_once_until_it_can() {
        let log = Log::begin();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens");
        fs::write(&path, "s3cret").unwrap();
        let file = TokenFile::open(path.clone()).unwrap();
        for round in 1..3 {
            file.read_again();
            fs::write(&path, "two words").unwrap();
            for _ in 0..3 {
                file.read_again();
            }
            let told = log.warnings("its tokens of before still hold");
            assert_eq!(told, round, "{}", log.text());
            fs::write(&path, "s3cret").unwrap();
        }
        assert!(!log.text().contains("s3cret"));
    }

    #[test]
    fn mistakes_are_found_at_the_start_and_say_nothing_of_the_token() {
        for (text, words) in [
            ("", "it is empty"),
            ("s3cr t", "visible ASCII"),
            ("@/no/such/file", "cannot read tokens from /no/such/file"),
            (
                "env:OUTSPAN_TEST_NO_SUCH_TOKEN",
                "OUTSPAN_TEST_NO_SUCH_TOKEN",
            ),
        ] {
            let error = Tokens::parse(&[text.to_owned()]).unwrap_err();
            assert!(error.contains(words), "{error}");
            assert!(!error.contains("s3cr"), "{error}");
        }
    }

    #[test]
    fn tokens_are_not_shown() {
        let tokens = Tokens::parse(&["s3cret".into()]).unwrap();
        assert!(!format!("{tokens:?}").contains("s3cret"));
    }
}
