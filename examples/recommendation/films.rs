//! The people and films of the example: made up, with tastes that have names.

use vecino::RecordId;

/// A film and how much it has of each taste.
pub(crate) struct Film {
    pub(crate) title: String,
    pub(crate) factors: Vec<f32>,
}

/// A person, what they care for, and what they have seen.
pub(crate) struct Person {
    pub(crate) name: String,
    pub(crate) factors: Vec<f32>,
    pub(crate) seen: Vec<u64>,
}

/// Everything there is.
pub(crate) struct World {
    pub(crate) films: Vec<Film>,
    pub(crate) people: Vec<Person>,
}

impl World {
    /// The number of tastes.
    pub(crate) fn tastes(&self) -> usize {
        self.films.first().map_or(1, |film| film.factors.len())
    }

    /// The number of a film: ids are numbers here.
    pub(crate) fn number(&self, id: &RecordId) -> u64 {
        match id {
            RecordId::Num(number) => *number,
            RecordId::Text(_) => u64::MAX,
        }
    }

    pub(crate) fn title(&self, film: u64) -> &str {
        self.films.get(film as usize).map_or("?", |film| &film.title)
    }
}

/// Action, romance, laughs, fright, thought, space.
const FILMS: &[(&str, [f32; 6])] = &[
    ("Two Left Feet", [0.0, 0.9, 0.8, 0.0, 0.1, 0.0]),
    ("The Last Tango Teacher", [0.1, 1.0, 0.4, 0.0, 0.3, 0.0]),
    ("Lighthouse Letters", [0.0, 1.1, 0.1, 0.0, 0.6, 0.0]),
    ("My Cousin's Wedding, Again", [0.0, 0.8, 1.1, 0.0, 0.0, 0.0]),
    ("Paris on a Bad Day", [0.1, 0.9, 0.9, 0.0, 0.1, 0.0]),
    ("Orbit of Mercy", [0.4, 0.2, 0.0, 0.2, 0.7, 1.1]),
    ("The Dust of Europa", [0.6, 0.1, 0.0, 0.3, 0.5, 1.2]),
    ("Star Tax", [0.7, 0.1, 0.9, 0.0, 0.1, 0.9]),
    ("Airlock", [0.5, 0.0, 0.0, 1.1, 0.1, 1.0]),
    ("Nine Moons for a Thief", [1.0, 0.3, 0.3, 0.0, 0.1, 1.0]),
    ("The Cellar Door", [0.1, 0.0, 0.0, 1.2, 0.2, 0.0]),
    ("Grandmother Is Upstairs", [0.0, 0.0, 0.3, 1.1, 0.1, 0.0]),
    ("What the Well Said", [0.0, 0.1, 0.0, 1.0, 0.6, 0.0]),
    ("Full Throttle Nun", [1.3, 0.0, 0.7, 0.1, 0.0, 0.0]),
    ("Harbour of Knives", [1.2, 0.1, 0.0, 0.4, 0.1, 0.0]),
    ("The Courier Runs Twice", [1.1, 0.2, 0.2, 0.0, 0.1, 0.0]),
    ("A Short History of Silence", [0.0, 0.2, 0.0, 0.1, 1.2, 0.0]),
    ("The Beekeeper's Ledger", [0.0, 0.3, 0.1, 0.0, 1.0, 0.0]),
    ("Chess in the Rain", [0.0, 0.5, 0.1, 0.0, 1.0, 0.0]),
    ("The Committee Regrets", [0.0, 0.0, 1.1, 0.0, 0.6, 0.0]),
    ("Penguins of the Second Floor", [0.2, 0.1, 1.2, 0.0, 0.0, 0.0]),
    ("Stand-up at the End of the World", [0.3, 0.1, 1.0, 0.2, 0.5, 0.2]),
];

const PEOPLE: &[(&str, [f32; 6], &[u64])] = &[
    ("Ana", [0.0, 1.0, 0.8, -0.5, 0.2, 0.0], &[0, 3]),
    ("Bruno", [1.0, -0.2, 0.3, 0.1, 0.0, 0.6], &[13]),
    ("Chandra", [0.3, 0.1, 0.0, 0.1, 0.7, 1.0], &[5, 6]),
    ("Dilek", [0.2, 0.0, 0.1, 1.0, 0.1, 0.3], &[10]),
    ("Eskil", [0.0, 0.3, 0.4, -0.3, 1.0, 0.0], &[]),
];

/// A small cinema.
pub(crate) fn made_up() -> World {
    let films =
        FILMS.iter().map(|(title, factors)| Film { title: (*title).into(), factors: factors.to_vec() });
    let people = PEOPLE.iter().map(|(name, factors, seen)| Person {
        name: (*name).into(),
        factors: factors.to_vec(),
        seen: seen.to_vec(),
    });
    World { films: films.collect(), people: people.collect() }
}
