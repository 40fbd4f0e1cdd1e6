//! Stores a body of so many MiB in S3, reads it back, and prints what that
//! needed: `put_get TARGET MIB [put|get|both]`, with settings in the environment.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::sync::Arc;
use std::time::Instant;

use futures_util::{StreamExt, stream};
use walport_backends::s3::{S3, SETTINGS};
use walport_engine::memory::{Budget, CHUNK, Pool};
use walport_engine::settings::{Settings, Source, Table};
use walport_engine::storage::{Body, Get, Key, Open, Put, Storage};

fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

async fn run(target: String, size: u64, what: String) {
    let mut settings = Settings::new(Arc::new(Table::new(SETTINGS)));
    for row in SETTINGS {
        if let Ok(value) = std::env::var(row.name) {
            settings.set(row.name, &value, Source::Environment(row.name.to_owned())).unwrap();
        }
    }
    let limit = std::env::var("BUDGET_MIB").map_or(8, |text| text.parse().unwrap()) << 20;
    let budget = Budget::new(limit);
    let store =
        S3::open(Open { target: &target, settings: &settings, budget: &budget, retries: 3 })
            .await
            .unwrap();
    let pool =
        Pool::new(&budget, CHUNK, (budget.limit() * 3 / 4) as usize / CHUNK, "the body").unwrap();
    let key = Key::parse("put_get").unwrap();
    println!("open: rss {} MiB, virtual {} MiB", status("VmHWM"), status("VmPeak"));
    if what != "get" {
        let begun = Instant::now();
        let body = stream::unfold((pool, 0), move |(pool, sent)| async move {
            if sent >= size {
                return None;
            }
            let mut chunk = pool.take().await.unwrap();
            chunk.buffer().resize(CHUNK, (sent / CHUNK as u64) as u8);
            Some((Ok(chunk.freeze()), (pool, sent + CHUNK as u64)))
        });
        let stored =
            store.put(&key, Body::stream(None, body.boxed()), Put::default()).await.unwrap();
        println!(
            "put {} MiB: {:.2} s, rss {} MiB, virtual {} MiB",
            stored.size >> 20,
            begun.elapsed().as_secs_f64(),
            status("VmHWM"),
            status("VmPeak")
        );
    }
    if what != "put" {
        let begun = Instant::now();
        let mut object = store.get(&key, Get::default()).await.unwrap();
        let mut read = 0;
        while let Some(chunk) = object.body.next().await {
            read += chunk.unwrap().len() as u64;
        }
        println!(
            "get {} MiB: {:.2} s, rss {} MiB, virtual {} MiB",
            read >> 20,
            begun.elapsed().as_secs_f64(),
            status("VmHWM"),
            status("VmPeak")
        );
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let target = arguments.next().unwrap();
    let size = arguments.next().unwrap().parse::<u64>().unwrap() << 20;
    let what = arguments.next().unwrap_or_else(|| "both".to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_stack_size(256 << 10)
        .build()
        .unwrap();
    runtime.block_on(run(target, size, what));
}
