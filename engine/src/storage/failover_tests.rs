//! Which storage is used when some are down, and what several look like as one.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::settings::{SETTINGS, Source, Table};
use crate::storage::InMemory;
use crate::storage::faulty::{Fault, Faulty, Rule};
use futures_util::TryStreamExt;

struct Bench {
    memory: Vec<Arc<InMemory>>,
    faulty: Vec<Arc<Faulty>>,
    failover: Failover,
}

fn check() -> Check {
    Check {
        timeout: Duration::from_secs(30),
        size: 100_000,
        lifetime: Duration::from_secs(900),
        average: Average::default(),
        file: None,
    }
}

/// The primary, `b` and `a`, of which `a` comes first.
fn bench(access: Access, check: Option<Check>) -> Bench {
    let memory: Vec<_> = (0..3).map(|_| Arc::new(InMemory::new())).collect();
    let faulty: Vec<_> =
        memory.iter().map(|memory| Arc::new(Faulty::new(memory.clone()))).collect();
    let mut named = ["default", "b", "a"].into_iter().zip(&faulty).map(|(name, store)| Named {
        name: name.to_owned(),
        id: format!("{name}#0"),
        store: store.clone(),
    });
    let primary = named.next().unwrap();
    let failover = Failover::new(primary, named.collect(), access, check);
    Bench { memory, faulty, failover }
}

impl Bench {
    fn calls(&self, op: Op) -> Vec<usize> {
        self.faulty.iter().map(|faulty| faulty.count(op)).collect()
    }
}

fn down(op: Op) -> Rule {
    Rule::on(op).fault(Fault::Fail(Kind::Unavailable))
}

fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

#[tokio::test(start_paused = true)]
async fn writing_goes_to_the_first_that_is_alive() {
    let bench = bench(Access::Write, Some(check()));
    assert_eq!(bench.failover.first_alive().await.unwrap().name, "default");
    assert_eq!((bench.calls(Op::List), bench.calls(Op::Put)), (vec![1; 3], vec![1; 3]));
    assert!(bench.memory.iter().all(|memory| memory.names().is_empty()), "tests leave nothing");
    // The answer is believed for a while.
    bench.failover.first_alive().await.unwrap();
    assert_eq!(bench.calls(Op::List), [1; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_primary_is_passed_over() {
    for rule in [down(Op::List), down(Op::Put), Rule::on(Op::List).fault(Fault::Hang)] {
        let bench = bench(Access::Write, Some(check()));
        bench.faulty[0].add(rule);
        assert_eq!(bench.failover.first_alive().await.unwrap().name, "a");
        let alive: Vec<_> = bench
            .failover
            .all_alive()
            .await
            .unwrap()
            .iter()
            .map(|named| named.name.clone())
            .collect();
        assert_eq!(alive, ["a", "b"]);
        assert_eq!(bench.failover.named("default").await.unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(bench.failover.named("B").await.unwrap().name, "b");
        assert_eq!(bench.failover.named("c").await.unwrap_err().kind(), Kind::Config);
    }
}

#[tokio::test(start_paused = true)]
async fn reading_does_not_need_the_right_to_write() {
    let bench = bench(Access::Read, Some(check()));
    bench.faulty[0].add(down(Op::Put));
    assert_eq!(bench.failover.first_alive().await.unwrap().name, "default");
    assert_eq!(bench.calls(Op::Put), [0; 3]);
}

#[tokio::test(start_paused = true)]
async fn where_all_are_dead_they_are_tested_again() {
    let bench = bench(Access::Read, Some(check()));
    for faulty in &bench.faulty {
        faulty.add(down(Op::List));
    }
    assert_eq!(bench.failover.first_alive().await.unwrap_err().kind(), Kind::Unavailable);
    bench.faulty[2].heal();
    assert_eq!(bench.failover.first_alive().await.unwrap().name, "a");
}

#[tokio::test(start_paused = true)]
async fn operations_that_fail_make_a_storage_dead() {
    let bench = bench(Access::Read, Some(check()));
    let primary = bench.failover.first_alive().await.unwrap();
    primary.store.put_bytes(&key("x"), "1", Put::default()).await.unwrap();
    for _ in 0..50 {
        assert_eq!(primary.store.head(&key("missing")).await.unwrap_err().kind(), Kind::NotFound);
    }
    assert_eq!(
        bench.failover.first_alive().await.unwrap().name,
        "default",
        "a missing object is no illness"
    );
    bench.faulty[0].add(down(Op::Head));
    for _ in 0..50 {
        primary.store.head(&key("x")).await.unwrap_err();
    }
    assert_eq!(bench.failover.first_alive().await.unwrap().name, "a");
}

#[tokio::test(start_paused = true)]
async fn without_tests_every_storage_counts_as_alive() {
    let bench = bench(Access::Write, None);
    for faulty in &bench.faulty {
        faulty.add(down(Op::List));
    }
    assert_eq!(bench.failover.first_alive().await.unwrap().name, "default");
    assert_eq!(bench.failover.all_alive().await.unwrap().len(), 3);
    assert_eq!(bench.calls(Op::List), [0; 3]);
}

#[tokio::test(start_paused = true)]
async fn merged_storages_read_as_one() {
    let bench = bench(Access::Read, None);
    for (memory, names) in bench.memory.iter().zip([["a", "both"], ["b", "both"], ["c", "d/e"]]) {
        for name in names {
            memory.insert(name, names[0]);
        }
    }
    let store = Merged::new(bench.failover.all().to_vec()).unwrap();
    assert_eq!(store.get_bytes(&key("both"), 9).await.unwrap(), b"a");
    assert_eq!(store.get_bytes(&key("d/e"), 9).await.unwrap(), b"c");
    let entries = store.list_all(&Key::root(), List::recursive()).await.unwrap();
    let names: Vec<_> = entries.iter().map(|entry| entry.key().as_str()).collect();
    assert_eq!(names, ["a", "b", "both", "c", "d/e"]);
    for entry in &entries {
        let Entry::Object(key, meta) = entry else { panic!("{entry:?} is no object") };
        assert_eq!(store.head(key).await.unwrap(), *meta);
    }
    // A storage that cannot answer may have what the others lack.
    bench.faulty[1].add(down(Op::Get));
    assert_eq!(store.get(&key("no"), Get::default()).await.unwrap_err().kind(), Kind::Unavailable);
    bench.faulty[1].add(down(Op::List));
    assert!(store.list_all(&Key::root(), List::recursive()).await.is_err());

    store.put_bytes(&key("new"), "1", Put::default()).await.unwrap();
    store.delete(&[key("both")]).await.unwrap();
    assert_eq!(bench.memory[0].names(), ["a", "new"]);
    assert_eq!(bench.memory[1].names(), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_united_listing_names_the_storage() {
    let bench = bench(Access::Read, None);
    for memory in &bench.memory[..2] {
        memory.insert("backup", "1");
    }
    bench.memory[2].insert("alone", "1");
    let storages = bench.failover.all_alive().await.unwrap();
    let found: Vec<_> = united(&storages, &Key::root(), &List::recursive())
        .map_ok(|(storage, entry)| (entry.key().to_string(), storage.name.clone()))
        .try_collect()
        .await
        .unwrap();
    let pair = |key: &str, name: &str| (key.to_owned(), name.to_owned());
    assert_eq!(found, [pair("alone", "a"), pair("backup", "default"), pair("backup", "b")]);
}

#[test]
fn the_check_is_read_from_the_settings() {
    let read = |rows: &[(&str, &str)]| {
        let mut settings = Settings::new(Arc::new(Table::new(SETTINGS)));
        for (name, value) in rows {
            settings.set(name, value, Source::Flag((*name).to_owned())).unwrap();
        }
        Check::from_settings(&settings, Access::Write)
    };
    let check = read(&[("WALG_FAILOVER_STORAGES_CHECK_TIMEOUT", "5s")]).unwrap().unwrap();
    assert_eq!((check.timeout, check.size), (Duration::from_secs(5), 1 << 20));
    assert_eq!(check.average, Average::default());
    assert!(check.file.unwrap().ends_with(".walg_storage_rw_status_cache"));
    assert_eq!(read(&[("WALG_FAILOVER_STORAGES_CHECK", "false")]).unwrap(), None);
    for (name, value) in [("DEAD_LIMIT", "1.5"), ("DEAD_LIMIT", "0.995"), ("ALPHA_DEAD_MIN", "0.6")]
    {
        let name = format!("WALG_FAILOVER_STORAGES_CACHE_EMA_{name}");
        assert_eq!(read(&[(&name, value)]).unwrap_err().kind(), Kind::Config, "{name}");
    }
}
