//! Tables for tests.

use proptest::prelude::*;

use super::{Column, LongTable};

fn cells<T: std::fmt::Debug + Clone + 'static>(
    value: impl Strategy<Value = T> + 'static,
    rows: usize,
) -> impl Strategy<Value = Vec<Option<T>>> {
    prop::collection::vec(prop::option::of(value), rows)
}

fn column(rows: usize) -> impl Strategy<Value = Column> {
    prop_oneof![
        cells("[a-c,\"\r\n é.0-9]{0,6}", rows).prop_map(Column::Text),
        cells(any::<f64>(), rows).prop_map(Column::Real),
        cells(any::<f32>(), rows).prop_map(Column::Real32),
        cells(any::<i64>(), rows).prop_map(Column::Whole),
        cells(any::<i32>(), rows).prop_map(Column::Whole32),
        cells(prop::collection::vec(any::<f32>(), 0..4), rows).prop_map(Column::Reals32),
    ]
}

/// Tables of up to five columns and forty rows.
pub(super) fn tables() -> impl Strategy<Value = LongTable> {
    (0..=40_usize, 1..=5_usize).prop_flat_map(|(rows, columns)| {
        let columns = prop::collection::vec(column(rows), columns);
        columns.prop_map(|columns| {
            let named = columns.into_iter().enumerate();
            let named = named.map(|(at, column)| (format!("key.a, \"{at}\""), column));
            LongTable::new(named.collect()).unwrap()
        })
    })
}
