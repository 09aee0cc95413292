//! `extends`: the recipe that a recipe begins with, which may begin with another one.

use std::{fs, path::Path};

use toml::de::{DeTable, DeValue};

use super::{RecipeError, text_at};

/// The key of the recipe that a recipe begins with.
pub(super) const EXTENDS: &str = "extends";

/// The text of one recipe, behind as many spaces as the texts before it are long. So a place in it belongs to no other.
#[derive(Clone, Debug)]
pub(super) struct RecipeText {
    /// What it is called in messages.
    origin: String,
    /// Where it begins behind the spaces.
    pub start: usize,
    /// Spaces and text.
    pub toml: String,
}

impl RecipeText {
    fn new(origin: String, text: &str, start: usize) -> Self {
        Self {
            origin,
            start,
            toml: format!("{}{text}", " ".repeat(start)),
        }
    }

    /// What it is called in messages.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    /// File and line of what stands at `at`.
    pub(super) fn place(&self, at: usize) -> String {
        let before = &self.toml[..self.toml.floor_char_boundary(at)];
        format!("{}, line {}", self.origin, 1 + before.matches('\n').count())
    }

    /// The recipe that it begins with, and where it names it. Text that is no TOML is refused when it is read.
    fn base(&self) -> Result<Option<(String, String)>, RecipeError> {
        let Ok(table) = DeTable::parse(&self.toml) else {
            return Ok(None);
        };
        let Some(value) = table.get_ref().get(EXTENDS) else {
            return Ok(None);
        };
        let place = self.place(value.span().start);
        match value.get_ref() {
            DeValue::String(name) => Ok(Some((name.to_string(), place))),
            _ => Err(RecipeError::Schema {
                place,
                reason: format!(
                    "`{EXTENDS}` must be the name of a recipe that ships, or of a file"
                ),
            }),
        }
    }

    /// What tells it from others, by whatever path it is reached.
    fn identity(&self) -> String {
        let path = fs::canonicalize(&self.origin);
        path.map_or(self.origin.clone(), |path| path.display().to_string())
    }
}

/// A recipe called `origin`, the recipe that it extends, the one that this extends, and so on. A name is that of a recipe
/// that ships, or else a file, relative to the folder of the recipe that names it.
///
/// # Errors
///
/// If one is not there or cannot be read, or recipes extend each other in a circle.
pub(super) fn chain(origin: &str, text: &str) -> Result<Vec<RecipeText>, RecipeError> {
    let mut last = RecipeText::new(origin.to_owned(), text, 0);
    let mut identities = vec![last.identity()];
    let mut texts = vec![];
    while let Some((name, place)) = last.base()? {
        let folder = Path::new(&last.origin).parent().unwrap_or(Path::new(""));
        let refused = |reason: String| RecipeError::Schema {
            place: place.clone(),
            reason: format!("`{EXTENDS}`: {reason}"),
        };
        let (origin, text) =
            text_at(&name, &folder.join(&name)).map_err(|error| refused(told(&error)))?;
        let start = last.toml.len() + 1;
        texts.push(last);
        last = RecipeText::new(origin, &text, start);
        let identity = last.identity();
        if identities.contains(&identity) {
            let names = texts.iter().chain([&last]).map(RecipeText::origin);
            let names: Vec<&str> = names.collect();
            let circle = names.join(" extends ");
            return Err(refused(format!("recipes go in a circle: {circle}")));
        }
        identities.push(identity);
    }
    texts.push(last);
    Ok(texts)
}

/// An error with what the system said.
fn told(error: &RecipeError) -> String {
    let source = std::error::Error::source(error);
    let source = source.map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::{AnyRecipe, load::VALID, of_any};

    /// A folder with recipes.
    struct Recipes(tempfile::TempDir);

    impl Recipes {
        fn new(files: &[(&str, &str)]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            for (name, text) in files {
                let path = folder.path().join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            Self(folder)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        /// The record of a recipe.
        fn read(&self, name: &str, overrides: &[&str]) -> Result<toml::Table, String> {
            let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
            let recipe = AnyRecipe::load(&self.path(name).display().to_string(), &overrides);
            let recipe = recipe.map_err(|error| error.to_string())?;
            Ok(of_any!(&recipe, recipe => toml::Table::try_from(recipe)).unwrap())
        }

        /// Why a recipe is refused, with paths as in the folder.
        fn refusal(&self, name: &str) -> String {
            let message = self.read(name, &[]).expect_err("it cannot work");
            let folder = format!("{}{}", self.0.path().display(), std::path::MAIN_SEPARATOR);
            message.replace(&folder, "")
        }
    }

    #[test]
    fn keys_are_those_of_the_base_then_those_below() {
        let middle = "extends = \"../valid.toml\"\nname = \"middle\"\nseeds = [1, 2]\n[train]\nbatch_size = 8\n\
                      [stages.a]\nmethods = [\"experts\"]\n[stages.b]\nfrom = \"a\"\n[[arms]]\nname = \"x\"\n";
        let top = "extends = \"sub/middle.toml\"\nname = \"top\"\nseeds = [7]\ntrain.epochs = 2\n\
                   stages.b.methods = { kd = { weight = 2 } }\narms = [{ name = \"y\" }]\n";
        let whole = format!(
            "{}\n{}",
            "seeds = [7]",
            VALID
                .replace("mine", "top")
                .replace("epochs = 5", "epochs = 2\nbatch_size = 8")
        );
        let whole = format!(
            "{whole}[stages.a]\nmethods = [\"experts\"]\n[stages.b]\nfrom = \"a\"\nmethods = {{ kd = {{ weight = 2 }} }}\n\
             [[arms]]\nname = \"y\"\n"
        );
        let recipes = Recipes::new(&[
            ("valid.toml", VALID),
            ("sub/middle.toml", middle),
            ("top.toml", top),
            ("whole.toml", &whole),
        ]);
        let top = recipes.read("top.toml", &[]).unwrap();
        assert_eq!(top, recipes.read("whole.toml", &[]).unwrap());
        assert!(!top.contains_key("extends"));
        // Overrides come last.
        let over = ["train.epochs=9", "stages.b.methods="];
        assert_eq!(
            recipes.read("top.toml", &over).unwrap(),
            recipes.read("whole.toml", &over).unwrap()
        );
    }

    #[test]
    fn a_recipe_that_ships_can_be_extended() {
        let recipes = Recipes::new(&[(
            "mine.toml",
            "extends = \"quickstart\"\nname = \"mine\"\narms = []\n[experts]\nshared = 8\n",
        )]);
        let mine = recipes.read("mine.toml", &[]).unwrap();
        let overrides = ["name=mine", "arms=[]", "experts.shared=8"].map(str::to_owned);
        let same = AnyRecipe::load("quickstart", &overrides).unwrap();
        let same = of_any!(&same, recipe => toml::Table::try_from(recipe)).unwrap();
        assert_eq!(mine, same);
    }

    #[test]
    fn mistakes_are_told_with_the_file_that_they_are_in() {
        let base = VALID.replace("epochs = 5", "epochs = \"some\"");
        let unknown = VALID.replace("epochs = 5", "\nepoch = 5");
        let invalid = VALID.replace("epochs = 5", "batch_size = 0");
        let recipes = Recipes::new(&[
            ("type.toml", &base),
            ("unknown.toml", &unknown),
            ("invalid.toml", &invalid),
            ("broken.toml", "name = \n"),
            (
                "list.toml",
                &format!("{VALID}[stages.a]\nmethods = [\"kd\"]\n"),
            ),
            ("a.toml", "extends = \"type.toml\"\nname = \"a\"\n"),
            ("b.toml", "name = \"b\"\nextends = \"unknown.toml\"\n"),
            ("c.toml", "name = \"c\"\nextends = \"invalid.toml\"\n"),
            (
                "d.toml",
                "\n\nextends = \"invalid.toml\"\n[train]\nbatch_size = 8\nepochs = -1\n",
            ),
            ("e.toml", "extends = \"broken.toml\"\n"),
            ("f.toml", "name = \"f\"\nextends = \"quikstart\"\n"),
            ("g.toml", "extends = 3\n"),
            (
                "h.toml",
                "extends = \"list.toml\"\nname = \"h\"\nstages.a.methods.kd.weight = 2\n",
            ),
            ("i.toml", "extend = \"a.toml\"\n"),
            (
                "j.toml",
                &format!("{VALID}[[arms]]\nname = \"x\"\nextends = \"a.toml\"\n"),
            ),
        ]);
        for (name, expected) in [
            ("a.toml", "type.toml, line 8: `train.epochs`: invalid type"),
            (
                "b.toml",
                "unknown.toml, line 9: unknown key `train.epoch`; did you mean `epochs`?",
            ),
            (
                "c.toml",
                "invalid.toml, line 8: `train.batch_size` must be at least 1, not 0",
            ),
            ("d.toml", "d.toml, line 6: `train.epochs`: invalid value"),
            ("e.toml", "broken.toml, line 1: "),
            (
                "f.toml",
                "f.toml, line 2: `extends`: no recipe `quikstart`: there is no such file, and kiln ships `quickstart`",
            ),
            (
                "g.toml",
                "g.toml, line 1: `extends` must be the name of a recipe that ships, or of a file",
            ),
            (
                "h.toml",
                "h.toml, line 3: `stages.a.methods` is a list and is replaced as a whole",
            ),
            (
                "i.toml",
                "i.toml, line 1: unknown key `extend`; did you mean `extends`?",
            ),
            (
                "j.toml",
                "j.toml, line 11: `extends` is for the top of a recipe file",
            ),
        ] {
            let message = recipes.refusal(name);
            assert!(message.starts_with(expected), "{name}: {message}");
            assert!(!message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn a_circle_is_refused_with_its_files() {
        let recipes = Recipes::new(&[
            ("a.toml", "name = \"a\"\nextends = \"sub/b.toml\"\n"),
            ("sub/b.toml", "extends = \"../a.toml\"\n"),
            ("self.toml", "extends = \"self.toml\"\n"),
        ]);
        assert_eq!(
            recipes.refusal("a.toml"),
            "sub/b.toml, line 1: `extends`: recipes go in a circle: a.toml extends sub/b.toml extends sub/../a.toml"
        );
        assert_eq!(
            recipes.refusal("self.toml"),
            "self.toml, line 1: `extends`: recipes go in a circle: self.toml extends self.toml"
        );
    }

    #[test]
    fn an_ablation_is_replaced_as_a_whole() {
        let base = format!(
            "{VALID}[ablate]\nseeds = [1, 2]\nmetric = \"accuracy\"\n[[ablate.block]]\ngrid = {{ train.epochs = [1, 2] }}\n"
        );
        let recipes = Recipes::new(&[
            ("base.toml", &base),
            ("same.toml", "extends = \"base.toml\"\n"),
            (
                "other.toml",
                "extends = \"base.toml\"\n[[ablate.block]]\ngrid = { train.batch_size = [4, 8] }\n",
            ),
            (
                "wrong.toml",
                "extends = \"base.toml\"\n[ablate]\nseed = [1]\n",
            ),
        ]);
        let names = |name: &str| {
            let path = recipes.path(name).display().to_string();
            let recipe = AnyRecipe::load_ablation(&path, &crate::ablate::arms::Command::default());
            let ablation = of_any!(&recipe.unwrap(), recipe => recipe.ablation.clone()).unwrap();
            let names: Vec<String> = ablation.arms.into_iter().map(|arm| arm.name).collect();
            (names, ablation.seeds, ablation.metric)
        };
        assert_eq!(names("same.toml"), names("base.toml"));
        let (arms, seeds, metric) = names("other.toml");
        assert_eq!(arms, ["train.batch_size=4", "train.batch_size=8"]);
        assert_eq!((seeds, metric), (vec![1], None));
        let message = recipes.refusal("wrong.toml");
        assert!(
            message.starts_with("wrong.toml, line 3: unknown key `ablate.seed`"),
            "{message}"
        );
    }
}
