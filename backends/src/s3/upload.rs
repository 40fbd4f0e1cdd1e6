//! Uploads: one request for what fits into a part, parts in parallel for more.
//!
//! A part is a list of the caller's chunks and is never copied. Chunks are held
//! until the store has them, so a part that failed is sent again from memory,
//! and the caller's pool bounds what is on its way. A caller whose pool is
//! smaller than a part is noticed, and gets parts as large as its pool.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use chrono::{SecondsFormat, Utc};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::{Method, StatusCode};
use tokio::time::{Sleep, sleep};
use walport_engine::error::{Class, Error, Kind, Result};
use walport_engine::memory::CHUNK;
use walport_engine::storage::{Body, Key, Put, Stored};

use super::client::{Call, Client, crc32, unquoted, version, xml_call};
use super::errors::Trouble;
use super::settings::{Checksum, Conditional, MAX_OBJECT, MAX_PART, MAX_PARTS, MIN_PART, Sse};
use super::sign::encode;
use crate::http::Chunks;
use crate::http::xml;

/// How long a body may be silent with nothing under way before what is there
/// is sent: its producer may be waiting for the chunks we hold.
const STARVED: Duration = Duration::from_millis(50);
/// The longest time an abort may take.
const ABORT: Duration = Duration::from_secs(15);

/// Stores `body` under `key`.
pub async fn put(client: &Arc<Client>, key: &Key, body: Body, how: Put) -> Result<Stored> {
    let name = client.full(key.as_str());
    Upload::new(client, &name, &body, how)
        .run(body)
        .await
        .map_err(|error| error.with_op("put").with_key(key))
}

/// A part that the store has.
pub(super) struct Part {
    pub number: usize,
    pub size: u64,
    pub etag: String,
    pub crc: Option<String>,
}

/// One object on its way.
pub(super) struct Upload<'a> {
    client: &'a Arc<Client>,
    name: &'a str,
    how: Put,
    /// The bytes of one part.
    target: u64,
    /// The size of the object is known or estimated, and `target` allows for it.
    planned: bool,
    /// The caller can hold no more than `target`.
    cramped: bool,
    held: VecDeque<Bytes>,
    size: u64,
    next: usize,
    pub parts: Vec<Part>,
}

impl<'a> Upload<'a> {
    fn new(client: &'a Arc<Client>, name: &'a str, body: &Body, how: Put) -> Self {
        let expected = body.size().or(how.expected_size);
        // An estimate may be a tenth too low.
        let needed =
            expected.map_or(0, |size| (size / (MAX_PARTS * 9 / 10)).next_multiple_of(CHUNK as u64));
        let target = client.config.part.max(needed).min(MAX_PART);
        Self {
            client,
            name,
            how,
            target,
            planned: expected.is_some(),
            cramped: false,
            held: VecDeque::new(),
            size: 0,
            next: 1,
            parts: Vec::new(),
        }
    }

    /// An upload whose parts the store has already.
    pub fn for_copy(client: &'a Arc<Client>, name: &'a str) -> Self {
        Self::new(client, name, &Body::bytes(Bytes::new()), Put::default())
    }

    async fn run(mut self, body: Body) -> Result<Stored> {
        if self.how.if_absent && self.client.config.conditional != Conditional::Yes {
            self.refuse_existing().await?;
        }
        let mut stream = body.into_stream();
        let mut session: Option<Session> = None;
        let mut flying = FuturesUnordered::new();
        let mut ended = false;
        let mut starved: Option<Pin<Box<Sleep>>> = None;
        loop {
            while flying.len() < self.client.config.in_flight
                && self.is_due(ended, session.is_some())
            {
                let session = match &mut session {
                    Some(session) => session,
                    none => none.insert(self.begin(self.client.config.checksum).await?),
                };
                let (number, chunks) = match self.cut(self.part_target()) {
                    Ok(part) => part,
                    Err(error) => {
                        flying.clear();
                        session.abort().await;
                        return Err(error);
                    }
                };
                flying.push(send_part(
                    Arc::clone(self.client),
                    session.name.clone(),
                    session.id.clone(),
                    number,
                    chunks,
                ));
            }
            if ended && flying.is_empty() {
                break;
            }
            let reading = !ended && self.size <= self.part_target();
            let waiting = reading && flying.is_empty() && self.size >= MIN_PART;
            if waiting {
                starved.get_or_insert_with(|| Box::pin(sleep(STARVED)));
            } else {
                starved = None;
            }
            tokio::select! {
                biased;
                Some(done) = flying.next(), if !flying.is_empty() => {
                    match done {
                        Ok(part) => self.parts.push(part),
                        Err(trouble) => {
                            flying.clear();
                            return Err(fail(session, trouble).await);
                        }
                    }
                }
                chunk = stream.next(), if reading => {
                    starved = None;
                    match chunk {
                        Some(Ok(chunk)) if chunk.is_empty() => {}
                        Some(Ok(chunk)) => {
                            self.size += chunk.len() as u64;
                            self.held.push_back(chunk);
                        }
                        Some(Err(error)) => {
                            flying.clear();
                            return Err(fail(session, Trouble::before(error)).await);
                        }
                        None => ended = true,
                    }
                }
                () = async { if let Some(sleep) = &mut starved { sleep.await } }, if waiting => {
                    starved = None;
                    // From now on parts are as large as what the caller can hold.
                    self.target = self.size / CHUNK as u64 * CHUNK as u64;
                    self.planned = true;
                    self.cramped = true;
                }
            }
        }
        drop(flying);
        match session {
            None => self.single().await,
            Some(session) => self.finish(session).await,
        }
    }

    /// The bytes of the next part. Where nobody knows how large the object will
    /// be, parts grow, so that the most parts there may be never suffice too little.
    fn part_target(&self) -> u64 {
        if self.planned {
            self.target
        } else {
            (self.target * (1 + self.next as u64 / 1000)).min(MAX_PART)
        }
    }

    fn is_due(&self, ended: bool, begun: bool) -> bool {
        let target = self.part_target();
        match (ended, begun) {
            // Whether this is all is known only when more than a part is there,
            // or nothing more can come because the caller waits for us.
            (false, false) => self.size > target || (self.size == target && self.cramped),
            (false, true) => self.size >= target,
            (true, false) => self.size > target,
            (true, true) => self.size > 0,
        }
    }

    /// Takes the next part off what is held.
    fn cut(&mut self, target: u64) -> Result<(usize, Chunks)> {
        let number = self.next;
        if number as u64 > MAX_PARTS {
            return Err(Error::new(
                Kind::Invalid,
                format!("the object needs more than {MAX_PARTS} parts"),
            )
            .with_hint(
                "Raise S3_MAX_PART_SIZE and WALPORT_MEMORY_LIMIT, so that parts can be larger.",
            ));
        }
        let mut list = Vec::new();
        let mut wanted = target.min(self.size);
        self.size -= wanted;
        while wanted > 0 {
            let Some(mut chunk) = self.held.pop_front() else { break };
            if chunk.len() as u64 > wanted {
                let rest = chunk.split_off(wanted as usize);
                self.held.push_front(rest);
            }
            wanted -= chunk.len() as u64;
            list.push(chunk);
        }
        self.next += 1;
        Ok((number, Chunks::new(list)))
    }

    /// For stores that cannot create an object only if it is absent.
    async fn refuse_existing(&self) -> Result<()> {
        match exists(self.client, self.name).await {
            Ok(true) => Err(already()),
            Ok(false) => Ok(()),
            Err(trouble) => Err(trouble.error),
        }
    }

    /// Stores what is held with one request.
    async fn single(mut self) -> Result<Stored> {
        let size = self.size;
        let chunks = Chunks::new(std::mem::take(&mut self.held).into_iter().collect::<Vec<_>>());
        let conditional = self.how.if_absent && self.client.config.conditional != Conditional::No;
        let mut call = self
            .attributes(Call::new(Method::PUT, Some(self.name)))?
            .body(chunks, self.client.config.checksum);
        if conditional {
            call = call.header("if-none-match", "*")?;
        }
        let sent = self.client.retry(!conditional, || async {
            let _slot = self.client.slots.acquire().await;
            self.client.document(&call).await
        });
        match sent.await {
            Ok((headers, _)) => Ok(Stored { size, version: version(&headers) }),
            Err(trouble) => Err(self.creation(trouble, conditional).await),
        }
    }

    /// What a failed creation means.
    async fn creation(&self, trouble: Trouble, conditional: bool) -> Error {
        if !conditional {
            return trouble.error;
        }
        if trouble.is(StatusCode::PRECONDITION_FAILED) {
            return already();
        }
        // Somebody else was creating the object at the same moment.
        if trouble.is(StatusCode::CONFLICT)
            && matches!(exists(self.client, self.name).await, Ok(true))
        {
            return already();
        }
        if trouble.is(StatusCode::NOT_IMPLEMENTED) {
            return trouble.error.with_hint("The store cannot create an object only if it is absent: set WALPORT_S3_CONDITIONAL=no.");
        }
        if trouble.ambiguous { trouble.error.with_class(Class::Ambiguous) } else { trouble.error }
    }

    /// The headers that say how the object is kept.
    pub fn attributes<'c>(&self, mut call: Call<'c>) -> Result<Call<'c>> {
        let config = &self.client.config;
        if let Some(class) = self.how.storage_class.as_ref().or(config.storage_class.as_ref()) {
            call = call.header("x-amz-storage-class", class)?;
        }
        if let Sse::Server(kind, key) = &config.sse {
            call = call.header("x-amz-server-side-encryption", kind)?;
            if let Some(key) = key {
                call = call.header("x-amz-server-side-encryption-aws-kms-key-id", key)?;
            }
        }
        if let Some(time) = self.how.retention.or(config.retention) {
            let until = (Utc::now() + time).to_rfc3339_opts(SecondsFormat::Secs, true);
            call = call
                .header("x-amz-object-lock-mode", &config.retention_mode)?
                .header("x-amz-object-lock-retain-until-date", &until)?;
        }
        let tags: Vec<_> = config
            .tags
            .iter()
            .chain(&self.how.tags)
            .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
            .collect();
        if !tags.is_empty() {
            call = call.header("x-amz-tagging", &tags.join("&"))?;
        }
        self.client.with_customer_key(call)
    }

    pub async fn begin(&self, checksum: Checksum) -> Result<Session> {
        let mut call =
            self.attributes(Call::new(Method::POST, Some(self.name)).query("uploads", ""))?;
        if checksum == Checksum::Crc32 {
            call = call.header("x-amz-checksum-algorithm", "CRC32")?;
        }
        let (_, body) = self
            .client
            .retry(true, || self.client.document(&call))
            .await
            .map_err(|trouble| trouble.error)?;
        match xml::find(&body, "UploadId") {
            Some(id) if !id.is_empty() => Ok(Session {
                client: Arc::clone(self.client),
                name: self.name.into(),
                id: id.into(),
                done: false,
            }),
            _ => Err(Error::new(Kind::Corrupt, "the store began an upload without naming it")),
        }
    }

    pub async fn finish(mut self, mut session: Session) -> Result<Stored> {
        self.parts.sort_unstable_by_key(|part| part.number);
        let size: u64 = self.parts.iter().map(|part| part.size).sum();
        if size > MAX_OBJECT {
            session.abort().await;
            return Err(Error::new(Kind::Invalid, "the object is larger than 5 TiB"));
        }
        let conditional = self.how.if_absent && self.client.config.conditional == Conditional::Yes;
        if self.how.if_absent
            && !conditional
            && let Err(error) = self.refuse_existing().await
        {
            session.abort().await;
            return Err(error);
        }
        let call = Call::new(Method::POST, Some(self.name)).query("uploadId", &session.id);
        let mut call = xml_call(call, self.manifest(), Checksum::Sha256);
        if conditional {
            call = call.header("if-none-match", "*")?;
        }
        // A second try is judged by its own answer: NoSuchUpload may mean that
        // the first one did it.
        let unsure = AtomicBool::new(false);
        let done = self.client.retry(true, || async {
            self.client.document(&call).await.inspect_err(|trouble| {
                unsure.fetch_or(trouble.ambiguous, Ordering::Relaxed);
            })
        });
        match done.await {
            Ok((headers, body)) => {
                session.done = true;
                Ok(Stored {
                    size,
                    version: xml::find(&body, "ETag")
                        .map(|etag| unquoted(&etag))
                        .or_else(|| version(&headers)),
                })
            }
            Err(trouble) => {
                if unsure.load(Ordering::Relaxed)
                    && let Some(stored) = self.completed(size).await
                {
                    session.done = true;
                    return Ok(stored);
                }
                session.abort().await;
                Err(self.creation(trouble, conditional).await)
            }
        }
    }

    fn manifest(&self) -> String {
        let mut text = String::from(
            "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">",
        );
        for part in &self.parts {
            text.push_str("<Part>");
            if let Some(crc) = &part.crc {
                text.push_str(&format!("<ChecksumCRC32>{crc}</ChecksumCRC32>"));
            }
            text.push_str(&format!(
                "<ETag>{}</ETag><PartNumber>{}</PartNumber></Part>",
                xml::escape(&part.etag),
                part.number
            ));
        }
        text.push_str("</CompleteMultipartUpload>");
        text
    }

    /// The object as stored, if it is ours: of this size, and of this many parts.
    async fn completed(&self, size: u64) -> Option<Stored> {
        let call = self.client.with_customer_key(Call::new(Method::HEAD, Some(self.name))).ok()?;
        let response = self.client.send(&call).await.ok()?;
        let found = response
            .headers()
            .get(http::header::CONTENT_LENGTH)?
            .to_str()
            .ok()?
            .parse::<u64>()
            .ok()?;
        let version = version(response.headers())?;
        (found == size && version.ends_with(&format!("-{}", self.parts.len())))
            .then_some(Stored { size, version: Some(version) })
    }
}

async fn exists(client: &Client, name: &str) -> Result<bool, Trouble> {
    let call =
        client.with_customer_key(Call::new(Method::HEAD, Some(name))).map_err(Trouble::before)?;
    match client.retry(true, || client.send(&call)).await {
        Ok(_) => Ok(true),
        Err(trouble) if trouble.error.kind() == Kind::NotFound => Ok(false),
        Err(trouble) => Err(trouble),
    }
}

fn already() -> Error {
    Error::new(Kind::AlreadyExists, "an object of that name exists")
}

async fn send_part(
    client: Arc<Client>,
    name: Arc<str>,
    id: Arc<str>,
    number: usize,
    chunks: Chunks,
) -> Result<Part, Trouble> {
    let size = chunks.size();
    let checksum = client.config.checksum;
    let crc = (checksum == Checksum::Crc32).then(|| crc32(&chunks));
    let text = number.to_string();
    let call = Call::new(Method::PUT, Some(&*name))
        .query("partNumber", &text)
        .query("uploadId", &id)
        .body(chunks, checksum);
    let call = client.with_customer_key(call).map_err(Trouble::before)?;
    let sent = client.retry(true, || async {
        let _slot = client.slots.acquire().await;
        client.document(&call).await
    });
    let (headers, _) = sent.await.map_err(|mut trouble| {
        trouble.error = trouble.error.context(format!("part {number}"));
        trouble
    })?;
    let etag = headers.get("etag").and_then(|value| value.to_str().ok()).map(str::to_owned);
    match etag {
        Some(etag) => Ok(Part { number, size, etag, crc }),
        None => Err(Trouble::before(Error::new(
            Kind::Corrupt,
            format!("the store took part {number} without an ETag"),
        ))),
    }
}

async fn fail(session: Option<Session>, trouble: Trouble) -> Error {
    if let Some(mut session) = session {
        session.abort().await;
    }
    trouble.error
}

/// An upload in parts that the store knows of. Unless it is done, dropping it
/// removes what was stored of it.
pub(super) struct Session {
    client: Arc<Client>,
    name: Arc<str>,
    id: Arc<str>,
    done: bool,
}

impl Session {
    pub fn id(&self) -> &str {
        &self.id
    }

    pub async fn abort(&mut self) {
        self.done = true;
        abort(Arc::clone(&self.client), Arc::clone(&self.name), Arc::clone(&self.id)).await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(abort(
                Arc::clone(&self.client),
                Arc::clone(&self.name),
                Arc::clone(&self.id),
            ));
        }
    }
}

async fn abort(client: Arc<Client>, name: Arc<str>, id: Arc<str>) {
    let call = Call::new(Method::DELETE, Some(&*name)).query("uploadId", &id);
    let aborted = tokio::time::timeout(ABORT, client.retry(true, || client.send(&call))).await;
    let why = match aborted {
        Ok(Ok(_)) => return,
        Ok(Err(trouble)) if trouble.error.kind() == Kind::NotFound => return,
        Ok(Err(trouble)) => trouble.error.to_string(),
        Err(_) => "no answer in time".to_owned(),
    };
    log::warn!(
        "s3: the parts of an upload of {name} could not be removed ({why}); a lifecycle rule of the bucket can remove them"
    );
}
