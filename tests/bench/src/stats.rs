//! Median and spread of a handful of runs.

use std::fmt;

/// The middle and the ends of a set of figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The middle figure, or the mean of the two middle ones.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Summary {
    /// Summarises some figures; none gives NaN throughout.
    #[must_use]
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (Some(&min), Some(&max)) = (sorted.first(), sorted.last()) else {
            return Self { median: f64::NAN, min: f64::NAN, max: f64::NAN };
        };
        let upper = sorted.len() / 2;
        let lower = (sorted.len() - 1) / 2;
        Self { median: f64::midpoint(sorted[lower], sorted[upper]), min, max }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        write!(f, "{:.digits$} ({:.digits$}–{:.digits$})", self.median, self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_even_and_none() {
        assert_eq!(Summary::of([3.0, 1.0, 2.0]), Summary { median: 2.0, min: 1.0, max: 3.0 });
        assert!((Summary::of([1.0, 2.0, 4.0, 8.0]).median - 3.0).abs() < 1e-9);
        assert!(Summary::of([]).median.is_nan());
        assert_eq!(format!("{:.1}", Summary::of([1.0, 2.0])), "1.5 (1.0–2.0)");
    }
}
