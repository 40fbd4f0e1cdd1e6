//! A small HTTP store: the scripted server, with rules over a store in memory.
//! Names travel in hexadecimal.

use futures_util::FutureExt;
use walport_conformance::fault::{Dialect, Reply, Request, Script, Server};
use walport_engine::storage::{
    Entry, Error, Get, InMemory, Key, Kind, List, Meta, Put, Result, Storage, StorageExt,
};

pub async fn start() -> Server {
    let store = InMemory::new();
    let script = Script::new().rule(move |request| Some(answer(&store, request)));
    Server::start(script).await.unwrap()
}

fn answer(store: &InMemory, request: &Request) -> Reply {
    // The store in memory never waits.
    let reply = handle(store, request).now_or_never().unwrap();
    reply.unwrap_or_else(|error| match error.kind() {
        Kind::NotFound => Reply::error(Dialect::S3, 404, "NoSuchKey", "no such key"),
        Kind::Invalid => Reply::error(Dialect::S3, 416, "InvalidRange", "no such range"),
        Kind::AlreadyExists | Kind::Changed => {
            Reply::error(Dialect::S3, 412, "PreconditionFailed", "no")
        }
        _ => Reply::internal(Dialect::S3),
    })
}

async fn handle(store: &InMemory, request: &Request) -> Result<Reply> {
    let words: Vec<&str> = request.target.trim_start_matches('/').split('/').collect();
    let [what, name, rest @ ..] = &words[..] else {
        return Err(Error::new(Kind::Invalid, "a strange request"));
    };
    let key = Key::foreign(unhex(name));
    match (request.method.as_str(), *what) {
        ("GET", "list") => list(store, &key, rest).await,
        ("PUT", _) => {
            assert_eq!(request.body.len() as u64, request.body_len, "the server keeps 2 MiB");
            let how =
                Put { if_absent: request.header("if-none-match").is_some(), ..Put::default() };
            let stored = store.put_bytes(&key, request.body.clone(), how).await?;
            Ok(Reply::new(200, "").header("ETag", stored.version.unwrap()))
        }
        ("GET", _) => {
            let range = request.header("range").map(|text| {
                let (from, to) = text.trim_start_matches("bytes=").split_once('-').unwrap();
                from.parse().unwrap()..to.parse::<u64>().unwrap() + 1
            });
            let version = request.header("if-match").map(str::to_owned);
            let object = store.get(&key, Get { range, version }).await?;
            let all = store.get_bytes(&key, u64::MAX).await?;
            let part = all[object.range.start as usize..object.range.end as usize].to_vec();
            let reply = Reply::new(206, part).header("X-Start", object.range.start.to_string());
            Ok(with_meta(reply, &object.meta))
        }
        ("HEAD", _) => Ok(with_meta(Reply::new(200, ""), &store.head(&key).await?)),
        ("DELETE", _) => {
            store.delete_one(&key).await?;
            Ok(Reply::new(204, ""))
        }
        _ => Err(Error::new(Kind::Invalid, "a strange request")),
    }
}

fn with_meta(reply: Reply, meta: &Meta) -> Reply {
    reply
        .header("ETag", meta.version.clone().unwrap_or_default())
        .header("X-Size", meta.size.to_string())
        .header("X-Modified", meta.modified.timestamp_micros().to_string())
}

async fn list(store: &InMemory, prefix: &Key, rest: &[&str]) -> Result<Reply> {
    let [recursive, after] = rest else {
        return Err(Error::new(Kind::Invalid, "a strange listing"));
    };
    let after = Some(Key::foreign(unhex(after))).filter(|key| !key.as_str().is_empty());
    let how = List { recursive: *recursive == "all", after };
    let mut lines = String::new();
    for entry in store.list_all(prefix, how).await? {
        let name: String = entry.key().as_str().bytes().map(|byte| format!("{byte:02x}")).collect();
        lines.push_str(&match entry {
            Entry::Prefix(_) => format!("{name}\n"),
            Entry::Object(_, meta) => format!(
                "{name} {} {} {}\n",
                meta.size,
                meta.modified.timestamp_micros(),
                meta.version.unwrap_or_default()
            ),
        });
    }
    Ok(Reply::ok(lines))
}

pub fn unhex(text: &str) -> String {
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    String::from_utf8((0..text.len()).step_by(2).map(byte).collect()).unwrap()
}
