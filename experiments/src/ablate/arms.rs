//! From the description of an ablation to its arms.
//!
//! An arm is a recipe with some keys changed. An ablation is a list of arms, one of them the reference, times a list of
//! seeds. [`AblateTable::read`] reads the table `[ablate]`, [`Command::parse`] the command line, and [`expand`] makes the
//! arms of both. Nothing here reads files or starts work.

mod argument;
mod block;
mod canonical;
mod command;
mod contest;
mod derive;
mod drafts;
mod error;
mod expand;
mod factor;
mod fields;
mod halving;
mod margin;
mod merged;
mod name;
mod reference;
mod search;
mod seeds;
mod settings;
mod sobol;
mod split;
mod table;
#[cfg(test)]
mod testing;
mod value;

pub use block::Variant;
pub use command::Command;
pub use contest::Contest;
pub use drafts::{BlockArms, SearchArms, Warning};
pub use error::{AblationError, Place, Refusal};
pub use expand::{Ablation, expand};
pub use factor::FactorArms;
pub use halving::{HalvingPlan, Replay, Rung, TrialScore};
pub use margin::Margin;
pub use merged::Arm;
pub use reference::Reference;
pub use search::Method;
pub use seeds::parse_seeds;
pub use settings::{RecipeKeys, Settings};
pub use table::{AblateTable, parse_alpha};
pub use value::bare;
