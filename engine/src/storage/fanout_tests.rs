//! What writing to several targets does when some of them fail.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::*;
use crate::settings::{Source, Table};
use crate::storage::faulty::{Fault, Faulty, Op, Rule};
use crate::storage::{InMemory, SETTINGS, StorageExt};

const PATIENCE: Duration = Duration::from_secs(60);

struct Bench {
    memory: Vec<Arc<InMemory>>,
    faulty: Vec<Arc<Faulty>>,
    store: Fanout,
}

/// Targets `0`, `1` and so on, those with `true` required.
fn bench(required: &[bool], quorum: usize) -> Bench {
    let memory: Vec<_> = required.iter().map(|_| Arc::new(InMemory::new())).collect();
    let faulty: Vec<_> =
        memory.iter().map(|memory| Arc::new(Faulty::new(memory.clone()))).collect();
    let targets = faulty.iter().zip(required).enumerate().map(|(index, (store, &required))| {
        Target { store: store.clone(), name: index.to_string(), required }
    });
    let store = Fanout::new(targets.collect(), quorum, PATIENCE).unwrap();
    Bench { memory, faulty, store }
}

impl Bench {
    /// Which targets hold exactly `data` under `x`.
    fn holders(&self, data: &[u8]) -> Vec<bool> {
        self.memory
            .iter()
            .map(|memory| memory.bytes("x").is_some_and(|held| held == data))
            .collect()
    }
}

fn name() -> Key {
    Key::parse("x").unwrap()
}

fn data() -> Vec<u8> {
    (0..1_000_000_u32).map(|at| (at % 251) as u8).collect()
}

/// A body that can be read once.
fn once() -> Body {
    let data = Bytes::from(data());
    let chunks: Vec<_> = data.chunks(100_000).map(|part| Ok(data.slice_ref(part))).collect();
    Body::stream(None, stream::iter(chunks).boxed())
}

#[tokio::test(start_paused = true)]
async fn every_target_gets_every_byte() {
    for body in [once(), Body::bytes(data())] {
        let bench = bench(&[true, false, true], 1);
        let stored = bench.store.put(&name(), body, Put::default()).await.unwrap();
        assert_eq!(stored.size, 1_000_000);
        assert_eq!(bench.holders(&data()), [true; 3]);
        assert!(bench.store.get_bytes(&name(), 1_000_000).await.unwrap() == data());
        assert_eq!(bench.store.head(&name()).await.unwrap().version, stored.version);
    }
}

#[tokio::test(start_paused = true)]
async fn a_required_target_that_fails_fails_the_whole() {
    for fault in
        [Fault::Fail(Kind::Denied), Fault::Break { after: 250_000, kind: Kind::Unavailable }]
    {
        let bench = bench(&[false, true], 1);
        bench.faulty[1].add(Rule::on(Op::Put).fault(fault));
        let error = bench.store.put(&name(), once(), Put::default()).await.unwrap_err();
        assert!(error.to_string().contains("target 1"), "{error}");
        // The other one was not through yet, and is aborted.
        assert_eq!(bench.holders(&data()), [false, false]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_can_be_spared_may_fail_or_stall() {
    for fault in [
        Fault::Fail(Kind::Denied),
        Fault::Break { after: 250_000, kind: Kind::Unavailable },
        Fault::Hang,
        Fault::Stall(250_000),
    ] {
        let bench = bench(&[true, false, true], 1);
        bench.faulty[1].add(Rule::on(Op::Put).fault(fault.clone()));
        let start = Instant::now();
        bench.store.put(&name(), once(), Put::default()).await.unwrap();
        assert!(start.elapsed() <= 2 * PATIENCE, "{fault:?}: {:?}", start.elapsed());
        assert_eq!(bench.holders(&data()), [true, false, true], "{fault:?}");
        // What it lacks is read from the others.
        assert!(bench.store.get_bytes(&name(), 1_000_000).await.unwrap() == data());
    }
}

#[tokio::test(start_paused = true)]
async fn k_of_n_must_succeed() {
    for (failing, succeeds) in [(1, true), (2, false)] {
        let bench = bench(&[false, false, false], 2);
        for faulty in &bench.faulty[..failing] {
            faulty
                .add(Rule::on(Op::Put).fault(Fault::Break { after: 10, kind: Kind::Unavailable }));
        }
        let done = bench.store.put(&name(), once(), Put::default()).await;
        assert_eq!(done.is_ok(), succeeds, "{failing}: {done:?}");
    }
    assert!(Fanout::new(Vec::new(), 1, PATIENCE).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_leaves_nothing_anywhere() {
    let bench = bench(&[true, false], 1);
    let chunks =
        stream::iter([Ok(Bytes::from(data())), Err(Error::new(Kind::Corrupt, "bad page"))]);
    let error = bench
        .store
        .put(&name(), Body::stream(None, chunks.boxed()), Put::default())
        .await
        .unwrap_err();
    assert_eq!((error.kind(), error.message()), (Kind::Corrupt, "bad page"));
    assert!(bench.memory.iter().all(|memory| memory.names().is_empty()));
}

#[tokio::test(start_paused = true)]
async fn an_object_that_some_have_is_brought_to_the_rest() {
    let bench = bench(&[true, true, false], 1);
    bench.memory[1].insert("x", "first");
    let error = bench.store.put(&name(), once(), Put::create()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::AlreadyExists);
    assert_eq!(bench.holders(b"first"), [true; 3]);
    // Now that all have it, nothing more is copied.
    let puts: usize = bench.faulty.iter().map(|faulty| faulty.count(Op::Put)).sum();
    bench.store.put(&name(), once(), Put::create()).await.unwrap_err();
    assert_eq!(bench.faulty.iter().map(|faulty| faulty.count(Op::Put)).sum::<usize>(), puts);
}

#[tokio::test(start_paused = true)]
async fn the_first_required_target_settles_a_race() {
    for (holder, wins) in [(1, false), (2, true)] {
        let bench = bench(&[false, true, true], 1);
        bench.memory[holder].insert("x", "theirs");
        // The other creator's object comes after the look beforehand.
        bench.faulty[holder].add(Rule::on(Op::Head).call(1).fault(Fault::Fail(Kind::NotFound)));
        let done = bench.store.put(&name(), once(), Put::create()).await;
        assert_eq!(done.is_ok(), wins, "{done:?}");
        let data = if wins { data() } else { b"theirs".to_vec() };
        assert_eq!(bench.holders(&data), [true; 3], "holder {holder}");
    }
}

#[tokio::test(start_paused = true)]
async fn missing_means_missing_everywhere() {
    let bench = bench(&[true, false], 1);
    let error = bench.store.get(&name(), Get::default()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    bench.faulty[0].add(Rule::on(Op::Get).fault(Fault::Fail(Kind::Unavailable)));
    let error = bench.store.get(&name(), Get::default()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "a target that is down may have it");
    bench.memory[1].insert("x", "1");
    assert_eq!(bench.store.get_bytes(&name(), 9).await.unwrap(), b"1");
}

#[tokio::test(start_paused = true)]
async fn pinned_reads_stay_with_their_target() {
    let bench = bench(&[true, true], 1);
    bench.memory[1].insert("x", "second");
    let version = bench.store.head(&name()).await.unwrap().version;
    bench.memory[0].insert("x", "first");
    let mut pinned = bench.store.get(&name(), Get { range: None, version }).await.unwrap();
    assert_eq!(pinned.body.next().await.unwrap().unwrap(), "second");
    let odd = Get { range: None, version: Some("elsewhere".to_owned()) };
    assert_eq!(bench.store.get(&name(), odd).await.unwrap_err().kind(), Kind::Changed);
}

#[tokio::test(start_paused = true)]
async fn listings_are_merged_and_deletes_reach_all() {
    let bench = bench(&[true, false], 1);
    for (memory, names) in bench.memory.iter().zip([["a", "c", "d/x"], ["b", "c", "d/y"]]) {
        for name in names {
            memory.insert(name, "1");
        }
    }
    let names = async |how: List| -> Vec<String> {
        let entries = bench.store.list_all(&Key::root(), how).await.unwrap();
        entries.iter().map(|entry| entry.key().to_string()).collect()
    };
    assert_eq!(names(List::recursive()).await, ["a", "b", "c", "d/x", "d/y"]);
    assert_eq!(names(List::default()).await, ["a", "b", "c", "d/"]);
    bench.faulty[1].add(Rule::on(Op::List).fault(Fault::Fail(Kind::Unavailable)));
    assert_eq!(names(List::recursive()).await, ["a", "c", "d/x"], "a warning only");
    bench.faulty[0]
        .add(Rule::on(Op::List).fault(Fault::Break { after: 1, kind: Kind::Unavailable }));
    bench.store.list_all(&Key::root(), List::recursive()).await.unwrap_err();
    bench.store.delete(&[Key::parse("c").unwrap()]).await.unwrap();
    assert_eq!(bench.memory[0].names(), ["a", "d/x"]);
    assert_eq!(bench.memory[1].names(), ["b", "d/y"]);
}

#[test]
fn targets_are_read_from_the_settings() {
    let read = |rows: &[(&str, &str)]| {
        let mut settings = Settings::new(Arc::new(Table::new(SETTINGS)));
        for (name, value) in rows {
            settings.set(name, value, Source::Flag((*name).to_owned())).unwrap();
        }
        from_settings(&settings)
    };
    assert_eq!(read(&[]).unwrap(), None);
    let urls = ("WALPORT_TARGETS", "main=s3://bucket/a=b, dr=/srv/backups");
    let (targets, quorum) = read(&[urls, ("WALPORT_TARGETS_OPTIONAL", "dr")]).unwrap().unwrap();
    let spec = |name: &str, url: &str, required| TargetSpec {
        name: name.to_owned(),
        url: url.to_owned(),
        required,
    };
    assert_eq!(targets, [spec("main", "s3://bucket/a=b", true), spec("dr", "/srv/backups", false)]);
    assert_eq!(quorum, 1);
    for wrong in [
        vec![("WALPORT_TARGETS", "main")],
        vec![("WALPORT_TARGETS", "=s3://bucket")],
        vec![("WALPORT_TARGETS", "a=/x,a=/y")],
        vec![urls, ("WALPORT_TARGETS_OPTIONAL", "other")],
        vec![urls, ("WALPORT_TARGETS_QUORUM", "3")],
    ] {
        let error = read(&wrong).unwrap_err();
        assert_eq!(error.kind(), Kind::Config, "{wrong:?}");
    }
}
