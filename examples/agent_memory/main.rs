//! The memory of an agent that helps a person called Mira.
//!
//!     cargo run --release --example agent_memory
//!     cargo run --release --example agent_memory -- "where should we eat?"
//!
//! Four memories, each a collection of its own, so that one is never searched
//! for what belongs in another:
//!
//! | memory | holds | written with | for how long |
//! |---|---|---|---|
//! | working | what was said in this conversation | `upsert` | an hour; the oldest go before |
//! | episodes | what happened | moved from working memory | for good, but older ones count less |
//! | facts | what was learned, and how much it matters | `upsert_unless_near`: nothing twice | a season, and again when it is used |
//! | preferences | one value a topic | `insert`, then `replace_version` | for good |
//!
//! Months pass in this program, so it brings its own clock.
//!
//! Texts become vectors in `embedding.rs`, by counting words: enough for a toy,
//! and no model to download. Everything is in a folder, so the second half of
//! the program, which opens it anew, still knows what the first half learned.

#![allow(clippy::print_stdout, reason = "an example shows its results")]

mod embedding;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use vecino::{
    Clock, Collection, CollectionConfig, Completeness, Engine, ManualClock, Metric, Outcome, Query, Record,
    Scoring, Timestamp,
};

use embedding::{DIM, embed};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Sentences that working memory holds.
const WORKING: usize = 4;

/// Facts nearer than this say the same thing.
const SAME: f32 = 0.25;

/// Memories farther than this have nothing to do with a question.
const RELEVANT: f32 = 0.85;

/// What the agent may spend on remembering before it answers.
const PATIENCE: Duration = Duration::from_millis(20);

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Facts that nobody needs for so long are forgotten.
const SEASON: Duration = Duration::from_secs(90 * 24 * 3_600);

/// An episode of last week counts half as much as one of today...
const HALF_LIFE: Duration = Duration::from_secs(7 * 24 * 3_600);

/// ...and that is worth so much distance.
const RECENCY: f32 = 0.1;

const SAID: &[&str] = &[
    "Mira asked for a quiet restaurant near the office",
    "We booked a table at the Olive Tree restaurant for Friday",
    "Mira could not eat the soup at the Olive Tree because of the peanuts",
    "Mira asked how long the train to Porto takes",
    "We bought two train tickets to Porto for Saturday",
    "Mira said her bike has a flat tyre",
];

/// And how important it is, from 1 to 10.
const LEARNED: &[(&str, i64)] = &[
    ("Mira is allergic to peanuts", 10),
    ("Mira has a brother in Porto", 4),
    ("Mira is very allergic to peanuts", 10), // heard again, in other words
    ("Mira rides her bike to the office", 2),
];

fn main() -> Result<()> {
    let asked: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--quick").collect();
    let folder = std::env::temp_dir().join(format!("vecino-agent-memory-{}", std::process::id()));
    let clock = Arc::new(ManualClock::default());
    learn(&folder, &clock)?;
    let questions = if asked.is_empty() {
        ["which restaurant can Mira eat at?", "what about the train to Porto?", "who won the match?"]
            .map(String::from)
            .into()
    } else {
        asked
    };
    let outcome = remember(&folder, &clock, &questions);
    std::fs::remove_dir_all(&folder)?;
    outcome
}

/// The first conversation.
fn learn(folder: &Path, clock: &Arc<ManualClock>) -> Result<()> {
    let engine = Engine::builder().clock(Arc::clone(clock) as _).open(folder)?;
    let config = CollectionConfig::new(DIM, Metric::Cosine);
    let working = engine.create_collection("working", config.ttl(HOUR))?;
    let episodes = engine.create_collection("episodes", config)?;
    let facts = engine.create_collection("facts", config.ttl(SEASON))?;
    let preferences = engine.create_collection("preferences", config)?;

    println!("In this conversation:");
    for (number, text) in SAID.iter().enumerate() {
        working.upsert(Record::new(*text, embed(text)))?.wait()?;
        println!("  {text}");
        // What no longer fits into working memory becomes an episode.
        if let Some(oldest) = number.checked_sub(WORKING).and_then(|oldest| SAID.get(oldest)) {
            consolidate(&working, &episodes, oldest, clock)?;
        }
        clock.advance(HOUR / 12);
    }

    println!("\nWhat was learned:");
    for (text, importance) in LEARNED {
        let fact = Record::new(*text, embed(text)).with("importance", *importance);
        match facts.upsert_unless_near(fact, SAME)? {
            Outcome::Near { id, distance } => println!("  {text}: known already ({id}, {distance:.2})"),
            _ => println!("  {text}"),
        }
    }

    println!("\nPreferences, one for each topic:");
    prefer(&preferences, "food", "Mira likes olives")?;
    prefer(&preferences, "travel", "Mira prefers a window seat")?;
    prefer(&preferences, "food", "Mira likes figs more than olives")?;
    engine.close()?;
    Ok(())
}

/// Moves a memory from short-term to long-term: it is in one of them at every
/// moment, because the second write begins when the first is visible.
fn consolidate(working: &Collection, episodes: &Collection, text: &str, clock: &ManualClock) -> Result<()> {
    let now = Timestamp::from_secs(clock.unix_time().as_secs() as i64);
    episodes.upsert(Record::new(text, embed(text)).with("at", now))?.wait()?;
    working.delete(text)?.wait()?;
    Ok(())
}

/// Sets a preference. The version makes sure that nobody else has set it since
/// it was looked at: another tool of the agent may be writing, too. The id is
/// the topic, and the vector stands for the sentence.
fn prefer(preferences: &Collection, topic: &str, text: &str) -> Result<()> {
    let record = || Record::new(topic, embed(text));
    loop {
        let outcome = match preferences.snapshot().version(topic) {
            None => preferences.insert(record())?,
            Some(version) => preferences.replace_version(record(), version)?,
        };
        if let Outcome::Written(write) = outcome {
            write.wait()?;
            println!("  {topic:7} {text} (version {})", write.seq());
            return Ok(());
        }
        // Somebody was faster: look again.
        preferences.flush()?;
    }
}

/// Another conversation: the folder is opened, and the agent asked.
fn remember(folder: &Path, clock: &Arc<ManualClock>, questions: &[String]) -> Result<()> {
    let engine = Engine::builder().clock(Arc::clone(clock) as _).open(folder)?;
    for question in questions {
        ask(&engine, question)?;
    }
    let working = engine.collection("working")?;
    let before = working.len();
    clock.advance(DAY);
    println!("\nOf {before} things in working memory {} are left the next day.", working.len());
    // Twice a season goes by, but for the last days. What was used meanwhile is
    // still known; the rest has expired.
    let facts = engine.collection("facts")?;
    for _ in 0..2 {
        clock.advance(SEASON - 10 * DAY);
        facts.search(&Query::new(embed("what is Mira allergic to?")).top(1).renew(SEASON))?;
        facts.flush()?;
    }
    println!("\nAfter five months in which only the allergy mattered, these facts are left:");
    for fact in facts.snapshot().scroll(None, 10)?.records {
        println!("  {}", fact.id());
    }
    engine.close()?;
    Ok(())
}

/// Looks through the memories.
fn ask(engine: &Engine, question: &str) -> Result<()> {
    println!("\n\"{question}\"");
    let vector = embed(question);
    let mut recalled: BTreeMap<&str, usize> = BTreeMap::new();
    for name in ["working", "episodes", "facts"] {
        let memory = engine.collection(name)?;
        // All that has to do with it, three at most and not three times the same.
        let query = Query::new(&vector).within(RELEVANT).top(3).diversity(0.2).deadline(PATIENCE);
        // What is fresh, or important, comes before what is only as near.
        let query =
            query.scoring(Scoring::new().decay("at", HALF_LIFE, RECENCY).share("importance", 10.0, RECENCY));
        let answer = memory.search(&query)?;
        if answer.completeness() == Completeness::Deadline {
            println!("  {name}: it is on the tip of my tongue");
        }
        for hit in &answer {
            println!("  {name:9} {:.2} + {:.2}  {}", answer.unit_score(hit), hit.bonus, hit.id);
        }
        recalled.insert(name, answer.len());
    }
    if recalled.values().all(|found| *found == 0) {
        println!("  nothing comes to mind");
    }
    Ok(())
}
