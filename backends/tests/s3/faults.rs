//! A store that fails on purpose.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use walport_backends::s3::S3;
use walport_engine::error::{Class, Kind};
use walport_engine::storage::{Body, Get, Key, List, Put, Storage, StorageExt};

use crate::script::{Asked, Reply, Script, error, ok, with};
use crate::{KEYS, open};

const BEGUN: &str =
    "<InitiateMultipartUploadResult><UploadId>the-id</UploadId></InitiateMultipartUploadResult>";
const DONE: &str =
    "<CompleteMultipartUploadResult><ETag>\"x-2\"</ETag></CompleteMultipartUploadResult>";
const META: &str = "Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\nETag: \"v\"\r\n";

async fn store(script: &Script, retries: u32) -> S3 {
    let own = [("AWS_ENDPOINT", script.endpoint.as_str()), ("S3_MIN_THROTTLING_RETRY_DELAY", "1")];
    let values: Vec<_> = own.iter().chain(&KEYS).copied().collect();
    open("s3://bucket", &values, retries).await.unwrap()
}

fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

/// Two parts of 5 MiB each and a bit, of unknown size.
fn large() -> Body {
    let chunk = Bytes::from(vec![7; 1 << 20]);
    Body::stream(None, stream::iter((0..17).map(move |_| Ok(chunk.clone()))).boxed())
}

/// A store that takes uploads in parts.
fn parts(asked: &Asked) -> Reply {
    match asked.method.as_str() {
        "POST" if asked.target.contains("uploads=") => ok(BEGUN),
        "POST" => ok(DONE),
        "DELETE" => Reply::Answer("204 No Content\r\n".into(), Vec::new()),
        _ => with("ETag: \"part\"\r\n", ""),
    }
}

#[tokio::test]
async fn a_busy_store_is_obeyed() {
    let play = |_: &Asked, before| match before {
        0 => Reply::Answer(
            "503 Slow\r\nRetry-After: 0\r\n".into(),
            b"<Error><Code>SlowDown</Code></Error>".to_vec(),
        ),
        1 => Reply::Answer(
            "503 Slow\r\nRetry-After: 7\r\n".into(),
            b"<Error><Code>SlowDown</Code></Error>".to_vec(),
        ),
        _ => ok(""),
    };
    let script = Script::run(play).await;
    store(&script, 0).await.put_bytes(&key("x"), "x", Put::default()).await.unwrap_err();
    let busy = store(&script, 0).await.put_bytes(&key("x"), "x", Put::default()).await.unwrap_err();
    assert_eq!(
        (busy.kind(), busy.class(), busy.retry_after()),
        (Kind::Throttled, Class::Throttled, Some(Duration::from_secs(7)))
    );
    assert_eq!((busy.op(), busy.key()), (Some("put"), Some("x")));
    let play = |_: &Asked, before| if before < 2 { error(503, "SlowDown") } else { ok("") };
    let script = Script::run(play).await;
    store(&script, 2).await.put_bytes(&key("x"), "x", Put::default()).await.unwrap();
    assert_eq!(script.asked().len(), 3);
}

#[tokio::test]
async fn a_part_is_sent_again_from_memory() {
    let play = |asked: &Asked, before| match before {
        1 => Reply::Hang,
        3 => error(500, "InternalError"),
        _ => parts(asked),
    };
    let script = Script::run(play).await;
    let stored = store(&script, 3).await.put(&key("x"), large(), Put::default()).await.unwrap();
    assert_eq!(stored.size, 17 << 20);
    let numbers: std::collections::HashSet<_> = script
        .asked()
        .iter()
        .filter(|asked| asked.method == "PUT")
        .map(|asked| asked.target.clone())
        .collect();
    let mut sent = 0;
    for number in &numbers {
        sent += script.asked().iter().find(|asked| asked.target == *number).unwrap().body.len();
    }
    assert_eq!(sent, 17 << 20);
    assert!(script.count("PUT", "partNumber") > numbers.len());
    assert_eq!(script.count("DELETE", ""), 0);
}

#[tokio::test]
async fn a_failed_upload_is_aborted() {
    let play = |asked: &Asked, _| {
        if asked.is("PUT", "partNumber=2") { error(403, "AccessDenied") } else { parts(asked) }
    };
    let script = Script::run(play).await;
    let denied = store(&script, 3).await.put(&key("x"), large(), Put::default()).await.unwrap_err();
    assert_eq!((denied.kind(), denied.class()), (Kind::Denied, Class::Never));
    assert_eq!(script.count("DELETE", "uploadId=the-id"), 1);
    assert_eq!(script.count("POST", "uploadId"), 0);
}

#[tokio::test]
async fn a_dropped_upload_is_aborted() {
    let play = |asked: &Asked, _| if asked.method == "PUT" { Reply::Silence } else { parts(asked) };
    let script = Script::run(play).await;
    let store = store(&script, 0).await;
    let name = key("x");
    let upload = store.put(&name, large(), Put::default());
    let cut = tokio::time::timeout(Duration::from_millis(500), upload).await;
    assert!(cut.is_err());
    for _ in 0..500 {
        if script.count("DELETE", "uploadId=the-id") == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the upload was not aborted");
}

#[tokio::test]
async fn a_late_error_is_no_success() {
    let late =
        "<?xml version=\"1.0\"?>\n<Error><Code>InternalError</Code><Message>m</Message></Error>";
    let play =
        move |asked: &Asked, _| if asked.is("POST", "uploadId") { ok(late) } else { parts(asked) };
    let script = Script::run(play).await;
    let error = store(&script, 0).await.put(&key("x"), large(), Put::default()).await.unwrap_err();
    assert_eq!((error.kind(), error.class()), (Kind::Unavailable, Class::Transient));
    assert_eq!(script.count("DELETE", "uploadId=the-id"), 1);
}

#[tokio::test]
async fn a_completion_without_an_answer_is_looked_after() {
    for (size, known) in [(17 << 20, true), (4, false)] {
        let play = move |asked: &Asked, _| match asked.method.as_str() {
            "HEAD" => with(
                &format!(
                    "Content-Length: {size}\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\nETag: \"x-3\"\r\n"
                ),
                "",
            ),
            "POST" if asked.target.contains("uploadId") => Reply::Hang,
            _ => parts(asked),
        };
        let script = Script::run(play).await;
        // The budget of these tests makes three parts of 8 MiB.
        let stored = store(&script, 0).await.put(&key("x"), large(), Put::create()).await;
        if known {
            assert_eq!(stored.unwrap().version.as_deref(), Some("x-3"));
        } else {
            assert_eq!(stored.unwrap_err().class(), Class::Ambiguous);
            assert_eq!(script.count("DELETE", "uploadId=the-id"), 1);
        }
    }
}

#[tokio::test]
async fn a_creation_without_an_answer_is_not_repeated() {
    let script = Script::run(|_: &Asked, _| Reply::Hang).await;
    let unsure =
        store(&script, 3).await.put_bytes(&key("x"), "x", Put::create()).await.unwrap_err();
    assert_eq!(unsure.class(), Class::Ambiguous);
    assert_eq!(script.count("PUT", "x"), 1);
    assert_eq!(script.asked()[0].headers["if-none-match"], "*");
}

#[tokio::test]
async fn a_conflict_between_creators_has_a_loser() {
    let play = |asked: &Asked, _| {
        if asked.method == "HEAD" {
            with(&format!("Content-Length: 1\r\n{META}"), "")
        } else {
            error(409, "ConditionalRequestConflict")
        }
    };
    let script = Script::run(play).await;
    let lost = store(&script, 0).await.put_bytes(&key("x"), "x", Put::create()).await.unwrap_err();
    assert_eq!(lost.kind(), Kind::AlreadyExists);
}

#[tokio::test]
async fn a_body_that_is_cut_is_an_error() {
    let script = Script::run(|_: &Asked, _| Reply::Cut(100, vec![1; 60])).await;
    let mut object = store(&script, 0).await.get(&key("x"), Get::default()).await.unwrap();
    let (mut seen, mut failed) = (0, None);
    while let Some(chunk) = object.body.next().await {
        match chunk {
            Ok(chunk) => seen += chunk.len(),
            Err(error) => failed = Some(error),
        }
    }
    let failed = failed.unwrap();
    assert_eq!((seen, failed.kind(), failed.class()), (60, Kind::Unavailable, Class::Transient));
}

#[tokio::test]
async fn each_failed_delete_is_named() {
    let answer = "<DeleteResult><Error><Key>root/b</Key><Code>AccessDenied</Code><Message>Object under retention</Message></Error>\
        <Error><Key>root/c</Key><Code>InternalError</Code><Message>m</Message></Error></DeleteResult>";
    let script = Script::run(move |_: &Asked, _| ok(answer)).await;
    let endpoint = [("AWS_ENDPOINT", script.endpoint.as_str()), KEYS[0], KEYS[1]];
    let store = open("s3://bucket/root", &endpoint, 0).await.unwrap();
    let deleted = store.delete(&[key("a"), key("b"), key("c"), key("d")]).await.unwrap();
    let kinds: Vec<_> = deleted
        .iter()
        .map(|one| one.outcome.as_ref().err().map(|error| (error.kind(), error.class())))
        .collect();
    assert_eq!(
        kinds,
        [
            None,
            Some((Kind::Denied, Class::Never)),
            Some((Kind::Unavailable, Class::Transient)),
            None
        ]
    );
    assert!(deleted[1].outcome.as_ref().unwrap_err().hint().unwrap().contains("retention"));
    assert!(script.asked()[0].headers.contains_key("content-md5"));
}

#[tokio::test]
async fn a_store_without_bulk_delete_is_asked_one_by_one() {
    let play = |asked: &Asked, _| {
        if asked.method == "POST" {
            error(501, "NotImplemented")
        } else {
            Reply::Answer("204 No Content\r\n".into(), Vec::new())
        }
    };
    let script = Script::run(play).await;
    let deleted = store(&script, 0).await.delete(&[key("a"), key("b")]).await.unwrap();
    assert!(deleted.iter().all(|one| one.outcome.is_ok()));
    assert_eq!(script.count("DELETE", ""), 2);
}

#[tokio::test]
async fn listings_go_on_over_pages() {
    fn page(first: u32, last: u32, next: &str) -> Reply {
        use std::fmt::Write as _;
        let mut text =
            format!("<ListBucketResult><IsTruncated>{}</IsTruncated>{next}", !next.is_empty());
        for n in first..last {
            write!(text, "<Contents><Key>p/{n:04}//x</Key><Size>{n}</Size><LastModified>2024-01-02T03:04:05Z</LastModified><ETag>e</ETag></Contents>").unwrap();
        }
        ok(&(text + "</ListBucketResult>"))
    }
    let play = |asked: &Asked, _| {
        let v1 = !asked.target.contains("list-type=2");
        if asked.target.contains("token%3D1") || asked.target.contains("marker=p%2F0999") {
            page(
                1000,
                2000,
                if v1 {
                    "<Marker/>"
                } else {
                    "<NextContinuationToken>token=2</NextContinuationToken>"
                },
            )
        } else if asked.target.contains("token%3D2") || asked.target.contains("marker=p%2F1999") {
            page(2000, 2500, "")
        } else {
            page(
                0,
                1000,
                if v1 {
                    "<Marker/>"
                } else {
                    "<NextContinuationToken>token=1</NextContinuationToken>"
                },
            )
        }
    };
    for v1 in ["false", "true"] {
        let script = Script::run(play).await;
        let values = [
            ("AWS_ENDPOINT", script.endpoint.as_str()),
            KEYS[0],
            KEYS[1],
            ("S3_USE_LIST_OBJECTS_V1", v1),
        ];
        let store = open("s3://bucket", &values, 0).await.unwrap();
        let entries = store.list_all(&key("p/"), List::recursive()).await.unwrap();
        assert_eq!(entries.len(), 2500);
        assert!(entries.windows(2).all(|pair| pair[0].key() < pair[1].key()));
        assert_eq!(script.asked().len(), 3);
    }
    let script = Script::run(|_: &Asked, _| {
        page(0, 1, "<NextContinuationToken>same</NextContinuationToken>")
    })
    .await;
    let error = store(&script, 0).await.list_all(&key("p/"), List::recursive()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
}

#[tokio::test]
async fn headers_say_how_an_object_is_kept() {
    let script = Script::run(|asked: &Asked, _| parts(asked)).await;
    let values = [
        ("AWS_ENDPOINT", script.endpoint.as_str()),
        KEYS[0],
        KEYS[1],
        ("S3_STORAGE_CLASS", "GLACIER_IR"),
        ("S3_SSE", "aws:kms"),
        ("S3_SSE_KMS_ID", "the-key"),
        ("S3_RETENTION_PERIOD", "3600"),
        ("S3_RETENTION_MODE", "compliance"),
        ("WALPORT_S3_TAGS", r#"{"team": "a b"}"#),
        ("S3_REQUEST_ADDITIONAL_HEADERS", "X-Custom: yes"),
        ("AWS_SESSION_TOKEN", "the-token"),
    ];
    let store = open("s3://bucket", &values, 0).await.unwrap();
    let how = Put { tags: vec![("kind".into(), "wal".into())], ..Put::default() };
    store.put_bytes(&key("x"), "x", how.clone()).await.unwrap();
    store.put(&key("x"), large(), how).await.unwrap();
    for asked in &script.asked()[..2] {
        for (name, value) in [
            ("x-amz-storage-class", "GLACIER_IR"),
            ("x-amz-server-side-encryption", "aws:kms"),
            ("x-amz-server-side-encryption-aws-kms-key-id", "the-key"),
            ("x-amz-object-lock-mode", "COMPLIANCE"),
            ("x-amz-tagging", "team=a%20b&kind=wal"),
            ("x-custom", "yes"),
            ("x-amz-security-token", "the-token"),
        ] {
            assert_eq!(
                asked.headers.get(name).map(String::as_str),
                Some(value),
                "{name} of {} {}",
                asked.method,
                asked.target
            );
        }
        assert!(asked.headers["x-amz-object-lock-retain-until-date"].ends_with('Z'));
    }
    assert!(script.asked()[0].headers.contains_key("content-md5"));
}

#[tokio::test]
async fn a_customer_key_goes_with_every_request_that_needs_it() {
    let play = |asked: &Asked, _| match asked.method.as_str() {
        "GET" | "HEAD" => with(&format!("Content-Length: 0\r\n{META}"), ""),
        _ => parts(asked),
    };
    let script = Script::run(play).await;
    let values = [
        ("AWS_ENDPOINT", script.endpoint.as_str()),
        KEYS[0],
        KEYS[1],
        ("S3_SSE", "AES256"),
        ("S3_SSE_C", "0123456789abcdef0123456789abcdef"),
    ];
    let store = open("s3://bucket", &values, 0).await.unwrap();
    store.put_bytes(&key("x"), "x", Put::default()).await.unwrap();
    store.put(&key("x"), large(), Put::default()).await.unwrap();
    store.get(&key("x"), Get::default()).await.unwrap();
    store.head(&key("x")).await.unwrap();
    for asked in script.asked().iter().filter(|asked| !asked.is("POST", "uploadId")) {
        assert_eq!(asked.headers["x-amz-server-side-encryption-customer-algorithm"], "AES256");
        assert_eq!(
            asked.headers["x-amz-server-side-encryption-customer-key"],
            "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
        );
        assert_eq!(
            asked.headers["x-amz-server-side-encryption-customer-key-md5"],
            "hRasmdxgYDKV3nvbahU1MA=="
        );
        assert!(!asked.headers.contains_key("x-amz-server-side-encryption"));
    }
}

#[tokio::test]
async fn a_caller_with_few_chunks_is_not_starved() {
    use walport_engine::memory::{Budget, CHUNK, Pool};
    let script = Script::run(|asked: &Asked, _| parts(asked)).await;
    let store = store(&script, 0).await;
    // Room for 6 MiB, where the store would make parts of 8 MiB.
    let pool = Pool::new(&Budget::new(64 << 20), CHUNK, 24, "a test").unwrap();
    let body = stream::unfold((pool, 0), |(pool, n)| async move {
        if n == 100 {
            return None;
        }
        let mut chunk = pool.take().await.unwrap();
        chunk.fill(&vec![n as u8; CHUNK]);
        Some((Ok(chunk.freeze()), (pool, n + 1)))
    });
    let name = key("x");
    let put = store.put(&name, Body::stream(None, body.boxed()), Put::default());
    let stored = tokio::time::timeout(Duration::from_secs(60), put)
        .await
        .expect("the upload came to a halt")
        .unwrap();
    assert_eq!(stored.size, 100 * CHUNK as u64);
    let sent: usize = script
        .asked()
        .iter()
        .filter(|asked| asked.method == "PUT")
        .map(|asked| asked.body.len())
        .sum();
    assert_eq!(sent, 100 * CHUNK);
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_named() {
    let play = |_: &Asked, _| {
        Reply::Answer(
            "403 Nope\r\nDate: Wed, 21 Oct 2015 07:28:00 GMT\r\n".into(),
            b"<Error><Code>RequestTimeTooSkewed</Code></Error>".to_vec(),
        )
    };
    let script = Script::run(play).await;
    let error = store(&script, 3).await.get(&key("x"), Get::default()).await.unwrap_err();
    assert_eq!((error.kind(), error.class()), (Kind::Unauthenticated, Class::Never));
    assert!(error.hint().unwrap().contains("ahead of the store's"), "{:?}", error.hint());
    assert_eq!(script.asked().len(), 1);
}
