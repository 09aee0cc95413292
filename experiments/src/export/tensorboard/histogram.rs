//! Histograms of events.

use super::wire::Message;

/// A range of values and how many there are in it. The range begins where that of the bucket before ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// The upper end of the range.
    pub limit: f64,
    /// The number of values, or their weight.
    pub count: f64,
}

/// How values are distributed, with their moments. Units are the values' own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// The smallest value, where the first bucket begins.
    pub min: f64,
    /// The largest value, where TensorBoard ends the last bucket.
    pub max: f64,
    /// The number of values.
    pub num: f64,
    /// Their sum.
    pub sum: f64,
    /// The sum of their squares.
    pub sum_squares: f64,
    /// The buckets, by rising limits.
    pub buckets: Vec<Bucket>,
}

impl Histogram {
    /// One bar per expert: the bar of expert `e` spans from `e` to `e + 1`, and is as high as its load, in tokens or as a
    /// share. In the moments, each token of expert `e` counts as `e + 1/2`.
    pub fn of_loads(loads: &[f64]) -> Self {
        let bars = loads.iter().enumerate();
        let moment = |power| {
            let terms = bars
                .clone()
                .map(|(expert, load)| load * (expert as f64 + 0.5).powi(power));
            terms.fold(0.0, |sum, term| sum + term)
        };
        Self {
            min: 0.0,
            max: loads.len() as f64,
            num: moment(0),
            sum: moment(1),
            sum_squares: moment(2),
            buckets: bars
                .clone()
                .map(|(expert, &count)| Bucket {
                    limit: (expert + 1) as f64,
                    count,
                })
                .collect(),
        }
    }

    /// The message `HistogramProto`.
    pub(super) fn message(&self) -> Message {
        Message::new()
            .double(1, self.min)
            .double(2, self.max)
            .double(3, self.num)
            .double(4, self.sum)
            .double(5, self.sum_squares)
            .doubles(6, self.buckets.iter().map(|bucket| bucket.limit))
            .doubles(7, self.buckets.iter().map(|bucket| bucket.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bar_per_expert() {
        let histogram = Histogram::of_loads(&[3.0, 0.0, 1.0]);
        let limits: Vec<_> = histogram
            .buckets
            .iter()
            .map(|bucket| bucket.limit)
            .collect();
        let counts: Vec<_> = histogram
            .buckets
            .iter()
            .map(|bucket| bucket.count)
            .collect();
        assert_eq!(limits, [1.0, 2.0, 3.0]);
        assert_eq!(counts, [3.0, 0.0, 1.0]);
        assert_eq!(
            (histogram.min, histogram.max, histogram.num),
            (0.0, 3.0, 4.0)
        );
        assert_eq!((histogram.sum, histogram.sum_squares), (4.0, 7.0));
    }

    #[test]
    fn no_experts_make_an_empty_message() {
        assert_eq!(Histogram::of_loads(&[]).message(), Message::new());
    }
}
