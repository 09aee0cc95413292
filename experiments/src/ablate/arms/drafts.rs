//! The arms of one block, before and after they are merged with those of others.

use std::{collections::BTreeSet, ops::Range};

use super::{
    block::{ArmAxis, Block, Variant},
    error::{AblationError, Place, Refusal},
    factor::{self, Factor, FactorArms},
    merged::{Draft, Merged},
    search::{Method, Search},
    settings::{RecipeKeys, Settings, check_keys, listed},
};

/// Arms of the grid of one block at most.
const LIMIT: usize = 100_000;

/// Something that is no mistake, and most likely not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Where it stands.
    pub place: Place,
    /// What it is.
    pub text: String,
}

/// The arms of one block.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BlockArms {
    /// Its arms as indices, each once, in its order.
    pub arms: Vec<usize>,
    /// The arms of each factor in `drop` or `add`.
    pub factors: Vec<FactorArms>,
    /// Its search.
    pub search: Option<SearchArms>,
}

/// The arms of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchArms {
    /// Its points as indices of arms, each once. In a halving they compete; an arm that another block has, too, also runs
    /// as a plain arm.
    pub arms: Vec<usize>,
    /// The keys that it varies.
    pub keys: Vec<String>,
    /// How its points are chosen and, in a halving, decided.
    pub method: Method,
}

/// The arms of a block before they are merged with those of others.
pub(super) struct Drafts<'a> {
    arms: Vec<Draft>,
    /// With indices of drafts.
    factors: Vec<FactorArms>,
    /// A search, with the range of its drafts.
    search: Option<(&'a Search, Range<usize>)>,
}

impl<'a> Drafts<'a> {
    /// The grid, then variants, `drop`, `add` and the search.
    pub(super) fn of(
        block: &'a Block,
        factors: &[Factor],
        recipe: &RecipeKeys<'_>,
    ) -> Result<Self, AblationError> {
        let mut drafts = vec![];
        let places = block
            .axes
            .iter()
            .flat_map(|axis| axis.keys.iter().map(|_| &axis.place));
        let places: Vec<Place> = places.cloned().collect();
        for set in grid(&block.axes)? {
            let place = block
                .axes
                .last()
                .map_or(&block.place, |axis| &axis.place)
                .clone();
            drafts.push(Draft {
                name: None,
                set,
                place,
                places: places.clone(),
            });
        }
        for Variant { name, set, place } in &block.variants {
            check_keys(set.iter().map(|(key, _)| key.as_str()), place)?;
            drafts.push(Draft::named(name, set.clone(), place));
        }
        let (arms, found) = factor::arms(factors, block, recipe)?;
        let before = drafts.len();
        drafts.extend(arms);
        let found = found
            .into_iter()
            .map(|arms| arms.map(|index| Some(before + index)));
        let search = block.search.as_ref().map(|search| {
            let start = drafts.len();
            drafts.extend((0..search.samples).map(|index| Draft {
                name: None,
                set: search.point(index),
                place: search.place.clone(),
                places: vec![],
            }));
            (search, start..drafts.len())
        });
        Ok(Self {
            arms: drafts,
            factors: found.collect(),
            search,
        })
    }

    /// The keys of all its arms.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.arms
            .iter()
            .flat_map(|draft| &draft.set)
            .map(|(key, _)| key.as_str())
    }

    /// Adds all but the excluded arms to those of other blocks, and a warning for each exclusion that no arm has.
    pub(super) fn merge(
        self,
        block: &Block,
        recipe: &RecipeKeys<'_>,
        merged: &mut Merged<'_>,
        warnings: &mut Vec<Warning>,
    ) -> Result<BlockArms, AblationError> {
        for (values, place) in &block.exclude {
            merged.check_known(values, place)?;
        }
        let mut is_met = vec![false; block.exclude.len()];
        let mut indices = vec![];
        for draft in self.arms {
            let mut is_out = false;
            for ((values, _), is_met) in block.exclude.iter().zip(&mut is_met) {
                if recipe.has_all(&draft.set, values) {
                    (is_out, *is_met) = (true, true);
                }
            }
            let index = if is_out {
                None
            } else {
                Some(merged.add(draft)?)
            };
            indices.push(index);
        }
        for ((values, place), is_met) in block.exclude.iter().zip(is_met) {
            if !is_met {
                let text = format!(
                    "no arm of the block has {}, so it excludes nothing",
                    listed(values)
                );
                let place = place.clone();
                warnings.push(Warning { place, text });
            }
        }
        let arms = once(&indices);
        if arms.is_empty() {
            return Err(Refusal::AllExcluded(indices.len()).at(&block.place));
        }
        let factors = self
            .factors
            .into_iter()
            .map(|arms| arms.map(|draft| indices[draft]));
        let search = self.search.map(|(search, range)| SearchArms {
            arms: once(&indices[range]),
            keys: search.keys.iter().map(|(key, _)| key.clone()).collect(),
            method: search.method.clone(),
        });
        Ok(BlockArms {
            arms,
            factors: factors.collect(),
            search,
        })
    }
}

impl BlockArms {
    /// The same with other indices, each once.
    pub(super) fn map(self, places: &[usize]) -> Self {
        let arms = |arms: Vec<usize>| {
            let arms: Vec<_> = arms
                .into_iter()
                .map(|arm| places.get(arm).copied())
                .collect();
            once(&arms)
        };
        let factors = self.factors.into_iter();
        Self {
            arms: arms(self.arms),
            factors: factors
                .map(|factor| factor.map(|arm| places.get(arm).copied()))
                .collect(),
            search: self.search.map(|search| SearchArms {
                arms: arms(search.arms),
                ..search
            }),
        }
    }
}

/// Indices without those that are missing or there before.
fn once(indices: &[Option<usize>]) -> Vec<usize> {
    let mut seen = BTreeSet::new();
    indices
        .iter()
        .flatten()
        .copied()
        .filter(|index| seen.insert(*index))
        .collect()
}

/// The combinations of axes; the last axis changes fastest. None for no axes.
fn grid(axes: &[ArmAxis]) -> Result<Vec<Settings>, AblationError> {
    let Some(last) = axes.last() else {
        return Ok(vec![]);
    };
    let count = axes
        .iter()
        .try_fold(1usize, |count, axis| count.checked_mul(axis.points.len()));
    if count.is_none_or(|count| count > LIMIT) {
        let count = count.map_or("more than 2^64".to_owned(), |count| count.to_string());
        return Err(Refusal::TooManyArms {
            count,
            limit: LIMIT,
        }
        .at(&last.place));
    }
    let mut arms = vec![vec![]];
    for axis in axes {
        let mut longer = vec![];
        for arm in &arms {
            for point in &axis.points {
                let settings = axis.keys.iter().cloned().zip(point.iter().cloned());
                longer.push(arm.iter().cloned().chain(settings).collect::<Settings>());
            }
        }
        arms = longer;
    }
    Ok(arms)
}

#[cfg(test)]
mod tests {
    use crate::ablate::arms::{
        Method,
        testing::{names, of_block},
    };

    #[test]
    fn exclusions_see_values_of_the_recipe() {
        let block = |exclude: &str| {
            format!(
                "{{ grid = {{ experts.order = ['random', 'inverse'] }}, exclude = [{exclude}] }}"
            )
        };
        let left = of_block(&block("{ experts.order = 'random', experts.shared = 4 }"))
            .expect("an ablation");
        assert_eq!(names(&left), ["order=inverse"]);
        assert_eq!(left.warnings, []);
        let kept = of_block(&block("{ experts.order = 'importance' }")).expect("an ablation");
        assert_eq!(kept.arms.len(), 2);
        let expected = "no arm of the block has `experts.order=importance`, so it excludes nothing";
        assert_eq!(kept.warnings[0].text, expected);
        let none = of_block(&block("{ experts.shared = 4 }")).expect_err("no arms");
        assert_eq!(
            none.to_string(),
            "all 2 arms of the block are excluded; leave some"
        );
        let unknown = of_block(&block("{ experts.shraed = 4 }")).expect_err("unknown");
        assert_eq!(
            unknown.to_string(),
            "unknown key `experts.shraed`; did you mean `experts.shared`?"
        );
    }

    #[test]
    fn too_many_arms_are_refused_before_they_are_made() {
        let digits = "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]";
        let axes = |count: usize| {
            (0..count)
                .map(|key| format!("k{key} = {digits}"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let error = of_block(&format!("{{ grid = {{ {} }} }}", axes(6))).expect_err("many");
        assert_eq!(
            error.to_string(),
            "the block has 1000000 arms; at most 100000 are possible"
        );
        let error = of_block(&format!("{{ grid = {{ {} }} }}", axes(30))).expect_err("many");
        assert_eq!(
            error.to_string(),
            "the block has more than 2^64 arms; at most 100000 are possible"
        );
    }

    #[test]
    fn a_search_has_its_arms() {
        let keys =
            "keys = { experts.shared = 'int(0, 8, 4)', train.learning_rate = 'log(1e-5, 1e-3)' }";
        let block = format!("{{ random = {{ samples = 9, seed = 5, {keys} }} }}");
        let ablation = of_block(&block).expect("an ablation");
        assert_eq!(ablation.arms.len(), 9);
        let search = ablation.blocks[0].search.as_ref().expect("a search");
        assert_eq!(search.arms, (0..9).collect::<Vec<_>>());
        assert_eq!(search.keys, ["experts.shared", "train.learning_rate"]);
        assert_eq!(search.method, Method::Random);
        // More samples add points and leave the others, as does a random search of the same seed.
        let more = format!("{{ random = {{ samples = 20, seed = 5, {keys} }} }}");
        let more = of_block(&more).expect("an ablation");
        assert_eq!(names(&more)[..9], names(&ablation));
        assert!(
            more.arms[0].name.contains(" learning_rate="),
            "{}",
            more.arms[0].name
        );
    }

    #[test]
    fn points_of_a_search_that_are_equal_are_one_arm() {
        let ablation = of_block(
            "{ sobol = { samples = 8, seed = 1, keys = { experts.order = ['random', 'inverse'] } } }",
        );
        let ablation = ablation.expect("an ablation");
        assert_eq!(ablation.arms.len(), 2);
        assert_eq!(
            ablation.blocks[0].search.as_ref().expect("a search").arms,
            [0, 1]
        );
    }
}
