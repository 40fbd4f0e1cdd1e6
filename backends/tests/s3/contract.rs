//! The contract of the store, on servers that are not ours.

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use walport_backends::s3::S3;
use walport_engine::error::{Class, Error, Kind};
use walport_engine::storage::{Body, Entry, Get, Key, List, Put, Storage, StorageExt};

use crate::servers::{Server, s3s, versitygw, versitygw_with_tls};
use crate::{KEYS, open};

const PART: usize = 5 << 20;

async fn store(server: &Server, more: &[(&str, &str)]) -> S3 {
    let endpoint = [("AWS_ENDPOINT", server.endpoint.as_str()), ("S3_MAX_PART_SIZE", "5242880")];
    let values: Vec<_> = endpoint.iter().chain(&KEYS).chain(more).copied().collect();
    open("s3://bucket/some/root", &values, 0).await.unwrap()
}

fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

fn bytes(size: usize) -> Bytes {
    let mut random = fastrand::Rng::with_seed(size as u64);
    let mut data = vec![0; size];
    random.fill(&mut data);
    data.into()
}

/// A body of unknown size in chunks that do not fit parts evenly.
fn unsized_body(data: &Bytes) -> Body {
    let mut rest = data.clone();
    let mut chunks = Vec::new();
    while !rest.is_empty() {
        chunks.push(Ok(rest.split_to(rest.len().min(300_001))));
    }
    Body::stream(None, stream::iter(chunks).boxed())
}

async fn objects(store: &S3, prefix: &str, how: List) -> Vec<String> {
    let entries = store.list_all(&key(prefix), how).await.unwrap();
    entries.iter().map(|entry| entry.key().to_string()).collect()
}

/// Everything that both servers can do.
async fn contract(store: &S3) {
    sizes(store).await;
    reading(store).await;
    creating(store).await;
    aborting(store).await;
    listing(store).await;
    deleting(store).await;
    copying(store).await;
}

async fn sizes(store: &S3) {
    for size in [0, 1, PART - 1, PART, PART + 1, 2 * PART, 3 * PART + 17] {
        let data = bytes(size);
        let name = key(&format!("sizes/{size}"));
        let stored = store.put(&name, unsized_body(&data), Put::default()).await.unwrap();
        assert_eq!(stored.size, size as u64);
        assert_eq!(store.get_bytes(&name, 1 << 30).await.unwrap(), data, "{size}");
        let meta = store.head(&name).await.unwrap();
        assert_eq!((meta.size, &meta.version), (size as u64, &stored.version), "{size}");
        let known = Body::stream(Some(size as u64), stream::iter([Ok(data.clone())]).boxed());
        store.put(&name, known, Put::default()).await.unwrap();
        assert_eq!(store.get_bytes(&name, 1 << 30).await.unwrap(), data, "{size}");
    }
    for odd in ["odd/a b+c%41=é☃&<>'\"~!", "odd/a:b@c,d;e$f(g)*h?i#j"] {
        store.put_bytes(&key(odd), "odd", Put::default()).await.unwrap();
        assert_eq!(store.get_bytes(&key(odd), 9).await.unwrap(), b"odd", "{odd}");
    }
    assert_eq!(objects(store, "odd/", List::recursive()).await.len(), 2);
}

async fn reading(store: &S3) {
    let name = key("reading/object");
    let data = bytes(100_000);
    store.put_bytes(&name, data.clone(), Put::default()).await.unwrap();
    for (range, wanted) in [
        (0..1, 0..1),
        (10..99_999, 10..99_999),
        (99_999..200_000, 99_999..100_000),
        (100_000..100_001, 100_000..100_000),
        (5..5, 5..5),
    ] {
        let object = store.get(&name, Get::range(range.clone())).await.unwrap();
        assert_eq!(object.range, wanted, "{range:?}");
        assert_eq!(object.meta.size, 100_000);
        let parts: Vec<Bytes> = object.body.map(Result::unwrap).collect().await;
        assert_eq!(parts.concat(), &data[wanted.start as usize..wanted.end as usize], "{range:?}");
    }
    let past = store.get(&name, Get::range(100_001..100_002)).await.unwrap_err();
    assert_eq!(past.kind(), Kind::Invalid);
    for missing in [
        store.get(&key("reading/none"), Get::default()).await.map(drop),
        store.head(&key("reading/none")).await.map(drop),
        store.head(&key("reading/")).await.map(drop),
    ] {
        let error = missing.unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::NotFound, Class::Never));
    }
    let version = store.head(&name).await.unwrap().version;
    let pinned = Get { range: Some(0..10), version: version.clone() };
    store.get(&name, pinned.clone()).await.unwrap();
    store.put_bytes(&name, "another", Put::default()).await.unwrap();
    assert_eq!(store.get(&name, pinned).await.unwrap_err().kind(), Kind::Changed);
    assert_eq!(
        store.get(&name, Get { range: None, version }).await.unwrap_err().kind(),
        Kind::Changed
    );
}

async fn creating(store: &S3) {
    for size in [10, 2 * PART + 1] {
        let name = key(&format!("creating/{size}"));
        let first = bytes(size);
        store.put(&name, unsized_body(&first), Put::create()).await.unwrap();
        let error =
            store.put(&name, unsized_body(&bytes(size + 1)), Put::create()).await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::AlreadyExists, Class::Never), "{error}");
        assert_eq!(store.get_bytes(&name, 1 << 30).await.unwrap(), first);
    }
    nothing_unfinished(store).await;
}

/// s3s-fs cannot tell what is unfinished.
async fn nothing_unfinished(store: &S3) {
    match store.unfinished(&Key::root()).await {
        Ok(found) => assert!(found.is_empty(), "{found:?}"),
        Err(error) => assert_eq!(error.kind(), Kind::Unsupported, "{error}"),
    }
}

async fn aborting(store: &S3) {
    let name = key("aborting/object");
    for size in [10, 2 * PART + 1] {
        let broken = stream::iter([Ok(bytes(size)), Err(Error::new(Kind::Corrupt, "on purpose"))]);
        let error =
            store.put(&name, Body::stream(None, broken.boxed()), Put::default()).await.unwrap_err();
        assert_eq!((error.kind(), error.key()), (Kind::Corrupt, Some("aborting/object")));
        assert_eq!(store.head(&name).await.unwrap_err().kind(), Kind::NotFound);
        nothing_unfinished(store).await;
    }
}

async fn listing(store: &S3) {
    let mut names: Vec<String> = (0..30).map(|n| format!("listing/{n:02}")).collect();
    names.extend(["listing/deep/a", "listing/deep/b", "listing/deeper/c"].map(str::to_owned));
    for name in &names {
        store.put_bytes(&key(name), name.clone(), Put::default()).await.unwrap();
    }
    names.sort();
    assert_eq!(objects(store, "listing/", List::recursive()).await, names);
    let level = objects(store, "listing/", List::default()).await;
    assert_eq!(level.len(), 32);
    assert_eq!(level[30..], ["listing/deep/", "listing/deeper/"]);
    let after = List { recursive: true, after: Some(key("listing/28")) };
    assert_eq!(
        objects(store, "listing/", after).await,
        ["listing/29", "listing/deep/a", "listing/deep/b", "listing/deeper/c"]
    );
    assert!(objects(store, "nothing/", List::recursive()).await.is_empty());
    let Entry::Object(first, meta) =
        &store.list_all(&key("listing/"), List::recursive()).await.unwrap()[0]
    else {
        panic!("no object")
    };
    let head = store.head(first).await.unwrap();
    assert_eq!((meta.size, meta.modified.timestamp()), (head.size, head.modified.timestamp()));
}

async fn deleting(store: &S3) {
    let names: Vec<Key> = (0..25).map(|n| key(&format!("deleting/{n} &<é"))).collect();
    for name in &names {
        store.put_bytes(name, "x", Put::default()).await.unwrap();
    }
    let mut asked = names.clone();
    asked.insert(3, key("deleting/missing"));
    let deleted = store.delete(&asked).await.unwrap();
    assert_eq!(deleted.iter().map(|one| one.key.clone()).collect::<Vec<_>>(), asked);
    assert!(deleted.iter().all(|one| one.outcome.is_ok()), "{deleted:?}");
    assert!(objects(store, "deleting/", List::recursive()).await.is_empty());
    store.delete_one(&key("deleting/missing")).await.unwrap();
    assert!(store.delete(&[]).await.unwrap().is_empty());
}

async fn copying(store: &S3) {
    let data = bytes(300_000);
    let (from, to) = (key("copying/from é"), key("copying/to"));
    store.put_bytes(&from, data.clone(), Put::default()).await.unwrap();
    assert_eq!(store.copy(&from, &to).await.unwrap().size, 300_000);
    assert_eq!(store.get_bytes(&to, 1 << 20).await.unwrap(), data);
    assert_eq!(store.copy(&key("copying/none"), &to).await.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test]
async fn s3s_fs_keeps_the_contract() {
    let server = s3s();
    contract(&store(&server, &[]).await).await;
}

#[tokio::test]
async fn versitygw_keeps_the_contract() {
    let server = versitygw();
    let store = store(&server, &[]).await;
    contract(&store).await;
    assert!(store.unfinished(&Key::root()).await.unwrap().is_empty());
}

#[tokio::test]
async fn every_checksum_is_taken() {
    let (one, two) = (s3s(), versitygw());
    for server in [&one, &two] {
        for checksum in ["sha256", "crc32", "md5", "none"] {
            let store = store(server, &[("WALPORT_S3_CHECKSUM", checksum)]).await;
            for size in [0, 1000, 2 * PART + 1] {
                let (name, data) = (key(&format!("{checksum}/{size}")), bytes(size));
                store.put(&name, unsized_body(&data), Put::default()).await.unwrap_or_else(
                    |error| panic!("{checksum} {size} {}: {error}", server.endpoint),
                );
                assert_eq!(store.get_bytes(&name, 1 << 30).await.unwrap(), data);
            }
        }
    }
}

#[tokio::test]
async fn large_objects_are_copied_in_parts() {
    let server = versitygw();
    let store =
        store(&server, &[("WALPORT_S3_COPY_LIMIT", "5MiB"), ("WALPORT_S3_PRESET", "minio")]).await;
    let data = bytes(2 * PART + 12_345);
    store.put_bytes(&key("from"), data.clone(), Put::default()).await.unwrap();
    let copied = store.copy(&key("from"), &key("to")).await.unwrap();
    assert!(copied.version.unwrap().ends_with("-3"));
    assert_eq!(store.get_bytes(&key("to"), 1 << 30).await.unwrap(), data);
}

#[tokio::test]
async fn one_of_many_creators_wins() {
    let server = versitygw();
    let store = store(&server, &[]).await;
    for size in [100, PART + 1] {
        let name = key(&format!("race/{size}"));
        let racers = (0..8).map(|n| {
            let data = Bytes::from(vec![n; size]);
            let (store, name) = (&store, &name);
            async move { (n, store.put(name, unsized_body(&data), Put::create()).await) }
        });
        let done = futures_util::future::join_all(racers).await;
        let won: Vec<u8> =
            done.iter().filter(|(_, result)| result.is_ok()).map(|(n, _)| *n).collect();
        assert_eq!(won.len(), 1, "{done:?}");
        for (_, result) in done.iter().filter(|(_, result)| result.is_err()) {
            assert_eq!(result.as_ref().unwrap_err().kind(), Kind::AlreadyExists);
        }
        assert_eq!(store.get_bytes(&name, 1 << 30).await.unwrap(), vec![won[0]; size]);
    }
}

#[tokio::test]
async fn wrong_settings_are_named_at_once() {
    let server = versitygw();
    let name = key("x");
    let endpoint = ("AWS_ENDPOINT", server.endpoint.as_str());
    for (target, values, kind, hint) in [
        (
            "s3://bucket",
            [endpoint, KEYS[0], ("AWS_SECRET_ACCESS_KEY", "wrong")],
            Kind::Unauthenticated,
            "AWS_SECRET_ACCESS_KEY",
        ),
        (
            "s3://bucket",
            [endpoint, ("AWS_ACCESS_KEY_ID", "stranger"), KEYS[1]],
            Kind::Unauthenticated,
            "AWS_ACCESS_KEY_ID",
        ),
        ("s3://no-such-bucket", [endpoint, KEYS[0], KEYS[1]], Kind::Config, "bucket"),
        (
            "s3://bucket",
            [("AWS_ENDPOINT", "http://127.0.0.1:1"), KEYS[0], KEYS[1]],
            Kind::Unavailable,
            "Nothing listens",
        ),
        (
            "s3://bucket",
            [("AWS_ENDPOINT", "https://no-such-host.invalid"), KEYS[0], KEYS[1]],
            Kind::Unavailable,
            "host name",
        ),
    ] {
        let store = open(target, &values, 0).await.unwrap();
        let put = store.put_bytes(&name, "x", Put::default()).await.unwrap_err();
        let get = store.get(&name, Get::default()).await.unwrap_err();
        let list = store.list_all(&Key::root(), List::default()).await.unwrap_err();
        for error in [put, get, list] {
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.hint().unwrap().contains(hint), "{error}: {:?}", error.hint());
            assert!(
                !error.to_string().contains('\n') && !error.to_string().contains("walport-secret"),
                "{error}"
            );
        }
        // A HEAD has no words, and yet no missing bucket is taken for a missing object.
        assert_ne!(store.head(&name).await.unwrap_err().kind(), Kind::NotFound, "{target}");
    }
    let strict = [endpoint, KEYS[0], KEYS[1], ("S3_SKIP_VALIDATION", "false")];
    assert_eq!(open("s3://no-such-bucket", &strict, 0).await.unwrap_err().kind(), Kind::Config);
    open("s3://bucket", &strict, 0).await.unwrap();
}

#[tokio::test]
async fn tls_is_trusted_only_when_it_should_be() {
    let folder = tempfile::tempdir().unwrap();
    let server = versitygw_with_tls(folder.path());
    let plain = versitygw();
    let authority = folder.path().join("ca.pem");
    let trusted = [("S3_CA_CERT_FILE", authority.to_str().unwrap())];
    let safe = store(&server, &trusted).await;
    sizes(&safe).await;
    reading(&safe).await;
    let crossed = server.endpoint.replace("https", "http");
    let other = plain.endpoint.replace("http", "https");
    for (endpoint, hint) in
        [(server.endpoint.as_str(), "S3_CA_CERT_FILE"), (other.as_str(), "does not speak TLS")]
    {
        let values = [("AWS_ENDPOINT", endpoint), KEYS[0], KEYS[1]];
        let error = open("s3://bucket", &values, 5)
            .await
            .unwrap()
            .get(&key("x"), Get::default())
            .await
            .unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::Config, Class::Never), "{error}");
        assert!(error.hint().unwrap().contains(hint), "{error}: {:?}", error.hint());
    }
    let values = [("AWS_ENDPOINT", crossed.as_str()), KEYS[0], KEYS[1]];
    open("s3://bucket", &values, 0)
        .await
        .unwrap()
        .get(&key("x"), Get::default())
        .await
        .unwrap_err();
    let missing = [("S3_CA_CERT_FILE", "/nonexistent/ca.pem"), ("AWS_ENDPOINT", crossed.as_str())];
    assert_eq!(open("s3://bucket", &missing, 0).await.unwrap_err().kind(), Kind::Config);
}
