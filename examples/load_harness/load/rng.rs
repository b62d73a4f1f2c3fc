//! Seeded numbers: uniform, exponential, Zipf.

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers from the same seed, everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }

    /// From 0 to `end - 1`; 0 when `end` is 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// Above 0, at most 1.
    pub(crate) fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// Exponential with mean 1.
    pub(crate) fn exponential(&mut self) -> f64 {
        -self.unit().ln()
    }
}

/// A number that looks like no other, from one.
pub(crate) fn mixed(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Which of many things is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Popularity {
    /// All alike.
    Uniform,
    /// The thing of rank r as often as `r^-exponent` says.
    Zipf(f64),
}

impl Popularity {
    /// `uniform` or `zipf:0.99`.
    pub(crate) fn parse(text: &str) -> Option<Popularity> {
        match text.split_once(':') {
            None if text == "uniform" => Some(Popularity::Uniform),
            None if text == "zipf" => Some(Popularity::Zipf(0.99)),
            Some(("zipf", exponent)) => {
                exponent.parse().ok().filter(|e: &f64| *e > 0.0 && *e < 10.0).map(Popularity::Zipf)
            }
            _ => None,
        }
    }

    /// A rank below `count`, 0 the most popular.
    pub(crate) fn draw(self, rng: &mut Rng, count: u64) -> u64 {
        match self {
            Popularity::Uniform => rng.below(count),
            Popularity::Zipf(exponent) => zipf(rng, count.max(1), exponent) - 1,
        }
    }
}

/// From 1 to `count`. Rejection-inversion (Hoermann and Derflinger 1996): no
/// table, so the number of things may change with every draw.
fn zipf(rng: &mut Rng, count: u64, exponent: f64) -> u64 {
    let most = count as f64;
    let first = area(1.5, exponent) - 1.0;
    let last = area(most + 0.5, exponent);
    let shortcut = 2.0 - area_inverse(area(2.5, exponent) - density(2.0, exponent), exponent);
    loop {
        let at = last + rng.unit() * (first - last);
        let x = area_inverse(at, exponent);
        let rank = x.round().clamp(1.0, most);
        if rank - x <= shortcut || at >= area(rank + 0.5, exponent) - density(rank, exponent) {
            return rank as u64;
        }
    }
}

fn density(x: f64, exponent: f64) -> f64 {
    (-exponent * x.ln()).exp()
}

/// The integral of the density up to `x`.
fn area(x: f64, exponent: f64) -> f64 {
    let log = x.ln();
    let t = (1.0 - exponent) * log;
    log * if t.abs() < 1e-8 { 1.0 + t / 2.0 } else { t.exp_m1() / t }
}

fn area_inverse(value: f64, exponent: f64) -> f64 {
    let t = (value * (1.0 - exponent)).max(-1.0 + 1e-15);
    (value * if t.abs() < 1e-8 { 1.0 - t / 2.0 } else { t.ln_1p() / t }).exp()
}
