//! A training as a table that `trackio.import_csv` reads: one row per step, one column per value.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    long_table::{Column, LongTable, TableError},
    run_folder::ModelRun,
};

/// The values of a model by `step`, with the `timestamp` of each: a date and time of ISO 8601, in UTC.
///
/// # Errors
///
/// If a value is named like one of these two columns.
pub fn table(model: &ModelRun) -> Result<LongTable, TableError> {
    let steps: BTreeSet<u64> = model.points.iter().map(|point| point.step).collect();
    let rows: BTreeMap<u64, usize> = steps.iter().copied().zip(0..).collect();
    let mut timestamps = vec![None; steps.len()];
    let mut values: BTreeMap<&str, Vec<Option<f64>>> = BTreeMap::new();
    for point in &model.points {
        let row = rows[&point.step];
        timestamps[row].get_or_insert_with(|| date_and_time(point.seconds));
        let column = values.entry(&point.tag);
        column.or_insert_with(|| vec![None; steps.len()])[row] = Some(point.value);
    }
    let whole = steps.iter().map(|step| Some(*step as i64));
    let mut columns = vec![
        ("step".to_owned(), Column::Whole(whole.collect())),
        ("timestamp".to_owned(), Column::Text(timestamps)),
    ];
    let values = values.into_iter();
    columns.extend(values.map(|(tag, cells)| (tag.to_owned(), Column::Real(cells))));
    LongTable::new(columns)
}

/// Seconds since 1970 as `2026-11-28T16:08:34.250000+00:00`.
fn date_and_time(seconds: f64) -> String {
    const DAY: i64 = 86_400;
    let micros = (seconds * 1e6).round() as i64;
    let (whole, micros) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let (days, second) = (whole.div_euclid(DAY), whole.rem_euclid(DAY));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}+00:00")
}

/// Year, month and day of a day that is counted from 1970-01-01, in the Gregorian calendar. Years are taken to begin in March, so
/// that a leap day is the last one (Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`).
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let is_next_year = month >= 10;
    let month = if is_next_year { month - 9 } else { month + 3 };
    (year + era * 400 + i64::from(is_next_year), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{export::run_folder::Point, results::Status};

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0.0, "1970-01-01T00:00:00.000000+00:00"),
            (951_782_399.5, "2000-02-28T23:59:59.500000+00:00"),
            (951_782_400.0, "2000-02-29T00:00:00.000000+00:00"),
            (1_795_881_732.25, "2026-11-28T16:02:12.250000+00:00"),
            (4_107_542_400.0, "2100-03-01T00:00:00.000000+00:00"),
            (-1.0, "1969-12-31T23:59:59.000000+00:00"),
        ] {
            assert_eq!(date_and_time(seconds), expected);
        }
    }

    #[test]
    fn a_step_has_one_row() {
        let point = |tag: &str, step, value| Point {
            tag: tag.to_owned(),
            step,
            seconds: step as f64,
            value,
        };
        let model = ModelRun {
            arm: "a".to_owned(),
            seed: 1,
            status: Status::Done,
            stage: None,
            recipe: vec![],
            points: vec![
                point("train/Loss", 10, 0.5),
                point("train/Loss", 20, 0.25),
                point("valid/Loss", 20, 0.75),
            ],
            loads: vec![],
            times: [0.0, 20.0],
            evaluation: None,
        };
        let expected = "step,timestamp,train/Loss,valid/Loss\r\n\
                        10,1970-01-01T00:00:10.000000+00:00,0.5,\r\n\
                        20,1970-01-01T00:00:20.000000+00:00,0.25,0.75\r\n";
        assert_eq!(table(&model).unwrap().to_csv(), expected);
    }
}
