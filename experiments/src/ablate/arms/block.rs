//! Blocks of an ablation: arms that are described together.

use toml::Value;

use super::{
    error::{AblationError, Place, Refusal},
    fields::{Field, Fields},
    search::Search,
    settings::{Settings, check_keys},
};

/// The keys of searches.
const SEARCHES: [&str; 3] = ["random", "sobol", "halving"];

/// Arms that are described together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Block {
    /// The axes of its grid, each combined with all others; a zip is one axis.
    pub(super) axes: Vec<ArmAxis>,
    pub(super) variants: Vec<Variant>,
    pub(super) drop: Vec<(String, Place)>,
    pub(super) add: Vec<(String, Place)>,
    pub(super) exclude: Vec<(Settings, Place)>,
    pub(super) search: Option<Search>,
    pub(super) place: Place,
}

/// Keys that change together.
#[derive(Clone, Debug, PartialEq)]
pub struct ArmAxis {
    /// The dotted keys.
    pub keys: Vec<String>,
    /// One value per key at each point.
    pub points: Vec<Vec<Value>>,
    /// Where it stands.
    pub place: Place,
}

/// An arm with a name of its own, as in `variants` and `[[arms]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// Its name.
    pub name: String,
    /// The keys that it changes.
    pub set: Settings,
    /// Where it stands.
    pub place: Place,
}

impl Block {
    pub(super) fn read(field: &Field<'_, '_>) -> Result<Self, AblationError> {
        let known = [
            "grid", "zip", "variants", "drop", "add", "exclude", "random", "sobol", "halving",
        ];
        let fields = field.fields(&known)?;
        let searches: Vec<_> = SEARCHES
            .iter()
            .filter_map(|name| Some((*name, fields.get(name)?)))
            .collect();
        if let [(first, _), (second, other), ..] = searches.as_slice() {
            let (first, second) = ((*first).to_owned(), (*second).to_owned());
            return Err(Refusal::TwoSearches { first, second }.at(&other.place()));
        }
        let search = searches
            .first()
            .map(|(name, field)| Search::read(name, field));
        let mut exclude = vec![];
        if let Some(field) = fields.get("exclude") {
            for field in field.list()? {
                let settings = field.settings()?;
                if settings.is_empty() {
                    let refusal = Refusal::Value {
                        key: field.path.clone(),
                        value: "empty".to_owned(),
                        right: "give the values of the arms to leave out".to_owned(),
                    };
                    return Err(refusal.at(&field.place()));
                }
                exclude.push((settings, field.place()));
            }
        }
        let variants = fields
            .get("variants")
            .map_or(Ok(vec![]), |field| field.list())?;
        let block = Self {
            axes: axes(&fields)?,
            variants: variants
                .iter()
                .map(Variant::read)
                .collect::<Result<_, _>>()?,
            drop: names(&fields, "drop")?,
            add: names(&fields, "add")?,
            exclude,
            search: search.transpose()?,
            place: field.place(),
        };
        let arms = (
            block.axes.len(),
            block.variants.len(),
            block.drop.len(),
            block.add.len(),
        );
        if arms == (0, 0, 0, 0) && block.search.is_none() {
            return Err(Refusal::EmptyBlock.at(&block.place));
        }
        Ok(block)
    }
}

impl Variant {
    fn read(field: &Field<'_, '_>) -> Result<Self, AblationError> {
        let fields = field.fields(&["name", "set"])?;
        let name = fields.needed("name", "every variant has a name")?;
        check_name(name.text()?, &name)?;
        Ok(Self {
            name: name.text()?.to_owned(),
            set: fields
                .needed("set", "the keys that the variant changes")?
                .settings()?,
            place: field.place(),
        })
    }
}

/// Refuses names without a letter, and names on several lines.
pub(super) fn check_name(name: &str, field: &Field<'_, '_>) -> Result<(), AblationError> {
    if name.trim().is_empty() || name.chars().any(char::is_control) {
        return Err(field.refused("give it a name on one line"));
    }
    Ok(())
}

/// A list of names that is there has one at least.
fn names(fields: &Fields<'_, '_>, key: &str) -> Result<Vec<(String, Place)>, AblationError> {
    let Some(field) = fields.get(key) else {
        return Ok(vec![]);
    };
    let names: Vec<_> = field
        .texts()?
        .into_iter()
        .map(|name| (name.to_owned(), field.place()))
        .collect();
    if names.is_empty() {
        return Err(Refusal::NoValues(field.path.clone()).at(&field.place()));
    }
    Ok(names)
}

/// The axes of `grid` in their order, then that of `zip`.
fn axes(fields: &Fields<'_, '_>) -> Result<Vec<ArmAxis>, AblationError> {
    let mut axes: Vec<ArmAxis> = vec![];
    if let Some(grid) = fields.get("grid") {
        for (key, field) in keys_with_values(&grid)? {
            axes.push(ArmAxis {
                keys: vec![key],
                points: field
                    .values()?
                    .into_iter()
                    .map(|value| vec![value])
                    .collect(),
                place: field.place(),
            });
        }
    }
    if let Some(zip) = fields.get("zip") {
        let lists = keys_with_values(&zip)?;
        let mut columns = vec![];
        for (key, field) in &lists {
            columns.push(field.values()?.into_iter());
            let (first, first_length) = (&lists[0].0, columns[0].len());
            if columns
                .last()
                .is_some_and(|column| column.len() != first_length)
            {
                let refusal = Refusal::ZipLengths {
                    first: first.clone(),
                    first_length,
                    other: key.clone(),
                    other_length: field.values()?.len(),
                };
                return Err(refusal.at(&field.place()));
            }
        }
        let length = columns.first().map_or(0, ExactSizeIterator::len);
        axes.push(ArmAxis {
            keys: lists.into_iter().map(|(key, _)| key).collect(),
            points: (0..length)
                .map(|_| columns.iter_mut().filter_map(Iterator::next).collect())
                .collect(),
            place: zip.place(),
        });
    }
    let keys = axes.iter().flat_map(|axis| &axis.keys).map(String::as_str);
    check_keys(keys, &fields.place)?;
    Ok(axes)
}

/// The keys of a grid or zip, each with a list that is not empty; one key at least.
fn keys_with_values<'a, 'i>(
    field: &Field<'a, 'i>,
) -> Result<Vec<(String, Field<'a, 'i>)>, AblationError> {
    let keys = field.recipe_keys()?;
    if keys.is_empty() {
        return Err(Refusal::NoValues(field.path.clone()).at(&field.place()));
    }
    for (key, field) in &keys {
        if field.list()?.is_empty() {
            return Err(Refusal::NoValues(key.clone()).at(&field.place()));
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use crate::ablate::arms::testing::of_block;

    #[test]
    fn mistakes_of_blocks_are_refused() {
        let search = "{ samples = 4, seed = 1, keys = { a.b = [1] } }";
        let two = format!("{{ random = {search}, sobol = {search} }}");
        for (text, expected) in [
            (
                "{}",
                "the block names no arms; give it grid, zip, variants, drop, add, random, sobol or halving",
            ),
            (
                "{ gird = { a.b = [1] } }",
                "unknown key `ablate.block.0.gird`; did you mean `grid`?",
            ),
            (
                "{ grid = {} }",
                "`ablate.block.0.grid` has no values, so there are no arms; give it at least one",
            ),
            (
                "{ grid = { a.b = [] } }",
                "`a.b` has no values, so there are no arms; give it at least one",
            ),
            (
                "{ grid = { a.b = 1 } }",
                "`ablate.block.0.grid.a.b` must be a list, not an integer",
            ),
            (
                "{ zip = { a.b = [1, 2], c = [1], d = [1, 2] } }",
                "lists of a zip have one length, but `a.b` has 2 values and `c` has 1",
            ),
            (
                "{ grid = { a.b = [1] }, zip = { a.b = [1], c = [2] } }",
                "an arm sets `a.b` twice; set it once",
            ),
            (
                "{ grid = { a = [1], 'a.b' = [1] } }",
                "an arm sets `a.b` twice, by itself and as a part of `a`; set it once",
            ),
            (
                "{ variants = [{ set = {} }] }",
                "the key `ablate.block.0.variants.0.name` is missing: every variant has a name",
            ),
            (
                "{ variants = [{ name = ' ', set = {} }] }",
                "`ablate.block.0.variants.0.name` cannot be ` `; give it a name on one line",
            ),
            (
                "{ variants = [{ name = 'a', set = { 'b.c' = 1, b = { c = 1 } } }] }",
                "an arm sets `b.c` twice; set it once",
            ),
            (
                &two,
                "a block has at most one search, but this one has `random` and `sobol`; write two blocks",
            ),
            (
                "{ grid = { a.b = [1] }, exclude = [{}] }",
                "`ablate.block.0.exclude.0` cannot be empty; give the values of the arms to leave out",
            ),
        ] {
            assert_eq!(of_block(text).expect_err(text).to_string(), expected);
        }
        let message = of_block("{ grid = { seeds = [[1], [2]] } }")
            .expect_err("seeds")
            .to_string();
        let expected = "an arm cannot change `seeds`: every arm runs every seed; write `--seeds 1,2,3`, or `seeds` in [ablate]";
        assert_eq!(message, expected);
    }

    #[test]
    fn mistakes_of_searches_are_refused() {
        let many: Vec<String> = (0..17).map(|key| format!("k{key} = [1, 2]")).collect();
        let many = format!(
            "sobol = {{ samples = 4, seed = 1, keys = {{ {} }} }}",
            many.join(", ")
        );
        let halving = |keys: &str| {
            format!("halving = {{ samples = 4, seed = 1, keys = {{ a.b = [1, 2] }}, {keys} }}")
        };
        for (text, expected) in [
            (
                "random = { seed = 1 }",
                "the key `ablate.block.0.random.samples` is missing: the number of points",
            ),
            (
                "random = { samples = 0 }",
                "`ablate.block.0.random.samples` cannot be 0; it is at least 1",
            ),
            (
                "random = { samples = 1000000 }",
                "`ablate.block.0.random.samples` cannot be 1000000; it is at most 100000",
            ),
            (
                "random = { samples = 1, keys = { a.b = [1] } }",
                "the key `ablate.block.0.random.seed` is missing: it decides the points",
            ),
            (
                "random = { samples = 1, seed = 1, keys = { a.b = 'int(4, 1)' } }",
                "`ablate.block.0.random.keys.a.b` cannot be `int(4, 1)`; write a list, \"int(low, high, step)\", \"uniform(low, high)\" or \"log(low, high)\" with low < high, and above 0 for log",
            ),
            (
                "random = { samples = 1, seed = 1, keys = {} }",
                "`ablate.block.0.random.keys` has no values, so there are no arms; give it at least one",
            ),
            (
                "random = { samples = 1, eta = 2 }",
                "unknown key `ablate.block.0.random.eta`; there is samples, seed, keys",
            ),
            (
                &halving("min = 1, max = 9, final_seeds = [11]"),
                "the key `ablate.block.0.halving.over` is missing: the key whose value is the budget, as in \"train.epochs\"",
            ),
            (
                &halving("over = 'train.epochs', min = 4, max = 3, final_seeds = [11]"),
                "`ablate.block.0.halving.max` cannot be 3; it is at least `min`, 4",
            ),
            (
                &halving("over = 'train.epochs', min = 1, max = 3, eta = 1, final_seeds = [11]"),
                "`ablate.block.0.halving.eta` cannot be 1; it is at least 2",
            ),
            (
                &halving("over = 'train.epochs', min = 1, max = 3, final_seeds = [11, 2]"),
                "the final seed 2 is one of the seeds that choose the arms; take seeds that no rung has seen",
            ),
            (
                &halving("over = 'train.epochs', min = 1, max = 4, final_seeds = [11]"),
                "a halving up to `max` = 4 is of trainings with `train.epochs` = 4, but the recipe has 3; set one to the other",
            ),
            (
                &halving("over = 'train.epochs', min = 1, max = 3, final_seeds = [11]"),
                "a halving compares its survivors with a reference: name an arm as `reference`, or add the recipe as it is, variants = [{ name = \"recipe\", set = {} }]",
            ),
            (
                &halving("over = 'a.b', min = 1, max = 3, final_seeds = [11]"),
                "an arm sets `a.b` twice; set it once",
            ),
            (
                &many,
                "a sobol search has at most 16 keys, not 17; use `random`",
            ),
        ] {
            assert_eq!(
                of_block(&format!("{{ {text} }}"))
                    .expect_err(text)
                    .to_string(),
                expected
            );
        }
    }
}
