//! The memory of an agent that helps a person called Mira.
//!
//!     cargo run --release --example agent_memory
//!     cargo run --release --example agent_memory -- "where should we eat?"
//!
//! Four memories, each a collection of its own, so that one is never searched
//! for what belongs in another:
//!
//! | memory | holds | written with |
//! |---|---|---|
//! | working | what was said in this conversation | `upsert`; the oldest go |
//! | episodes | what happened, kept for good | moved from working memory |
//! | facts | what was learned | `upsert_unless_near`: nothing twice |
//! | preferences | one value a topic | `insert`, then `replace_version` |
//!
//! Texts become vectors in `embedding.rs`, by counting words: enough for a toy,
//! and no model to download. Everything is in a folder, so the second half of
//! the program, which opens it anew, still knows what the first half learned.

#![allow(clippy::print_stdout, reason = "an example shows its results")]

mod embedding;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::time::Duration;

use vecino::{Collection, CollectionConfig, Completion, Engine, Metric, Outcome, Query, Record};

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

const SAID: &[&str] = &[
    "Mira asked for a quiet restaurant near the office",
    "We booked a table at the Olive Tree restaurant for Friday",
    "Mira could not eat the soup at the Olive Tree because of the peanuts",
    "Mira asked how long the train to Porto takes",
    "We bought two train tickets to Porto for Saturday",
    "Mira said her bike has a flat tyre",
];

const LEARNED: &[&str] = &[
    "Mira is allergic to peanuts",
    "Mira has a brother in Porto",
    "Mira is very allergic to peanuts", // heard again, in other words
    "Mira rides her bike to the office",
];

fn main() -> Result<()> {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let folder = std::env::temp_dir().join(format!("vecino-agent-memory-{}", std::process::id()));
    learn(&folder)?;
    let questions = if asked.is_empty() {
        ["which restaurant can Mira eat at?", "what about the train to Porto?", "who won the match?"]
            .map(String::from)
            .into()
    } else {
        asked
    };
    let outcome = remember(&folder, &questions);
    std::fs::remove_dir_all(&folder)?;
    outcome
}

/// The first conversation.
fn learn(folder: &Path) -> Result<()> {
    let engine = Engine::builder().open(folder)?;
    let [working, episodes, facts, preferences] = ["working", "episodes", "facts", "preferences"]
        .map(|name| engine.create_collection(name, CollectionConfig::new(DIM, Metric::Cosine)));
    let (working, episodes, facts, preferences) = (working?, episodes?, facts?, preferences?);

    println!("In this conversation:");
    for (number, text) in SAID.iter().enumerate() {
        working.upsert(Record::new(*text, embed(text)))?.wait()?;
        println!("  {text}");
        // What no longer fits into working memory becomes an episode.
        if let Some(oldest) = number.checked_sub(WORKING).and_then(|oldest| SAID.get(oldest)) {
            consolidate(&working, &episodes, oldest)?;
        }
    }

    println!("\nWhat was learned:");
    for text in LEARNED {
        match facts.upsert_unless_near(Record::new(*text, embed(text)), SAME)? {
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
fn consolidate(working: &Collection, episodes: &Collection, text: &str) -> Result<()> {
    episodes.upsert(Record::new(text, embed(text)))?.wait()?;
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

/// Another day: the folder is opened, and the agent asked.
fn remember(folder: &Path, questions: &[String]) -> Result<()> {
    let engine = Engine::builder().open(folder)?;
    for question in questions {
        println!("\n\"{question}\"");
        let vector = embed(question);
        let mut recalled: BTreeMap<&str, usize> = BTreeMap::new();
        for name in ["working", "episodes", "facts"] {
            let memory = engine.collection(name)?;
            // All that has to do with it, three at most and not three times the same.
            let query = Query::new(&vector).within(RELEVANT).top(3).diversity(0.2).deadline(PATIENCE);
            let answer = memory.search(&query)?;
            if answer.completion() == Completion::Deadline {
                println!("  {name}: it is on the tip of my tongue");
            }
            for hit in &answer {
                println!("  {name:9} {:.2}  {}", answer.unit_score(hit), hit.id);
            }
            recalled.insert(name, answer.len());
        }
        if recalled.values().all(|found| *found == 0) {
            println!("  nothing comes to mind");
        }
    }
    engine.close()?;
    Ok(())
}
