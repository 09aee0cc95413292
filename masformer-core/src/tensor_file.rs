//! Small safetensors files: typed tensors with checked shapes, written whole or not at all.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use safetensors::{
    Dtype, SafeTensors,
    tensor::{Metadata, TensorView, serialize},
};

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
/// If shapes and values do not fit, or the file cannot be written.
pub fn write(
    path: &Path,
    tensors: &[(String, Vec<usize>, Values)],
    metadata: Vec<(String, String)>,
) -> Result<(), FileError> {
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
    let file = views
        .and_then(|views| serialize(views, metadata))
        .map_err(|source| FileError::Tensors {
            path: path.to_owned(),
            source,
        })?;
    file::write(path, &file)
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
        match values.iter().position(|value| !value.is_finite()) {
            Some(place) => Err(self.entry(
                name,
                format!(
                    "holds {} at flat index {place}; every value must be finite",
                    values[place]
                ),
            )),
            None => Ok((shape, values)),
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
        let file = open(vec![1], Values::F32(vec![f32::NAN]));
        assert_message(file.f32::<1>("a"), "holds NaN at flat index 0");
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
