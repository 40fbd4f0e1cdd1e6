//! Tokens that end: asked for when needed, kept, and renewed before they end.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use http::{Method, StatusCode};
use serde_json::Value;
use tokio::sync::Mutex;
use walport_engine::error::{Class, Error, Kind, Result};

use super::{Chunks, Client, read, uri};

/// A token is renewed this long before it ends.
const AHEAD: Duration = Duration::from_secs(300);
/// The longest answer of a token service.
const ANSWER: usize = 256 << 10;

/// What a request shows to be let in.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub text: String,
    pub expires: DateTime<Utc>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(until {})", self.expires)
    }
}

/// Who gives out tokens.
#[async_trait]
pub(crate) trait Issuer: fmt::Debug + Send + Sync {
    async fn issue(&self) -> Result<Token>;
}

/// A token that is kept until shortly before it ends.
#[derive(Debug)]
pub(crate) struct Tokens {
    issuer: Box<dyn Issuer>,
    held: Mutex<Option<Token>>,
}

impl Tokens {
    pub fn new(issuer: Box<dyn Issuer>) -> Self {
        Self { issuer, held: Mutex::new(None) }
    }

    /// A token that is good for a while.
    pub async fn get(&self) -> Result<Token> {
        let mut held = self.held.lock().await;
        if let Some(token) = &*held
            && Utc::now() + AHEAD < token.expires
        {
            return Ok(token.clone());
        }
        match self.issuer.issue().await {
            Ok(token) => Ok(held.insert(token).clone()),
            // A service that fails is no reason to throw away what is still good.
            Err(error) => match &*held {
                Some(token) if Utc::now() + Duration::from_secs(10) < token.expires => {
                    log::warn!("cannot renew the token yet: {error}");
                    Ok(token.clone())
                }
                _ => Err(error),
            },
        }
    }

    /// Another token than the one that was refused, if there is another.
    pub async fn renew(&self, refused: &Token) -> Result<Option<Token>> {
        let mut held = self.held.lock().await;
        if let Some(token) = &*held
            && token != refused
        {
            return Ok(Some(token.clone()));
        }
        let fresh = self.issuer.issue().await?;
        *held = Some(fresh.clone());
        Ok((fresh != *refused).then_some(fresh))
    }
}

/// The request of a form.
pub(crate) fn form(address: &str, fields: &[(&str, &str)]) -> Result<super::Request> {
    request(
        Method::POST,
        address,
        &[("content-type", "application/x-www-form-urlencoded")],
        uri::pairs(fields.iter().copied()),
    )
}

/// A request to a token service.
pub(crate) fn request(
    method: Method,
    address: &str,
    headers: &[(&str, &str)],
    body: String,
) -> Result<super::Request> {
    let mut request = http::Request::builder().method(method).uri(address);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Chunks::from(body)).map_err(|_| {
        Error::new(Kind::Config, format!("{address:?} is no address of a token service, or a credential holds characters that it cannot"))
            .with_hint("Check the credentials and the addresses in the settings.")
    })
}

/// Asks a token service and gives the text of its answer. `what` names the
/// service, `hint` says what to do if it refuses.
pub(crate) async fn ask_text(
    client: &Client,
    what: &str,
    hint: &str,
    request: super::Request,
) -> Result<String> {
    let response = client.send(request).await.map_err(|failure| failure.error.context(what))?;
    let status = response.status();
    let body = read(response, ANSWER).await.map_err(|error| error.context(what))?;
    let text = String::from_utf8_lossy(&body).into_owned();
    if status.is_success() {
        return Ok(text);
    }
    let (kind, class) = match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            (Kind::Throttled, Class::Throttled)
        }
        status if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT => {
            (Kind::Unavailable, Class::Transient)
        }
        _ => (Kind::Unauthenticated, Class::Never),
    };
    let why = refusal(&text).map_or_else(String::new, |why| format!(": {why}"));
    Err(Error::new(kind, format!("{what} answered {}{why}", status.as_u16()))
        .with_class(class)
        .with_hint(hint))
}

/// Asks a token service for a JSON document.
pub(crate) async fn ask(
    client: &Client,
    what: &str,
    hint: &str,
    request: super::Request,
) -> Result<Value> {
    let text = ask_text(client, what, hint, request).await?;
    serde_json::from_str(&text).map_err(|_| {
        Error::new(Kind::Unauthenticated, format!("{what} answered with what is no JSON document"))
            .with_hint(hint)
    })
}

/// Why a service refuses, in its words: the first line of them.
fn refusal(text: &str) -> Option<String> {
    let value: Value = serde_json::from_str(text).ok()?;
    let said = [
        &value["error_description"],
        &value["error"]["message"],
        &value["message"],
        &value["error"],
    ];
    let line =
        said.iter().find_map(|value| value.as_str())?.lines().next()?.trim().trim_end_matches('.');
    Some(line.chars().take(300).collect())
}

/// The token of an answer as OAuth has it: `access_token`, `expires_in` (also
/// as text).
pub(crate) fn token_of(value: &Value, what: &str) -> Result<Token> {
    let text = value["access_token"].as_str().filter(|text| !text.is_empty());
    let seconds =
        value["expires_in"].as_i64().or_else(|| value["expires_in"].as_str()?.parse().ok());
    match text {
        Some(text) => {
            // Who does not say how long a token is good for gives one for an hour.
            let life = Duration::from_secs(seconds.unwrap_or(3600).clamp(0, 864_000) as u64);
            Ok(Token { text: text.to_owned(), expires: Utc::now() + life })
        }
        None => Err(Error::new(Kind::Unauthenticated, format!("{what} answered without a token"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Debug)]
    struct Counter(Arc<AtomicUsize>, i64, bool);

    #[async_trait]
    impl Issuer for Counter {
        async fn issue(&self) -> Result<Token> {
            let number = self.0.fetch_add(1, Ordering::Relaxed);
            if self.2 && number > 0 {
                return Err(Error::new(Kind::Unavailable, "down"));
            }
            Ok(Token {
                text: number.to_string(),
                expires: Utc::now() + chrono::Duration::seconds(self.1),
            })
        }
    }

    fn tokens(life: i64, fails: bool) -> (Tokens, Arc<AtomicUsize>) {
        let count = Arc::<AtomicUsize>::default();
        (Tokens::new(Box::new(Counter(count.clone(), life, fails))), count)
    }

    #[test]
    fn tokens_are_kept_and_renewed() {
        futures_executor::block_on(async {
            let (good, count) = tokens(3600, false);
            let first = good.get().await.unwrap();
            assert_eq!(good.get().await.unwrap(), first);
            assert_eq!(count.load(Ordering::Relaxed), 1);
            let second = good.renew(&first).await.unwrap().unwrap();
            assert_eq!(good.renew(&first).await.unwrap(), Some(second.clone()));
            assert_eq!(good.get().await.unwrap(), second);
            let (short, _) = tokens(60, false);
            assert_ne!(short.get().await.unwrap(), short.get().await.unwrap());
            let (failing, _) = tokens(60, true);
            assert_eq!(failing.get().await.unwrap(), failing.get().await.unwrap());
        });
    }

    #[test]
    fn answers_are_read_as_they_come() {
        let in_seconds = |text: &str| {
            let token = token_of(&serde_json::from_str(text).unwrap(), "x").unwrap();
            (token.expires - Utc::now()).num_seconds()
        };
        assert!((90..=100).contains(&in_seconds(r#"{"access_token":"a","expires_in":100}"#)));
        assert!((90..=100).contains(&in_seconds(r#"{"access_token":"a","expires_in":"100"}"#)));
        assert!((3590..=3600).contains(&in_seconds(r#"{"access_token":"a"}"#)));
        assert!(token_of(&serde_json::json!({"access_token": ""}), "x").is_err());
        assert_eq!(
            refusal(r#"{"error":"x","error_description":"Bad.\r\nTrace"}"#).as_deref(),
            Some("Bad")
        );
        assert_eq!(
            format!("{:?}", Token { text: "secret".into(), expires: Utc::now() }).find("secret"),
            None
        );
    }
}
