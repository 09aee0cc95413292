//! The table `[ablate]` of a recipe.

use toml::{Spanned, de::DeValue};

use super::{
    block::{Block, check_name},
    error::{AblationError, Place, Refusal},
    factor::Factor,
    fields::Field,
    margin::Margin,
    reference::Reference,
    seeds,
};

/// The dotted key of the table.
const ABLATE: &str = "ablate";
/// What is right for `alpha`.
const ALPHA: &str = "it is the level of the tests, above 0 and below 1, as in 0.05";
/// The table `[ablate]`; empty by default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AblateTable {
    pub(super) seeds: Option<Vec<u64>>,
    pub(super) reference: Option<Reference>,
    pub(super) metric: Option<String>,
    pub(super) margin: Option<Margin>,
    pub(super) alpha: Option<f64>,
    pub(super) factors: Vec<Factor>,
    pub(super) blocks: Vec<Block>,
}

impl AblateTable {
    /// Reads the value of the key `ablate`. The order of keys in the text is the order of axes.
    ///
    /// # Errors
    ///
    /// If a key is unknown, missing or of another type, a value is out of range, a list that needs values is empty, lists
    /// of a zip have two lengths, a block has two searches, or a setting names a key twice or one that no arm may change.
    pub fn read(table: &Spanned<DeValue<'_>>) -> Result<Self, AblationError> {
        let known = [
            "seeds",
            "reference",
            "metric",
            "margin",
            "alpha",
            "factors",
            "block",
        ];
        let fields = Field::new(ABLATE, table).fields(&known)?;
        let seeds = fields.get("seeds").map(|field| seeds::read(&field));
        let mut factors = vec![];
        if let Some(field) = fields.get("factors") {
            for (name, field) in field.entries()? {
                check_name(&name, &field)?;
                factors.push(Factor::read(&name, &field)?);
            }
        }
        let blocks = fields
            .get("block")
            .map_or(Ok(vec![]), |field| field.list())?;
        Ok(Self {
            seeds: seeds.transpose()?,
            reference: fields
                .get("reference")
                .map(|field| Reference::read(&field))
                .transpose()?,
            metric: fields
                .get("metric")
                .map(|field| field.text().map(str::to_owned))
                .transpose()?,
            margin: fields
                .get("margin")
                .map(|field| margin(&field))
                .transpose()?,
            alpha: fields.get("alpha").map(|field| alpha(&field)).transpose()?,
            factors,
            blocks: blocks.iter().map(Block::read).collect::<Result<_, _>>()?,
        })
    }
}

/// The level of `--alpha`: above 0 and below 1.
///
/// # Errors
///
/// If the text is no such number.
pub fn parse_alpha(text: &str) -> Result<f64, AblationError> {
    let alpha = text.trim().parse().ok().filter(|alpha| is_level(*alpha));
    alpha.ok_or_else(|| {
        let refusal = Refusal::Value {
            key: "--alpha".to_owned(),
            value: text.to_owned(),
            right: ALPHA.to_owned(),
        };
        refusal.at(&Place::Argument(format!("--alpha {text}")))
    })
}

/// Whether tests can have a level.
fn is_level(alpha: f64) -> bool {
    alpha > 0.0 && alpha < 1.0
}

fn alpha(field: &Field<'_, '_>) -> Result<f64, AblationError> {
    let alpha = field.number()?;
    Some(alpha)
        .filter(|alpha| is_level(*alpha))
        .ok_or_else(|| field.refused(ALPHA))
}

fn margin(field: &Field<'_, '_>) -> Result<Margin, AblationError> {
    match field.as_text() {
        Some(text) => Margin::of_text(&field.path, text, &field.place()),
        None => Margin::of_number(&field.path, field.number()?, &field.place()),
    }
}

#[cfg(test)]
mod tests {
    use crate::ablate::arms::{
        Margin, Place, parse_alpha,
        testing::{of_table, table},
    };

    #[test]
    fn the_settings_of_an_ablation_are_read() {
        let text = r#"{ seeds = [3, 5], metric = "f1", margin = "0.5 points", alpha = 0.1, block = [{ grid = { a.b = [1] } }] }"#;
        let ablation = of_table(text).expect("an ablation");
        assert_eq!(ablation.seeds, [3, 5]);
        assert_eq!(ablation.metric.as_deref(), Some("f1"));
        assert_eq!(ablation.margin, Some(Margin::Points(0.5)));
        assert!((ablation.alpha - 0.1).abs() < 1e-12);
        let plain =
            of_table("{ margin = 1, block = [{ grid = { a.b = [1] } }] }").expect("an ablation");
        assert_eq!(plain.margin, Some(Margin::Plain(1.0)));
        assert_eq!((plain.seeds, plain.metric), (vec![1, 2], None));
        assert!((plain.alpha - 0.05).abs() < 1e-12);
    }

    #[test]
    fn a_number_of_seeds_counts_from_1() {
        let ablation = of_table("{ seeds = 3, block = [{ grid = { a.b = [1] } }] }");
        assert_eq!(ablation.expect("an ablation").seeds, [1, 2, 3]);
    }

    #[test]
    fn a_level_is_between_0_and_1() {
        assert_eq!(parse_alpha(" 0.01 "), Ok(0.01));
        for text in ["0", "1", "2", "nan", "small", ""] {
            let message = parse_alpha(text).expect_err(text).to_string();
            let expected = format!("`--alpha` cannot be {text}; it is the level of the tests");
            assert!(message.starts_with(&expected), "{message}");
        }
    }

    #[test]
    fn mistakes_of_the_table_are_refused() {
        for (text, expected) in [
            ("3", "`ablate` must be a table, not an integer"),
            (
                "{ seed = [1] }",
                "unknown key `ablate.seed`; did you mean `seeds`?",
            ),
            (
                "{ seeds = 0 }",
                "`ablate.seeds` cannot be 0; write a number of seeds from 1 to 10000, or a list",
            ),
            (
                "{ seeds = 'all' }",
                "`ablate.seeds` must be a number or a list, not a text",
            ),
            (
                "{ seeds = [1, 1] }",
                "seed 1 is given twice; arms run each seed once",
            ),
            (
                "{ seeds = [] }",
                "`ablate.seeds` cannot be a list of 0 seeds; give 1 to 10000",
            ),
            (
                "{ seeds = [-1] }",
                "`ablate.seeds.0` cannot be -1; it is at least 0",
            ),
            (
                "{ metric = 1 }",
                "`ablate.metric` must be a text, not an integer",
            ),
            (
                "{ margin = 'x' }",
                "`ablate.margin` cannot be `x`; write \"0.5 points\", \"99 %\" (what is kept of the reference) or a number above 0",
            ),
            (
                "{ alpha = 1 }",
                "`ablate.alpha` cannot be 1; it is the level of the tests, above 0 and below 1, as in 0.05",
            ),
            (
                "{ block = {} }",
                "`ablate.block` must be a list, not a table",
            ),
            (
                "{}",
                "the ablation has no arms; write key=a,b on the command line, [[ablate.block]] or [[arms]] in the recipe",
            ),
        ] {
            assert_eq!(of_table(text).expect_err(text).to_string(), expected);
        }
    }

    #[test]
    fn refusals_have_the_place_in_the_text() {
        let text = "{ seeds = [1], block = [{ grid = { a.b = [] } }] }";
        let error = table(text).expect_err("no values");
        let Place::Table(span) = error.place else {
            panic!("{:?}", error.place);
        };
        assert_eq!(&text[span], "[]");
    }
}
