//! The models that a recipe asks for, in the same terms for every family of models.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
};

use distill::Names;
use masformer_core::{MixerSchedule, SpanSchedule};
use moebert_core::keep_layers::KeepLayers;
use serde::Serialize;

use super::{
    KeptEpoch, Problem, RandomStudent, Recipe, RecipeFamily, StageRecipe, StartModel, TrainRecipe,
    stages,
};
use crate::methods::{
    self, MethodTables,
    experts::{EXPERTS, ExpertsRecipe, RouterWeights},
};

/// The name in the table of the model that runs begin with, where that is judged.
pub(crate) const CHECKPOINT: &str = "checkpoint";

/// A model of a run: where its weights come from, how it is changed and trained, and what it learns from.
///
/// Serialised, it is what determines the model apart from its origin, its teacher and the data.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelPlan {
    /// Its name in the table and in the run folder.
    #[serde(skip)]
    pub name: String,
    /// The stage of the recipe that makes it.
    #[serde(skip)]
    pub stage: String,
    /// Where its weights come from.
    #[serde(skip)]
    pub from: Origin,
    /// The layers that it keeps of those.
    pub keep_layers: Option<KeepLayers>,
    /// What its layers attend to; absent: what those of its origin do.
    pub spans: Option<SpanSchedule>,
    /// What its layers mix tokens with; absent: what those of its origin do.
    pub mixers: Option<MixerSchedule>,
    /// How its feed-forward layers are split.
    pub experts: Option<ExpertsRecipe>,
    /// What its routers add to the loss.
    pub routers: RouterWeights,
    /// The model, further up, that its methods compare it with.
    #[serde(skip)]
    pub teacher: Option<String>,
    /// The factor of the labels' loss.
    pub task: f64,
    /// What else it learns from.
    pub methods: MethodTables,
    /// What of it stays as it is in its training.
    #[serde(skip_serializing_if = "Names::is_empty")]
    pub freeze: Names,
    /// How it is trained; absent: it is judged as it is.
    pub train: Option<TrainRecipe>,
    /// Whether it is judged: not where it stays as it is while weights of a method are trained.
    #[serde(skip)]
    pub is_judged: bool,
    /// Whether it is also judged before its training.
    #[serde(skip)]
    pub judge_before: bool,
    /// What a legend says of it besides its name.
    #[serde(skip)]
    pub legend: Option<String>,
}

/// Where a model's weights come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// The model of the recipe's `[model]`.
    Start,
    /// A model further up in the plan.
    Model(String),
    /// A folder of its own.
    Folder(PathBuf),
    /// Weights of its own that are drawn.
    Random(RandomStudent),
}

impl ModelPlan {
    /// The model to begin with, judged as it is.
    fn checkpoint(name: String) -> Self {
        Self {
            stage: name.clone(),
            name,
            from: Origin::Start,
            keep_layers: None,
            spans: None,
            mixers: None,
            experts: None,
            routers: RouterWeights::default(),
            teacher: None,
            task: 1.0,
            methods: MethodTables::new(),
            freeze: Names::default(),
            train: None,
            is_judged: true,
            judge_before: false,
            legend: None,
        }
    }

    /// What its layers are and what it learns from, for messages and legends.
    fn legend(&self) -> Option<String> {
        let spans = self.spans.as_ref().map(ToString::to_string);
        let mixers = self
            .mixers
            .as_ref()
            .map(|mixers| format!("mixers {mixers}"));
        let experts = self.experts.as_ref().map(ToString::to_string);
        let methods = self.methods.keys().cloned().collect::<Vec<_>>();
        let methods = (!methods.is_empty()).then(|| methods.join(" and "));
        let parts: Vec<String> = [spans, mixers, experts, methods]
            .into_iter()
            .flatten()
            .collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

/// The models of a recipe.
pub(super) struct Plans<T: RecipeFamily> {
    /// Those of all arms, each after those that it needs. Models that arms share are there once.
    pub models: Vec<ModelPlan>,
    /// What the arms stand on, each with the models of its arms.
    pub bases: Vec<Recipe<T>>,
    /// The arms that come out equal to an earlier one, as indices of both.
    pub equal: BTreeMap<usize, usize>,
}

/// The models of all arms. An arm that comes out equal to an earlier one adds none.
///
/// # Errors
///
/// Models of one name.
pub(super) fn plan<T: RecipeFamily>(
    recipe: &Recipe<T>,
    arms: &[(String, Recipe<T>)],
) -> Result<Plans<T>, Vec<Problem>> {
    let mut bases: Vec<Recipe<T>> = vec![];
    let of_arms = arms.iter().map(|(_, arm)| {
        let found = bases.iter().position(|base| base.is_base_of(recipe, arm));
        found.unwrap_or_else(|| {
            bases.push(recipe.with_base_of(arm));
            bases.len() - 1
        })
    });
    let of_arms: Vec<usize> = of_arms.collect();
    let mut pool = Pool::default();
    let stand = || arms.iter().zip(&of_arms);
    let places: Vec<_> = stand()
        .map(|((arm, recipe), base)| pool.add_shared(arm, recipe, *base))
        .collect();
    let (mut problems, mut equal) = (vec![], BTreeMap::new());
    for (index, (((arm, recipe), base), places)) in stand().zip(&places).enumerate() {
        if let Some(first) = pool.add_last((index, arm), recipe, *base, places) {
            equal.insert(index, first);
        }
    }
    let names = pool.names();
    let mut taken = BTreeSet::new();
    for name in &names {
        if !taken.insert(name) {
            let reason = format!(
                "gives two models the name `{name}`: call an arm or a stage something else"
            );
            let named = arms.iter().position(|(arm, _)| arm == name);
            let key = named.map_or("arms".to_owned(), |arm| format!("arms.{arm}"));
            problems.push((key, reason));
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    for (index, base) in bases.iter_mut().enumerate() {
        if T::JUDGES_BEFORE && base.model.folder().is_some() {
            let arm = stand().find(|(_, base)| **base == index);
            let name = match arm {
                Some(((arm, _), _)) if index > 0 => format!("{CHECKPOINT}-{arm}"),
                _ => CHECKPOINT.to_owned(),
            };
            base.models.push(ModelPlan::checkpoint(name));
        }
    }
    let mut models: Vec<ModelPlan> = bases.iter().flat_map(Recipe::plan).cloned().collect();
    for (base, plan) in pool.named(&names) {
        models.push(plan.clone());
        bases[base].models.push(plan);
    }
    Ok(Plans {
        models,
        bases,
        equal,
    })
}

/// The models so far. Until they have names, they name each other by their places.
#[derive(Default)]
struct Pool {
    members: Vec<Member>,
    /// The places of models by what they stand on and what of them is written: few are to be compared.
    by_text: HashMap<(usize, String), Vec<usize>>,
}

/// A model of the pool.
struct Member {
    stage: String,
    /// The first arm that has it.
    arm: String,
    /// That arm as an index, if it is the last stage of it.
    last_of: Option<usize>,
    /// What the arms that have it stand on.
    base: usize,
    plan: ModelPlan,
}

/// Where the stages of an arm are in the pool.
type Places<'a> = Vec<(&'a str, usize)>;

impl Pool {
    /// Adds all stages of an arm but the last.
    fn add_shared<'a, T: RecipeFamily>(
        &mut self,
        arm: &str,
        recipe: &'a Recipe<T>,
        base: usize,
    ) -> Places<'a> {
        let mut places = Places::new();
        let mut order = order(recipe);
        order.pop();
        for stage in order {
            let plan = content(recipe, stage, &places);
            let place = self.equal(&plan, base).unwrap_or_else(|| {
                self.push(Member {
                    stage: stage.to_owned(),
                    arm: arm.to_owned(),
                    last_of: None,
                    base,
                    plan,
                })
            });
            places.push((stage, place));
        }
        places
    }

    /// Adds the last stage of an arm, given with its index; returns the arm that has the same one.
    fn add_last<T: RecipeFamily>(
        &mut self,
        (index, arm): (usize, &str),
        recipe: &Recipe<T>,
        base: usize,
        places: &Places<'_>,
    ) -> Option<usize> {
        let last = *order(recipe).last()?;
        let plan = content(recipe, last, places);
        match self.equal(&plan, base) {
            None => drop(self.push(Member {
                stage: last.to_owned(),
                arm: arm.to_owned(),
                last_of: Some(index),
                base,
                plan,
            })),
            Some(place) if self.members[place].last_of.is_some() => {
                return self.members[place].last_of;
            }
            Some(place) => {
                let member = &mut self.members[place];
                member.last_of = Some(index);
                arm.clone_into(&mut member.arm);
            }
        }
        None
    }

    fn equal(&self, plan: &ModelPlan, base: usize) -> Option<usize> {
        let places = self.by_text.get(&(base, text(plan)))?;
        let mut places = places.iter().copied();
        places.find(|place| self.members[*place].plan == *plan)
    }

    fn push(&mut self, member: Member) -> usize {
        let place = self.members.len();
        let key = (member.base, text(&member.plan));
        self.by_text.entry(key).or_default().push(place);
        self.members.push(member);
        place
    }

    /// The last stage of an arm is called as the arm; another one as its stage, or `STAGE-ARM` where arms make different
    /// models of one stage.
    fn names(&self) -> Vec<String> {
        let mut of_stage: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.iter().filter(|it| it.last_of.is_none()) {
            *of_stage.entry(&member.stage).or_default() += 1;
        }
        let names = self.members.iter().map(|member| {
            let Member {
                stage,
                arm,
                last_of,
                ..
            } = member;
            match last_of {
                Some(_) => arm.clone(),
                None if of_stage[stage.as_str()] > 1 => format!("{stage}-{arm}"),
                None => stage.clone(),
            }
        });
        names.collect()
    }

    /// The models under these names, each with what its arms stand on.
    fn named(self, names: &[String]) -> impl Iterator<Item = (usize, ModelPlan)> {
        let name = |place: &str| {
            let place: Option<usize> = place.parse().ok();
            place
                .and_then(|place| names.get(place))
                .cloned()
                .unwrap_or_default()
        };
        let members = self.members.into_iter().zip(names);
        members.map(move |(member, own)| {
            let plan = member.plan;
            let plan = ModelPlan {
                name: own.clone(),
                stage: member.stage,
                from: match &plan.from {
                    Origin::Model(place) => Origin::Model(name(place)),
                    other => other.clone(),
                },
                teacher: plan.teacher.as_deref().map(name),
                legend: plan.legend(),
                ..plan
            };
            (member.base, plan)
        })
    }
}

/// What of a plan is written. Equal plans have equal texts.
fn text(plan: &ModelPlan) -> String {
    serde_json::to_string(plan).unwrap_or_default()
}

/// The stages that an arm uses, each after those that it needs.
pub(super) fn order<T: RecipeFamily>(recipe: &Recipe<T>) -> Vec<&str> {
    stages::order(&recipe.stages, |stage| teacher(recipe, stage))
}

/// The stage that a stage is compared with by its methods.
fn teacher<'a, T: RecipeFamily>(recipe: &'a Recipe<T>, stage: &StageRecipe) -> Option<&'a str> {
    let needs = methods::with_teacher::<T::Learner>(&recipe.methods_of(stage));
    recipe.teacher_of(stage).filter(|_| !needs.is_empty())
}

/// What a stage makes, without a name.
fn content<T: RecipeFamily>(recipe: &Recipe<T>, name: &str, places: &Places<'_>) -> ModelPlan {
    let stage = &recipe.stages[name];
    let place = |name: &str| {
        let found = places.iter().find(|(stage, _)| *stage == name);
        found.map(|(_, place)| place.to_string())
    };
    let start = recipe.start_of(stage).and_then(place);
    let (from, arrangement) = match (start, &stage.folder, stage.random) {
        (Some(place), ..) => (Origin::Model(place), None),
        (None, Some(dir), _) => (Origin::Folder(dir.clone()), None),
        (None, None, Some(random)) => (Origin::Random(random), None),
        (None, None, None) => (Origin::Start, Some(&recipe.model)),
    };
    let spans = stage
        .spans
        .as_ref()
        .or(arrangement.and_then(T::Model::spans));
    let mixers = stage
        .mixers
        .as_ref()
        .or(arrangement.and_then(T::Model::mixers));
    let mut methods = recipe.methods_of(stage);
    let experts = recipe.experts_of(stage);
    methods.remove(EXPERTS);
    let mut train = recipe.train_of(stage);
    let stays = methods::freezing::<T::Learner>(&methods).is_some();
    if stays {
        // All epochs have the same score.
        train.keep = KeptEpoch::Last;
        train.early_stopping = None;
    }
    let is_trained = train.epochs > 0;
    let is_given = from == Origin::Start && recipe.model.folder().is_some();
    ModelPlan {
        name: String::new(),
        stage: String::new(),
        from,
        keep_layers: stage.keep_layers.clone(),
        spans: spans.cloned(),
        mixers: mixers.cloned(),
        routers: experts
            .as_ref()
            .map(|experts| experts.routers.clone())
            .unwrap_or_default(),
        experts: experts.map(|experts| experts.split),
        teacher: teacher(recipe, stage).and_then(place),
        task: stage.task,
        methods,
        freeze: stage.freeze.clone(),
        train: is_trained.then_some(train),
        is_judged: !stays,
        judge_before: T::JUDGES_BEFORE && is_given && is_trained && !stays,
        legend: None,
    }
}

#[cfg(test)]
mod tests;
