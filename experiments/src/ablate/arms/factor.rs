//! Factors: what an ablation takes out of a full recipe, or adds to a bare one.

use masformer_core::nearest::hint;

use super::{
    block::Block,
    error::{AblationError, Place, Refusal},
    fields::Field,
    merged::Draft,
    settings::{RecipeKeys, Settings, check_keys},
};

/// The arm with all factors on.
const FULL: &str = "full";
/// The arm with all factors off.
const BASE: &str = "base";

/// Something that is on or off.
#[derive(Clone, Debug, PartialEq)]
pub struct Factor {
    /// Its name.
    pub name: String,
    /// What turns it on; empty if the recipe has it on.
    pub on: Settings,
    /// What turns it off; empty if the recipe has it off.
    pub off: Settings,
    /// Where it stands.
    pub place: Place,
}

/// The arms that a factor's worth is read from, as indices of arms; none where the block has no such arm. Its interaction
/// is `(full - without) - (with - base)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FactorArms {
    /// The factor's name.
    pub name: String,
    /// All factors on.
    pub full: Option<usize>,
    /// All factors on but this one.
    pub without: Option<usize>,
    /// All factors off.
    pub base: Option<usize>,
    /// All factors off but this one.
    pub with: Option<usize>,
}

impl Factor {
    /// Reads one entry of `factors`.
    pub(super) fn read(name: &str, field: &Field<'_, '_>) -> Result<Self, AblationError> {
        let fields = field.fields(&["on", "off"])?;
        let settings = |key| fields.get(key).map_or(Ok(vec![]), |field| field.settings());
        Ok(Self {
            name: name.to_owned(),
            on: settings("on")?,
            off: settings("off")?,
            place: field.place(),
        })
    }
}

impl FactorArms {
    /// The same with other indices.
    pub(super) fn map(self, index: impl Fn(usize) -> Option<usize>) -> Self {
        Self {
            name: self.name,
            full: self.full.and_then(&index),
            without: self.without.and_then(&index),
            base: self.base.and_then(&index),
            with: self.with.and_then(&index),
        }
    }
}

/// The arms of `drop` and `add` of a block in order, with the arms of each factor as indices of these.
pub(super) fn arms(
    factors: &[Factor],
    block: &Block,
    recipe: &RecipeKeys<'_>,
) -> Result<(Vec<Draft>, Vec<FactorArms>), AblationError> {
    let mut arms = vec![];
    let mut found: Vec<FactorArms> = vec![];
    let sides = [
        (&block.drop, true, FULL, '-'),
        (&block.add, false, BASE, '+'),
    ];
    for (named, is_drop, ends, sign) in sides {
        let Some((_, place)) = named.first() else {
            continue;
        };
        check(factors, recipe, named)?;
        let whole = arms.len();
        let set = combined(factors, |_| is_drop, place)?;
        arms.push(Draft::named(ends, set, place));
        for (name, place) in named {
            let is_on = |factor: &Factor| (factor.name != *name) == is_drop;
            let set = combined(factors, is_on, place)?;
            arms.push(Draft::named(&format!("{sign}{name}"), set, place));
            let at = found
                .iter()
                .position(|arms| arms.name == *name)
                .unwrap_or_else(|| {
                    let name = name.clone();
                    found.push(FactorArms {
                        name,
                        ..FactorArms::default()
                    });
                    found.len() - 1
                });
            let one = Some(arms.len() - 1);
            if is_drop {
                (found[at].full, found[at].without) = (Some(whole), one);
            } else {
                (found[at].base, found[at].with) = (Some(whole), one);
            }
        }
    }
    Ok((arms, found))
}

/// Refuses names of no factor, and factors that are the same on and off.
fn check(
    factors: &[Factor],
    recipe: &RecipeKeys<'_>,
    named: &[(String, Place)],
) -> Result<(), AblationError> {
    let names: Vec<&str> = factors.iter().map(|factor| factor.name.as_str()).collect();
    for (name, place) in named {
        if !names.contains(&name.as_str()) {
            let hint = hint(name, &names);
            return Err(Refusal::UnknownFactor {
                name: name.clone(),
                hint,
            }
            .at(place));
        }
    }
    let is_idle =
        |factor: &&Factor| recipe.difference(&factor.on) == recipe.difference(&factor.off);
    match factors.iter().find(is_idle) {
        Some(factor) => Err(Refusal::IdleFactor(factor.name.clone()).at(&factor.place)),
        None => Ok(()),
    }
}

/// The settings of all factors, each on or off.
fn combined(
    factors: &[Factor],
    is_on: impl Fn(&Factor) -> bool,
    place: &Place,
) -> Result<Settings, AblationError> {
    let mut settings = Settings::new();
    let mut setters: Vec<(&str, &str)> = vec![];
    for factor in factors {
        let side = if is_on(factor) {
            &factor.on
        } else {
            &factor.off
        };
        for (key, value) in side {
            let clash = setters.iter().find(|(other, _)| overlap(key, other));
            if let Some((_, first)) = clash {
                let refusal = Refusal::FactorsClash {
                    key: key.clone(),
                    first: (*first).to_owned(),
                    second: factor.name.clone(),
                };
                return Err(refusal.at(&factor.place));
            }
            settings.push((key.clone(), value.clone()));
        }
        setters.extend(
            side.iter()
                .map(|(key, _)| (key.as_str(), factor.name.as_str())),
        );
    }
    check_keys(settings.iter().map(|(key, _)| key.as_str()), place)?;
    Ok(settings)
}

/// Whether two dotted keys are one, or one is of a table above the other.
fn overlap(one: &str, other: &str) -> bool {
    let is_in = |key: &str, table: &str| {
        let rest = key.strip_prefix(table);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    is_in(one, other) || is_in(other, one)
}

#[cfg(test)]
mod tests {
    use crate::ablate::arms::{
        FactorArms,
        testing::{names, of_table},
    };

    /// The example of the specification, and whatever is added to the table.
    fn with(block: &str) -> String {
        format!(
            r#"{{ factors = {{
                distillation = {{ off = {{ "distill.lambda" = 0 }} }},
                importance = {{ on = {{ "experts.order" = "importance" }}, off = {{ "experts.order" = "random" }} }},
            }}, block = [{block}] }}"#
        )
    }

    #[test]
    fn drop_takes_factors_out_and_add_puts_them_in() {
        let lists =
            r#"drop = ["distillation", "importance"], add = ["distillation", "importance"]"#;
        let ablation = of_table(&with(&format!("{{ {lists} }}"))).expect("an ablation");
        let expected = ["full", "-distillation", "-importance", "base"];
        // With two factors, all but one off is all but the other on.
        assert_eq!(names(&ablation), expected);
        assert_eq!(ablation.arms[2].aliases, ["+distillation"]);
        assert_eq!(ablation.arms[1].aliases, ["+importance"]);
        let sets: Vec<_> = ablation
            .arms
            .iter()
            .map(|arm| crate::ablate::arms::settings::listed(&arm.set))
            .collect();
        assert_eq!(
            sets,
            [
                "`experts.order=importance`",
                "`distill.lambda=0 experts.order=importance`",
                "`experts.order=random`",
                "`distill.lambda=0 experts.order=random`",
            ]
        );
        assert_eq!(ablation.reference, 0);
        let arms = |name: &str, without, with| FactorArms {
            name: name.to_owned(),
            full: Some(0),
            without: Some(without),
            base: Some(3),
            with: Some(with),
        };
        let expected = [arms("distillation", 1, 2), arms("importance", 2, 1)];
        assert_eq!(ablation.blocks[0].factors, expected);
    }

    #[test]
    fn full_is_the_reference_if_none_is_named() {
        let grid = r#"{ grid = { "experts.shared" = [4, 8] } }"#;
        let drop = r#"{ drop = ["importance"] }"#;
        let ablation = of_table(&with(&format!("{grid}, {drop}"))).expect("an ablation");
        // It is equal to an arm of the grid, which came first.
        assert_eq!(names(&ablation), ["shared=4", "shared=8", "-importance"]);
        assert_eq!(ablation.arms[ablation.reference].aliases, ["full"]);
        let added = of_table(&with(r#"{ add = ["importance"] }"#)).expect("an ablation");
        assert_eq!(names(&added), ["base", "+importance"]);
        assert_eq!(added.blocks[0].factors[0].full, None);
        assert_eq!(added.blocks[0].factors[0].with, Some(1));
    }

    #[test]
    fn excluded_arms_are_missing_from_factors() {
        let block = r#"{ drop = ["distillation"], exclude = [{ "distill.lambda" = 0.0 }] }"#;
        let ablation = of_table(&with(block)).expect("an ablation");
        assert_eq!(names(&ablation), ["full"]);
        assert_eq!(ablation.blocks[0].factors[0].without, None);
    }

    #[test]
    fn wrong_factors_are_refused() {
        for (text, expected) in [
            (
                with(r#"{ drop = ["distilation"] }"#),
                "unknown factor `distilation`; did you mean `distillation`?",
            ),
            (with(r#"{ add = ["x"] }"#), "unknown factor `x`; there is distillation, importance"),
            ("{ block = [{ add = ['x'] }] }".to_owned(), "unknown factor `x`; there is none"),
            (
                "{ factors = { a = { on = { experts.shared = 4 } } }, block = [{ add = ['a'] }] }".to_owned(),
                "the factor `a` is the same on and off; give `on` and `off` values that differ",
            ),
            (
                "{ factors = { a = { on = { x.y = 4 } }, b = { on = { x.y = 5 } } }, block = [{ drop = ['a'] }] }".to_owned(),
                "the factors `a` and `b` both set `x.y`; let one of them set it",
            ),
            (
                "{ factors = { a = { on = { x = 4 } }, b = { on = { x.y = 5 } } }, block = [{ drop = ['a'] }] }".to_owned(),
                "the factors `a` and `b` both set `x.y`; let one of them set it",
            ),
            (
                "{ factors = { a = { of = { x.y = 4 } } } }".to_owned(),
                "unknown key `ablate.factors.a.of`; did you mean `off`?",
            ),
            (with("{ drop = [] }"), "`ablate.block.0.drop` has no values, so there are no arms; give it at least one"),
        ] {
            let error = of_table(&text).expect_err(expected);
            assert_eq!(error.to_string(), expected);
        }
    }
}
