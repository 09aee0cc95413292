//! Small safetensors files: typed tensors with checked shapes, written whole or not at all.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use safetensors::{
    Dtype, SafeTensors,
    tensor::{Metadata, TensorView, serialize},
};

use serde_json::{Map, Value};

use crate::file::{self, FileError};

/// The values of one tensor, row by row.
pub enum Values {
    /// float32.
    F32(Vec<f32>),
    /// int64.
    I64(Vec<i64>),
}

/// Writes named tensors and metadata, which are strings.
///
/// # Errors
///
/// If shapes and values do not fit, a value is not finite, or the file cannot be written.
pub fn write(
    path: &Path,
    tensors: &[(String, Vec<usize>, Values)],
    metadata: Vec<(String, String)>,
) -> Result<(), FileError> {
    for (name, _, values) in tensors {
        if let Values::F32(values) = values {
            check_finite(values).map_err(|problem| FileError::entry(path, name, problem))?;
        }
    }
    let bytes: Vec<_> = tensors
        .iter()
        .map(|(_, _, values)| values.bytes())
        .collect();
    let views = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, shape, values), bytes)| {
            TensorView::new(values.dtype(), shape.clone(), bytes).map(|view| (name, view))
        })
        .collect::<Result<Vec<_>, _>>();
    let metadata = (!metadata.is_empty()).then(|| metadata.into_iter().collect());
    let mut file = views
        .and_then(|views| serialize(views, metadata))
        .map_err(|source| FileError::Tensors {
            path: path.to_owned(),
            source,
        })?;
    sort_metadata(&mut file);
    file::write(path, &file)
}

/// Sorts the metadata in the header of a file by their keys, so that the same content is the same bytes: the
/// crate writes them in the order of a hash map.
fn sort_metadata(file: &mut [u8]) {
    const KEY: &str = "__metadata__";
    let Some((length, rest)) = file.split_first_chunk_mut() else {
        return;
    };
    let length = u64::from_le_bytes(*length) as usize;
    let header = &mut rest[..length];
    if let Ok(mut json) = serde_json::from_slice::<Map<String, Value>>(header)
        && let Some(Value::Object(metadata)) = json.get_mut(KEY)
    {
        metadata.sort_keys();
        let sorted = Value::Object(json).to_string();
        if sorted.len() <= length {
            header[..sorted.len()].copy_from_slice(sorted.as_bytes());
            header[sorted.len()..].fill(b' ');
        }
    }
}

/// A file in memory, from which tensors are read with their type and shape checked.
pub struct TensorFile {
    path: PathBuf,
    bytes: Vec<u8>,
    header: Metadata,
    /// Where the tensors begin in `bytes`.
    data_start: usize,
}

impl TensorFile {
    /// Reads a file and checks that it is whole.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is no whole safetensors file.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let bytes = file::read(path)?;
        let path = path.to_owned();
        match SafeTensors::read_metadata(&bytes) {
            Ok((header_length, header)) => Ok(Self {
                path,
                bytes,
                header,
                data_start: size_of::<u64>() + header_length,
            }),
            Err(source) => Err(FileError::Tensors { path, source }),
        }
    }

    /// Whether the file has a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.header.info(name).is_some()
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.header.tensors().into_keys().collect();
        names.sort_unstable();
        names
    }

    /// A free-form string of the header.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.header
            .metadata()
            .as_ref()?
            .get(key)
            .map(String::as_str)
    }

    /// The shape and finite values of a float32 tensor with `D` dimensions.
    ///
    /// # Errors
    ///
    /// If the tensor is missing, of another type or rank, or holds a value that is not finite.
    pub fn f32<const D: usize>(&self, name: &str) -> Result<([usize; D], Vec<f32>), FileError> {
        let (shape, bytes) = self.tensor(name, Dtype::F32)?;
        let (numbers, _) = bytes.as_chunks();
        let values: Vec<_> = numbers
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect();
        match check_finite(&values) {
            Ok(()) => Ok((shape, values)),
            Err(problem) => Err(self.entry(name, problem)),
        }
    }

    /// The shape and values of an int64 tensor of indices with `D` dimensions.
    ///
    /// # Errors
    ///
    /// If the tensor is missing, of another type or rank, or holds a negative value.
    pub fn indices<const D: usize>(
        &self,
        name: &str,
    ) -> Result<([usize; D], Vec<usize>), FileError> {
        let (shape, bytes) = self.tensor(name, Dtype::I64)?;
        let (numbers, _) = bytes.as_chunks();
        let values = numbers
            .iter()
            .map(|bytes| {
                let value = i64::from_le_bytes(*bytes);
                usize::try_from(value)
                    .map_err(|_| self.entry(name, format!("holds {value}; indices start at 0")))
            })
            .collect::<Result<_, _>>()?;
        Ok((shape, values))
    }

    /// An error about a tensor or metadata key of this file.
    pub fn entry(&self, name: &str, problem: impl fmt::Display) -> FileError {
        FileError::entry(&self.path, name, problem)
    }

    fn tensor<const D: usize>(
        &self,
        name: &str,
        dtype: Dtype,
    ) -> Result<([usize; D], &[u8]), FileError> {
        let Some(info) = self.header.info(name) else {
            let mut names = self.header.offset_keys();
            names.sort_unstable();
            let problem = format!("is missing; the file holds {}", file::shorten(&names));
            return Err(self.entry(name, problem));
        };
        if info.dtype != dtype {
            let problem = format!("has type {}; expected {dtype}", info.dtype);
            return Err(self.entry(name, problem));
        }
        let Ok(shape) = info.shape.as_slice().try_into() else {
            let problem = format!("has shape {:?}; expected {D} dimensions", info.shape);
            return Err(self.entry(name, problem));
        };
        // Reading the header has checked every offset against the length of the file.
        let (start, end) = info.data_offsets;
        Ok((shape, &self.bytes[self.data_start..][start..end]))
    }
}

/// Names the first value that is not finite.
fn check_finite(values: &[f32]) -> Result<(), String> {
    match values.iter().position(|value| !value.is_finite()) {
        Some(place) => Err(format!(
            "holds {} at flat index {place}; every value must be finite",
            values[place]
        )),
        None => Ok(()),
    }
}

impl Values {
    fn dtype(&self) -> Dtype {
        match self {
            Self::F32(_) => Dtype::F32,
            Self::I64(_) => Dtype::I64,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::F32(values) => values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
            Self::I64(values) => values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn write_one(path: &Path, shape: Vec<usize>, values: Values) {
        write(path, &[("a".to_owned(), shape, values)], vec![]).unwrap();
    }

    fn open(shape: Vec<usize>, values: Values) -> TensorFile {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.safetensors");
        write_one(&path, shape, values);
        TensorFile::read(&path).unwrap()
    }

    #[track_caller]
    fn assert_message<T>(result: Result<T, FileError>, expected: &str) {
        let message = result.err().expect("an error").to_string();
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn values_round_trip() {
        let file = open(vec![1, 2], Values::F32(vec![-1.5, 2.0]));
        assert_eq!(file.f32::<2>("a").unwrap(), ([1, 2], vec![-1.5, 2.0]));
        let file = open(vec![3], Values::I64(vec![2, 0, 1]));
        assert_eq!(file.indices::<1>("a").unwrap(), ([3], vec![2, 0, 1]));
    }

    #[test]
    fn wrong_forms_are_named() {
        let file = open(vec![2], Values::I64(vec![0, 7]));
        assert_message(file.f32::<1>("a"), "`a` has type I64; expected F32");
        assert_message(file.f32::<1>("b"), "`b` is missing; the file holds a");
        assert_message(
            file.indices::<2>("a"),
            "`a` has shape [2]; expected 2 dimensions",
        );
        let file = open(vec![1], Values::I64(vec![-1]));
        assert_message(file.indices::<1>("a"), "`a` holds -1; indices start at 0");
    }

    #[test]
    fn numbers_that_are_not_finite_are_neither_read_nor_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.safetensors");
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let expected = format!("`a` holds {value} at flat index 1; every value must be finite");
            let tensors = [("a".to_owned(), vec![2], Values::F32(vec![0.0, value]))];
            assert_message(write(&path, &tensors, vec![]), &expected);
            assert!(!path.exists());
            let bytes = [0.0, value].map(f32::to_le_bytes).concat();
            let view = TensorView::new(Dtype::F32, vec![2], &bytes).unwrap();
            fs::write(&path, serialize([("a", view)], None).unwrap()).unwrap();
            assert_message(TensorFile::read(&path).unwrap().f32::<1>("a"), &expected);
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn the_same_content_is_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let keys = ["task", "samples", "split", "a", "z", "m", "k"];
        let bytes = |keys: &[&str]| {
            let path = folder.path().join("file.safetensors");
            let tensors = [
                ("b".to_owned(), vec![1], Values::F32(vec![0.5])),
                ("a".to_owned(), vec![1], Values::I64(vec![3])),
            ];
            let metadata = keys
                .iter()
                .map(|key| ((*key).to_owned(), format!("{key} é\"")));
            write(&path, &tensors, metadata.collect()).unwrap();
            let file = TensorFile::read(&path).unwrap();
            assert_eq!(file.metadata("m"), Some("m é\""));
            assert_eq!(file.indices::<1>("a").unwrap(), ([1], vec![3]));
            fs::read(&path).unwrap()
        };
        let first = bytes(&keys);
        let mut reversed = keys;
        reversed.reverse();
        for keys in [keys, reversed] {
            assert_eq!(bytes(&keys), first);
        }
    }

    #[test]
    fn a_long_list_of_names_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.safetensors");
        let tensors: Vec<_> = ["a", "b", "c", "d", "e", "f"]
            .map(|name| (name.to_owned(), vec![1], Values::F32(vec![0.0])))
            .into();
        write(&path, &tensors, vec![]).unwrap();
        assert_message(
            TensorFile::read(&path).unwrap().f32::<1>("z"),
            "`z` is missing; the file holds a, b, c, d and 2 more",
        );
    }

    #[test]
    fn every_truncation_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.safetensors");
        write_one(&path, vec![3], Values::F32(vec![1.0, 2.0, 3.0]));
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert_message(TensorFile::read(&path), "is not a whole safetensors file");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        assert_message(
            TensorFile::read(Path::new("absent.safetensors")),
            "absent.safetensors",
        );
    }
}
