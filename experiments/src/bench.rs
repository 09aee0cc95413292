//! Measurements of speed and memory: what is measured, and how.

pub mod attention;
pub mod bert;
pub mod compare;
pub mod decode;
pub mod ops;
pub mod report;

pub mod machine;

use std::{
    any::Any,
    hint::black_box,
    time::{Duration, Instant},
};

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::{error::Error, memory, run::Progress};

/// Turns that the cases take, so that a machine that slows down slows all of them.
const ROUNDS: u32 = 3;

/// One pass of a case, from the inputs to its results. A device that fuses operations skips work whose
/// results have been dropped, so these must outlive the work.
pub type Pass = Box<dyn FnMut() -> Result<Box<dyn Any>, Error>>;

/// The results of a pass.
fn held<T: 'static>(results: T) -> Box<dyn Any> {
    Box::new(black_box(results))
}

/// Something to measure.
pub struct Case {
    /// What is measured; cases that differ in size alone have it in common.
    pub name: String,
    /// The size, such as a number of tokens; 0 where there is but one.
    pub size: usize,
    /// What a pass has to do.
    pub work: Work,
    /// Makes the inputs, and a pass over them.
    pub prepare: Box<dyn Fn() -> Result<Pass, Error>>,
}

/// What a bench measures.
pub struct Plan {
    /// Its name, such as `attention`.
    pub name: &'static str,
    /// What it shows.
    pub title: &'static str,
    /// What the sizes of its cases count, such as `tokens`.
    pub unit: &'static str,
    /// Its cases, in the order of the table.
    pub cases: Vec<Case>,
}

/// What a pass has to do, whoever does it: the same for every implementation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Multiplications of two numbers that are added up, as the definition has them.
    pub multiply_adds: u64,
    /// Bytes that must be read or written once.
    pub bytes: u64,
    /// Tokens that are read or written; 0 where there are none.
    pub tokens: u64,
}

/// A case as measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BenchRow {
    /// [`Case::name`].
    pub name: String,
    /// [`Case::size`].
    pub size: usize,
    /// How long a pass takes.
    pub time: Timing,
    /// What it has to do.
    pub work: Work,
    /// The most bytes that a pass holds beside its inputs.
    pub peak_bytes: u64,
}

impl BenchRow {
    /// Whether it says what the machine can do at best ([`machine::cases`]).
    fn is_machine(&self) -> bool {
        [machine::PRODUCT, machine::COPY].contains(&self.name.as_str())
    }
}

/// The times of some passes in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timing {
    /// The time that half of them do not exceed.
    pub median_ms: f64,
    /// The time that a quarter of them do not exceed.
    pub lower_quartile_ms: f64,
    /// The time that three quarters of them do not exceed.
    pub upper_quartile_ms: f64,
    /// Number of passes.
    pub passes: usize,
}

impl Timing {
    /// The summary of some times in milliseconds; `None` of none.
    pub fn of(mut times: Vec<f64>) -> Option<Self> {
        times.sort_by(f64::total_cmp);
        let last = times.len().checked_sub(1)?;
        // Between two times in proportion, so that three have quartiles too.
        let at = |quarters: usize| {
            let (place, rest) = (last * quarters / 4, last * quarters % 4);
            let next = times[(place + 1).min(last)];
            times[place] + (next - times[place]) * rest as f64 / 4.0
        };
        Some(Self {
            median_ms: at(2),
            lower_quartile_ms: at(1),
            upper_quartile_ms: at(3),
            passes: times.len(),
        })
    }
}

/// Measures cases in turn, each for about as long as `patience` and three times at least.
///
/// Each turn begins with a pass that warms up, whose time does not count. The least memory of these passes
/// is what the row has: the first one may also make what is kept from then on, such as weights.
///
/// # Errors
///
/// If a case cannot be prepared, or the device fails.
pub fn measure(
    cases: &[Case],
    patience: Duration,
    device: &Device,
    progress: Progress,
) -> Result<Vec<BenchRow>, Error> {
    let bar = progress.bar("measuring", cases.len() * ROUNDS as usize);
    let mut times = vec![Vec::new(); cases.len()];
    let mut peaks = vec![u64::MAX; cases.len()];
    for _ in 0..ROUNDS {
        for (case, (times, peak)) in cases.iter().zip(times.iter_mut().zip(&mut peaks)) {
            bar.set_message(format!("{} {}", case.name, case.size));
            let mut pass = (case.prepare)()?;
            device.sync()?;
            let (warm, bytes) = memory::peak(device, &mut pass);
            let results = warm?;
            device.sync()?;
            drop(results);
            *peak = bytes.min(*peak);
            let start = Instant::now();
            loop {
                let before = Instant::now();
                let results = pass()?;
                device.sync()?;
                drop(results);
                times.push(before.elapsed().as_secs_f64() * 1e3);
                if start.elapsed() >= patience / ROUNDS {
                    break;
                }
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let rows = cases.iter().zip(times).zip(peaks);
    Ok(rows
        .filter_map(|((case, times), peak_bytes)| {
            Some(BenchRow {
                name: case.name.clone(),
                size: case.size,
                time: Timing::of(times)?,
                work: case.work,
                peak_bytes,
            })
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc};

    use super::*;
    use distill::Ui;

    #[test]
    fn a_summary_has_its_quartiles_in_order() {
        let of = |[lower_quartile_ms, median_ms, upper_quartile_ms]: [f64; 3], passes| Timing {
            median_ms,
            lower_quartile_ms,
            upper_quartile_ms,
            passes,
        };
        let times = vec![5.0, 1.0, 2.0, 4.0, 3.0];
        assert_eq!(Timing::of(times), Some(of([2.0, 3.0, 4.0], 5)));
        assert_eq!(Timing::of(vec![7.0]), Some(of([7.0; 3], 1)));
        assert_eq!(
            Timing::of(vec![1.0, 2.0, 4.0]),
            Some(of([1.5, 2.0, 3.0], 3))
        );
        assert_eq!(
            Timing::of(vec![4.0, 3.0, 2.0, 1.0]),
            Some(of([1.75, 2.5, 3.25], 4))
        );
        assert_eq!(Timing::of(vec![]), None);
    }

    #[test]
    fn cases_take_turns_and_each_turn_warms_up() {
        let order = Rc::new(Cell::new(String::new()));
        let case = |name: &'static str| {
            let order = order.clone();
            Case {
                name: name.to_owned(),
                size: 0,
                work: Work::default(),
                prepare: Box::new(move || {
                    let order = order.clone();
                    Ok(Box::new(move || {
                        order.set(order.take() + name);
                        Ok(held(()))
                    }))
                }),
            }
        };
        let cases = [case("a"), case("b")];
        let progress = Progress::new(Ui::None);
        let rows = measure(&cases, Duration::ZERO, &Device::default(), progress).unwrap();
        assert_eq!(order.take(), "aabbaabbaabb");
        assert!(rows.iter().all(|row| row.time.passes == 3));
    }

    #[test]
    fn a_failing_pass_fails_the_measurement() {
        let case = Case {
            name: "broken".to_owned(),
            size: 0,
            work: Work::default(),
            prepare: Box::new(|| Ok(Box::new(|| Err(Error::NotAsGood)))),
        };
        let progress = Progress::new(Ui::None);
        let failed = measure(&[case], Duration::ZERO, &Device::default(), progress);
        assert!(matches!(failed, Err(Error::NotAsGood)));
    }
}
