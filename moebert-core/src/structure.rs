//! What methods made of layers beside their weights, as folders say it: one file and one line each.
//!
//! A folder has it in the key `kiln` of `config.json`: `"structure": {"drop_tokens": [1.0, 0.75, 0.5]}`. A model gets its
//! structure before its weights are loaded.

mod drop_tokens;

use masformer_core::Stack;
use serde_json::{Map, Value};

use crate::half::Half;

/// The structures.
const STRUCTURES: [&dyn Structure; 1] = [&drop_tokens::DropTokens];

/// Something that layers may have.
trait Structure: Sync {
    /// Its key.
    fn key(&self) -> &'static str;

    /// What a folder of these layers says; `None` if they have nothing of it.
    fn write(&self, stack: &Stack<Half>) -> Option<Value>;

    /// Gives it to layers that are as the rest of the configuration says.
    ///
    /// # Errors
    ///
    /// What the value should be, or why the layers cannot have it.
    fn read(&self, value: &Value, stack: &mut Stack<Half>) -> Result<(), String>;
}

/// What a folder of these layers says.
pub(crate) fn write(stack: &Stack<Half>) -> Map<String, Value> {
    let structures = STRUCTURES.iter();
    let said = structures
        .filter_map(|structure| Some((structure.key().to_owned(), structure.write(stack)?)));
    said.collect()
}

/// Gives layers what their folder says.
///
/// # Errors
///
/// If a key is unknown, or layers cannot have its value: the key, and what is wrong.
pub(crate) fn read(said: &Map<String, Value>, stack: &mut Stack<Half>) -> Result<(), String> {
    for (key, value) in said {
        let structure = STRUCTURES.iter().find(|structure| structure.key() == key);
        let read = match structure {
            Some(structure) => structure.read(value, stack),
            None => Err(format!(
                "is unknown; there is {}",
                STRUCTURES.map(Structure::key).join(", ")
            )),
        };
        read.map_err(|problem| format!("`structure.{key}` {problem}"))?;
    }
    Ok(())
}
