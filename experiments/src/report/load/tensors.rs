//! The float32 tensors of a safetensors file.

use serde_json::Value;

/// A tensor: its shape and values.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The sizes of its dimensions.
    pub shape: Vec<usize>,
    /// The values, the last dimension fastest.
    pub values: Vec<f32>,
}

/// A tensor of a file by its name; none where the file is damaged or has no such tensor of 32-bit floats.
///
/// The file is the length of a header, the header as JSON with type, shape and place of each tensor, and their bytes.
pub fn tensor(file: &[u8], name: &str) -> Option<Tensor> {
    let (length, rest) = file.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (header, bytes) = rest.split_at_checked(length)?;
    let header: Value = serde_json::from_slice(header).ok()?;
    let entry = header.get(name)?;
    if entry.get("dtype")?.as_str() != Some("F32") {
        return None;
    }
    let sizes = |key: &str| -> Option<Vec<usize>> {
        let sizes = entry.get(key)?.as_array()?.iter();
        sizes
            .map(|size| usize::try_from(size.as_u64()?).ok())
            .collect()
    };
    let shape = sizes("shape")?;
    let &[start, end] = sizes("data_offsets")?.as_slice() else {
        return None;
    };
    let bytes = bytes.get(start..end)?;
    let count = shape
        .iter()
        .try_fold(1_usize, |count, size| count.checked_mul(*size))?;
    let (values, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() || values.len() != count {
        return None;
    }
    Some(Tensor {
        shape,
        values: values
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, values: &[f32]) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.bytes());
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        bytes
    }

    #[test]
    fn a_tensor_is_read_and_what_is_damaged_is_not() {
        let header = r#"{"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}"#;
        let found = tensor(&file(header, &[1.5, 2.0]), "a").unwrap();
        assert_eq!((found.shape, found.values), (vec![1, 2], vec![1.5, 2.0]));
        assert!(tensor(&file(header, &[1.5]), "a").is_none());
        assert!(tensor(&file(header, &[1.5, 2.0]), "b").is_none());
        assert!(tensor(&[255; 20], "a").is_none());
        assert!(tensor(b"", "a").is_none());
        let wrong = header.replace("[1,2]", "[18446744073709551615,2]");
        assert!(tensor(&file(&wrong, &[1.5, 2.0]), "a").is_none());
    }
}
