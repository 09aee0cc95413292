//! The part of protobuf's wire format that events need.
//!
//! As in proto3's canonical encoding, numbers that are zero are left out, unless the field is one of a `oneof`.

/// An encoded message, built field by field in the order of the calls.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Message(Vec<u8>);

/// How the value of a field is encoded.
#[derive(Clone, Copy)]
enum Kind {
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
    Fixed32 = 5,
}

impl Message {
    /// A message without fields.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// The encoded fields.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// A field of type `double`; left out if all its bits are zero.
    pub(super) fn double(mut self, field: u32, value: f64) -> Self {
        if value.to_bits() != 0 {
            self.key(field, Kind::Fixed64);
            self.0.extend(value.to_le_bytes());
        }
        self
    }

    /// A field of type `float` in a `oneof`.
    pub(super) fn one_float(mut self, field: u32, value: f32) -> Self {
        self.key(field, Kind::Fixed32);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// A field of type `int64` or an enum; left out if zero. A negative number takes ten bytes.
    pub(super) fn int(mut self, field: u32, value: i64) -> Self {
        if value != 0 {
            self.key(field, Kind::Varint);
            varint(&mut self.0, value as u64);
        }
        self
    }

    /// A field of type `string` or `bytes`, or of a message in a `oneof`.
    pub(super) fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        self.key(field, Kind::Bytes);
        varint(&mut self.0, value.len() as u64);
        self.0.extend(value);
        self
    }

    /// A field that is a message.
    pub(super) fn message(self, field: u32, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }

    /// A packed field of `repeated double`; left out if empty.
    pub(super) fn doubles(self, field: u32, values: impl Iterator<Item = f64>) -> Self {
        let packed: Vec<u8> = values.flat_map(f64::to_le_bytes).collect();
        if packed.is_empty() {
            return self;
        }
        self.bytes(field, &packed)
    }

    fn key(&mut self, field: u32, kind: Kind) {
        varint(&mut self.0, u64::from(field << 3 | kind as u32));
    }
}

/// Appends a number in groups of seven bits, the lowest first; all bytes but the last have their highest bit set.
fn varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::export::tensorboard::testing::{Field, fields, read_varint};

    fn encoded(value: u64) -> Vec<u8> {
        let mut bytes = vec![];
        varint(&mut bytes, value);
        bytes
    }

    #[test]
    fn varints_of_the_documentation() {
        assert_eq!(encoded(0), [0]);
        assert_eq!(encoded(127), [0x7f]);
        assert_eq!(encoded(128), [0x80, 1]);
        assert_eq!(encoded(150), [0x96, 1]);
        assert_eq!(encoded(300), [0xac, 2]);
        assert_eq!(encoded(u64::MAX), [[0xff; 9].as_slice(), &[1]].concat());
    }

    #[test]
    fn zeros_are_left_out() {
        let message = Message::new()
            .int(1, 0)
            .double(2, 0.0)
            .doubles(3, [].into_iter());
        assert_eq!(message, Message::new());
        assert_eq!(Message::new().double(2, -0.0).into_bytes().len(), 9);
        assert_eq!(Message::new().one_float(2, 0.0).into_bytes().len(), 5);
    }

    proptest! {
        #[test]
        fn a_varint_comes_back(shift in 0..64_u32, value in any::<u64>()) {
            let value = value >> shift;
            let bytes = encoded(value);
            let mut rest = bytes.as_slice();
            prop_assert_eq!(read_varint(&mut rest), value);
            prop_assert!(rest.is_empty());
            let bits = 64 - value.leading_zeros() as usize;
            prop_assert_eq!(bytes.len(), bits.div_ceil(7).max(1));
        }

        #[test]
        fn fields_come_back(
            int in any::<i64>(), double in any::<f64>(), float in any::<f32>(), text in any::<String>(),
            doubles in prop::collection::vec(any::<f64>(), 1..40),
        ) {
            prop_assume!(int != 0 && double.to_bits() != 0);
            let message = Message::new()
                .int(1, int)
                .double(2, double)
                .one_float(15, float)
                .bytes(16, text.as_bytes())
                .doubles(2047, doubles.iter().copied());
            let packed: Vec<u8> = doubles.iter().flat_map(|value| value.to_le_bytes()).collect();
            let expected = vec![
                (1, Field::Varint(int as u64)),
                (2, Field::Fixed64(double.to_bits())),
                (15, Field::Fixed32(float.to_bits())),
                (16, Field::Bytes(text.into_bytes())),
                (2047, Field::Bytes(packed)),
            ];
            prop_assert_eq!(fields(&message.into_bytes()), expected);
        }
    }
}
