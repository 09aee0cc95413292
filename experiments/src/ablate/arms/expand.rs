//! From the description of an ablation to its arms.

use std::collections::BTreeMap;

use super::{
    block::{Block, Variant},
    command::Command,
    contest::Contest,
    drafts::{BlockArms, Drafts, Warning},
    error::{AblationError, Place, Refusal},
    halving::HalvingPlan,
    margin::Margin,
    merged::{Arm, Merged},
    search::Method,
    seeds,
    settings::RecipeKeys,
    table::AblateTable,
};

/// Names of equal arms in a note at most.
const LISTED: usize = 5;
/// The default level of tests.
const ALPHA: f64 = 0.05;

/// An ablation: arms times seeds, compared with a reference.
#[derive(Clone, Debug, PartialEq)]
pub struct Ablation {
    /// The arms in order of first appearance; at least one, no two of them equal.
    pub arms: Vec<Arm>,
    /// The index of the arm that the others are compared with.
    pub reference: usize,
    /// The seeds that every arm runs.
    pub seeds: Vec<u64>,
    /// The primary metric; none for the task's first.
    pub metric: Option<String>,
    /// The difference that does not matter, if one is given.
    pub margin: Option<Margin>,
    /// The level of tests and intervals, above 0 and below 1; default 0.05.
    pub alpha: f64,
    /// What each block became: `[[arms]]` if there are any, those of the table, then the axes of the command line.
    pub blocks: Vec<BlockArms>,
    /// The halving of one of the blocks. Then all arms that are reported run its final seeds, and `seeds` choose among its
    /// points.
    pub contest: Option<Contest>,
    /// What is most likely not meant.
    pub warnings: Vec<Warning>,
}

/// The arms of `named` (the recipe's `[[arms]]`), of `table` (its `[ablate]`) and of the command line, with all that is
/// needed to run them. The result is a function of the arguments alone.
///
/// # Errors
///
/// If there are no arms or too many in a block, all arms of a block are excluded, an arm sets a key twice or one that no
/// arm may change, a name is given to two arms, a factor is unknown or the same on and off, the reference is no arm, a key
/// of an exclusion or of the reference is unknown, a seed is given twice, or a halving cannot be: there are two, it sees a
/// final seed, its largest budget is not that of the recipe, or there is no reference to compare its survivors with.
pub fn expand(
    named: &[Variant],
    table: &AblateTable,
    command: &Command,
    recipe: &RecipeKeys<'_>,
) -> Result<Ablation, AblationError> {
    let first = Block {
        variants: named.to_vec(),
        ..Block::default()
    };
    let last = Block {
        axes: command.axes.clone(),
        ..Block::default()
    };
    let first = Some(&first).filter(|block| !block.variants.is_empty());
    let last = Some(&last).filter(|block| !block.axes.is_empty());
    let blocks: Vec<&Block> = first.into_iter().chain(&table.blocks).chain(last).collect();
    let seeds = seeds_of(table, command, recipe)?;
    let halving = halving(&blocks, &seeds, recipe)?;

    let mut drafted = vec![];
    for block in &blocks {
        drafted.push(Drafts::of(block, &table.factors, recipe)?);
    }
    let keys: Vec<String> = drafted
        .iter()
        .flat_map(Drafts::keys)
        .map(str::to_owned)
        .collect();
    let mut merged = Merged::new(recipe, keys.iter().map(String::as_str));
    let (mut found, mut warnings) = (vec![], vec![]);
    for (block, drafts) in blocks.iter().zip(drafted) {
        found.push(drafts.merge(block, recipe, &mut merged, &mut warnings)?);
    }
    if merged.arms().is_empty() {
        return Err(Refusal::NoArms.at(&Place::Whole));
    }
    let full = || {
        found
            .iter()
            .flat_map(|block| &block.factors)
            .find_map(|factor| factor.full)
    };
    let own = || merged.equal(&vec![]);
    let reference = match command.reference.as_ref().or(table.reference.as_ref()) {
        Some(reference) => reference.find(&merged)?,
        None => match (full().or_else(own), halving) {
            (None, Some((_, place))) => return Err(Refusal::HalvingReference.at(place)),
            (found, _) => found.unwrap_or_default(),
        },
    };
    let contest = halving.map(|(plan, _)| Contest::new(plan.clone(), reference, &found));
    Ok(Ablation {
        arms: merged.into_arms(),
        reference,
        seeds,
        metric: command.metric.clone().or(table.metric.clone()),
        margin: command.margin.or(table.margin),
        alpha: command.alpha.or(table.alpha).unwrap_or(ALPHA),
        blocks: found,
        contest,
        warnings,
    })
}

/// The one halving that there may be, and where it stands.
fn halving<'a>(
    blocks: &[&'a Block],
    seeds: &[u64],
    recipe: &RecipeKeys<'_>,
) -> Result<Option<(&'a HalvingPlan, &'a Place)>, AblationError> {
    let searches = blocks.iter().filter_map(|block| block.search.as_ref());
    let mut halvings = searches.filter_map(|search| match &search.method {
        Method::Halving(plan) => Some((plan, &search.place)),
        _ => None,
    });
    let Some((plan, place)) = halvings.next() else {
        return Ok(None);
    };
    if let Some((_, second)) = halvings.next() {
        return Err(Refusal::TwoHalvings.at(second));
    }
    if let Some(seed) = plan.final_seeds.iter().find(|seed| seeds.contains(seed)) {
        return Err(Refusal::SeedSeen(*seed).at(place));
    }
    let own = (recipe.own)(&plan.over);
    let own_budget = own.as_ref().and_then(toml::Value::as_integer);
    if own_budget.and_then(|own| u64::try_from(own).ok()) != Some(plan.max) {
        let refusal = Refusal::OtherBudget {
            over: plan.over.clone(),
            max: plan.max,
            own: own.map_or("none".to_owned(), |own| own.to_string()),
        };
        return Err(refusal.at(place));
    }
    Ok(Some((plan, place)))
}

impl Ablation {
    /// Makes arms that come out equal to an earlier one, given by indices of both, names of that one: a key may change
    /// nothing where no model reads it. Returns a note for each arm with such names.
    pub fn unite(&mut self, equal: &BTreeMap<usize, usize>) -> Vec<String> {
        if equal.is_empty() {
            return vec![];
        }
        let mut places = vec![];
        let mut kept: Vec<Arm> = vec![];
        let mut united: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for (index, arm) in std::mem::take(&mut self.arms).into_iter().enumerate() {
            if let Some(first) = equal.get(&index) {
                let place: usize = places[*first];
                united.entry(place).or_default().push(arm.name.clone());
                kept[place].aliases.push(arm.name);
                kept[place].aliases.extend(arm.aliases);
                places.push(place);
            } else {
                places.push(kept.len());
                kept.push(arm);
            }
        }
        self.arms = kept;
        self.reference = places[self.reference];
        let blocks = std::mem::take(&mut self.blocks).into_iter();
        self.blocks = blocks.map(|block| block.map(&places)).collect();
        let contest = self.contest.take();
        self.contest = contest.map(|it| Contest::new(it.plan, self.reference, &self.blocks));
        let notes = united.into_iter().map(|(place, names)| {
            let name = &self.arms[place].name;
            let more = names.len().saturating_sub(LISTED);
            let more = match more {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let names: Vec<String> = names
                .iter()
                .take(LISTED)
                .map(|name| format!("`{name}`"))
                .collect();
            format!(
                "arm `{name}` stands for {}{more}, too: they train the same model",
                names.join(", ")
            )
        });
        notes.collect()
    }
}

fn seeds_of(
    table: &AblateTable,
    command: &Command,
    recipe: &RecipeKeys<'_>,
) -> Result<Vec<u64>, AblationError> {
    let seeds = command.seeds.as_ref().or(table.seeds.as_ref());
    let seeds = seeds.map_or(recipe.seeds, Vec::as_slice).to_vec();
    seeds::check(&seeds, "seeds", &Place::Whole)?;
    Ok(seeds)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use toml::de::DeTable;

    use super::*;
    use crate::ablate::arms::{
        Settings,
        testing::{expand_all, names, of_arguments, of_block, of_table, table},
    };

    #[test]
    fn the_example_of_the_specification() {
        let text = r#"
name = "partition"
[ablate]
seeds = [1, 2, 3, 4, 5, 6]
reference = { "experts.order" = "importance", "experts.shared" = 4 }
metric = "accuracy"
margin = "0.5 points"
factors = { distillation = { off = { "distill.lambda" = 0 } }, importance = { on = { "experts.order" = "importance" }, off = { "experts.order" = "random" } } }

[[ablate.block]]
grid = { "experts.order" = ["importance", "random", "inverse"], "experts.shared" = [0, 4, 8] }
exclude = [{ "experts.order" = "inverse", "experts.shared" = 8 }]
[[ablate.block]]
zip = { "experts.width" = [8, 16], "experts.shared" = [4, 8] }
[[ablate.block]]
variants = [{ name = "small-teacher", set = { "model.random.layers" = 1 } }]
[[ablate.block]]
drop = ["distillation", "importance"]
add = ["distillation", "importance"]
"#;
        let recipe = DeTable::parse(text).expect("TOML");
        let table = AblateTable::read(&recipe.get_ref()["ablate"]).expect("a table");
        let ablation = expand_all(&[], &table, &Command::default()).expect("an ablation");
        let arms = ablation.arms.iter();
        let arms: Vec<_> = arms
            .map(|arm| (arm.name.as_str(), arm.aliases.join(", ")))
            .collect();
        let expected = [
            ("order=importance shared=0", ""),
            // The recipe's own values, under other names, too.
            ("order=importance shared=4", "width=8 shared=4, full"),
            ("order=importance shared=8", ""),
            ("order=random shared=0", ""),
            ("order=random shared=4", "-importance, +distillation"),
            ("order=random shared=8", ""),
            ("order=inverse shared=0", ""),
            ("order=inverse shared=4", ""),
            ("width=16 shared=8", ""),
            ("small-teacher", ""),
            ("-distillation", "+importance"),
            ("base", ""),
        ];
        assert_eq!(
            arms,
            expected.map(|(name, aliases)| (name, aliases.to_owned()))
        );
        assert_eq!(ablation.reference, 1);
        assert_eq!(ablation.margin, Some(Margin::Points(0.5)));
        assert_eq!(ablation.blocks[1].arms, [1, 8]);
        let factor = &ablation.blocks[3].factors[0];
        let indices = [factor.full, factor.without, factor.base, factor.with];
        assert_eq!(indices, [Some(1), Some(10), Some(11), Some(4)]);
        let small = &ablation.arms[9];
        assert_eq!(small.set, [("model.random.layers".to_owned(), 1.into())]);
    }

    #[test]
    fn arguments_are_a_block() {
        let ablation = of_arguments(&[
            "experts.order=importance,random",
            "experts.shared=0,4,8",
            "train.epochs=3",
        ]);
        let ablation = ablation.expect("an ablation");
        assert_eq!(ablation.arms.len(), 6);
        assert_eq!(
            ablation.arms[ablation.reference].name,
            "order=importance shared=4"
        );
        let ablation =
            of_arguments(&["experts.width+experts.shared=384+256,192+128"]).expect("an ablation");
        assert_eq!(
            names(&ablation),
            ["width=384 shared=256", "width=192 shared=128"]
        );
    }

    #[test]
    fn arms_of_the_recipe_come_first_and_those_of_the_command_line_last() {
        let arm = |name: &str, set: Settings| Variant {
            name: name.to_owned(),
            set,
            place: Place::Whole,
        };
        let named = [
            arm("own", vec![]),
            arm("wide", vec![("experts.width".to_owned(), 16.into())]),
        ];
        let table = table("{ block = [{ grid = { experts.shared = [0, 4] } }] }").expect("a table");
        let command = Command::parse(&["experts.width=16,32".to_owned()]).expect("a command");
        let ablation = expand_all(&named, &table, &command).expect("an ablation");
        assert_eq!(names(&ablation), ["own", "wide", "shared=0", "width=32"]);
        assert_eq!(ablation.arms[0].aliases, ["shared=4"]);
        assert_eq!(ablation.blocks.len(), 3);
        assert_eq!(ablation.blocks[2].arms, [1, 3]);
        assert_eq!(ablation.reference, 0);
        let twice = [
            arm("a", vec![]),
            arm("a", vec![("experts.width".to_owned(), 16.into())]),
        ];
        let error =
            expand_all(&twice, &AblateTable::default(), &Command::default()).expect_err("one name");
        let expected = "the arm name `a` is given twice, for the recipe as it is and for `experts.width=16`; name one of them otherwise";
        assert_eq!(error.to_string(), expected);
        let seeds = [arm("a", vec![("seeds".to_owned(), 3.into())])];
        expand_all(&seeds, &AblateTable::default(), &Command::default()).expect_err("seeds");
    }

    #[test]
    fn arms_of_a_halving_compete_and_the_others_are_reported() {
        let halving = "halving = { samples = 9, seed = 5, keys = { experts.shared = 'int(0, 16, 1)' }, \
                       over = 'train.epochs', min = 1, max = 3, final_seeds = [11, 12] }";
        let own = "variants = [{ name = 'recipe', set = {} }]";
        let ablation = of_table(&format!(
            "{{ block = [{{ {halving}, {own} }}, {{ grid = {{ experts.width = [4, 8] }} }}] }}"
        ));
        let ablation = ablation.expect("an ablation");
        assert_eq!(ablation.reference, 0);
        let contest = ablation.contest.expect("a halving");
        let search = ablation.blocks[0].search.as_ref().expect("a search");
        assert_eq!(contest.arms, search.arms);
        assert_eq!((contest.plan.budgets(), contest.plan.eta), (vec![1, 3], 3));
        let width = ablation.arms.iter().position(|arm| arm.name == "width=4");
        assert_eq!(contest.others, [0, width.expect("an arm")]);
        assert_eq!(contest.reported(&[5, 3]), [0, 3, 5, width.expect("an arm")]);
        let two = of_table(&format!(
            "{{ block = [{{ {halving}, {own} }}, {{ {halving} }}] }}"
        ));
        let message = two.expect_err("two").to_string();
        assert!(message.starts_with("an ablation has at most one halving"));
    }

    #[test]
    fn options_of_the_command_line_win() {
        let table = table(
            "{ seeds = [7], metric = 'f1', margin = 2, alpha = 0.1, block = [{ grid = { a.b = [1] } }] }",
        );
        let table = table.expect("a table");
        let command = Command {
            seeds: Some(vec![1, 2, 3]),
            metric: Some("accuracy".to_owned()),
            margin: Some(Margin::Keeps(99.0)),
            alpha: Some(0.01),
            ..Command::default()
        };
        let ablation = expand_all(&[], &table, &command).expect("an ablation");
        assert_eq!(ablation.seeds, [1, 2, 3]);
        assert_eq!(ablation.metric.as_deref(), Some("accuracy"));
        assert_eq!(ablation.margin, Some(Margin::Keeps(99.0)));
        assert!((ablation.alpha - 0.01).abs() < 1e-12);
    }

    #[test]
    fn arms_that_come_out_equal_are_one() {
        let text = "{ reference = 'shared=8', block = [{ grid = { experts.shared = [0, 4, 8], experts.width = [8, 16] } }, { grid = { experts.shared = [8] } }] }";
        let mut ablation = of_table(text).expect("an ablation");
        assert_eq!(ablation.arms.len(), 6);
        assert_eq!(ablation.blocks[1].arms, [4]);
        assert_eq!(ablation.unite(&BTreeMap::new()), Vec::<String>::new());
        let notes = ablation.unite(&BTreeMap::from([(2, 0), (4, 0), (5, 1)]));
        assert_eq!(
            names(&ablation),
            ["shared=0 width=8", "shared=0 width=16", "shared=4 width=16"]
        );
        assert_eq!(ablation.reference, 0);
        let expected = ["shared=4 width=8", "shared=8 width=8", "shared=8"];
        assert_eq!(ablation.arms[0].aliases, expected);
        assert_eq!(ablation.blocks[0].arms, [0, 1, 2]);
        assert_eq!(ablation.blocks[1].arms, [0]);
        assert_eq!(
            notes[0],
            "arm `shared=0 width=8` stands for `shared=4 width=8`, `shared=8 width=8`, too: they train the same model"
        );
        assert_eq!(notes.len(), 2);
    }

    /// A grid over some of three keys, with values from 0 to 4.
    fn any_grid() -> impl Strategy<Value = String> {
        let axis = proptest::option::of(proptest::collection::vec(0u8..5, 1..4));
        let axes = [axis.clone(), axis.clone(), axis];
        axes.prop_filter_map("no axes", |axes| {
            let keys = ["experts.shared", "experts.width", "b.c"];
            let axes = keys
                .iter()
                .zip(axes)
                .filter_map(|(key, axis)| Some(format!("{key} = {:?}", axis?)));
            let axes: Vec<String> = axes.collect();
            (!axes.is_empty()).then(|| format!("{{ grid = {{ {} }} }}", axes.join(", ")))
        })
    }

    proptest! {
        #[test]
        fn names_and_folders_are_unique_and_equal_arms_are_one(blocks in proptest::collection::vec(any_grid(), 1..4)) {
            let text = format!("{{ block = [{}] }}", blocks.join(", "));
            let ablation = of_table(&text).expect("an ablation");
            let arms = &ablation.arms;
            let all_names: Vec<&String> = arms.iter().flat_map(|arm| [&arm.name].into_iter().chain(&arm.aliases)).collect();
            prop_assert_eq!(all_names.iter().collect::<BTreeSet<_>>().len(), all_names.len());
            // The recipe's own 4 and 8, and none, are what an arm has where it sets nothing.
            let resolved = arms.iter().map(|arm| {
                ["experts.shared", "experts.width", "b.c"].map(|key| {
                    let set = arm.set.iter().find(|(name, _)| name == key).and_then(|(_, value)| value.as_integer());
                    set.or(match key { "experts.shared" => Some(4), "experts.width" => Some(8), _ => None })
                })
            });
            prop_assert_eq!(resolved.collect::<BTreeSet<_>>().len(), arms.len());
            prop_assert!(ablation.reference < arms.len());
            for block in &ablation.blocks {
                prop_assert!(block.arms.iter().all(|arm| *arm < arms.len()));
            }
        }

        #[test]
        fn a_block_that_is_added_leaves_the_arms_before_it(first in any_grid(), second in any_grid()) {
            let one = of_block(&first).expect("an ablation");
            let both = of_table(&format!("{{ block = [{first}, {second}] }}")).expect("an ablation");
            for (before, after) in one.arms.iter().zip(&both.arms) {
                prop_assert_eq!((&before.name, &before.set), (&after.name, &after.set));
            }
            prop_assert_eq!(&one.blocks[0], &both.blocks[0]);
        }

        #[test]
        fn the_last_axis_changes_fastest(lengths in proptest::collection::vec(1usize..4, 1..4)) {
            let axes = lengths.iter().enumerate().map(|(key, length)| {
                let values: Vec<usize> = (0..*length).collect();
                format!("k{key} = {values:?}")
            });
            let ablation = of_block(&format!("{{ grid = {{ {} }} }}", axes.collect::<Vec<_>>().join(", "))).expect("an ablation");
            prop_assert_eq!(ablation.arms.len(), lengths.iter().product::<usize>());
            for (index, arm) in ablation.arms.iter().enumerate() {
                let digits = arm.set.iter().map(|(_, value)| value.as_integer().expect("an integer") as usize);
                let number = digits.zip(&lengths).fold(0, |number, (digit, length)| number * length + digit);
                prop_assert_eq!(number, index);
            }
        }
    }
}
