//! A reader of event files that is independent of the writer, and the committed bytes.

use super::{crc32c, masked};

/// The value of a field as the wire has it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Field {
    Varint(u64),
    Fixed64(u64),
    Bytes(Vec<u8>),
    Fixed32(u32),
}

impl Field {
    /// The bytes of a string or message.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            other => panic!("{other:?} is no string"),
        }
    }
}

pub(super) fn read_varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take::<1>(bytes)[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return value;
        }
    }
    panic!("a varint of more than ten bytes");
}

fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let (first, rest) = bytes.split_first_chunk().unwrap();
    *bytes = rest;
    *first
}

fn take_slice<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (first, rest) = bytes.split_at(length);
    *bytes = rest;
    first
}

/// The fields of a message, with their numbers.
pub(super) fn fields(mut bytes: &[u8]) -> Vec<(u64, Field)> {
    let mut fields = vec![];
    while !bytes.is_empty() {
        let key = read_varint(&mut bytes);
        let field = match key & 7 {
            0 => Field::Varint(read_varint(&mut bytes)),
            1 => Field::Fixed64(u64::from_le_bytes(take(&mut bytes))),
            2 => {
                let length = read_varint(&mut bytes) as usize;
                Field::Bytes(take_slice(&mut bytes, length).to_vec())
            }
            5 => Field::Fixed32(u32::from_le_bytes(take(&mut bytes))),
            kind => panic!("kind {kind}"),
        };
        fields.push((key >> 3, field));
    }
    fields
}

/// The field of this number, which is there once.
pub(super) fn field(bytes: &[u8], number: u64) -> Option<Field> {
    let mut found = fields(bytes)
        .into_iter()
        .filter(|(other, _)| *other == number);
    let first = found.next().map(|(_, field)| field);
    assert_eq!(found.next(), None);
    first
}

/// The payloads of a file's records, whose checksums are right.
pub(super) fn payloads(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut payloads = vec![];
    while !bytes.is_empty() {
        let length: [u8; 8] = take(&mut bytes);
        assert_eq!(
            u32::from_le_bytes(take(&mut bytes)),
            masked(crc32c(&length))
        );
        let payload = take_slice(&mut bytes, u64::from_le_bytes(length) as usize);
        assert_eq!(
            u32::from_le_bytes(take(&mut bytes)),
            masked(crc32c(payload))
        );
        payloads.push(payload.to_vec());
    }
    payloads
}

/// `tensorboard.json`.
pub(super) fn fixture() -> serde_json::Value {
    serde_json::from_str(include_str!(
        "../../../tests/fixtures/tensorboard/tensorboard.json"
    ))
    .unwrap()
}

/// The file that the records of `tensorboard.json` make.
pub(super) fn fixture_file() -> &'static [u8] {
    include_bytes!("../../../tests/fixtures/tensorboard/events.out.tfevents.1.kiln")
}
