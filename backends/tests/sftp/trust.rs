//! Who is let in, and whom we believe.

use std::time::{Duration, Instant};

use walport_engine::storage::{Key, Kind, Put, StorageExt};

use crate::open;
use crate::servers::{borrowed, key, known_hosts, openssh, rclone};

#[tokio::test]
async fn keys_of_every_usual_kind_and_passwords_are_let_in() {
    let key = Key::parse("a/b").unwrap();
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let server = openssh(kind);
        let store = open(&server.target(server.port), &borrowed(&server.login)).await.unwrap();
        store.put_bytes(&key, "x", Put::default()).await.unwrap();
    }
    let server = rclone();
    let store = open(&server.target(server.port), &borrowed(&server.login)).await.unwrap();
    store.put_bytes(&key, "x", Put::default()).await.unwrap();
    assert_eq!(store.get_bytes(&key, 10).await.unwrap(), b"x");
}

#[tokio::test]
async fn a_server_that_is_not_known_or_has_changed_is_refused() {
    let server = openssh("ed25519");
    let folder = server.folder.path();
    let other = key(folder, "other", "ed25519");
    let wrong = known_hosts(folder, server.port, &other).display().to_string();
    let target = server.target(server.port);
    let with = |path: String| {
        let mut login = server.login.clone();
        login.retain(|(name, _)| *name != "WALPORT_SSH_KNOWN_HOSTS");
        login.push(("WALPORT_SSH_KNOWN_HOSTS", path));
        login
    };
    let error = open(&target, &borrowed(&with(wrong.clone()))).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unauthenticated);
    assert!(error.to_string().contains("another key than line 1"), "{error}");
    let error = open(&target, &borrowed(&with("/nonexistent".to_owned()))).await.unwrap_err();
    assert!(error.to_string().contains("is not in /nonexistent"), "{error}");
    assert!(error.hint().unwrap().contains("ssh-keyscan"), "{error}");
    let mut unchecked = with(wrong);
    unchecked.push(("WALPORT_SSH_HOST_KEY_CHECK", "false".to_owned()));
    open(&target, &borrowed(&unchecked)).await.unwrap();
}

#[tokio::test]
async fn what_is_wrong_is_said_in_seconds() {
    let begin = Instant::now();
    let server = rclone();
    let mut login = server.login.clone();
    login.retain(|(name, _)| *name != "SSH_PASSWORD");
    login.push(("SSH_PASSWORD", "wrong secret".to_owned()));
    let error = open(&server.target(server.port), &borrowed(&login)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unauthenticated);
    assert!(!format!("{error:?}{:?}", error.hint()).contains("wrong secret"));
    let error = open("ssh://127.0.0.1:1/x", &borrowed(&server.login)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    let error = open("ssh://no-such-host.invalid/x", &borrowed(&server.login)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    let target = format!("ssh://127.0.0.1:{}/nowhere", server.port);
    let error = open(&target, &borrowed(&server.login)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.hint().is_some());
    assert!(begin.elapsed() < Duration::from_secs(60));
}
