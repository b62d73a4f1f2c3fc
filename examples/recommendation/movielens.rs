//! Films and people from a folder: see `main.rs` for its files.

use std::fs;
use std::path::Path;

use crate::Result;
use crate::films::{Film, Person, World};

pub(crate) fn read(folder: &Path) -> Result<World> {
    let titles = fs::read_to_string(folder.join("meta.tsv"))?;
    let titles = titles.lines().skip(1).map(|line| line.split('\t').nth(2).unwrap_or("?").to_owned());
    let factors = vectors(&folder.join("base.fvecs"))?;
    let films: Vec<Film> = titles.zip(factors).map(|(title, factors)| Film { title, factors }).collect();
    let seen = fs::read_to_string(folder.join("seen.tsv"))?;
    let seen = seen.lines().skip(1).map(|line| {
        let films = line.split('\t').nth(1).unwrap_or_default().split(',');
        films.filter_map(|film| film.parse().ok()).collect::<Vec<u64>>()
    });
    let factors = vectors(&folder.join("query.fvecs"))?;
    let person = |(number, (factors, seen))| Person { name: format!("person {number}"), factors, seen };
    let people: Vec<Person> = factors.into_iter().zip(seen).enumerate().map(person).collect();
    if films.len() < 3 || people.is_empty() {
        return Err(format!("{}: too few films or people", folder.display()).into());
    }
    Ok(World { films, people })
}

/// Each vector is its dimension (32 bits) and as many floats, little endian.
fn vectors(path: &Path) -> Result<Vec<Vec<f32>>> {
    let bytes = fs::read(path)?;
    let mut rest = bytes.as_slice();
    let mut all = Vec::new();
    while let Some((head, tail)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*head) as usize * 4;
        let (vector, after) =
            tail.split_at_checked(length).ok_or_else(|| format!("{} breaks off", path.display()))?;
        let (words, _) = vector.as_chunks::<4>();
        all.push(words.iter().map(|word| f32::from_le_bytes(*word)).collect());
        rest = after;
    }
    Ok(all)
}
