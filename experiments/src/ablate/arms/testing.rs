//! A recipe and short ways to expand ablations of it, for tests.

use toml::{Value, de::DeValue};

use super::{AblateTable, Ablation, AblationError, Command, RecipeKeys, Variant, expand};

/// The keys of the recipe with its own values.
const OWN: [(&str, &str); 9] = [
    ("train.epochs", "3"),
    ("train.learning_rate", "1e-4"),
    ("stages.teacher.train.epochs", "6"),
    ("experts.order", "'importance'"),
    ("experts.shared", "4"),
    ("experts.width", "8"),
    ("distill.lambda", "1.0"),
    ("model.random.layers", "2"),
    ("model.spans", "'full'"),
];

/// The recipe's own value of a key.
fn own(key: &str) -> Option<Value> {
    let found = OWN.iter().find(|(name, _)| *name == key);
    found.map(|(_, value)| value.parse().expect("TOML"))
}

/// The table of `ablate = text`.
pub(super) fn table(text: &str) -> Result<AblateTable, AblationError> {
    AblateTable::read(&DeValue::parse(text).expect("TOML"))
}

/// The ablation of its parts; seeds of the recipe are 1 and 2.
pub(super) fn expand_all(
    named: &[Variant],
    table: &AblateTable,
    command: &Command,
) -> Result<Ablation, AblationError> {
    let keys = OWN.map(|(key, _)| key.to_owned());
    let recipe = RecipeKeys {
        keys: &keys,
        own: &own,
        seeds: &[1, 2],
    };
    expand(named, table, command, &recipe)
}

/// The ablation of a table.
pub(super) fn of_table(text: &str) -> Result<Ablation, AblationError> {
    expand_all(&[], &table(text)?, &Command::default())
}

/// The ablation of one block.
pub(super) fn of_block(text: &str) -> Result<Ablation, AblationError> {
    of_table(&format!("{{ block = [{text}] }}"))
}

/// The ablation of arguments.
pub(super) fn of_arguments(arguments: &[&str]) -> Result<Ablation, AblationError> {
    let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    expand_all(&[], &AblateTable::default(), &Command::parse(&arguments)?)
}

/// The names of the arms.
pub(super) fn names(ablation: &Ablation) -> Vec<&str> {
    let arms = ablation.arms.iter();
    arms.map(|arm| arm.name.as_str()).collect()
}
