//! A recommender: people and films as vectors of the same tastes.
//!
//!     cargo run --release --example recommendation
//!     cargo run --release --example recommendation -- DIR
//!
//! Every film and every person is a short vector, one number for each taste (in
//! real life they come out of a matrix factorisation, and nobody knows what the
//! numbers mean). How much a person will like a film is their inner product, so
//! the collection's metric is `Dot`, and the length of a film's vector counts:
//! a film that everybody likes is long. Without `DIR` the films are made up and
//! few; `DIR` holds `base.fvecs` and `query.fvecs` (factors of films and
//! people), `meta.tsv` (column 3: titles) and `seen.tsv` (person, films with
//! commas between), such as a MovieLens data set gives.

#![allow(clippy::print_stdout, reason = "an example shows its results")]

mod films;
mod movielens;

use std::error::Error;
use std::time::Duration;

use vecino::{Collection, CollectionConfig, Completeness, Engine, Example, Metric, Query, Record};

use films::World;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Films that are shown to a person.
const SHOWN: usize = 5;

fn main() -> Result<()> {
    // It is quick in any case.
    let world = match std::env::args().skip(1).find(|argument| argument != "--quick") {
        Some(folder) => movielens::read(folder.as_ref())?,
        None => films::made_up(),
    };
    let engine = Engine::builder().build()?;
    let items = engine.create_collection("films", CollectionConfig::new(world.tastes(), Metric::Dot))?;
    let records =
        world.films.iter().enumerate().map(|(id, film)| Record::new(id as u64, film.factors.clone()));
    items.upsert_batch(records)?.wait()?;
    println!("{} films, {} people, {} tastes\n", world.films.len(), world.people.len(), world.tastes());

    what_a_person_has_not_seen(&items, &world)?;
    a_film_comes_out(&items, &world)?;
    a_film_is_boosted(&items, &world)?;
    not_five_times_the_same(&items, &world)?;
    more_like_this_and_less_like_that(&items, &world)?;
    everybody_at_once(&items, &world)?;
    engine.close()?;
    Ok(())
}

/// What a person will like most. Films seen before are left out while the
/// search goes on, so there are always as many as asked for.
fn what_a_person_has_not_seen(items: &Collection, world: &World) -> Result<()> {
    let person = &world.people[0];
    println!("For {}, who has seen {} films:", person.name, person.seen.len());
    let taste = Query::new(&person.factors).top(SHOWN);
    let all = items.search(&taste)?;
    for hit in &all {
        let film = world.number(&hit.id);
        let seen = if person.seen.contains(&film) { "(seen)" } else { "" };
        println!("  {:5.2}  {} {seen}", all.score(hit), world.title(film));
    }
    println!("and without those:");
    show(&items.search(&taste.exclude(person.seen.iter().copied()))?, world);
    Ok(())
}

/// An upsert is one line. Whoever searches with `at_least` sees it for certain;
/// everybody else a few microseconds later.
fn a_film_comes_out(items: &Collection, world: &World) -> Result<()> {
    let person = &world.people[0];
    let premiere = (world.films.len() as u64, "** tonight's premiere **");
    let factors: Vec<f32> = person.factors.iter().map(|taste| taste * 1.2).collect();
    let write = items.upsert(Record::new(premiere.0, factors))?;
    let query = Query::new(&person.factors).top(SHOWN).exclude(person.seen.iter().copied());
    let answer = items.search(&query.at_least(write.seq()))?;
    println!("A film comes out that is just the thing for {}:", person.name);
    for hit in &answer {
        let film = world.number(&hit.id);
        let title = if film == premiere.0 { premiere.1 } else { world.title(film) };
        println!("  {:5.2}  {title}", answer.score(hit));
    }
    items.delete(premiere.0)?.wait()?;
    println!();
    Ok(())
}

/// Under the inner product a boost is a longer vector: the same tastes, more of
/// everything. It takes effect for all people with one write.
fn a_film_is_boosted(items: &Collection, world: &World) -> Result<()> {
    let person = &world.people[0];
    let query = Query::new(&person.factors).top(4 * SHOWN).exclude(person.seen.iter().copied());
    let before = items.search(&query)?;
    let Some(last) = before.hits().last() else { return Ok(()) };
    let film = world.number(&last.id);
    let boosted: Vec<f32> = world.films[film as usize].factors.iter().map(|x| x * 1.5).collect();
    items.upsert(Record::new(film, boosted))?.wait()?;
    let after = items.search(&query)?;
    let place = |answer: &vecino::Answer| answer.hits().iter().position(|hit| hit.id == last.id);
    println!("The editors boost \"{}\" by half:", world.title(film));
    println!("  place {:?} of {} before, {:?} after\n", place(&before), before.len(), place(&after));
    items.upsert(Record::new(film, world.films[film as usize].factors.clone()))?.wait()?;
    Ok(())
}

/// The best five are often five of a kind. Maximal marginal relevance takes
/// each next film for being liked and for being unlike those before it.
fn not_five_times_the_same(items: &Collection, world: &World) -> Result<()> {
    let person = &world.people[world.people.len() / 2];
    let query = Query::new(&person.factors).top(SHOWN).exclude(person.seen.iter().copied());
    println!("For {}, the best:", person.name);
    show(&items.search(&query)?, world);
    println!("and with some variety:");
    show(&items.search(&query.diversity(0.3))?, world);
    Ok(())
}

/// Nobody knows the taste of a guest; but they clicked on things.
fn more_like_this_and_less_like_that(items: &Collection, world: &World) -> Result<()> {
    let (liked, disliked) = ([0u64, 1], world.films.len() as u64 / 2);
    println!("A guest likes \"{}\" and \"{}\",", world.title(liked[0]), world.title(liked[1]));
    println!("and does not like \"{}\":", world.title(disliked));
    let query = Query::recommend(liked.map(Example::from), [Example::from(disliked)]);
    show(&items.search(&query.top(SHOWN))?, world);
    Ok(())
}

/// The nightly mail: all people in one batch, each with their own exclusions,
/// none allowed to take longer than 50 ms.
fn everybody_at_once(items: &Collection, world: &World) -> Result<()> {
    let query = |person: &films::Person| {
        let query = Query::new(person.factors.clone()).top(SHOWN);
        query.exclude(person.seen.iter().copied()).deadline(Duration::from_millis(50))
    };
    let queries: Vec<Query<'_>> = world.people.iter().map(query).collect();
    let answers = items.search_batch(&queries)?;
    let whole = answers.iter().filter(|answer| answer.completeness() == Completeness::Complete).count();
    println!("Mail for everybody: {whole} of {} answers complete", answers.len());
    for (person, answer) in world.people.iter().zip(&answers).take(SHOWN) {
        let best = answer.hits().first().map_or("-", |hit| world.title(world.number(&hit.id)));
        println!("  {:12} {best}", person.name);
    }
    Ok(())
}

fn show(answer: &vecino::Answer, world: &World) {
    for hit in answer {
        println!("  {:5.2}  {}", answer.score(hit), world.title(world.number(&hit.id)));
    }
    println!();
}
