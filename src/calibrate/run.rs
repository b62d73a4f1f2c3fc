//! One calibration, search by search.

use std::sync::Arc;
use std::time::Duration;

use super::probe::{Probe, probe_near};
use super::sample::{Place, sample};
use crate::error::SearchError;
use crate::query::{Answer, Query};
use crate::snapshot::{Published, Sight, search_uncounted};
use crate::tuning::{
    Calibration, CalibrationCurve, CalibrationPoint, LADDER, SAMPLES, SIZES, Sample, curve, point,
};

/// Distances this near to each other are the same to a recall: kernels may
/// differ in the last bits.
const SAME: f32 = 8.0 * f32::EPSILON;

/// A breadth at which searches compute distances to this part of the rows ends
/// a curve: comparing with every row, one after the other in memory, takes no longer.
const PART_AS_DEAR_AS_ALL: f64 = 0.5;

/// Where a calibration stands after a step.
pub(crate) enum Progress {
    /// There is more to do.
    More,
    /// It is done.
    Done(Box<Calibration>),
}

/// A calibration under way. It holds the snapshot that it measures.
pub(crate) struct Run {
    published: Arc<Published>,
    number: u64,
    rows: usize,
    /// The rows to make queries of; `None` before they are chosen.
    places: Option<Vec<Place>>,
    /// Queries, and for each one the distances of the nearest rows, ascending.
    probes: Vec<(Probe, Vec<f32>)>,
    /// Numbers of hits that are still to be measured, each with its number of
    /// queries, the next one last.
    sizes: Vec<(usize, usize)>,
    /// What was measured of the next breadth, and the distances that took.
    samples: Vec<Sample>,
    distances: u64,
    points: Vec<CalibrationPoint>,
    curves: Vec<CalibrationCurve>,
}

impl Run {
    /// A calibration that will have this number.
    pub(crate) fn new(published: Arc<Published>, number: u64) -> Run {
        Run {
            published,
            number,
            rows: 0,
            places: None,
            probes: Vec::new(),
            sizes: Vec::new(),
            samples: Vec::new(),
            distances: 0,
            points: Vec::new(),
            curves: Vec::new(),
        }
    }

    /// Takes the next step: one search (or two, to make a query), or choosing
    /// the sample. `clock` gives the time that the thread has worked so far.
    ///
    /// # Errors
    /// None that a sound snapshot gives.
    pub(crate) fn step(&mut self, clock: &dyn Fn() -> Duration) -> Result<Progress, SearchError> {
        let Some(places) = &self.places else {
            self.begin();
            return Ok(Progress::More);
        };
        let Some((k, count)) = self.sizes.last().copied() else {
            return Ok(Progress::Done(Box::new(self.finish())));
        };
        if let Some(place) = places.get(self.probes.len()) {
            let probe = probe_near(&self.published, place)?;
            let truth = truth(&self.published, &probe)?;
            self.probes.push((probe, truth));
            return Ok(Progress::More);
        }
        let next = self.probes.get(self.samples.len()).filter(|_| self.samples.len() < count);
        match (breadth(k, self.points.len()), next) {
            (Some(ef), Some((probe, truth))) => {
                let (sample, distances) = measure(&self.published, probe, truth, (k, ef), clock)?;
                self.samples.push(sample);
                self.distances += distances;
            }
            (Some(ef), None) => self.end_point(k, ef),
            (None, _) => self.end_curve(k, false),
        }
        Ok(Progress::More)
    }

    fn begin(&mut self) {
        self.rows = Sight::of_all(&self.published).len();
        // An exact index misses nothing: there is nothing to find out.
        let count = if self.published.is_exact() { 0 } else { SAMPLES };
        let places = sample(&self.published, count);
        let others = self.rows.saturating_sub(1);
        self.sizes = SIZES.into_iter().rev().filter(|(k, _)| *k <= others && !places.is_empty()).collect();
        self.places = Some(places);
    }

    /// Closes a breadth. The curve ends where nothing is missed any more, or
    /// where the exact search is no dearer.
    fn end_point(&mut self, k: usize, ef: usize) {
        let misses = self.samples.iter().any(|sample| sample.found < k);
        let each = self.distances as f64 / self.samples.len().max(1) as f64;
        self.points.push(point(k, ef, &self.samples));
        self.samples.clear();
        self.distances = 0;
        if !misses {
            self.end_curve(k, false);
        } else if each >= PART_AS_DEAR_AS_ALL * self.rows as f64 {
            self.end_curve(k, true);
        }
    }

    fn end_curve(&mut self, k: usize, exact_beyond: bool) {
        self.curves.push(curve(k, std::mem::take(&mut self.points), exact_beyond));
        self.sizes.pop();
    }

    fn finish(&mut self) -> Calibration {
        Calibration {
            number: self.number,
            generation: self.published.generation,
            seq: self.published.seq,
            rows: self.rows,
            samples: self.probes.len(),
            curves: std::mem::take(&mut self.curves),
            extent: self.published.extent(),
        }
    }
}

/// The breadths for k hits: k itself, then those of the ladder beyond it.
fn breadth(k: usize, at: usize) -> Option<usize> {
    let first = k.max(LADDER[0]);
    std::iter::once(first).chain(LADDER.into_iter().filter(|ef| *ef > first)).nth(at)
}

/// The distances of the nearest rows, ascending: as many as the largest number
/// of hits asks for.
fn truth(published: &Published, probe: &Probe) -> Result<Vec<f32>, SearchError> {
    let (most, _) = SIZES[SIZES.len() - 1];
    let answer = search_uncounted(
        Sight::of_all(published),
        &Query::new(&probe.vector).without_payload().top(probe.top(most)).exact(),
    )?;
    Ok(distances(&answer, probe, most).collect())
}

fn measure(
    published: &Published,
    probe: &Probe,
    truth: &[f32],
    (k, ef): (usize, usize),
    clock: &dyn Fn() -> Duration,
) -> Result<(Sample, u64), SearchError> {
    let query = Query::new(&probe.vector).top(probe.top(k)).ef_search(ef);
    let started = clock();
    let answer = search_uncounted(Sight::of_all(published), &query)?;
    let took = clock().saturating_sub(started);
    let farthest = truth.get(k - 1).copied().unwrap_or(f32::INFINITY);
    let limit = farthest + farthest.abs() * SAME;
    let found = distances(&answer, probe, k).filter(|distance| *distance <= limit).count();
    Ok((Sample { found, took }, answer.stats.distances))
}

/// The distances of the first `k` hits, without the row that the query is made
/// of where it counts for nothing. It may be missing among k + 1 hits, because
/// other rows may be the same: then the last one is left out.
fn distances<'a>(answer: &'a Answer, probe: &'a Probe, k: usize) -> impl Iterator<Item = f32> + 'a {
    let counts = |id| probe.itself.as_ref() != Some(id);
    answer.hits().iter().filter(move |hit| counts(&hit.id)).take(k).map(|hit| hit.distance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breadths_begin_at_the_number_of_hits_and_rise_to_the_end_of_the_ladder() {
        let all = |k| (0..).map_while(|at| breadth(k, at)).collect::<Vec<_>>();
        assert!(all(1).into_iter().eq(LADDER));
        assert_eq!(all(10)[..4], [10, 12, 16, 24]);
        assert_eq!(all(100)[..3], [100, 128, 192]);
        for (k, _) in SIZES {
            assert!(all(k).is_sorted_by(|a, b| a < b) && all(k).last() == LADDER.last());
        }
    }
}
