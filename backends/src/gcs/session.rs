//! An upload in parts: a session that takes them one after the other and knows
//! how far it is. What it did not take is sent again from memory.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use serde_json::Value;
use walport_engine::error::{Class, Error, Kind, Result};

use super::client::{Call, Client, json};
use super::crc::Crc;
use crate::http::Chunks;
use crate::http::trouble::Trouble;

/// The longest time an abort may take.
const ABORT: Duration = Duration::from_secs(15);
/// The status that says: go on.
const RESUME: StatusCode = StatusCode::PERMANENT_REDIRECT;

/// Where a session is.
pub enum At {
    /// The store has this many bytes.
    Byte(u64),
    /// The object is stored, with this document.
    Done(Value),
}

/// A session that the store knows of. Unless it is done, dropping it ends it.
pub struct Session {
    client: Arc<Client>,
    name: String,
    address: String,
    done: bool,
}

impl Session {
    /// Begins a session with `call`, which describes the object.
    pub async fn begin(client: &Arc<Client>, name: &str, call: Call) -> Result<Self, Trouble> {
        let response = client.tries.run(true, || client.send(&call)).await?;
        let location = response.headers().get("location").and_then(|value| value.to_str().ok());
        let Some(address) = location
            .and_then(|location| address(location, &client.config.endpoint, client.config.custom))
        else {
            return Err(Trouble::before(Error::new(
                Kind::Corrupt,
                "the store began an upload without saying where",
            )));
        };
        Ok(Self { client: Arc::clone(client), name: name.to_owned(), address, done: false })
    }

    /// Sends `chunks`, which begin at `offset`. With `crc` they are the last,
    /// and the object is complete when this returns its document.
    pub async fn send(
        &mut self,
        offset: u64,
        chunks: &Chunks,
        crc: Option<Crc>,
    ) -> Result<Option<Value>, Trouble> {
        let end = offset + chunks.size();
        let mut from = offset;
        let mut stuck = 0;
        loop {
            let rest = chunks.skip(from - offset);
            let tries = self.client.tries;
            // A part that got lost on the way is not sent again before the
            // store has said how much of it arrived.
            let at = match self.put(from, rest, end, crc).await {
                Ok(at) => at,
                Err(trouble) if tries.more > stuck && may_ask(&trouble) => {
                    tries.pause(stuck, &trouble.error).await;
                    let call = self.question(crc.is_some().then_some(end))?;
                    tries.run(true, || self.ask(&call)).await?
                }
                Err(trouble) => return Err(trouble),
            };
            match at {
                At::Done(document) => {
                    self.done = true;
                    return if crc.is_some() { Ok(Some(document)) } else { Err(early()) };
                }
                At::Byte(byte) if byte == end && crc.is_none() => return Ok(None),
                At::Byte(byte) if byte < from || byte > end => {
                    return Err(Trouble::before(Error::new(
                        Kind::Corrupt,
                        format!("the store has {byte} bytes of an upload that is at {from}"),
                    )));
                }
                At::Byte(byte) => {
                    stuck = if byte > from { 0 } else { stuck + 1 };
                    if stuck > tries.more.max(1) {
                        return Err(Trouble::before(Error::new(
                            Kind::Unavailable,
                            "the store does not take the rest of the upload",
                        )));
                    }
                    from = byte;
                }
            }
        }
    }

    async fn put(
        &self,
        from: u64,
        chunks: Chunks,
        end: u64,
        crc: Option<Crc>,
    ) -> Result<At, Trouble> {
        let total = if crc.is_some() { end.to_string() } else { "*".to_owned() };
        let range = match chunks.size() {
            0 => format!("bytes */{total}"),
            _ => format!("bytes {from}-{}/{total}", end - 1),
        };
        let mut call = Call::new(Method::PUT, &self.address)
            .header("content-range", &range)
            .map_err(Trouble::before)?;
        if let Some(crc) = crc {
            call = call
                .header("x-goog-hash", &format!("crc32c={}", crc.text()))
                .map_err(Trouble::before)?;
        }
        let call = self.client.with_customer_key(call.body(chunks)).map_err(Trouble::before)?;
        self.ask(&call).await
    }

    /// The question how far the session is.
    fn question(&self, total: Option<u64>) -> Result<Call, Trouble> {
        let total = total.map_or_else(|| "*".to_owned(), |total| total.to_string());
        let call = Call::new(Method::PUT, &self.address)
            .header("content-range", &format!("bytes */{total}"));
        call.and_then(|call| self.client.with_customer_key(call)).map_err(Trouble::before)
    }

    async fn ask(&self, call: &Call) -> Result<At, Trouble> {
        let response = self.client.send_or(call, Some(RESUME)).await?;
        if response.status() != RESUME {
            return json(response).await.map(At::Done);
        }
        Ok(At::Byte(reached(response.headers())))
    }

    /// Ends the session; nothing of it remains.
    pub async fn abort(mut self) {
        self.done = true;
        abort(Arc::clone(&self.client), self.name.clone(), self.address.clone()).await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(runtime) = tokio::runtime::Handle::try_current().ok().filter(|_| !self.done)
        else {
            return;
        };
        runtime.spawn(abort(Arc::clone(&self.client), self.name.clone(), self.address.clone()));
    }
}

async fn abort(client: Arc<Client>, name: String, address: String) {
    // The store's word for a session that is ended now.
    const ENDED: u16 = 499;
    let call = Call::new(Method::DELETE, address);
    let ended = tokio::time::timeout(ABORT, client.tries.run(true, || client.send(&call))).await;
    let why = match ended {
        Ok(Ok(_)) => return,
        Ok(Err(trouble))
            if trouble.status.is_some_and(|status| status == ENDED)
                || trouble.error.kind() == Kind::NotFound =>
        {
            return;
        }
        Ok(Err(trouble)) => trouble.error.to_string(),
        Err(_) => "no answer in time".to_owned(),
    };
    // Nobody sees what it has, nobody pays for it, and it ends within a week.
    log::debug!("gcs: the upload session of {name} could not be ended: {why}");
}

fn early() -> Trouble {
    Trouble::before(
        Error::new(Kind::Corrupt, "the store ended the upload before its last part")
            .with_class(Class::Transient),
    )
}

/// Whether it makes sense to ask how far the session is.
fn may_ask(trouble: &Trouble) -> bool {
    trouble.error.class() != Class::Never
}

/// How many bytes the store has.
fn reached(headers: &HeaderMap) -> u64 {
    let range = headers.get("range").and_then(|value| value.to_str().ok());
    range
        .and_then(|text| text.rsplit_once('-')?.1.trim().parse::<u64>().ok())
        .map_or(0, |last| last + 1)
}

/// The address of a session. Tokens are sent there, so it is one of Google's or
/// of the configured host: an emulator may not know its own name.
fn address(location: &str, endpoint: &str, custom: bool) -> Option<String> {
    let uri: http::Uri = location.parse().ok()?;
    let host = uri.host().unwrap_or_default();
    if !custom && uri.scheme_str() == Some("https") && host.ends_with(".googleapis.com") {
        return Some(location.to_owned());
    }
    Some(format!("{endpoint}{}", uri.path_and_query()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sessions_stay_with_the_host_that_is_trusted() {
        let google = "https://storage.googleapis.com";
        let own = "https://www.googleapis.com/upload/storage/v1/b/x/o?upload_id=1";
        assert_eq!(address(own, google, false).unwrap(), own);
        let other = "https://evil.example/upload?upload_id=1";
        assert_eq!(
            address(other, google, false).unwrap(),
            "https://storage.googleapis.com/upload?upload_id=1"
        );
        assert_eq!(
            address("http://0.0.0.0:4443/upload?upload_id=1", "http://127.0.0.1:9", true).unwrap(),
            "http://127.0.0.1:9/upload?upload_id=1"
        );
    }

    #[test]
    fn the_store_says_how_far_it_is() {
        let mut headers = HeaderMap::new();
        assert_eq!(reached(&headers), 0);
        headers.insert("range", "bytes=0-524287".parse().unwrap());
        assert_eq!(reached(&headers), 524_288);
    }
}
