//! Uploads: one request for what fits into a part, a session for more. Neither
//! makes temporary objects nor needs the right to delete.

use std::sync::Arc;

use bytes::Bytes;
use chrono::{SecondsFormat, Utc};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use walport_engine::error::{Class, Error, Kind, Result};
use walport_engine::storage::{Body, Key, Put, Stored};

use super::client::{Call, Client, number};
use super::crc::Crc;
use super::session::Session;
use crate::http::Chunks;
use crate::http::parts::{self, Part, Plan, Sent};
use crate::http::trouble::Trouble;

/// Stores `body` under `key`.
pub async fn put(client: &Arc<Client>, key: &Key, body: Body, how: Put) -> Result<Stored> {
    let plan = Plan::new(&client.config.bounds, body.size(), &how)?;
    let size = body.size();
    let upload = Upload { client: Arc::clone(client), name: client.full(key.as_str()), how, size };
    let state = Arc::new(Mutex::new(State::default()));
    let sent = parts::run(body, plan, |part| upload.clone().part(part, Arc::clone(&state))).await;
    let mut state = state.lock().await;
    match sent {
        Ok(Sent::Whole(chunks)) => upload.whole(chunks).await,
        Ok(Sent::Parts { size, .. }) => upload.finish(&mut state, size).await,
        Err(error) => {
            if let Some(session) = state.session.take() {
                session.abort().await;
            }
            Err(error)
        }
    }
}

/// What of an upload has happened.
#[derive(Default)]
struct State {
    session: Option<Session>,
    crc: Crc,
    /// The document of the object, when it is complete.
    document: Option<Value>,
}

/// One object on its way.
#[derive(Clone)]
struct Upload {
    client: Arc<Client>,
    name: String,
    how: Put,
    size: Option<u64>,
}

impl Upload {
    async fn part(self, part: Part, state: Arc<Mutex<State>>) -> Result<()> {
        let mut state = state.lock().await;
        let state = &mut *state;
        let session = match &mut state.session {
            Some(session) => session,
            none => none.insert(self.begin().await?),
        };
        let before = state.crc;
        part.chunks.iter().for_each(|chunk| state.crc.update(chunk));
        let crc = part.last.then_some(state.crc);
        match session.send(part.offset, &part.chunks, crc).await {
            Ok(document) => state.document = document,
            Err(trouble) => {
                state.crc = before;
                return Err(self.failure(trouble, part.last));
            }
        }
        Ok(())
    }

    async fn begin(&self) -> Result<Session> {
        let mut call =
            self.call("resumable").header("x-upload-content-type", "application/octet-stream")?;
        if let Some(size) = self.size {
            call = call.header("x-upload-content-length", &size.to_string())?;
        }
        let call = self
            .client
            .with_customer_key(call)?
            .query("name", self.name.clone())
            .json(&self.resource());
        Session::begin(&self.client, &self.name, call)
            .await
            .map_err(|trouble| self.failure(trouble, false))
    }

    async fn finish(&self, state: &mut State, size: u64) -> Result<Stored> {
        let Some(mut session) = state.session.take() else {
            return Err(Error::new(Kind::Internal, "an upload without a session"));
        };
        let document = match state.document.take() {
            Some(document) => document,
            // The last part went out before it was known to be the last.
            None => match session.send(size, &Chunks::default(), Some(state.crc)).await {
                Ok(document) => document.unwrap_or_default(),
                Err(trouble) => {
                    session.abort().await;
                    return Err(self.failure(trouble, true));
                }
            },
        };
        self.stored(&document, size, state.crc).await
    }

    /// Stores everything with one request: the description, then the bytes.
    async fn whole(self, chunks: Chunks) -> Result<Stored> {
        let size = chunks.size();
        let mut crc = Crc::default();
        chunks.iter().for_each(|chunk| crc.update(chunk));
        let mut resource = self.resource();
        resource["name"] = json!(self.name);
        resource["crc32c"] = json!(crc.text());
        let mark = format!("walport-{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        let head = format!(
            "--{mark}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{resource}\r\n--{mark}\r\nContent-Type: application/octet-stream\r\n\r\n"
        );
        let list: Vec<_> = [Bytes::from(head)]
            .into_iter()
            .chain(chunks.iter().cloned())
            .chain([Bytes::from(format!("\r\n--{mark}--\r\n"))])
            .collect();
        let call = self
            .call("multipart")
            .header("content-type", &format!("multipart/related; boundary={mark}"))?;
        let call = self.client.with_customer_key(call)?.body(Chunks::new(list));
        match self.client.tries.run(!self.how.if_absent, || self.client.document(&call)).await {
            Ok(document) => self.stored(&document, size, crc).await,
            Err(trouble) => Err(self.failure(trouble, true)),
        }
    }

    fn call(&self, kind: &str) -> Call {
        let mut call = Call::new(Method::POST, self.client.uploads()).query("uploadType", kind);
        if self.how.if_absent {
            call = call.query("ifGenerationMatch", "0");
        }
        if let Some(key) = &self.client.config.kms_key {
            call = call.query("kmsKeyName", key.clone());
        }
        call
    }

    /// How the object is kept.
    fn resource(&self) -> Value {
        let mut resource = json!({});
        if let Some(class) =
            self.how.storage_class.as_ref().or(self.client.config.storage_class.as_ref())
        {
            resource["storageClass"] = json!(class);
        }
        if !self.how.tags.is_empty() {
            resource["metadata"] =
                self.how.tags.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        }
        if let Some(time) = self.how.retention {
            let until = (Utc::now() + time).to_rfc3339_opts(SecondsFormat::Secs, true);
            resource["retention"] = json!({"mode": "Unlocked", "retainUntilTime": until});
        }
        resource
    }

    /// Compares what the store has with what was sent.
    async fn stored(&self, document: &Value, size: u64, crc: Crc) -> Result<Stored> {
        let version = number(&document["generation"]).map(|generation| generation.to_string());
        let found = number(&document["size"]);
        let theirs = document["crc32c"].as_str();
        if found == Some(size) && theirs.is_none_or(|theirs| theirs == crc.text()) {
            return Ok(Stored { size, version });
        }
        // What was spoiled on its way must not be taken for the object.
        if let Some(generation) = &version {
            let call = Call::new(Method::DELETE, self.client.object(&self.name))
                .query("ifGenerationMatch", generation.clone());
            if let Err(trouble) = self.client.document(&call).await {
                log::error!(
                    "gcs: {} is spoiled and could not be removed: {}",
                    self.name,
                    trouble.error
                );
            }
        }
        let message = match found {
            Some(found) if found != size => format!("the store has {found} of {size} bytes"),
            None => "the store did not say what it stored".to_owned(),
            Some(_) => {
                "the checksum of the stored bytes is another than that of the bytes sent".to_owned()
            }
        };
        Err(Error::new(Kind::Corrupt, message).with_class(Class::Transient))
    }

    /// What a failed request means for the object.
    fn failure(&self, trouble: Trouble, last: bool) -> Error {
        if !self.how.if_absent {
            return trouble.error;
        }
        if trouble.is(StatusCode::PRECONDITION_FAILED) {
            return Error::new(Kind::AlreadyExists, "an object of that name exists");
        }
        if last && trouble.ambiguous {
            trouble.error.with_class(Class::Ambiguous)
        } else {
            trouble.error
        }
    }
}
