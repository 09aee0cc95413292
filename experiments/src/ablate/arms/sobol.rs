//! The Sobol sequence in up to 16 dimensions.

/// Dimensions of [`sobol`].
pub const DIMENSIONS: usize = 16;

/// For dimensions 2 to 16: the degree s of the primitive polynomial, its inner coefficients a, and the initial numbers m.
/// From the file `new-joe-kuo-6.21201` of S. Joe and F. Y. Kuo, "Constructing Sobol sequences with better two-dimensional
/// projections", SIAM J. Sci. Comput. 30 (2008), 2635-2654; <https://web.maths.unsw.edu.au/~fkuo/sobol/>.
const JOE_KUO: [(u32, u32, &[u32]); DIMENSIONS - 1] = [
    (1, 0, &[1]),
    (2, 1, &[1, 3]),
    (3, 1, &[1, 3, 1]),
    (3, 2, &[1, 1, 1]),
    (4, 1, &[1, 1, 3, 3]),
    (4, 4, &[1, 3, 5, 13]),
    (5, 2, &[1, 1, 5, 5, 17]),
    (5, 4, &[1, 1, 5, 5, 5]),
    (5, 7, &[1, 1, 7, 11, 19]),
    (5, 11, &[1, 1, 5, 1, 1]),
    (5, 13, &[1, 1, 1, 3, 11]),
    (5, 14, &[1, 3, 5, 5, 31]),
    (6, 1, &[1, 3, 3, 9, 7, 49]),
    (6, 13, &[1, 1, 1, 15, 21, 21]),
    (6, 16, &[1, 3, 1, 13, 27, 49]),
];

/// Coordinate `dimension` (from 0) of point `index` (from 0) times 2^32, in the order of Gray code, without a shift: the
/// same numbers as `scipy.stats.qmc.Sobol(scramble=False, bits=32)`. None from dimension 16 on.
pub fn sobol(dimension: usize, index: u32) -> Option<u32> {
    if dimension >= DIMENSIONS {
        return None;
    }
    let directions = directions(dimension);
    let gray = index ^ (index >> 1);
    let chosen = directions
        .iter()
        .enumerate()
        .filter(|(bit, _)| gray >> bit & 1 == 1);
    Some(chosen.fold(0, |point, (_, direction)| point ^ direction))
}

/// The 32 direction numbers, each times 2^32.
fn directions(dimension: usize) -> [u32; 32] {
    let mut found = [0; 32];
    let Some((degree, inner, initial)) = dimension.checked_sub(1).map(|at| JOE_KUO[at]) else {
        // The first dimension is the van der Corput sequence.
        for (bit, direction) in found.iter_mut().enumerate() {
            *direction = 1 << (31 - bit);
        }
        return found;
    };
    let degree = degree as usize;
    for bit in 0..32 {
        found[bit] = if let Some(number) = initial.get(bit) {
            number << (31 - bit)
        } else {
            let last = found[bit - degree];
            let terms = (1..degree).filter(|term| inner >> (degree - 1 - term) & 1 == 1);
            terms.fold(last ^ (last >> degree), |sum, term| sum ^ found[bit - term])
        };
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_scipy() {
        let mut points = 0;
        for line in include_str!("sobol.csv").lines().skip(1) {
            let numbers: Vec<u32> = line
                .split(',')
                .map(|number| number.parse().expect("a number"))
                .collect();
            for (dimension, expected) in numbers[1..].iter().enumerate() {
                assert_eq!(
                    sobol(dimension, numbers[0]),
                    Some(*expected),
                    "{dimension} {}",
                    numbers[0]
                );
            }
            points += 1;
        }
        assert_eq!(points, 66);
        assert_eq!(sobol(DIMENSIONS, 0), None);
    }

    #[test]
    fn the_first_2_to_the_k_points_have_one_in_each_part_of_the_line() {
        for dimension in 0..DIMENSIONS {
            let mut parts: Vec<u32> = (0..256)
                .filter_map(|index| sobol(dimension, index))
                .map(|x| x >> 24)
                .collect();
            parts.sort_unstable();
            assert_eq!(parts, (0..256).collect::<Vec<_>>());
        }
    }
}
