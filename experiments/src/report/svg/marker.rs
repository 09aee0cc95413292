//! Markers of points, which tell series apart without colour.

use super::px;

/// The shape of a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// A disc.
    Circle,
    /// A square.
    Square,
    /// A triangle on its base.
    Up,
    /// A diamond.
    Diamond,
    /// A triangle on its tip.
    Down,
    /// An upright cross.
    Plus,
    /// A lying cross.
    Cross,
    /// A bar.
    Bar,
}

/// All markers, in the order of series.
pub const MARKERS: [Marker; 8] = [
    Marker::Circle,
    Marker::Square,
    Marker::Up,
    Marker::Diamond,
    Marker::Down,
    Marker::Plus,
    Marker::Cross,
    Marker::Bar,
];

impl Marker {
    /// The commands of its outline, about `2 * size` wide and high.
    pub fn path(self, (x, y): (f64, f64), size: f64) -> String {
        let polygon = |points: &[(f64, f64)]| {
            let mut d = String::new();
            for (index, (right, down)) in points.iter().enumerate() {
                let command = if index == 0 { 'M' } else { 'L' };
                d.push(command);
                d.push_str(&px(x + right * size));
                d.push(' ');
                d.push_str(&px(y + down * size));
            }
            d.push('Z');
            d
        };
        let turned = |points: &[(f64, f64)]| {
            let half = std::f64::consts::FRAC_1_SQRT_2;
            let points = points.iter().map(|(x, y)| ((x - y) * half, (x + y) * half));
            polygon(&points.collect::<Vec<_>>())
        };
        let arm = 0.34;
        let plus = [
            (-arm, -1.1),
            (arm, -1.1),
            (arm, -arm),
            (1.1, -arm),
            (1.1, arm),
            (arm, arm),
            (arm, 1.1),
            (-arm, 1.1),
            (-arm, arm),
            (-1.1, arm),
            (-1.1, -arm),
            (-arm, -arm),
        ];
        match self {
            Self::Circle => {
                let (left, radius, width) = (px(x - size), px(size), px(2.0 * size));
                format!(
                    "M{left} {}a{radius} {radius} 0 1 0 {width} 0a{radius} {radius} 0 1 0-{width} 0Z",
                    px(y)
                )
            }
            Self::Square => polygon(&[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]),
            Self::Up => polygon(&[(0.0, -1.15), (1.1, 0.85), (-1.1, 0.85)]),
            Self::Diamond => polygon(&[(0.0, -1.25), (1.1, 0.0), (0.0, 1.25), (-1.1, 0.0)]),
            Self::Down => polygon(&[(0.0, 1.15), (1.1, -0.85), (-1.1, -0.85)]),
            Self::Plus => polygon(&plus),
            Self::Cross => turned(&plus),
            Self::Bar => polygon(&[(-0.4, -1.3), (0.4, -1.3), (0.4, 1.3), (-0.4, 1.3)]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_markers_differ_and_close() {
        let paths = MARKERS.map(|marker| marker.path((10.0, 10.0), 4.0));
        for (index, path) in paths.iter().enumerate() {
            assert!(path.starts_with('M') && path.ends_with('Z'), "{path}");
            assert!(!paths[..index].contains(path));
        }
    }
}
