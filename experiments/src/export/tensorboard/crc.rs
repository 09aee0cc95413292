//! CRC-32C, and the mask that records put on it.

/// The Castagnoli polynomial, bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The checksum's change by each value of a byte.
const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = shift_byte(byte as u32);
        byte += 1;
    }
    table
}

const fn shift_byte(mut crc: u32) -> u32 {
    let mut bit = 0;
    while bit < 8 {
        let low = crc & 1;
        crc >>= 1;
        if low == 1 {
            crc ^= POLYNOMIAL;
        }
        bit += 1;
    }
    crc
}

/// The CRC-32C (Castagnoli, RFC 3720) of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8);
    !bytes.iter().fold(u32::MAX, step)
}

/// A checksum as records hold it: rotated right by 15 bits, plus 0xa282ead8, modulo 2^32.
///
/// Checksums of data that contains checksums would be weak without the mask.
pub const fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::export::tensorboard::testing::fixture;

    /// The definition: one bit after the other.
    fn by_bits(bytes: &[u8]) -> u32 {
        let mut crc = u32::MAX;
        for byte in bytes {
            for bit in 0..8 {
                let low = (crc ^ u32::from(byte >> bit)) & 1;
                crc = (crc >> 1) ^ (low * POLYNOMIAL);
            }
        }
        !crc
    }

    #[test]
    fn equals_the_fixture() {
        let fixture = fixture();
        let crc = crc32c(b"123456789");
        assert_eq!(u64::from(crc), fixture["crc32c_of_123456789"]);
        assert_eq!(u64::from(masked(crc)), fixture["masked_crc_of_123456789"]);
        assert_eq!(crc32c(b""), 0);
    }

    proptest! {
        #[test]
        fn the_table_agrees_with_the_definition(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(crc32c(&bytes), by_bits(&bytes));
        }

        #[test]
        fn a_flipped_bit_shows(
            mut bytes in prop::collection::vec(any::<u8>(), 1..300), at in any::<prop::sample::Index>(), bit in 0..8_u8,
        ) {
            let before = crc32c(&bytes);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert_ne!(crc32c(&bytes), before);
        }

        #[test]
        fn the_mask_follows_the_formula_and_loses_nothing(crc in any::<u32>()) {
            let wide = u64::from(crc);
            let rotated = ((wide >> 15) | (wide << 17)) & 0xffff_ffff;
            prop_assert_eq!(u64::from(masked(crc)), (rotated + 0xa282_ead8) % (1 << 32));
            prop_assert_eq!(masked(crc).wrapping_sub(0xa282_ead8).rotate_left(15), crc);
        }
    }
}
