//! The frame around each event of a file.

use super::crc::{crc32c, masked};

/// `payload` as a record: its length in bytes (u64), the masked checksum of these 8 bytes (u32), the payload, its masked
/// checksum (u32), all little-endian.
pub fn record(payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u64).to_le_bytes();
    let checksum = |bytes: &[u8]| masked(crc32c(bytes)).to_le_bytes();
    [&length[..], &checksum(&length), payload, &checksum(payload)].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::export::tensorboard::testing::payloads;

    proptest! {
        #[test]
        fn payloads_come_back(
            written in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..5),
        ) {
            let file: Vec<u8> = written.iter().flat_map(|payload| record(payload)).collect();
            prop_assert_eq!(payloads(&file), written);
        }
    }
}
