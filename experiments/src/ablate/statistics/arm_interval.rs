//! The interval of one arm.

use super::{Alpha, Interval, MetricValues, StatisticsError, two_way, wilson};

/// What rounding may add to a share.
const ROUNDING: f64 = 1e-9;

/// The interval of an arm's share: a metric that is the mean of values from 0 to 1, such as accuracy.
///
/// Seeds and examples are both random ([`two_way`]); what lies below 0 or above 1 is cut. A share that is
/// constant or has one seed gets Wilson's interval over the examples, as if each share were a
/// success or not, which has the largest spread. For other metrics, use [`two_way`] itself.
///
/// # Errors
///
/// If a value is not from 0 to 1, or as [`two_way`].
pub fn share_interval(values: &MetricValues, alpha: Alpha) -> Result<Interval, StatisticsError> {
    let matrix = values.by_example();
    // A pseudo-value of a share is one but for rounding.
    let is_share = |value: &f64| (-ROUNDING..=1.0 + ROUNDING).contains(value);
    if let Some(index) = matrix.values().iter().position(|value| !is_share(value)) {
        return Err(StatisticsError::Value {
            what: "share",
            index,
            value: matrix.values()[index],
            expected: "from 0 to 1",
        });
    }
    let [seeds, examples] = matrix.shape();
    if seeds > 1
        && let Some(interval) = two_way(values)?.interval(alpha)
    {
        return Ok(interval.clamp(Interval {
            low: 0.0,
            high: 1.0,
        }));
    }
    let successes = values.theta() * examples as f64;
    wilson(successes.clamp(0.0, examples as f64), examples, alpha)
}

#[cfg(test)]
mod tests {
    use super::{super::ValueMatrix, *};

    fn interval(rows: &[Vec<f64>]) -> Result<Interval, StatisticsError> {
        let values = MetricValues::of_means(ValueMatrix::from_rows(rows).unwrap());
        share_interval(&values, Alpha::default())
    }

    #[test]
    fn a_share_stays_between_0_and_1() {
        let mut row = vec![1.0; 20];
        row[3] = 0.0;
        let found = interval(&[row, vec![1.0; 20], vec![1.0; 20]]).unwrap();
        assert!(found.low > 0.9 && found.high >= 1.0 && found.high <= 1.0);
    }

    #[test]
    fn one_seed_and_a_constant_share_get_wilsons_interval() {
        let wilson = |successes| wilson(successes, 4, Alpha::default());
        assert_eq!(interval(&[vec![1.0, 0.0, 1.0, 1.0]]), wilson(3.0));
        assert_eq!(interval(&[vec![1.0; 4], vec![1.0; 4]]), wilson(4.0));
        assert_eq!(interval(&[vec![0.5; 4]]), wilson(2.0));
    }

    #[test]
    fn what_is_no_share_is_an_error() {
        assert_eq!(
            interval(&[vec![1.0, 7.0]]).unwrap_err().to_string(),
            "share number 1 (counted from 0) is 7, which is not from 0 to 1"
        );
    }
}
