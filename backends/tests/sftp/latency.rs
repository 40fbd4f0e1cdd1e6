//! A server that is 100 ms away.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use walport_engine::storage::{Key, Put, StorageExt};

use crate::open;
use crate::servers::{borrowed, known_hosts, openssh};

/// Passes bytes on after `delay`, as many at a time as come.
async fn late(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    delay: Duration,
) {
    let (sender, mut receiver) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let read = async move {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            if sender.send((Instant::now() + delay, buffer[..count].to_vec())).is_err() {
                break;
            }
        }
    };
    let write = async move {
        while let Some((due, bytes)) = receiver.recv().await {
            tokio::time::sleep_until(due.into()).await;
            if to.write_all(&bytes).await.is_err() {
                break;
            }
        }
    };
    tokio::join!(read, write);
}

async fn far_away(port: u16, round_trip: Duration) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let ((near_read, near_write), (far_read, far_write)) =
                (near.into_split(), far.into_split());
            tokio::spawn(late(near_read, far_write, round_trip / 2));
            tokio::spawn(late(far_read, near_write, round_trip / 2));
        }
    });
    own
}

/// One request at a time would take 51 s each way for these 16 MiB.
#[tokio::test]
async fn distance_does_not_make_transfers_wait_for_each_answer() {
    const ROUND_TRIP: Duration = Duration::from_millis(100);
    const SIZE: usize = 16 << 20;
    let one_at_a_time = ROUND_TRIP * (SIZE as u32 / (32 << 10));
    let server = openssh("ed25519");
    let port = far_away(server.port, ROUND_TRIP).await;
    let mut login = server.login.clone();
    login.retain(|(name, _)| *name != "WALPORT_SSH_KNOWN_HOSTS");
    let known = known_hosts(server.folder.path(), port, &server.folder.path().join("host"));
    login.push(("WALPORT_SSH_KNOWN_HOSTS", known.display().to_string()));
    let store = open(&server.target(port), &borrowed(&login)).await.unwrap();
    let data: Vec<u8> = (0..SIZE).map(|at| (at / 7) as u8).collect();
    let key = Key::parse("far/away").unwrap();
    let begin = Instant::now();
    store.put_bytes(&key, data.clone(), Put::default()).await.unwrap();
    let put = begin.elapsed();
    assert_eq!(store.get_bytes(&key, SIZE as u64).await.unwrap(), data);
    let get = begin.elapsed().checked_sub(put).unwrap();
    println!("put {put:?}, get {get:?}");
    assert!(put < one_at_a_time / 2 && get < one_at_a_time / 2, "put {put:?}, get {get:?}");
}
