//! What "near" means.

use std::fmt;

/// How the distance of two vectors is measured. Smaller is always closer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Metric {
    /// Squared Euclidean distance, `sum((a - b)^2)`: 0 and up.
    L2,
    /// `1 - cos(a, b)`: 0 (same direction) to 2 (opposite). Vectors need not
    /// be normalised; the stored vector stays as it was put in.
    Cosine,
    /// The negated inner product, `-sum(a * b)`: any sign. Lengths matter. Of vectors
    /// that are all of one length [`Cosine`](Metric::Cosine) gives the same order (by other distances), and
    /// graphs take less memory by it: under the inner product rows have more links.
    Dot,
}

impl Metric {
    /// The larger-is-better number that people expect of this metric: the
    /// cosine for [`Metric::Cosine`], the inner product for [`Metric::Dot`],
    /// and the negated squared distance for [`Metric::L2`].
    ///
    /// ```
    /// use vecino::Metric;
    /// assert_eq!(Metric::Cosine.score(0.25), 0.75);
    /// assert_eq!(Metric::Dot.score(-3.0), 3.0);
    /// ```
    #[must_use]
    pub fn score(self, distance: f32) -> f32 {
        match self {
            Metric::L2 | Metric::Dot => -distance,
            Metric::Cosine => 1.0 - distance,
        }
    }

    /// A larger-is-better number from 0 to 1, for whoever wants to show or mix
    /// scores: `(1 + cos) / 2` for [`Metric::Cosine`], `1 / (1 + distance)` of
    /// the plain (not squared) distance for [`Metric::L2`], and the logistic
    /// function of the inner product for [`Metric::Dot`].
    ///
    /// ```
    /// use vecino::Metric;
    /// assert_eq!(Metric::Cosine.unit_score(0.0), 1.0);
    /// assert_eq!(Metric::Cosine.unit_score(2.0), 0.0);
    /// assert_eq!(Metric::L2.unit_score(9.0), 0.25);
    /// assert_eq!(Metric::Dot.unit_score(0.0), 0.5);
    /// ```
    #[must_use]
    pub fn unit_score(self, distance: f32) -> f32 {
        let score = match self {
            Metric::Cosine => 1.0 - distance / 2.0,
            Metric::L2 => 1.0 / (1.0 + distance.max(0.0).sqrt()),
            Metric::Dot => 1.0 / (1.0 + distance.exp()),
        };
        // Rounding may lead a little beyond.
        score.clamp(0.0, 1.0)
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Metric::L2 => "L2",
            Metric::Cosine => "cosine",
            Metric::Dot => "dot",
        })
    }
}
