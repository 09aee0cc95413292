//! The methods that a recipe can name: one line each.

pub mod experts;

use std::collections::BTreeMap;

use distill::{
    Callback, Method, MethodError, Objective, Surgery, Trainable, callback, objective, surgery,
};
use masformer_core::nearest::hint;
use moebert_core::layered::Layered;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use self::experts::{EXPERTS, Experts};

/// A model that methods can change and train.
pub trait Model: Trainable + Layered {}

impl<M: Trainable + Layered> Model for M {}

/// The methods of a model in training, by their names, each with its settings.
pub type MethodTables = BTreeMap<String, toml::Table>;

/// A method.
pub struct Entry<M: Model> {
    /// Its key in a recipe.
    pub name: &'static str,
    /// What it does, its settings, its source and where it applies, in Markdown; the first line is its title.
    pub page: &'static str,
    /// Its settings with their defaults, made when they are asked for: recipes of many arms look entries up often.
    defaults: fn() -> Value,
    form: Form<M>,
    /// All settings in their plain form.
    complete: fn(Value) -> Result<Value, serde_json::Error>,
}

/// Settings with defaults in place of those that are absent, each in the form in which it is written.
fn complete<T: Serialize + DeserializeOwned>(settings: Value) -> Result<Value, serde_json::Error> {
    let mut settings = serde_json::to_value(serde_json::from_value::<T>(settings)?)?;
    if let Some(settings) = settings.as_object_mut() {
        // TOML has no value for what is absent.
        settings.retain(|_, value| !value.is_null());
    }
    Ok(settings)
}

/// The default settings.
fn defaults<T: Default + Serialize>() -> Value {
    serde_json::to_value(T::default()).unwrap_or_default()
}

/// What becomes of the settings of a method.
enum Form<M: Model> {
    /// The forms of the method: most have one, a paper may need several.
    Methods(Box<Make<M>>),
    /// The pipeline takes them: the method also needs scores and counts of the run. They are read here only to check them.
    Pipeline(fn(Value) -> Result<(), serde_json::Error>),
}

type Make<M> = dyn Fn(Value) -> Result<Vec<Method<M>>, serde_json::Error>;

/// Every method, in the order in which their terms join the loss.
pub fn all<M: Model>() -> Vec<Entry<M>> {
    vec![
        pipeline::<Experts, M>(EXPERTS, include_str!("../../docs/methods/moebert.md")),
        objective::<objective::Layerwise, M>(include_str!("../../docs/methods/layerwise.md")),
        objective::<objective::Kd, M>(include_str!("../../docs/methods/kd.md")),
        objective::<objective::Pkd, M>(include_str!("../../docs/methods/pkd.md")),
        objective::<objective::MiniLm, M>(include_str!("../../docs/methods/minilm.md")),
        objective::<objective::TinyBert, M>(include_str!("../../docs/methods/tinybert.md")),
        objective::<objective::DistilBert, M>(include_str!("../../docs/methods/distilbert.md")),
        objective::<objective::TedFilters, M>(include_str!("../../docs/methods/ted-filters.md")),
        objective::<objective::Ted, M>(include_str!("../../docs/methods/ted.md")),
        surgery::<surgery::Lora, M>(include_str!("../../docs/methods/lora.md")),
        surgery::<surgery::DropTokens, M>(include_str!("../../docs/methods/drop-tokens.md")),
        entry(
            "losparse",
            include_str!("../../docs/methods/losparse.md"),
            surgery::LoSparse::methods,
        ),
        callback::<callback::Ema, M>(include_str!("../../docs/methods/ema.md")),
    ]
}

/// An objective, whose settings are its fields.
fn objective<T, M>(page: &'static str) -> Entry<M>
where
    T: Objective + Default + Serialize + DeserializeOwned + 'static,
    M: Model,
{
    entry(T::default().name(), page, |settings: T| {
        vec![Method::Objective(Box::new(settings))]
    })
}

/// A surgery, whose settings are its fields.
fn surgery<T, M>(page: &'static str) -> Entry<M>
where
    T: Surgery<M> + Default + Serialize + DeserializeOwned + 'static,
    M: Model,
{
    entry(T::default().name(), page, |settings: T| {
        vec![Method::Surgery(Box::new(settings))]
    })
}

/// A callback, whose settings are its fields.
fn callback<T, M>(page: &'static str) -> Entry<M>
where
    T: Callback<M> + Default + Serialize + DeserializeOwned + 'static,
    M: Model,
{
    entry(T::default().name(), page, |settings: T| {
        vec![Method::Callback(Box::new(settings))]
    })
}

/// A method of one or several forms, which follow from its settings.
fn entry<T, M>(name: &'static str, page: &'static str, forms: fn(T) -> Vec<Method<M>>) -> Entry<M>
where
    T: Default + Serialize + DeserializeOwned + 'static,
    M: Model,
{
    Entry {
        name,
        page,
        defaults: defaults::<T>,
        form: Form::Methods(Box::new(move |settings| {
            Ok(forms(serde_json::from_value::<T>(settings)?))
        })),
        complete: complete::<T>,
    }
}

/// A method that the pipeline makes.
fn pipeline<T, M>(name: &'static str, page: &'static str) -> Entry<M>
where
    T: Default + Serialize + DeserializeOwned,
    M: Model,
{
    Entry {
        name,
        page,
        defaults: defaults::<T>,
        form: Form::Pipeline(|settings| serde_json::from_value::<T>(settings).map(drop)),
        complete: complete::<T>,
    }
}

impl<M: Model> Entry<M> {
    /// The first line of the page, without its mark.
    pub fn title(&self) -> &'static str {
        let line = self.page.lines().next().unwrap_or_default();
        line.trim_start_matches("# ")
    }

    /// Its settings with their defaults.
    pub fn defaults(&self) -> Value {
        (self.defaults)()
    }

    /// What is wrong with settings, as pairs of a key below the method's and a reason that goes on with its sentence.
    fn problems(&self, settings: &toml::Table) -> Vec<(String, String)> {
        let defaults = self.defaults();
        let known = defaults.as_object().into_iter().flatten();
        let known: Vec<&str> = known.map(|(name, _)| name.as_str()).collect();
        let unknown = settings.keys().filter(|key| !known.contains(&key.as_str()));
        let unknown = unknown.map(|key| {
            let reason = format!("is no setting of `{}`; {}", self.name, hint(key, &known));
            (format!(".{key}"), reason)
        });
        let infinite = settings.iter().filter(|(_, value)| !is_finite(value));
        let infinite =
            infinite.map(|(key, _)| (format!(".{key}"), "must be a finite number".to_owned()));
        let problems: Vec<_> = unknown.chain(infinite).collect();
        if problems.is_empty()
            && let Err(error) = self.check(settings)
        {
            let key = self.culprit(settings).map(|key| format!(".{key}"));
            return vec![(key.unwrap_or_default(), format!("cannot work: {error}"))];
        }
        problems
    }

    /// The setting without which the others can work.
    fn culprit<'a>(&self, settings: &'a toml::Table) -> Option<&'a str> {
        let keys = settings.keys().map(String::as_str);
        let mut culprits = keys.filter(|key| {
            let mut others = settings.clone();
            others.remove(*key);
            self.check(&others).is_ok()
        });
        culprits.next()
    }

    fn check(&self, settings: &toml::Table) -> Result<(), MethodError> {
        let settings = serde_json::to_value(settings)?;
        match &self.form {
            Form::Methods(make) => make(settings)?.iter().try_for_each(Method::check),
            Form::Pipeline(check) => Ok(check(settings)?),
        }
    }

    /// The forms of the method; none if the pipeline makes it.
    fn make(&self, settings: &toml::Table) -> Result<Vec<Method<M>>, serde_json::Error> {
        match &self.form {
            Form::Methods(make) => serde_json::to_value(settings).and_then(make),
            Form::Pipeline(_) => Ok(vec![]),
        }
    }
}

/// The names of all methods.
pub fn names<M: Model>() -> Vec<&'static str> {
    all::<M>().into_iter().map(|entry| entry.name).collect()
}

/// All settings of a method: the defaults, and over them those of each table in turn. None if there is no such method.
pub fn settings<'a, M: Model>(
    name: &str,
    tables: impl IntoIterator<Item = &'a toml::Table>,
) -> Option<toml::Table> {
    let entry = all::<M>().into_iter().find(|entry| entry.name == name)?;
    let mut given = toml::Table::new();
    for table in tables {
        lay_over(&mut given, table);
    }
    let settings = serde_json::to_value(&given).and_then(entry.complete);
    // Settings that are not right are refused elsewhere, as they were given.
    let settings = settings
        .ok()
        .and_then(|settings| toml::Table::try_from(settings).ok());
    Some(settings.unwrap_or(given))
}

/// Lays a table over another: tables key by key, anything else as a whole.
fn lay_over(below: &mut toml::Table, above: &toml::Table) {
    for (key, value) in above {
        match (below.get_mut(key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) => lay_over(below, above),
            _ => drop(below.insert(key.clone(), value.clone())),
        }
    }
}

/// Whether all numbers of a value are finite.
fn is_finite(value: &toml::Value) -> bool {
    match value {
        toml::Value::Float(number) => number.is_finite(),
        toml::Value::Array(values) => values.iter().all(is_finite),
        toml::Value::Table(table) => table.values().all(is_finite),
        _ => true,
    }
}

/// The methods of these tables, without those that the pipeline makes.
///
/// # Errors
///
/// If settings are not those of their method; recipes that were loaded have right ones.
pub fn make<M: Model>(tables: &MethodTables) -> Result<Vec<Method<M>>, serde_json::Error> {
    let mut methods = vec![];
    for (entry, settings) in chosen(tables) {
        methods.extend(entry.make(settings)?);
    }
    Ok(methods)
}

/// The entries of these tables, each with its settings.
fn chosen<M: Model>(tables: &MethodTables) -> impl Iterator<Item = (Entry<M>, &toml::Table)> {
    all::<M>().into_iter().filter_map(|entry| {
        let settings = tables.get(entry.name)?;
        Some((entry, settings))
    })
}

/// The methods of these tables whose settings are right, with their names.
fn made<M: Model>(tables: &MethodTables) -> impl Iterator<Item = (&'static str, Method<M>)> {
    chosen::<M>(tables).flat_map(|(entry, settings)| {
        let forms = entry.make(settings).unwrap_or_default().into_iter();
        forms.map(move |form| (entry.name, form))
    })
}

/// The names of those methods of these tables that compare a model with its teacher.
pub fn with_teacher<M: Model>(tables: &MethodTables) -> Vec<&'static str> {
    let needs = made::<M>(tables).filter(|(_, method)| method.needs_teacher());
    needs.map(|(name, _)| name).collect()
}

/// The name of a method of these tables that trains weights of its own while the model stays as it is, if any does.
pub fn freezing<M: Model>(tables: &MethodTables) -> Option<&'static str> {
    let mut freezing = made::<M>(tables).filter(|(_, method)| method.freezes_model());
    freezing.next().map(|(name, _)| name)
}

/// The methods of these tables that begin with weights of another method, each with the name of that.
pub fn continuing<M: Model>(tables: &MethodTables) -> Vec<(&'static str, &'static str)> {
    let continuing = made::<M>(tables);
    let continuing = continuing.filter_map(|(name, method)| Some((name, method.begins_with()?)));
    continuing.collect()
}

/// Whether some method of these tables adds to the loss.
pub fn add_to_loss<M: Model>(tables: &MethodTables) -> bool {
    made::<M>(tables).any(|(_, method)| method.adds_to_loss())
}

/// What is wrong with the methods of a table whose keys begin with `prefix`, as pairs of a dotted key and a reason that
/// goes on with its sentence.
pub fn problems<M: Model>(prefix: &str, tables: &MethodTables) -> Vec<(String, String)> {
    let entries = all::<M>();
    let names: Vec<&str> = entries.iter().map(|entry| entry.name).collect();
    let mut problems = vec![];
    for (name, settings) in tables {
        let key = format!("{prefix}{name}");
        match entries.iter().find(|entry| entry.name == name) {
            Some(entry) => {
                let found = entry.problems(settings).into_iter();
                problems.extend(found.map(|(below, reason)| (format!("{key}{below}"), reason)));
            }
            None => problems.push((key, format!("is no method; {}", hint(name, &names)))),
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learner::TaskLearner;

    fn problems_of(text: &str) -> Vec<String> {
        let tables: MethodTables = toml::from_str(text).unwrap();
        let problems = problems::<TaskLearner>("methods.", &tables).into_iter();
        problems
            .map(|(key, reason)| format!("`{key}` {reason}"))
            .collect()
    }

    #[test]
    fn every_method_has_a_page_under_its_name_and_defaults_that_it_accepts() {
        for entry in all::<TaskLearner>() {
            let title = format!("{}: ", entry.name);
            assert!(entry.title().starts_with(&title), "{}", entry.title());
            let page = entry.page;
            let defaults = entry.defaults();
            for (setting, _) in defaults.as_object().unwrap() {
                assert!(
                    page.contains(&format!("`{setting}`")),
                    "{}: {setting}",
                    entry.name
                );
            }
            let defaults = settings::<TaskLearner>(entry.name, []).expect("a method");
            assert!(entry.check(&defaults).is_ok());
            assert!(entry.check(&toml::Table::new()).is_ok());
            assert_eq!(
                settings::<TaskLearner>(entry.name, [&defaults]),
                Some(defaults)
            );
        }
    }

    #[test]
    fn what_is_no_method_or_no_setting_names_the_nearest() {
        assert_eq!(
            problems_of("[layerwize]\n"),
            ["`methods.layerwize` is no method; did you mean `layerwise`?"]
        );
        assert_eq!(
            problems_of("[layerwise]\nwieght = 2\n"),
            ["`methods.layerwise.wieght` is no setting of `layerwise`; did you mean `weight`?"]
        );
        let wrong = problems_of("[layerwise]\nweight = \"much\"\n");
        assert!(
            wrong[0].starts_with("`methods.layerwise.weight` cannot work: invalid type"),
            "{wrong:?}"
        );
        assert!(problems_of("[layerwise]\nweight = 2\nlayers = \"every:2\"\n").is_empty());
    }

    #[test]
    fn settings_that_cannot_work_are_refused_with_their_reason() {
        for (text, reason) in [
            ("[kd]\ntemperature = 0\n", "`temperature` must be above 0"),
            ("[minilm]\nheads = 0\n", "`heads` must be at least 1"),
            ("[lora]\nrank = 0\n", "`rank` must be at least 1, not 0"),
            ("[lora]\ntargets = []\n", "`targets` must name at least one"),
        ] {
            let problems = problems_of(text);
            assert!(
                problems.len() == 1 && problems[0].contains(&format!("cannot work: {reason}")),
                "{problems:?}"
            );
        }
    }

    #[test]
    fn numbers_are_finite_and_tables_are_laid_over_each_other() {
        assert_eq!(
            problems_of("[kd]\nweight = nan\n"),
            ["`methods.kd.weight` must be a finite number"]
        );
        let tables = [
            "pairs = { qq = 2.0, vv = 0.5 }\nweight = 3.0",
            "pairs = { vv = 1.5 }",
        ];
        let tables: Vec<toml::Table> = tables.map(|text| toml::from_str(text).unwrap()).into();
        let laid = settings::<TaskLearner>("minilm", &tables).unwrap();
        let pairs = laid["pairs"].as_table().unwrap();
        let weight = |pair: &str| pairs[pair].as_float().unwrap();
        assert_eq!((weight("qq"), weight("vv")), (2.0, 1.5));
        assert_eq!(laid["weight"].as_float(), Some(3.0));
    }

    #[test]
    fn some_methods_need_a_teacher_and_some_add_to_the_loss() {
        let tables = |text| -> MethodTables { toml::from_str(text).unwrap() };
        let both = tables("[kd]\n[lora]\n");
        assert_eq!(with_teacher::<TaskLearner>(&both), ["kd"]);
        assert!(add_to_loss::<TaskLearner>(&both));
        let alone = tables("[lora]\n");
        assert!(with_teacher::<TaskLearner>(&alone).is_empty());
        assert!(!add_to_loss::<TaskLearner>(&alone));
    }
}
