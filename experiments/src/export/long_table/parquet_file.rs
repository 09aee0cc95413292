//! Tables as Parquet.

use std::sync::Arc;

use ::parquet::{
    basic::{Compression, LogicalType, Repetition, Type as PhysicalType, ZstdLevel},
    data_type::{ByteArray, ByteArrayType, DataType, DoubleType, FloatType, Int32Type, Int64Type},
    errors::Result,
    file::{
        metadata::KeyValue,
        properties::WriterProperties,
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
    schema::types::Type,
};

use super::{Column, LongTable};

const ZSTD_LEVEL: i32 = 3;

/// The content of the file.
pub(super) fn bytes(table: &LongTable, metadata: &[(&str, &str)]) -> Result<Vec<u8>> {
    let metadata = metadata.iter();
    let metadata =
        metadata.map(|(key, value)| KeyValue::new((*key).to_owned(), (*value).to_owned()));
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        .set_key_value_metadata(Some(metadata.collect()))
        .build();
    let mut bytes = vec![];
    let mut file = SerializedFileWriter::new(&mut bytes, schema(table)?, Arc::new(properties))?;
    let mut group = file.next_row_group()?;
    for (_, column) in table.columns() {
        write_column(&mut group, column)?;
    }
    group.close()?;
    file.close()?;
    Ok(bytes)
}

fn schema(table: &LongTable) -> Result<Arc<Type>> {
    let columns = table.columns().iter();
    let fields = columns.map(|(name, column)| match column {
        Column::Text(_) => optional(name, PhysicalType::BYTE_ARRAY, Some(LogicalType::String)),
        Column::Real(_) => optional(name, PhysicalType::DOUBLE, None),
        Column::Real32(_) => optional(name, PhysicalType::FLOAT, None),
        Column::Whole(_) => optional(name, PhysicalType::INT64, None),
        Column::Whole32(_) => optional(name, PhysicalType::INT32, None),
        Column::Reals32(_) => list(name),
    });
    let schema = Type::group_type_builder("schema")
        .with_fields(fields.collect::<Result<_>>()?)
        .build()?;
    Ok(Arc::new(schema))
}

fn optional(name: &str, kind: PhysicalType, logical: Option<LogicalType>) -> Result<Arc<Type>> {
    let field = Type::primitive_type_builder(name, kind)
        .with_repetition(Repetition::OPTIONAL)
        .with_logical_type(logical);
    Ok(Arc::new(field.build()?))
}

/// A list of floats in the three levels that the format asks for.
fn list(name: &str) -> Result<Arc<Type>> {
    let elements = Type::group_type_builder("list")
        .with_repetition(Repetition::REPEATED)
        .with_fields(vec![optional("element", PhysicalType::FLOAT, None)?])
        .build()?;
    let field = Type::group_type_builder(name)
        .with_repetition(Repetition::OPTIONAL)
        .with_logical_type(Some(LogicalType::List))
        .with_fields(vec![Arc::new(elements)]);
    Ok(Arc::new(field.build()?))
}

fn write_column(
    group: &mut SerializedRowGroupWriter<'_, &mut Vec<u8>>,
    column: &Column,
) -> Result<()> {
    match column {
        Column::Text(cells) => write_cells::<ByteArrayType, _>(group, cells, |text| {
            ByteArray::from(text.as_bytes().to_vec())
        }),
        Column::Real(cells) => write_cells::<DoubleType, _>(group, cells, |number| *number),
        Column::Real32(cells) => write_cells::<FloatType, _>(group, cells, |number| *number),
        Column::Whole(cells) => write_cells::<Int64Type, _>(group, cells, |number| *number),
        Column::Whole32(cells) => write_cells::<Int32Type, _>(group, cells, |number| *number),
        Column::Reals32(cells) => write_lists(group, cells),
    }
}

fn write_cells<T: DataType, C>(
    group: &mut SerializedRowGroupWriter<'_, &mut Vec<u8>>,
    cells: &[Option<C>],
    value: impl Fn(&C) -> T::T,
) -> Result<()> {
    let values: Vec<_> = cells.iter().flatten().map(value).collect();
    let there: Vec<_> = cells.iter().map(|cell| i16::from(cell.is_some())).collect();
    write_values::<T>(group, &values, &there, None)
}

fn write_lists(
    group: &mut SerializedRowGroupWriter<'_, &mut Vec<u8>>,
    cells: &[Option<Vec<f32>>],
) -> Result<()> {
    // How much of an element is there: not the list, the list alone, or all three levels.
    const NO_LIST: i16 = 0;
    const EMPTY: i16 = 1;
    const ELEMENT: i16 = 3;
    let (mut there, mut repeats) = (vec![], vec![]);
    for cell in cells {
        match cell.as_deref() {
            None => there.push(NO_LIST),
            Some([]) => there.push(EMPTY),
            Some(numbers) => there.extend(numbers.iter().map(|_| ELEMENT)),
        }
        let elements = cell.as_ref().map_or(1, |numbers| numbers.len().max(1));
        repeats.extend((0..elements).map(|element| i16::from(element > 0)));
    }
    let values: Vec<f32> = cells.iter().flatten().flatten().copied().collect();
    write_values::<FloatType>(group, &values, &there, Some(&repeats))
}

fn write_values<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, &mut Vec<u8>>,
    values: &[T::T],
    there: &[i16],
    repeats: Option<&[i16]>,
) -> Result<()> {
    if let Some(mut column) = group.next_column()? {
        column
            .typed::<T>()
            .write_batch(values, Some(there), repeats)?;
        column.close()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ::bytes::Bytes;
    use ::parquet::{
        file::reader::{FileReader, SerializedFileReader},
        record::Field,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::export::long_table::testing::tables;

    fn read(bytes: Vec<u8>) -> SerializedFileReader<Bytes> {
        SerializedFileReader::new(Bytes::from(bytes)).unwrap()
    }

    /// The cell as Parquet has it; NaN equals NaN.
    fn field(column: &Column, row: usize) -> Option<String> {
        let field = match column {
            Column::Text(cells) => cells[row].clone().map(Field::Str),
            Column::Real(cells) => cells[row].map(Field::Double),
            Column::Real32(cells) => cells[row].map(Field::Float),
            Column::Whole(cells) => cells[row].map(Field::Long),
            Column::Whole32(cells) => cells[row].map(Field::Int),
            Column::Reals32(cells) => {
                // Lists cannot be made outside of the crate.
                let elements = cells[row].as_ref()?.iter().copied().map(Field::Float);
                let elements: Vec<_> = elements.collect();
                return Some(format!("ListInternal(List {{ elements: {elements:?} }})"));
            }
        };
        Some(format!("{:?}", field?))
    }

    #[test]
    fn has_one_group_of_zstd_and_the_metadata() {
        let rows = 100_000;
        let table = LongTable::new(vec![
            ("n".to_owned(), Column::Whole((0..rows).map(Some).collect())),
            (
                "t".to_owned(),
                Column::Text((0..rows).map(|n| Some(n.to_string())).collect()),
            ),
        ]);
        let metadata = [("kiln.schema", "1"), ("kiln.task", "sst2")];
        let file = read(bytes(&table.unwrap(), &metadata).unwrap());
        let footer = file.metadata();
        assert_eq!(footer.num_row_groups(), 1);
        assert_eq!(footer.row_group(0).num_rows(), rows);
        for column in footer.row_group(0).columns() {
            assert!(matches!(column.compression(), Compression::ZSTD(_)));
        }
        let found = footer.file_metadata().key_value_metadata().unwrap();
        let expected = metadata.map(|(key, value)| KeyValue::new(key.to_owned(), value.to_owned()));
        assert_eq!(found.as_slice(), expected);
    }

    proptest! {
        #[test]
        fn the_same_table_makes_the_same_bytes_and_comes_back(table in tables()) {
            let bytes = bytes(&table, &[("kiln.schema", "1")]).unwrap();
            prop_assert_eq!(&bytes, &super::bytes(&table.clone(), &[("kiln.schema", "1")]).unwrap());
            let file = read(bytes);
            let rows: Vec<_> = file.get_row_iter(None).unwrap().map(|row| row.unwrap().into_columns()).collect();
            prop_assert_eq!(rows.len(), table.rows());
            for (row, cells) in rows.iter().enumerate() {
                for ((name, cell), (expected_name, column)) in cells.iter().zip(table.columns()) {
                    prop_assert_eq!(name, expected_name);
                    let expected = field(column, row).unwrap_or_else(|| format!("{:?}", Field::Null));
                    prop_assert_eq!(format!("{cell:?}"), expected);
                }
            }
        }
    }
}
