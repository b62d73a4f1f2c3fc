//! The counters of an engine over HTTP, for Prometheus, and a dashboard for
//! Grafana (`grafana.json` beside this file: Dashboards, New, Import).
//!
//!     cargo run --release --example metrics                  # http://127.0.0.1:9898/metrics
//!     cargo run --release --example metrics -- --port 9000
//!     cargo run --release --example metrics -- --quick       # reads itself once
//!
//! A service that speaks HTTP already needs one line of this: its handler
//! answers with `engine.metrics_text()`. One that uses the `metrics` facade
//! needs none: with the feature `metrics`, `engine.record_metrics()`.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use lexopt::ValueExt as _;
use vecino::{Collection, CollectionConfig, Engine, Metric, Query, Record};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const DIM: usize = 32;
/// A client that says nothing is not waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// A request may be this long: only the path in its first line is looked at.
const REQUEST: u64 = 16_384;

fn main() -> Result<()> {
    let (mut port, mut is_quick) = (9_898_u16, false);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Long("port") => port = parser.value()?.string()?.parse()?,
            lexopt::Arg::Long("quick") => (port, is_quick) = (0, true),
            other => return Err(other.unexpected().into()),
        }
    }
    let engine = Engine::builder().memory_budget(1 << 30).build()?;
    let items = engine.create_collection("items", CollectionConfig::new(DIM, Metric::Cosine))?;
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    let address = listener.local_addr()?;
    println!("http://{address}/metrics");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let users = scope.spawn(|| use_it(&items, &over));
        let read = if is_quick {
            let reader = scope.spawn(move || read(TcpStream::connect(address)?));
            let served = serve(&engine, &listener, Some(1));
            served.and(reader.join().map_err(|_| "the reader panicked")?)
        } else {
            serve(&engine, &listener, None).map(|()| String::new())
        };
        over.store(true, Ordering::Relaxed);
        users.join().map_err(|_| "the users panicked")??;
        let text = read?;
        let shown = text.lines().filter(|line| line.starts_with("vecino_collection_records"));
        shown.for_each(|line| println!("{line}"));
        println!("{} samples", text.lines().filter(|line| line.starts_with("vecino_")).count());
        Ok(())
    })
}

/// Somebody who writes and searches, so that there is something to see.
fn use_it(items: &Collection, over: &AtomicBool) -> Result<()> {
    let vector = |number: u64| (0..DIM as u64).map(move |at| ((number * 31 + at * 17) % 97) as f32 + 1.0);
    for number in 0.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        items.upsert(Record::new(number % 20_000, vector(number).collect::<Vec<_>>()))?;
        let query: Vec<f32> = vector(number / 2).collect();
        items.search(&Query::new(&query).top(5))?;
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Answers so many requests, or all that come.
fn serve(engine: &Engine, listener: &TcpListener, requests: Option<usize>) -> Result<()> {
    for stream in listener.incoming().take(requests.unwrap_or(usize::MAX)) {
        // A client that went away is no reason to stop.
        if let Err(fault) = answer(engine, stream?) {
            println!("{fault}");
        }
    }
    Ok(())
}

fn answer(engine: &Engine, mut stream: TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    // To its empty line: what is closed with something unread is reset.
    let lines = BufReader::new(&stream).take(REQUEST).lines();
    let head = lines.take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty()));
    let head: Vec<String> = head.collect::<std::io::Result<_>>()?;
    let is_known = head.first().and_then(|line| line.split(' ').nth(1)) == Some("/metrics");
    let (status, text) =
        if is_known { ("200 OK", engine.metrics_text()) } else { ("404 Not Found", String::new()) };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    )?;
    Ok(())
}

/// What Prometheus does.
fn read(mut stream: TcpStream) -> Result<String> {
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, text) = answer.split_once("\r\n\r\n").ok_or("no HTTP answer")?;
    if head.starts_with("HTTP/1.1 200 OK") { Ok(text.to_owned()) } else { Err(head.to_owned().into()) }
}
