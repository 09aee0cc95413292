//! Margins: the difference that does not matter.

use super::error::{AblationError, Place, Refusal};

/// The largest difference from the reference that does not matter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Margin {
    /// Hundredths of a metric that is a fraction: 0.5 is a difference of 0.005.
    Points(f64),
    /// The part of the reference's value that is kept, in percent, above 0 and below 100.
    Keeps(f64),
    /// A difference in the unit of the metric.
    Plain(f64),
}

impl Margin {
    /// The margin of `--margin`: `0.5 points`, `99 %` or a plain number.
    ///
    /// # Errors
    ///
    /// If the text is none of these, a number is not above 0 and finite, or a percentage is not below 100.
    pub fn parse(text: &str) -> Result<Self, AblationError> {
        let place = Place::Argument(format!("--margin {text}"));
        Self::of_text("--margin", text, &place)
    }

    /// The margin of a text of `key`.
    pub(super) fn of_text(key: &str, text: &str, place: &Place) -> Result<Self, AblationError> {
        let trimmed = text.trim();
        let points = trimmed
            .strip_suffix("points")
            .or_else(|| trimmed.strip_suffix("point"));
        let (digits, unit): (_, fn(f64) -> Self) = if let Some(points) = points {
            (points, Self::Points)
        } else if let Some(percent) = trimmed.strip_suffix('%') {
            (percent, Self::Keeps)
        } else {
            (trimmed, Self::Plain)
        };
        let margin = digits.trim().parse().ok().map(unit);
        margin
            .filter(|margin| margin.is_possible())
            .ok_or_else(|| refused(key, &format!("`{text}`"), place))
    }

    /// The margin of a number of `key`.
    pub(super) fn of_number(key: &str, number: f64, place: &Place) -> Result<Self, AblationError> {
        let margin = Some(Self::Plain(number)).filter(|margin| margin.is_possible());
        margin.ok_or_else(|| refused(key, &number.to_string(), place))
    }

    fn is_possible(self) -> bool {
        let (Self::Points(size) | Self::Keeps(size) | Self::Plain(size)) = self;
        let limit = if matches!(self, Self::Keeps(_)) {
            100.0
        } else {
            f64::INFINITY
        };
        size > 0.0 && size < limit
    }
}

fn refused(key: &str, value: &str, place: &Place) -> AblationError {
    let refusal = Refusal::Value {
        key: key.to_owned(),
        value: value.to_owned(),
        right: "write \"0.5 points\", \"99 %\" (what is kept of the reference) or a number above 0"
            .to_owned(),
    };
    refusal.at(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn margins_have_three_units() {
        assert_eq!(Margin::parse("0.5 points"), Ok(Margin::Points(0.5)));
        assert_eq!(Margin::parse("1 point"), Ok(Margin::Points(1.0)));
        assert_eq!(Margin::parse("99 %"), Ok(Margin::Keeps(99.0)));
        assert_eq!(Margin::parse("99.5%"), Ok(Margin::Keeps(99.5)));
        assert_eq!(Margin::parse("0.01"), Ok(Margin::Plain(0.01)));
    }

    #[test]
    fn impossible_margins_are_refused() {
        for text in [
            "",
            "points",
            "0",
            "-1 points",
            "nan",
            "inf",
            "100 %",
            "101 %",
            "five",
            "1 pt",
        ] {
            let error = Margin::parse(text).expect_err(text);
            let expected = format!(
                "`--margin` cannot be `{text}`; write \"0.5 points\", \"99 %\" (what is kept of the reference) or a number above 0"
            );
            assert_eq!(error.to_string(), expected);
        }
        Margin::of_number("ablate.margin", -1.0, &Place::Whole).expect_err("negative");
    }
}
