//! New numbers that are worked on while they are in a core's cache.
//!
//! The file of this crate that has `unsafe`: a vector is cleared by one core before it can be written to, and
//! for an operation as light as layer normalisation that takes as long as all else
//! (`docs/benchmarks/cpu.md`).

use std::ops::Range;

use rayon::prelude::*;

use super::{RUN, TASK, run_of_rows};

/// Does some work on each run and the place of its first number: on all cores if it is worth waking them.
/// Every number is in a run, on which [`copied`] relies.
pub(super) fn each_run<T: Send>(
    values: &mut [T],
    run: usize,
    work: impl Fn(usize, &mut [T]) + Sync,
) {
    let least = (TASK * RUN / run).max(1);
    if values.len() > least * run {
        let runs = values.par_chunks_mut(run).enumerate();
        let runs = runs.with_min_len(least);
        runs.for_each(|(index, values)| work(index * run, values));
    } else {
        let runs = values.chunks_mut(run).enumerate();
        runs.for_each(|(index, values)| work(index * run, values));
    }
}

/// A copy of `source`, in which `change` has changed each run of so many numbers. It gets the place of the
/// first one, too.
pub(super) fn changed(
    source: &[f32],
    run: usize,
    change: impl Fn(usize, &mut [f32]) + Sync,
) -> Vec<f32> {
    copied(source.len(), run, |places| &source[places], change)
}

/// Zeros that all cores write.
pub(in crate::ops) fn zeros(length: usize) -> Vec<f32> {
    static ZEROS: [f32; RUN] = [0.0; RUN];
    copied(length, RUN, |places| &ZEROS[..places.len()], |_, _| {})
}

/// So many times the same row.
pub(in crate::ops) fn repeated(row: &[f32], times: usize) -> Vec<f32> {
    let run = run_of_rows(row.len());
    let rows = row.repeat((run / row.len().max(1)).min(times));
    let length = row.len() * times;
    copied(length, run, |places| &rows[..places.len()], |_, _| {})
}

/// Runs that are each copied from a source of their own, and then changed.
fn copied<'a>(
    length: usize,
    run: usize,
    source: impl Fn(Range<usize>) -> &'a [f32] + Sync,
    change: impl Fn(usize, &mut [f32]) + Sync,
) -> Vec<f32> {
    let mut values = Vec::with_capacity(length);
    let places = &mut values.spare_capacity_mut()[..length];
    each_run(places, run, |first, places| {
        let source = source(first..first + places.len());
        // This panics if the source has not as many numbers as there are places.
        change(first, places.write_copy_of_slice(source));
    });
    #[allow(
        unsafe_code,
        reason = "memory that is cleared first costs half of a light operation's time"
    )]
    // SAFETY: there is room for that many numbers, and all were written, as every place is in one of
    // `each_run`. A panic on the way does not come here.
    unsafe {
        values.set_len(length);
    }
    values
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_number_is_copied_and_changed_once(length in 0..3000_usize, run in 1..400_usize) {
            let source: Vec<f32> = (0..length).map(|place| place as f32).collect();
            let found = changed(&source, run, |first, values| {
                assert_eq!(first % run, 0);
                for (index, x) in values.iter_mut().enumerate() {
                    // A place of its own keeps its number, another would not.
                    *x = 2.0 * *x - (first + index) as f32 + 0.5;
                }
            });
            let expected: Vec<f32> = source.iter().map(|x| x + 0.5).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn zeros_are_zeros(length in 0..90_000_usize) {
            prop_assert_eq!(zeros(length), vec![0.0; length]);
        }

        #[test]
        fn rows_are_repeated(width in 0..300_usize, times in 0..300_usize) {
            let row: Vec<f32> = (0..width).map(|place| place as f32).collect();
            prop_assert_eq!(repeated(&row, times), row.repeat(times));
        }
    }

    #[test]
    #[should_panic(expected = "no third run")]
    fn a_panic_reaches_the_caller() {
        changed(&[0.0; 100], 10, |first, _| {
            assert!(first != 20, "no third run");
        });
    }
}
