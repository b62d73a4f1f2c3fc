//! Finding passages for a question, among those that may be shown.
//!
//!     cargo run --release --example rag_filter
//!
//! Retrieval-augmented generation puts the passages that are nearest to a
//! question before a language model. Which passages *may* be used is not a
//! question of meaning: whose they are, how old, in which language. Here a small
//! household archive is cut into passages, each with its metadata beside the
//! vector. The vector of a text is the mean of its words' vectors (GloVe), less
//! than what a real embedding knows, and enough to watch filters at work.

#![allow(clippy::print_stdout, reason = "an example shows its results")]

use std::collections::HashMap;
use std::error::Error;

use vecino::{
    Answer, CollectionConfig, Engine, ExclusionSet, Filter, Metric, OrderBy, Payload, Query, Record, Snapshot,
};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const WORDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/glove-30k-50d.bin");

/// Document, owner, year, tags, and the passages.
type Document = (&'static str, &'static str, u32, &'static [&'static str], &'static [&'static str]);

const ARCHIVE: &[Document] = &[
    (
        "boiler manual",
        "family",
        2015,
        &["house", "manual"],
        &[
            "the boiler heats water for the radiators and the kitchen",
            "if the pressure is low open the valve and fill the system with water",
            "call a technician every winter to clean the burner and check for gas",
        ],
    ),
    (
        "lease",
        "ana",
        2019,
        &["house", "contract"],
        &[
            "the tenant pays the rent on the first day of every month",
            "the owner repairs the roof the heating and the water pipes",
            "pets are allowed with the written agreement of the owner",
        ],
    ),
    (
        "old lease",
        "ana",
        2008,
        &["house", "contract"],
        &[
            "the tenant pays the rent in cash at the end of the month",
            "the tenant repairs the heating and paints the walls",
        ],
    ),
    (
        "diary",
        "ben",
        2021,
        &["private"],
        &[
            "today the doctor said my heart is fine and the pain comes from stress",
            "we walked along the beach and talked about moving to the mountains",
            "i am worried about money and the rent of the new apartment",
        ],
    ),
    (
        "recipes",
        "family",
        2017,
        &["kitchen"],
        &[
            "boil the potatoes with salt and fry the onions in olive oil",
            "beat the eggs with sugar and add flour butter and lemon",
            "roast the chicken with garlic and herbs in a hot oven",
        ],
    ),
    (
        "insurance",
        "family",
        2022,
        &["contract", "money"],
        &[
            "damage from water and fire in the house is covered by the policy",
            "the insurance pays for doctors and hospital costs during travel",
            "report every accident within three days to the company",
        ],
    ),
];

fn main() -> Result<()> {
    let words = read_words()?;
    let engine = Engine::builder().build()?;
    let passages = engine.create_collection("passages", CollectionConfig::new(50, Metric::Cosine))?;

    heading("1. Passages go in, each with its metadata");
    let mut records = Vec::new();
    for (document, owner, year, tags, texts) in ARCHIVE {
        for (place, text) in texts.iter().enumerate() {
            let id = format!("{document}#{place}");
            let record = Record::new(id, embed(&words, text))
                .with("text", *text)
                .with("source.document", *document)
                .with("source.place", place as u32)
                .with("owner", *owner)
                .with("year", *year)
                .with("tags", tags.to_vec());
            records.push(record);
        }
    }
    passages.upsert_batch(records)?.wait()?;
    println!("  {} passages of {} documents", passages.len(), ARCHIVE.len());

    heading("2. A question without a filter finds what nobody should see");
    let question = "who pays for the repair of the heating and the rent";
    let vector = embed(&words, question);
    println!("  {question}?");
    show(&passages.search(&Query::new(&vector).top(4))?);

    heading("3. What Ana may see, and nothing that is out of date");
    let hers = Filter::is_in("owner", ["ana", "family"]) & !Filter::eq("tags", "private");
    let valid = hers.clone() & Filter::ge("year", 2015);
    let answer = passages.search(&Query::new(&vector).top(4).filter(valid.clone()))?;
    show(&answer);
    if let Some(stats) = answer.stats().filter {
        println!(
            "  {:?}: {} of {} passages pass ({:.0} %)",
            stats.plan,
            stats.matching,
            stats.rows,
            100.0 * stats.selectivity()
        );
    }

    heading("4. The best passage of each document, so that no one fills the prompt");
    let query = Query::new(&vector).filter(valid.clone());
    for group in passages.snapshot().search_groups(&query, "source.document", 3, 1)? {
        show_hits(group.hits.iter());
    }

    heading("5. More of it: what was shown already is left out");
    let mut seen: ExclusionSet = answer.hits().iter().map(|hit| hit.id.clone()).collect();
    let more = passages.search(&Query::new(&vector).top(3).filter(valid).exclude_set(&seen))?;
    seen.extend(more.hits().iter().map(|hit| hit.id.clone()));
    show(&more);

    heading("6. Metadata changes without a new embedding; held snapshots stay");
    let before = passages.snapshot();
    passages.merge_payload("lease#1", Payload::new().with("checked.by", "ana").with("checked.year", 2026))?;
    passages.delete_where(&Filter::lt("year", 2010))?.wait()?;
    println!("  passages before and after: {} and {}", before.len(), passages.len());
    println!("  checked: {:?}", passages.get("lease#1")?.map(|record| record.payload().clone()));
    overview(&passages.snapshot())?;
    engine.close()?;
    Ok(())
}

/// Facets, and the newest passages first.
fn overview(snapshot: &Snapshot) -> Result<()> {
    heading("7. What is there: tags by frequency, the newest passages");
    let tags = snapshot.facets("tags", &Filter::all([]), 4)?;
    let tags: Vec<String> = tags.iter().map(|facet| format!("{} {}", facet.value, facet.count)).collect();
    println!("  {}", tags.join(", "));
    let newest = snapshot.scroll_by(&Filter::exists("year"), &OrderBy::descending("year"), None, 3)?;
    for record in &newest.records {
        let year = record.payload().get("year").and_then(|year| year.as_int()).unwrap_or_default();
        println!("  {year}  {}", record.id());
    }
    Ok(())
}

fn heading(text: &str) {
    println!("\n{text}");
}

fn show(answer: &Answer) {
    show_hits(answer.hits().iter());
}

fn show_hits<'a>(hits: impl Iterator<Item = &'a vecino::Hit>) {
    for hit in hits {
        let text = hit.payload.get("text").and_then(|text| text.as_text()).unwrap_or_default();
        let owner = hit.payload.get("owner").and_then(|owner| owner.as_text()).unwrap_or_default();
        println!("  {:.3}  {:<16} {owner:<7} {text}", hit.distance, hit.id.to_string());
    }
}

/// The mean of the vectors of a text's words, rarer ones (later in the list)
/// counting more.
fn embed(words: &HashMap<String, (usize, Vec<f32>)>, text: &str) -> Vec<f32> {
    let mut sum = vec![0.0; 50];
    for (rank, vector) in text.split_whitespace().filter_map(|word| words.get(word)) {
        let weight = (*rank as f32 + 10.0).ln() - 2.0;
        sum.iter_mut().zip(vector).for_each(|(sum, x)| *sum += weight * x);
    }
    sum
}

/// The words of the file and their vectors: its format is in `examples/data/README.md`.
fn read_words() -> Result<HashMap<String, (usize, Vec<f32>)>> {
    let bytes = std::fs::read(WORDS)?;
    let number =
        |at: usize| bytes.get(at..at + 4).and_then(|word| word.first_chunk()).copied().unwrap_or_default();
    let (count, dim) = (u32::from_le_bytes(number(8)) as usize, u32::from_le_bytes(number(12)) as usize);
    let (scales, codes) = (16, 16 + 4 * count);
    let texts = std::str::from_utf8(bytes.get(codes + count * dim..).ok_or("the file of words is cut off")?)?;
    let word = |(at, text): (usize, &str)| {
        let scale = f32::from_le_bytes(number(scales + 4 * at));
        let codes = &bytes[codes + at * dim..][..dim];
        (text.to_owned(), (at, codes.iter().map(|code| f32::from(code.cast_signed()) * scale).collect()))
    };
    Ok(texts.lines().enumerate().map(word).collect())
}
