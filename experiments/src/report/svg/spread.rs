//! Labels that would overlap are moved apart.

/// Places less than this apart are nearly the same, in pixels.
const NEAR: f64 = 5.0;
/// The distance of what stands side by side.
const BESIDE: f64 = 10.0;

/// The places nearest to those that are wanted that are `gap` apart and lie between `low` and `high`, in the order of the
/// places. Where there is not enough room, they go beyond `high`.
pub fn spread(wanted: &[f64], gap: f64, low: f64, high: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|a, b| wanted[*a].total_cmp(&wanted[*b]));
    let mut places = vec![0.0; wanted.len()];
    let mut next = low;
    for index in &order {
        places[*index] = wanted[*index].max(next);
        next = places[*index] + gap;
    }
    // What was pushed too far down is pushed up again.
    let mut last = high.max(low + gap * (wanted.len().saturating_sub(1)) as f64);
    for index in order.iter().rev() {
        places[*index] = places[*index].min(last);
        last = places[*index] - gap;
    }
    places
}

/// Moves what has nearly the same place side by side: by how much each is moved.
pub fn side_by_side(places: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_by(|a, b| places[*a].total_cmp(&places[*b]));
    let mut moved = vec![0.0; places.len()];
    for group in order.chunk_by(|a, b| places[*b] - places[*a] < NEAR) {
        let mut group = group.to_vec();
        group.sort_unstable();
        let middle = (group.len() - 1) as f64 / 2.0;
        for (rank, index) in group.iter().enumerate() {
            moved[*index] = (rank as f64 - middle) * BESIDE;
        }
    }
    moved
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn labels_are_apart_and_in_order(wanted in prop::collection::vec(0.0..200.0, 0..20)) {
            let places = spread(&wanted, 14.0, 0.0, 200.0);
            let mut sorted = places.clone();
            sorted.sort_by(f64::total_cmp);
            prop_assert!(sorted.windows(2).all(|pair| pair[1] - pair[0] > 14.0 - 1e-9));
            prop_assert!(sorted.first().is_none_or(|place| *place >= -1e-9));
            for (a, b) in wanted.iter().zip(&places) {
                for (c, d) in wanted.iter().zip(&places) {
                    prop_assert!(a >= c || b < d);
                }
            }
        }
    }

    #[test]
    fn what_has_the_same_place_stands_side_by_side() {
        assert_eq!(
            side_by_side(&[7.0, 40.0, 7.0, 8.0]),
            [-10.0, 0.0, 0.0, 10.0]
        );
        assert!(side_by_side(&[]).is_empty());
    }

    #[test]
    fn what_fits_stays() {
        assert_eq!(spread(&[50.0, 10.0], 14.0, 0.0, 100.0), [50.0, 10.0]);
        assert_eq!(spread(&[99.0, 100.0], 14.0, 0.0, 100.0), [86.0, 100.0]);
    }
}
