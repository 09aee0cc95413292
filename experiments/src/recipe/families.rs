//! The families of models that recipes can be of: one line each.
//!
//! A family is a type with two implementations: of [`RecipeFamily`], its keys and what cannot work, and of `Runnable` in
//! the pipeline, how its data become what stages need.

use super::{OfDecoders, OfEncoders, Recipe, RecipeError, RecipeFamily};

/// Reads the recipe of a family.
pub(super) trait ReadRecipe {
    /// The recipe, with what would be ignored in it.
    fn read<T: RecipeFamily>(&self) -> Result<(Recipe<T>, Vec<String>), RecipeError>;
}

/// Makes the enum of all recipes, and what depends on their family, from one line for each.
macro_rules! families {
    ($dollar:tt $($(#[$doc:meta])* $arm:ident($family:ty),)+) => {
        /// What `kiln run` can be given. `data.task` says which it is.
        #[derive(Clone, Debug, PartialEq)]
        pub enum AnyRecipe {
            $($(#[$doc])* $arm(Box<Recipe<$family>>)),+
        }

        impl AnyRecipe {
            /// The names of all tasks.
            pub fn tasks() -> Vec<&'static str> {
                [$(<$family>::tasks()),+].concat()
            }

            /// The recipe of the family that has a task, with what would be ignored in it; of the first family where
            /// no task is named, and `None` where no family has it.
            pub(super) fn of_task(
                task: Option<&str>,
                source: &impl ReadRecipe,
            ) -> Result<Option<(Self, Vec<String>)>, RecipeError> {
                $(
                    if task.is_none_or(|task| <$family>::tasks().contains(&task)) {
                        let (recipe, warnings) = source.read::<$family>()?;
                        return Ok(Some((Self::$arm(Box::new(recipe)), warnings)));
                    }
                )+
                Ok(None)
            }
        }

        /// The value of an expression of a recipe, whatever its family.
        macro_rules! of_any {
            ($dollar any:expr, $dollar recipe:ident => $dollar value:expr) => {
                match $dollar any {
                    $($crate::recipe::AnyRecipe::$arm($dollar recipe) => $dollar value),+
                }
            };
        }
        pub(crate) use of_any;
    };
}

families! { $
    /// Of encoders, by tasks of understanding.
    Encoder(OfEncoders),
    /// Of decoders, by tasks of language.
    Decoder(OfDecoders),
}

impl AnyRecipe {
    /// The run's name.
    pub fn name(&self) -> &str {
        of_any!(self, recipe => &recipe.name)
    }

    /// The names of its models, in the order of the table.
    pub fn models(&self) -> Vec<&str> {
        of_any!(self, recipe => recipe.plan().iter().map(|model| model.name.as_str()).collect())
    }
}
