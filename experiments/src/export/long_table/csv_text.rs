//! Tables as CSV.

use std::borrow::Cow;

use super::{Column, LongTable};

const LINE_END: &str = "\r\n";

/// The table as CSV, its header first.
pub(super) fn text(table: &LongTable) -> String {
    let header = table.columns().iter().map(|(name, _)| quoted(name));
    let mut text = line(header);
    for row in 0..table.rows() {
        let cells = table.columns().iter().map(|(_, column)| cell(column, row));
        text += &line(cells);
    }
    text
}

fn line<'a>(cells: impl Iterator<Item = Cow<'a, str>>) -> String {
    let line = cells.collect::<Vec<_>>().join(",");
    // Readers skip empty lines.
    let line = if line.is_empty() {
        quoted("").into()
    } else {
        line
    };
    line + LINE_END
}

fn cell(column: &Column, row: usize) -> Cow<'_, str> {
    let cell = match column {
        Column::Text(cells) => cells[row].as_deref().map(quoted),
        // Of Rust's formats, `{:?}` has an exponent where the number is very large or small.
        Column::Real(cells) => cells[row].map(|number| format!("{number:?}").into()),
        Column::Real32(cells) => cells[row].map(|number| format!("{number:?}").into()),
        Column::Whole(cells) => cells[row].map(|number| number.to_string().into()),
        Column::Whole32(cells) => cells[row].map(|number| number.to_string().into()),
        Column::Reals32(cells) => cells[row].as_deref().map(list),
    };
    cell.unwrap_or_default()
}

/// Numbers in brackets, with commas between them.
fn list(numbers: &[f32]) -> Cow<'static, str> {
    let numbers: Vec<_> = numbers.iter().map(|number| format!("{number:?}")).collect();
    let text = format!("[{}]", numbers.join(","));
    quoted(&text).into_owned().into()
}

/// The text in quotes if it needs them. An empty one does, since nothing at all is a missing value.
fn quoted(text: &str) -> Cow<'_, str> {
    if text.is_empty() || text.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\"")).into()
    } else {
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::export::long_table::testing::tables;

    #[test]
    fn follows_the_rfc() {
        let text =
            ["plain", "a,b", "say \"no\"", "two\nlines", ""].map(|text| Some(text.to_owned()));
        let real = [Some(0.1), Some(1.0), Some(-1e300), Some(f64::NAN), None];
        let whole = [Some(i64::MIN), None, Some(0), Some(7), Some(8)];
        let table = LongTable::new(vec![
            (
                "name".to_owned(),
                Column::Text([text.to_vec(), vec![None]].concat()),
            ),
            (
                "real, unit".to_owned(),
                Column::Real([real.to_vec(), vec![Some(f64::INFINITY)]].concat()),
            ),
            (
                "whole".to_owned(),
                Column::Whole([whole.to_vec(), vec![Some(9)]].concat()),
            ),
        ]);
        let expected = [
            "name,\"real, unit\",whole",
            "plain,0.1,-9223372036854775808",
            "\"a,b\",1.0,",
            "\"say \"\"no\"\"\",-1e300,0",
            "\"two\nlines\",NaN,7",
            "\"\",,8",
            ",inf,9",
            "",
        ];
        assert_eq!(table.unwrap().to_csv(), expected.join("\r\n"));
    }

    /// The bits of a number; NaN is one.
    fn bits32(number: f32) -> u32 {
        if number.is_nan() {
            f32::NAN.to_bits()
        } else {
            number.to_bits()
        }
    }

    #[test]
    fn lists_are_in_brackets() {
        let lists = vec![Some(vec![0.25, 1e-9]), Some(vec![0.1]), Some(vec![]), None];
        let table = LongTable::new(vec![
            ("scores".to_owned(), Column::Reals32(lists)),
            (
                "n".to_owned(),
                Column::Whole32(vec![Some(1), None, Some(3), Some(4)]),
            ),
        ]);
        let expected = "scores,n\r\n\"[0.25,1e-9]\",1\r\n[0.1],\r\n[],3\r\n,4\r\n";
        assert_eq!(table.unwrap().to_csv(), expected);
    }

    #[test]
    fn a_lone_missing_value_is_no_empty_line() {
        let table = LongTable::new(vec![("a".to_owned(), Column::Real(vec![None, Some(2.0)]))]);
        assert_eq!(table.unwrap().to_csv(), "a\r\n\"\"\r\n2.0\r\n");
    }

    proptest! {
        #[test]
        fn another_reader_finds_the_same(table in tables()) {
            let csv = table.to_csv();
            let mut reader = csv::Reader::from_reader(csv.as_bytes());
            let names: Vec<_> = table.columns().iter().map(|(name, _)| name.as_str()).collect();
            prop_assert_eq!(reader.headers().unwrap(), names);
            let records: Vec<_> = reader.records().map(Result::unwrap).collect();
            prop_assert_eq!(records.len(), table.rows());
            for (at, (_, column)) in table.columns().iter().enumerate() {
                for (row, record) in records.iter().enumerate() {
                    match column {
                        Column::Text(cells) => {
                            prop_assert_eq!(&record[at], cells[row].as_deref().unwrap_or_default());
                        }
                        Column::Whole(cells) => prop_assert_eq!(record[at].parse().ok(), cells[row]),
                        Column::Whole32(cells) => prop_assert_eq!(record[at].parse().ok(), cells[row]),
                        Column::Real32(cells) => {
                            let found: Option<f32> = record[at].parse().ok();
                            prop_assert_eq!(found.map(bits32), cells[row].map(bits32));
                        }
                        Column::Reals32(cells) => {
                            let found = record[at].strip_prefix('[').and_then(|text| text.strip_suffix(']'));
                            let found = found.map(|text| text.split_terminator(',').map(|number| {
                                bits32(number.parse().unwrap())
                            }).collect::<Vec<_>>());
                            let expected = cells[row].as_ref();
                            let expected = expected.map(|cell| cell.iter().copied().map(bits32).collect::<Vec<_>>());
                            prop_assert_eq!(found, expected);
                        }
                        Column::Real(cells) => {
                            let bits = |cell: Option<f64>| cell.map(|number| {
                                if number.is_nan() { f64::NAN.to_bits() } else { number.to_bits() }
                            });
                            prop_assert_eq!(bits(record[at].parse().ok()), bits(cells[row]));
                        }
                    }
                }
            }
        }
    }
}
