//! Where credentials come from, against scripted services.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use walport_backends::s3::S3;
use walport_engine::error::{Class, Kind};
use walport_engine::storage::{Body, Key, Put, Storage, StorageExt};

use crate::open;
use crate::script::{Asked, Reply, Script, error, ok, with};

fn json(key: &str, seconds: i64) -> Reply {
    let end = (chrono::Utc::now() + chrono::TimeDelta::milliseconds(seconds * 1000)).to_rfc3339();
    ok(&format!(
        r#"{{"Code":"Success","AccessKeyId":"{key}","SecretAccessKey":"s","Token":"t","Expiration":"{end}"}}"#
    ))
}

fn assumed(key: &str) -> Reply {
    let end = (chrono::Utc::now() + chrono::TimeDelta::hours(1)).to_rfc3339();
    ok(&format!(
        "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>\
         <SessionToken>t</SessionToken><Expiration>{end}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
    ))
}

async fn bucket() -> Script {
    Script::run(|_: &Asked, _| with("ETag: \"e\"\r\n", "")).await
}

/// The access key that a request to the store is signed with.
async fn signer(values: &[(&str, &str)]) -> String {
    let bucket = bucket().await;
    let values: Vec<_> =
        values.iter().copied().chain([("AWS_ENDPOINT", bucket.endpoint.as_str())]).collect();
    let store = open("s3://bucket", &values, 0).await.unwrap();
    put(&store).await.unwrap();
    let asked = bucket.asked();
    asked[0].signer().to_owned()
}

async fn put(store: &S3) -> walport_engine::error::Result<()> {
    store.put_bytes(&Key::parse("x").unwrap(), "x", Put::default()).await.map(drop)
}

#[tokio::test]
async fn an_instance_is_asked_in_its_second_way() {
    let service = Script::run(|asked: &Asked, _| match asked.target.as_str() {
        "/latest/api/token"
            if asked.method == "PUT"
                && asked.headers.contains_key("x-aws-ec2-metadata-token-ttl-seconds") =>
        {
            ok("session")
        }
        _ if asked
            .headers
            .get("x-aws-ec2-metadata-token")
            .is_none_or(|token| token != "session") =>
        {
            error(401, "Unauthorized")
        }
        "/latest/meta-data/iam/security-credentials/" => ok("the-role"),
        "/latest/meta-data/iam/security-credentials/the-role" => json("INSTANCE", 3600),
        _ => error(404, "NotFound"),
    })
    .await;
    let values = [
        ("AWS_EC2_METADATA_DISABLED", "false"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", service.endpoint.as_str()),
    ];
    assert_eq!(signer(&values).await, "INSTANCE");
}

#[tokio::test]
async fn a_container_is_asked_with_its_token() {
    let service = Script::run(|asked: &Asked, _| {
        if asked.headers.get("authorization").is_some_and(|text| text == "the token") {
            json("CONTAINER", 3600)
        } else {
            error(403, "no")
        }
    })
    .await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "the token\n").unwrap();
    let uri = format!("{}/creds", service.endpoint);
    let values = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file.path().to_str().unwrap()),
    ];
    assert_eq!(signer(&values).await, "CONTAINER");
    let values = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://example.com/creds"),
        ("AWS_ENDPOINT", "http://127.0.0.1:1"),
    ];
    let store = open("s3://bucket", &values, 0).await.unwrap();
    assert_eq!(put(&store).await.unwrap_err().kind(), Kind::Config);
}

#[tokio::test]
async fn a_web_identity_assumes_its_role() {
    let service = Script::run(|asked: &Asked, _| {
        let form = String::from_utf8(asked.body.clone()).unwrap();
        assert!(!asked.headers.contains_key("authorization"));
        let wanted = [
            "Action=AssumeRoleWithWebIdentity",
            "RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr",
            "WebIdentityToken=jwt",
            "RoleSessionName=walport",
        ];
        if wanted.iter().all(|part| form.contains(part)) {
            assumed("WEB")
        } else {
            error(400, "Bad")
        }
    })
    .await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "jwt\n").unwrap();
    let values = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file.path().to_str().unwrap()),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/r"),
        ("AWS_ENDPOINT_URL_STS", service.endpoint.as_str()),
    ];
    assert_eq!(signer(&values).await, "WEB");
}

#[tokio::test]
async fn profiles_and_the_roles_behind_them_are_read() {
    let service = Script::run(|asked: &Asked, _| {
        let form = String::from_utf8(asked.body.clone()).unwrap();
        match (asked.signer(), form.contains("ExternalId=ext")) {
            ("BASE", true) => assumed("MIDDLE"),
            ("MIDDLE", false) => assumed("OUTER"),
            ("STATIC", false) => assumed("EXPLICIT"),
            _ => error(403, "AccessDenied"),
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let (credentials, config) = (folder.path().join("credentials"), folder.path().join("config"));
    std::fs::write(&credentials, "[base]\naws_access_key_id = BASE\naws_secret_access_key = s\n[default]\naws_access_key_id=DEFAULT\naws_secret_access_key=s\n").unwrap();
    std::fs::write(&config, "[profile middle]\nrole_arn = m\nsource_profile = base\nexternal_id = ext\n[profile outer]\nrole_arn = o\nsource_profile = middle\n[profile process]\ncredential_process = x\n").unwrap();
    let files = [
        ("AWS_SHARED_CREDENTIALS_FILE", credentials.to_str().unwrap()),
        ("AWS_CONFIG_FILE", config.to_str().unwrap()),
        ("AWS_ENDPOINT_URL_STS", service.endpoint.as_str()),
    ];
    assert_eq!(signer(&files).await, "DEFAULT");
    for (profile, key) in [("base", "BASE"), ("middle", "MIDDLE"), ("outer", "OUTER")] {
        assert_eq!(signer(&[&files[..], &[("AWS_PROFILE", profile)]].concat()).await, key);
    }
    for (profile, said) in [("process", "credential_process"), ("none", "in no shared file")] {
        let values =
            [&files[..], &[("AWS_PROFILE", profile), ("AWS_ENDPOINT", "http://127.0.0.1:1")]]
                .concat();
        let error = put(&open("s3://bucket", &values, 0).await.unwrap()).await.unwrap_err();
        assert!(error.kind() == Kind::Config && error.to_string().contains(said), "{error}");
    }
    let values = [
        ("AWS_ACCESS_KEY_ID", "STATIC"),
        ("AWS_SECRET_ACCESS_KEY", "s"),
        ("AWS_ROLE_ARN", "r"),
        files[2],
    ];
    assert_eq!(signer(&values).await, "EXPLICIT");
}

#[tokio::test]
async fn no_credentials_are_a_clear_error() {
    let store = open("s3://bucket", &[("AWS_ENDPOINT", "http://127.0.0.1:1")], 0).await.unwrap();
    let error = put(&store).await.unwrap_err();
    assert_eq!((error.kind(), error.class()), (Kind::Unauthenticated, Class::Never));
    assert!(error.hint().unwrap().contains("AWS_ACCESS_KEY_ID"));
    let half = open("s3://bucket", &[("AWS_ACCESS_KEY_ID", "a")], 0).await.unwrap_err();
    assert_eq!(half.kind(), Kind::Config);
}

/// A container whose keys are KEY0, KEY1, ... and last so many seconds.
async fn container(seconds: i64) -> Script {
    let given = Arc::new(AtomicUsize::new(0));
    Script::run(move |_: &Asked, _| {
        json(&format!("KEY{}", given.fetch_add(1, Ordering::SeqCst)), seconds)
    })
    .await
}

#[tokio::test]
async fn keys_that_the_store_calls_expired_are_renewed_once() {
    let service = container(3600).await;
    let uri = format!("{}/creds", service.endpoint);
    let bucket =
        Script::run(
            |asked: &Asked, _| {
                if asked.signer() == "KEY0" { error(400, "ExpiredToken") } else { ok("") }
            },
        )
        .await;
    let values = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri.as_str()),
        ("AWS_ENDPOINT", bucket.endpoint.as_str()),
    ];
    put(&open("s3://bucket", &values, 0).await.unwrap()).await.unwrap();
    assert_eq!(bucket.asked().len(), 2);
    // Expired for good is an error that nobody repeats.
    let bucket = Script::run(|_: &Asked, _| error(400, "ExpiredToken")).await;
    let values = [
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
        ("AWS_ENDPOINT", bucket.endpoint.as_str()),
    ];
    let error = put(&open("s3://bucket", &values, 5).await.unwrap()).await.unwrap_err();
    assert_eq!((error.kind(), error.class()), (Kind::Unauthenticated, Class::Never));
    assert_eq!(bucket.asked().len(), 1);
}

#[tokio::test]
async fn keys_are_renewed_in_the_middle_of_an_upload() {
    let service = container(1).await;
    let uri = format!("{}/creds", service.endpoint);
    let bucket = Script::run(|asked: &Asked, _| match asked.method.as_str() {
        "POST" if asked.target.contains("uploads=") => ok("<R><UploadId>i</UploadId></R>"),
        "POST" => ok("<R><ETag>\"x\"</ETag></R>"),
        _ => with("ETag: \"part\"\r\n", ""),
    })
    .await;
    let values = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri.as_str()),
        ("AWS_ENDPOINT", bucket.endpoint.as_str()),
    ];
    let store = open("s3://bucket", &values, 0).await.unwrap();
    let chunk = Bytes::from(vec![1; 4 << 20]);
    let slow = stream::unfold(0, move |n| {
        let chunk = chunk.clone();
        async move {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            (n < 8).then_some((Ok(chunk), n + 1))
        }
    });
    store
        .put(&Key::parse("x").unwrap(), Body::stream(None, slow.boxed()), Put::default())
        .await
        .unwrap();
    let signers: std::collections::HashSet<_> =
        bucket.asked().iter().map(|asked| asked.signer().to_owned()).collect();
    assert!(signers.len() > 1, "{signers:?}");
}
