//! A store around several stores: read once, written to all of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{AbortHandle, abortable, join_all};
use futures_util::stream::{self, BoxStream, FuturesUnordered};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::merge::{self, Member};
use super::retry::repeat;
use super::{
    Body, ByteStream, Deleted, Entry, Error, Get, Key, Kind, Limits, List, Meta, Object, Put,
    Result, Storage, Store, Stored,
};
use crate::settings::Settings;

/// One of several places to which the same is written.
#[derive(Debug, Clone)]
pub struct Target {
    /// The place.
    pub store: Store,
    /// What messages call it.
    pub name: String,
    /// Its failure is the failure of the whole; otherwise it is a warning.
    pub required: bool,
}

impl Target {
    fn member(&self) -> Member<'_> {
        Member { name: &self.name, store: self.store.as_ref(), optional: !self.required }
    }
}

/// A target as the settings name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetSpec {
    /// What messages call it.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// Whether its failure is the failure of the whole.
    pub required: bool,
}

/// The targets of `WALPORT_TARGETS` and how many must succeed; `None` if it is
/// not set.
pub fn from_settings(settings: &Settings) -> Result<Option<(Vec<TargetSpec>, usize)>> {
    let Some(text) = settings.text("WALPORT_TARGETS").filter(|text| !text.trim().is_empty()) else {
        return Ok(None);
    };
    let wrong = |what: String| {
        Error::new(Kind::Config, what)
            .with_hint("Write WALPORT_TARGETS as NAME=URL, separated by commas.")
    };
    let list = |text: &str| {
        text.split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let optional = list(settings.text("WALPORT_TARGETS_OPTIONAL").unwrap_or_default());
    let mut targets: Vec<TargetSpec> = Vec::new();
    for item in list(text) {
        let named = item
            .split_once('=')
            .filter(|(name, url)| !name.trim().is_empty() && !url.trim().is_empty());
        let Some((name, url)) = named else {
            return Err(wrong(format!(
                "WALPORT_TARGETS: {} targets were read, the next one has no name or no URL",
                targets.len()
            )));
        };
        let name = name.trim().to_owned();
        if targets.iter().any(|known| known.name == name) {
            return Err(wrong(format!("WALPORT_TARGETS: the name {name} is there twice")));
        }
        let required = !optional.contains(&name);
        targets.push(TargetSpec { name, url: url.trim().to_owned(), required });
    }
    if let Some(unknown) =
        optional.iter().find(|name| !targets.iter().any(|target| target.name == **name))
    {
        return Err(wrong(format!("WALPORT_TARGETS_OPTIONAL: there is no target {unknown}")));
    }
    let quorum = settings
        .number("WALPORT_TARGETS_QUORUM")
        .and_then(|number| usize::try_from(number).ok())
        .unwrap_or(1);
    check(targets.len(), quorum)?;
    Ok(Some((targets, quorum)))
}

fn check(targets: usize, quorum: usize) -> Result<()> {
    if targets == 0 || quorum == 0 || quorum > targets {
        return Err(Error::new(
            Kind::Config,
            format!("{quorum} of {targets} targets cannot be asked for"),
        )
        .with_hint("Set WALPORT_TARGETS_QUORUM to at least 1 and at most the number of targets."));
    }
    Ok(())
}

/// Writes to several stores at once and reads from the first that has the object.
///
/// A `put` has succeeded when every required target and at least the quorum of
/// all have stored the object. Each chunk is read once and given to all; a
/// target that can be spared and takes no chunk, or is not done, for the stall
/// limit while the others wait is dropped with a warning.
///
/// With [`Put::if_absent`], an object that some targets have and others lack is
/// copied to these before [`Kind::AlreadyExists`] is the answer. So a segment
/// that was archived halfway is whole everywhere once archiving was tried again.
#[derive(Debug)]
pub struct Fanout {
    targets: Vec<Target>,
    quorum: usize,
    patience: Duration,
    limits: Limits,
}

impl Fanout {
    /// Writes to `targets`, of which `quorum` must succeed besides those that are
    /// required; `patience` is the longest time a target that can be spared may
    /// hold up the others.
    pub fn new(targets: Vec<Target>, quorum: usize, patience: Duration) -> Result<Self> {
        check(targets.len(), quorum)?;
        let limits = merge::limits(targets.iter().map(|target| target.store.limits()));
        Ok(Self { targets, quorum, patience, limits })
    }

    fn members(&self) -> Vec<Member<'_>> {
        self.targets.iter().map(Target::member).collect()
    }

    /// Brings an object that some targets have to those that lack it; the error
    /// if there is one.
    async fn converge(&self, key: &Key) -> Result<Option<Error>> {
        let heads = join_all(self.targets.iter().map(|target| target.store.head(key))).await;
        let Some(holder) = heads.iter().position(Result::is_ok) else { return Ok(None) };
        for (index, head) in heads.iter().enumerate() {
            let lacks = head.as_ref().is_err_and(|error| error.kind() == Kind::NotFound);
            if lacks && let Err(error) = self.replicate(key, holder, index, Put::create()).await {
                if self.targets[index].required {
                    return Err(error);
                }
                log::warn!("{error}; the object is missing there");
            }
        }
        Ok(Some(
            Error::new(Kind::AlreadyExists, "an object of that name exists")
                .with_op("put")
                .with_key(key),
        ))
    }

    /// Copies an object from one target to another.
    async fn replicate(&self, key: &Key, from: usize, to: usize, how: Put) -> Result<()> {
        let (from, to) = (&self.targets[from], &self.targets[to]);
        let object =
            from.store.get(key, Get::default()).await.map_err(|error| of(&from.name, error))?;
        let size = object.meta.size;
        match to.store.put(key, Body::stream(Some(size), object.body), how).await {
            Err(error) if error.kind() != Kind::AlreadyExists => Err(of(&to.name, error)),
            _ => {
                log::info!("{key} was copied from the target {} to {}", from.name, to.name);
                Ok(())
            }
        }
    }

    /// Settles a race of creators. Each target has let one of them win, but not
    /// all the same one: whoever won at the arbiter, the first required target,
    /// has won everywhere, and the others' objects give way to that one.
    async fn arbitrate(
        &self,
        key: &Key,
        mut outcomes: Vec<Result<Stored>>,
    ) -> Result<Vec<Result<Stored>>> {
        let lost = |outcome: &Result<Stored>| {
            outcome.as_ref().is_err_and(|error| error.kind() == Kind::AlreadyExists)
        };
        if !outcomes.iter().any(lost) {
            return Ok(outcomes);
        }
        let decides = |index: &usize| outcomes[*index].is_ok() || lost(&outcomes[*index]);
        let first = |required: bool| {
            (0..outcomes.len())
                .filter(decides)
                .find(|&index| self.targets[index].required || !required)
        };
        let Some(arbiter) = first(true).or_else(|| first(false)) else { return Ok(outcomes) };
        let won = outcomes[arbiter].is_ok();
        for index in 0..outcomes.len() {
            let differs = if won { lost(&outcomes[index]) } else { outcomes[index].is_ok() };
            if index == arbiter || !differs {
                continue;
            }
            match self.replicate(key, arbiter, index, Put::default()).await {
                Ok(()) if won => {
                    let size = outcomes[arbiter].as_ref().map_or(0, |stored| stored.size);
                    outcomes[index] = Ok(Stored { size, version: None });
                }
                Ok(()) => {}
                Err(error) if self.targets[index].required => return Err(error),
                Err(error) => outcomes[index] = Err(error),
            }
        }
        Ok(outcomes)
    }

    /// What became of a `put`, from what became of it at each target.
    async fn judge(&self, key: &Key, outcomes: Vec<Result<Stored>>) -> Result<Stored> {
        let outcomes = self.arbitrate(key, outcomes).await?;
        let mut stored: Option<Stored> = None;
        let mut count = 0;
        let mut failed = None;
        for (index, (target, outcome)) in self.targets.iter().zip(outcomes).enumerate() {
            match outcome {
                Ok(done) => {
                    count += 1;
                    stored.get_or_insert(Stored {
                        size: done.size,
                        version: merge::tag(index, done.version),
                    });
                }
                Err(error) if target.required || error.kind() == Kind::AlreadyExists => {
                    failed.get_or_insert(of(&target.name, error));
                }
                Err(error) => {
                    log::warn!("{}; the object is missing there", of(&target.name, error));
                }
            }
        }
        match (failed, stored) {
            (Some(error), _) => Err(error),
            (None, Some(stored)) if count >= self.quorum => Ok(stored),
            _ => Err(Error::new(
                Kind::Unavailable,
                format!(
                    "{count} of {} targets stored the object, {} are needed",
                    self.targets.len(),
                    self.quorum
                ),
            )
            .with_op("put")
            .with_key(key)
            .with_hint("The warnings before this say what failed at each target.")),
        }
    }

    /// Gives a body that can be read once to all targets.
    async fn stream(&self, key: &Key, body: Body, how: &Put) -> Result<Vec<Result<Stored>>> {
        let size = body.size();
        let mut lanes = Vec::with_capacity(self.targets.len());
        let mut puts = FuturesUnordered::new();
        for (index, target) in self.targets.iter().enumerate() {
            let (sender, stream) = lane();
            let put = target.store.put(key, Body::stream(size, stream), how.clone());
            let (put, abort) = abortable(put);
            lanes.push(Lane { sender: Some(sender), abort, required: target.required });
            puts.push(async move { (index, put.await) });
        }
        let mut outcomes: Vec<Option<Result<Stored>>> = self.targets.iter().map(|_| None).collect();
        let source_failed = AtomicBool::new(false);
        let mut feed = Box::pin(self.feed(body.into_stream(), lanes, &source_failed));
        let mut fed = None;
        let mut deadline = None;
        loop {
            let grace = deadline.unwrap_or_else(Instant::now);
            tokio::select! {
                done = &mut feed, if fed.is_none() => fed = Some(done),
                Some((index, done)) = puts.next(), if !puts.is_empty() => {
                    let done = done.unwrap_or_else(|_| Err(self.spared(key)));
                    // Dropping the others aborts them, unless the error is the
                    // source's own, which each of them gets to see.
                    match done {
                        Err(error)
                            if self.targets[index].required
                                && error.kind() != Kind::AlreadyExists
                                && !source_failed.load(Ordering::Relaxed) =>
                        {
                            return Err(of(&self.targets[index].name, error));
                        }
                        done => outcomes[index] = Some(done),
                    }
                }
                () = sleep_until(grace), if deadline.is_some() => break,
                else => break,
            }
            if fed.is_some() && deadline.is_none() && self.is_enough(&outcomes) {
                deadline = Some(Instant::now() + self.patience);
            }
        }
        fed.unwrap_or(Ok(()))?;
        Ok(outcomes.into_iter().map(|done| done.unwrap_or_else(|| Err(self.spared(key)))).collect())
    }

    /// Whether the targets that are still busy can be spared.
    fn is_enough(&self, outcomes: &[Option<Result<Stored>>]) -> bool {
        let stored = outcomes.iter().filter(|done| matches!(done, Some(Ok(_)))).count();
        let open = |(target, done): (&Target, &Option<_>)| target.required && done.is_none();
        stored >= self.quorum && !self.targets.iter().zip(outcomes).any(open)
    }

    fn spared(&self, key: &Key) -> Error {
        Error::new(
            Kind::Stalled,
            format!(
                "the target took nothing for {} s and was left out",
                self.patience.as_secs_f64()
            ),
        )
        .with_op("put")
        .with_key(key)
    }

    /// Passes each chunk to every lane. Fails only with an error of the source.
    async fn feed(
        &self,
        mut source: ByteStream,
        mut lanes: Vec<Lane>,
        failed: &AtomicBool,
    ) -> Result<()> {
        while let Some(chunk) = source.next().await {
            let alive = lanes.iter().filter(|lane| lane.sender.is_some()).count();
            if alive == 0 {
                return Ok(());
            }
            if let Err(error) = chunk {
                failed.store(true, Ordering::Relaxed);
                // Every target must see it, or would take it for the end.
                for lane in &lanes {
                    if let Some(sender) = &lane.sender {
                        let told = sender.send(Err(repeat(&error)));
                        if timeout(self.patience, told).await.is_err() {
                            lane.abort.abort();
                        }
                    }
                }
                return Err(error);
            }
            let spare = alive > self.quorum;
            join_all(
                lanes.iter_mut().map(|lane| lane.send(&chunk, spare.then_some(self.patience))),
            )
            .await;
        }
        Ok(())
    }
}

fn of(name: &str, error: Error) -> Error {
    error.context(format!("target {name}"))
}

/// The way of the chunks to one target.
struct Lane {
    sender: Option<mpsc::Sender<Result<Bytes>>>,
    abort: AbortHandle,
    required: bool,
}

impl Lane {
    async fn send(&mut self, chunk: &Result<Bytes>, patience: Option<Duration>) {
        let (Some(sender), Ok(chunk)) = (&self.sender, chunk) else { return };
        let sending = sender.send(Ok(chunk.clone()));
        let open = match patience.filter(|_| !self.required) {
            None => sending.await.is_ok(),
            Some(patience) => {
                timeout(patience, sending)
                    .await
                    .unwrap_or_else(|_| {
                        self.abort.abort();
                        Ok(())
                    })
                    .is_ok()
                    && !self.abort.is_aborted()
            }
        };
        if !open {
            self.sender = None;
        }
    }
}

fn lane() -> (mpsc::Sender<Result<Bytes>>, ByteStream) {
    let (sender, receiver) = mpsc::channel(1);
    let stream = stream::unfold(receiver, |mut receiver: mpsc::Receiver<Result<Bytes>>| async {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    });
    (sender, stream.boxed())
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Storage for Fanout {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    async fn put(&self, key: &Key, body: Body, how: Put) -> Result<Stored> {
        if how.if_absent
            && let Some(error) = self.converge(key).await?
        {
            return Err(error);
        }
        let bodies: Option<Vec<Body>> = self.targets.iter().map(|_| body.replay()).collect();
        let outcomes = match bodies {
            // Each target may start it again on its own, after its own failures.
            Some(bodies) => {
                let puts = self.targets.iter().zip(bodies);
                join_all(puts.map(|(target, body)| target.store.put(key, body, how.clone()))).await
            }
            None => self.stream(key, body, &how).await?,
        };
        self.judge(key, outcomes).await
    }

    async fn get(&self, key: &Key, how: Get) -> Result<Object> {
        merge::get(&self.members(), key, how).await
    }

    async fn head(&self, key: &Key) -> Result<Meta> {
        merge::head(&self.members(), key).await
    }

    fn list(&self, prefix: &Key, how: List) -> BoxStream<'_, Result<Entry>> {
        merge::entries(self.members(), prefix, &how)
    }

    async fn delete(&self, keys: &[Key]) -> Result<Vec<Deleted>> {
        let mut all: Vec<Deleted> =
            keys.iter().map(|key| Deleted { key: key.clone(), outcome: Ok(()) }).collect();
        for target in &self.targets {
            let deleted = match target.store.delete(keys).await {
                Ok(deleted) => deleted,
                Err(error) if target.required => return Err(of(&target.name, error)),
                Err(error) => {
                    log::warn!("{}; objects may be left there", of(&target.name, error));
                    continue;
                }
            };
            for (sum, deleted) in all.iter_mut().zip(deleted) {
                // An object that is left behind would show up again in listings,
                // so a failure at any target counts.
                if let (Ok(()), Err(error)) = (&sum.outcome, deleted.outcome) {
                    sum.outcome = Err(of(&target.name, error));
                }
            }
        }
        Ok(all)
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<Stored> {
        if !self.limits.server_side_copy {
            return Err(Error::new(Kind::Unsupported, "not every target can copy")
                .with_op("copy")
                .with_key(from));
        }
        let outcomes =
            join_all(self.targets.iter().map(|target| target.store.copy(from, to))).await;
        self.judge(to, outcomes).await
    }
}

#[cfg(test)]
#[path = "fanout_tests.rs"]
mod tests;
