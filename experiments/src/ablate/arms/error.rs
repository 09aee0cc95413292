//! Why an ablation is refused, and where.

use std::ops::Range;

use crate::number::counted;

/// Where a mistake stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// In the recipe: the bytes of its text, or of its text with overrides, that the table was read from.
    Table(Range<usize>),
    /// An argument of the command line, as it is written.
    Argument(String),
    /// Nowhere in particular: the ablation as a whole.
    #[default]
    Whole,
}

/// An ablation that cannot be run. Its text does not name the place: the caller knows file and line.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("{refusal}")]
pub struct AblationError {
    /// Where the mistake stands.
    pub place: Place,
    /// What is wrong, and what would be right.
    pub refusal: Box<Refusal>,
}

/// What is wrong with an ablation, and what would be right.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// An argument has no key or no `=`.
    #[error("`{0}` sets nothing; write key=value, key=a,b,c or k1+k2=a1+a2,b1+b2")]
    NoSetting(String),
    /// A key that TOML does not read as words joined by dots.
    #[error("`{0}` is no key; write words joined by dots, as in train.epochs")]
    NoKey(String),
    /// A bracket, brace or quote is open where a list is split.
    #[error(
        "in `{0}`, a bracket, brace or quote is not closed; quote the whole value if it is meant"
    )]
    NotClosed(String),
    /// An element of a list has no text.
    #[error("a value of `{0}` is empty; write \"\" for the empty text")]
    EmptyValue(String),
    /// A value cannot be read or is out of range.
    #[error("`{key}` cannot be {value}; {right}")]
    Value {
        /// The key or option.
        key: String,
        /// The value as given.
        value: String,
        /// What would be right.
        right: String,
    },
    /// A value of another type than the key's.
    #[error("`{key}` must be {expected}, not {found}")]
    Type {
        /// The dotted key.
        key: String,
        /// The type that would be right.
        expected: &'static str,
        /// The type found.
        found: &'static str,
    },
    /// A key that is needed is missing.
    #[error("the key `{key}` is missing: {why}")]
    Missing {
        /// The dotted key.
        key: String,
        /// What it is for.
        why: &'static str,
    },
    /// A key that does not exist.
    #[error("unknown key `{key}`; {hint}")]
    UnknownKey {
        /// The dotted key.
        key: String,
        /// The nearest right key, or what there is.
        hint: String,
    },
    /// A key that no arm may change.
    #[error("an arm cannot change `{key}`: {why}")]
    NoAxis {
        /// The dotted key.
        key: String,
        /// Why, and what to write.
        why: &'static str,
    },
    /// An element of a zip has another number of values than there are keys.
    #[error(
        "`{element}` has {} for the {expected} keys `{keys}`; write one value per key, joined by `+`",
        counted(*given, "value")
    )]
    ZipParts {
        /// The keys, joined by `+`.
        keys: String,
        /// The element.
        element: String,
        /// Its values.
        given: usize,
        /// The keys.
        expected: usize,
    },
    /// Lists of a zip have two lengths.
    #[error(
        "lists of a zip have one length, but `{first}` has {} and `{other}` has {other_length}",
        counted(*first_length, "value")
    )]
    ZipLengths {
        /// The first key.
        first: String,
        /// The length of its list.
        first_length: usize,
        /// The first key with another length.
        other: String,
        /// The length of its list.
        other_length: usize,
    },
    /// An axis without values.
    #[error("`{0}` has no values, so there are no arms; give it at least one")]
    NoValues(String),
    /// A block without arms.
    #[error(
        "the block names no arms; give it grid, zip, variants, drop, add, random, sobol or halving"
    )]
    EmptyBlock,
    /// All arms of a block are excluded.
    #[error("all {0} arms of the block are excluded; leave some")]
    AllExcluded(usize),
    /// The ablation has no arms.
    #[error(
        "the ablation has no arms; write key=a,b on the command line, [[ablate.block]] or [[arms]] in the recipe"
    )]
    NoArms,
    /// More arms than anyone can run.
    #[error("the block has {count} arms; at most {limit} are possible")]
    TooManyArms {
        /// The arms of the block, or "more than 2^64".
        count: String,
        /// The most that there can be.
        limit: usize,
    },
    /// A block with two searches.
    #[error(
        "a block has at most one search, but this one has `{first}` and `{second}`; write two blocks"
    )]
    TwoSearches {
        /// A search.
        first: String,
        /// Another one.
        second: String,
    },
    /// An arm sets a key twice, or a key and a table above it.
    #[error("an arm sets `{key}` twice{by}; set it once")]
    SetTwice {
        /// The dotted key.
        key: String,
        /// Whatever sets it again: empty, or a phrase that begins with a space.
        by: String,
    },
    /// Two factors set one key, or one sets a part of what the other sets.
    #[error("the factors `{first}` and `{second}` both set `{key}`; let one of them set it")]
    FactorsClash {
        /// The dotted key.
        key: String,
        /// A factor.
        first: String,
        /// Another one.
        second: String,
    },
    /// `drop` or `add` names a factor that does not exist.
    #[error("unknown factor `{name}`; {hint}")]
    UnknownFactor {
        /// The name.
        name: String,
        /// The nearest right one, or what there is.
        hint: String,
    },
    /// A factor that is the same on and off.
    #[error("the factor `{0}` is the same on and off; give `on` and `off` values that differ")]
    IdleFactor(String),
    /// One name for two arms.
    #[error(
        "the arm name `{name}` is given twice, for {first} and for {second}; name one of them otherwise"
    )]
    NameTwice {
        /// The name.
        name: String,
        /// The keys of the first arm.
        first: String,
        /// The keys of the second.
        second: String,
    },
    /// The reference is no arm.
    #[error("the reference `{given}` is no arm; {hint}")]
    NoReference {
        /// The reference as given.
        given: String,
        /// The nearest arm, or what arms there are.
        hint: String,
    },
    /// A seed that is in a list twice.
    #[error("seed {0} is given twice; arms run each seed once")]
    SeedTwice(u64),
    /// A Sobol sequence of too many dimensions.
    #[error("a sobol search has at most {limit} keys, not {given}; use `random`")]
    TooManyKeys {
        /// The keys.
        given: usize,
        /// The most that there can be.
        limit: usize,
    },
    /// A final seed of a halving that its rungs use.
    #[error(
        "the final seed {0} is one of the seeds that choose the arms; take seeds that no rung has seen"
    )]
    SeedSeen(u64),
    /// More than one halving: arms would be reported on the final seeds of which?
    #[error("an ablation has at most one halving; put the second into a recipe of its own")]
    TwoHalvings,
    /// A halving up to another budget than that of the recipe.
    #[error(
        "a halving up to `max` = {max} is of trainings with `{over}` = {max}, but the recipe has {own}; set one to the other"
    )]
    OtherBudget {
        /// The key of the budget.
        over: String,
        /// The largest budget.
        max: u64,
        /// What the recipe has.
        own: String,
    },
    /// A halving in an ablation that names no reference.
    #[error(
        "a halving compares its survivors with a reference: name an arm as `reference`, or add the recipe as it is, variants = [{{ name = \"recipe\", set = {{}} }}]"
    )]
    HalvingReference,
}

impl Refusal {
    /// This refusal at a place.
    pub(super) fn at(self, place: &Place) -> AblationError {
        AblationError {
            place: place.clone(),
            refusal: Box::new(self),
        }
    }
}
