//! When requests are due: fixed in advance, whatever the target does.

use std::time::Duration;

use super::rng::Rng;

/// How requests arrive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Arrivals {
    /// At equal distances, so many a second.
    Constant { rate: f64 },
    /// As independent users send them, so many a second on average.
    Poisson { rate: f64 },
    /// At a rate that grows (or falls) evenly over the run.
    Ramp { from: f64, to: f64 },
    /// Poisson at `rate`, and at `peak` during the first `length` seconds of
    /// every `every` seconds.
    Bursts { rate: f64, peak: f64, every: f64, length: f64 },
    /// No schedule: each of so many clients sends its next request when it has
    /// the answer to the last one (and can find the last write, if that is
    /// watched). Slow answers make it send less, so its times
    /// are not what users would see.
    Closed { clients: usize },
}

impl Arrivals {
    /// `constant:5000`, `poisson:5000`, `ramp:1000-9000`, `bursts:1000,9000,5,1` or `closed:8`.
    pub(crate) fn parse(text: &str) -> Option<Arrivals> {
        let (kind, numbers) = text.split_once(':')?;
        let numbers: Vec<f64> = numbers
            .split(['-', ','])
            .map(|number| number.trim().parse().ok().filter(|n: &f64| n.is_finite() && *n > 0.0))
            .collect::<Option<_>>()?;
        match (kind, numbers.as_slice()) {
            ("constant", &[rate]) => Some(Arrivals::Constant { rate }),
            ("poisson", &[rate]) => Some(Arrivals::Poisson { rate }),
            ("ramp", &[from, to]) => Some(Arrivals::Ramp { from, to }),
            ("bursts", &[rate, peak, every, length]) if length <= every => {
                Some(Arrivals::Bursts { rate, peak, every, length })
            }
            ("closed", &[clients]) if clients >= 1.0 => Some(Arrivals::Closed { clients: clients as usize }),
            _ => None,
        }
    }

    /// The text that `parse` reads.
    pub(crate) fn describe(self) -> String {
        match self {
            Arrivals::Constant { rate } => format!("constant:{rate}"),
            Arrivals::Poisson { rate } => format!("poisson:{rate}"),
            Arrivals::Ramp { from, to } => format!("ramp:{from}-{to}"),
            Arrivals::Bursts { rate, peak, every, length } => {
                format!("bursts:{rate},{peak},{every},{length}")
            }
            Arrivals::Closed { clients } => format!("closed:{clients}"),
        }
    }

    /// The same kind of arrivals at another rate.
    pub(crate) fn at_rate(self, rate: f64) -> Arrivals {
        match self {
            Arrivals::Constant { .. } => Arrivals::Constant { rate },
            _ => Arrivals::Poisson { rate },
        }
    }

    pub(crate) fn is_closed(self) -> bool {
        matches!(self, Arrivals::Closed { .. })
    }
}

/// The moments at which requests are due, in nanoseconds from the start.
pub(crate) struct Schedule {
    arrivals: Arrivals,
    end: f64,
    rng: Rng,
    given: u64,
    at: f64,
    /// A random draw after the end might fall before it again.
    over: bool,
}

impl Schedule {
    pub(crate) fn new(arrivals: Arrivals, length: Duration, seed: u64) -> Schedule {
        Schedule { arrivals, end: length.as_secs_f64(), rng: Rng::new(seed), given: 0, at: 0.0, over: false }
    }

    fn advance(&mut self) -> f64 {
        let given = self.given as f64;
        match self.arrivals {
            Arrivals::Constant { rate } => given / rate,
            Arrivals::Poisson { rate } => self.at + self.rng.exponential() / rate,
            Arrivals::Ramp { from, to } => {
                // The rate grows by `slope` a second: solve from t + slope t^2 / 2 = given.
                let slope = (to - from) / self.end;
                let root = (from * from + 2.0 * slope * given).max(0.0).sqrt();
                if slope.abs() < 1e-9 { given / from } else { (root - from) / slope }
            }
            Arrivals::Bursts { rate, peak, every, length } => {
                let mut work = self.rng.exponential();
                let mut at = self.at;
                loop {
                    let phase = at % every;
                    let (now, left) =
                        if phase < length { (peak, length - phase) } else { (rate, every - phase) };
                    if work <= now * left {
                        return at + work / now;
                    }
                    work -= now * left;
                    // A little beyond the boundary, or rounding would stay on it.
                    at += left.max(1e-9);
                }
            }
            Arrivals::Closed { .. } => self.at,
        }
    }
}

impl Iterator for Schedule {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        if self.over {
            return None;
        }
        let at = self.advance();
        let stuck = matches!(self.arrivals, Arrivals::Ramp { .. }) && self.given > 0 && at <= self.at;
        self.over = at >= self.end || stuck;
        if self.over {
            return None;
        }
        self.at = at;
        self.given += 1;
        Some((at * 1e9) as u64)
    }
}
