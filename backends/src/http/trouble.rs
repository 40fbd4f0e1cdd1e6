//! A request that did not succeed, and when to send it again.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::{HeaderMap, StatusCode, header};
use walport_engine::error::{Class, Error, Kind};

/// A request that did not succeed.
#[derive(Debug)]
pub(crate) struct Trouble {
    /// The status of the answer; `None` if there was none.
    pub status: Option<StatusCode>,
    /// The store's own word for it. Empty if it gave none.
    pub code: String,
    /// The error, without operation and key.
    pub error: Error,
    /// The request may have taken effect all the same.
    pub ambiguous: bool,
}

impl Trouble {
    /// A failure before anything was sent.
    pub fn before(error: Error) -> Self {
        Self { status: None, code: String::new(), error, ambiguous: false }
    }

    /// A request that got no answer, or only the beginning of one.
    pub fn unanswered(error: Error, sent: bool) -> Self {
        Self { status: None, code: String::new(), error, ambiguous: sent }
    }

    /// An answer that is no success, by what it means.
    pub fn answered(
        status: StatusCode,
        headers: &HeaderMap,
        code: String,
        message: String,
        meaning: Meaning,
    ) -> Self {
        let mut error = Error::new(meaning.kind, message).with_class(meaning.class);
        if let Some(hint) = meaning.hint {
            error = error.with_hint(hint);
        }
        if let Some(wait) = retry_after(headers) {
            error = error.with_retry_after(wait);
        }
        let ambiguous = status.is_server_error() && meaning.class == Class::Transient;
        Self { status: Some(status), code, error, ambiguous }
    }

    /// Whether the answer has this status.
    pub fn is(&self, status: StatusCode) -> bool {
        self.status == Some(status)
    }
}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Self {
        trouble.error
    }
}

/// What an answer means: kind, class and what to do.
pub(crate) struct Meaning {
    pub kind: Kind,
    pub class: Class,
    pub hint: Option<String>,
}

/// It stays so until somebody acts.
pub(crate) fn never(kind: Kind, hint: impl Into<String>) -> Meaning {
    Meaning { kind, class: Class::Never, hint: Some(hint.into()) }
}

/// There is nothing to advise.
pub(crate) fn plain(kind: Kind, class: Class) -> Meaning {
    Meaning { kind, class, hint: None }
}

/// What a status means where the store has no word for it.
pub(crate) fn of_status(status: StatusCode, credentials: &str, endpoint: &str) -> Meaning {
    match status.as_u16() {
        300..=399 => never(Kind::Config, format!("The store lives elsewhere: check {endpoint}.")),
        401 => never(Kind::Unauthenticated, format!("Check the credentials: {credentials}.")),
        403 => never(Kind::Denied, "Check the permissions of this identity."),
        404 | 410 => plain(Kind::NotFound, Class::Never),
        405 | 501 => never(
            Kind::Unsupported,
            format!("The store does not know this operation: check {endpoint}."),
        ),
        407 => {
            never(Kind::Config, "The proxy asks for a user name: check HTTPS_PROXY and HTTP_PROXY.")
        }
        408 | 409 | 425 | 499 => plain(Kind::Unavailable, Class::Transient),
        412 => plain(Kind::Changed, Class::Never),
        416 => plain(Kind::Invalid, Class::Never),
        429 | 503 => plain(Kind::Throttled, Class::Throttled),
        507 => never(Kind::Full, "The store is full: raise the quota or delete old backups."),
        500..=599 => plain(Kind::Unavailable, Class::Transient),
        _ => plain(Kind::Invalid, Class::Never),
    }
}

/// How far the clock of this host is off, judged by an answer.
pub(crate) fn skew(headers: &HeaderMap) -> Option<i64> {
    let theirs = headers.get(header::DATE)?.to_str().ok()?;
    let theirs = DateTime::parse_from_rfc2822(theirs).ok()?;
    Some((Utc::now() - theirs.to_utc()).num_seconds())
}

/// The wait that the store asked for, in seconds or as a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let until = DateTime::parse_from_rfc2822(text).ok()?.to_utc();
    (until - Utc::now()).to_std().ok()
}

/// How often and how soon a request is sent again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tries {
    /// The store, for the log.
    pub store: &'static str,
    /// How many times after the first.
    pub more: u32,
    /// The wait before the second; it doubles from there.
    pub first: Duration,
    /// The longest wait.
    pub longest: Duration,
}

impl Tries {
    /// Runs `step` again after a passing error. `again` says whether a step
    /// that may have taken effect can be repeated.
    pub async fn run<T, F>(&self, again: bool, mut step: impl FnMut() -> F) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, Trouble>>,
    {
        let mut tries = 0;
        loop {
            let trouble = match step().await {
                Ok(value) => return Ok(value),
                Err(trouble) => trouble,
            };
            if tries >= self.more
                || trouble.error.class() == Class::Never
                || (trouble.ambiguous && !again)
            {
                return Err(trouble);
            }
            self.pause(tries, &trouble.error).await;
            tries += 1;
        }
    }

    /// Waits before the try that follows number `tries`, counted from 0.
    pub async fn pause(&self, tries: u32, error: &Error) {
        let wait = self.wait(tries, error);
        log::warn!("{}: {error}; trying again in {} ms", self.store, wait.as_millis());
        tokio::time::sleep(wait).await;
    }

    /// Exponential, with half of it random; as long as the store asks for, at least.
    fn wait(&self, tries: u32, error: &Error) -> Duration {
        let first = if error.class() == Class::Throttled { self.first * 4 } else { self.first };
        let full = first.saturating_mul(1 << tries.min(16)).min(self.longest);
        let wait = full.mul_f64(0.5 + fastrand::f64() / 2.0);
        wait.max(error.retry_after().unwrap_or_default().min(Duration::from_secs(300)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_store_says_how_long_to_wait() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, "7".parse().unwrap());
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(7)));
        let soon = (Utc::now() + Duration::from_secs(100)).to_rfc2822();
        headers.insert(header::RETRY_AFTER, soon.parse().unwrap());
        let wait = retry_after(&headers).unwrap();
        assert!(wait > Duration::from_secs(60) && wait <= Duration::from_secs(100), "{wait:?}");
    }

    #[test]
    fn only_what_passes_is_tried_again() {
        let tries = Tries {
            store: "test",
            more: 2,
            first: Duration::from_micros(1),
            longest: Duration::from_micros(2),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        for (class, ambiguous, again, count) in [
            (Class::Transient, false, false, 3),
            (Class::Throttled, false, true, 3),
            (Class::Never, false, true, 1),
            (Class::Transient, true, false, 1),
            (Class::Transient, true, true, 3),
        ] {
            let mut seen = 0;
            let done: Result<(), _> = runtime.block_on(tries.run(again, || {
                seen += 1;
                let error = Error::new(Kind::Unavailable, "x").with_class(class);
                async move { Err(Trouble::unanswered(error, ambiguous)) }
            }));
            assert!(done.is_err());
            assert_eq!(seen, count, "{class:?} {ambiguous} {again}");
        }
    }
}
