//! The models that a recipe asks for, in the same terms for every family of models.

use std::path::PathBuf;

use masformer_core::{MixerSchedule, SpanSchedule};
use moebert_core::keep_layers::KeepLayers;
use serde::Serialize;

use super::{Problem, Recipe, RecipeFamily, StageRecipe, StartModel, TrainRecipe, stages};
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
    /// How it is trained; absent: it is judged as it is.
    pub train: Option<TrainRecipe>,
    /// Whether it is also judged before its training.
    #[serde(skip)]
    pub judge_before: bool,
    /// What a legend says of it besides its name.
    #[serde(skip)]
    pub legend: Option<String>,
}

/// Where a model's weights come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The model of the recipe's `[model]`.
    Start,
    /// A model further up in the plan.
    Model(String),
    /// A folder of its own.
    Folder(PathBuf),
}

impl ModelPlan {
    /// The model to begin with, judged as it is.
    fn checkpoint() -> Self {
        Self {
            name: CHECKPOINT.to_owned(),
            from: Origin::Start,
            keep_layers: None,
            spans: None,
            mixers: None,
            experts: None,
            routers: RouterWeights::default(),
            teacher: None,
            task: 1.0,
            methods: MethodTables::new(),
            train: None,
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

/// The models of all arms. Those that arms share are there once.
///
/// # Errors
///
/// Arms that come out equal, and models of one name.
pub(super) fn plan<T: RecipeFamily>(
    arms: &[(String, Recipe<T>)],
) -> Result<Vec<ModelPlan>, Vec<Problem>> {
    let mut pool = Pool::default();
    let places: Vec<_> = arms
        .iter()
        .map(|(arm, recipe)| pool.add_shared(arm, recipe))
        .collect();
    let mut problems = vec![];
    for (index, ((arm, recipe), places)) in arms.iter().zip(&places).enumerate() {
        if let Some(equal) = pool.add_last(arm, recipe, places) {
            let reason = format!("is equal to the arm `{equal}`: they train the same model");
            problems.push((format!("arms.{index}"), reason));
        }
    }
    let names = pool.names();
    for (index, name) in names.iter().enumerate() {
        if names[..index].contains(name) {
            let reason = format!(
                "gives two models the name `{name}`: call an arm or a stage something else"
            );
            problems.push(("arms".to_owned(), reason));
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let is_given = arms
        .iter()
        .any(|(_, recipe)| recipe.model.folder().is_some());
    let start = (T::JUDGES_BEFORE && is_given).then(ModelPlan::checkpoint);
    Ok(start.into_iter().chain(pool.named(&names)).collect())
}

/// The models so far. Until they have names, they name each other by their places.
#[derive(Default)]
struct Pool(Vec<Member>);

/// A model of the pool.
struct Member {
    stage: String,
    /// The first arm that has it.
    arm: String,
    /// Whether it is the last stage of that arm.
    is_last: bool,
    plan: ModelPlan,
}

/// Where the stages of an arm are in the pool.
type Places<'a> = Vec<(&'a str, usize)>;

impl Pool {
    /// Adds all stages of an arm but the last.
    fn add_shared<'a, T: RecipeFamily>(&mut self, arm: &str, recipe: &'a Recipe<T>) -> Places<'a> {
        let mut places = Places::new();
        let mut order = order(recipe);
        order.pop();
        for stage in order {
            let plan = content(recipe, stage, &places);
            let place = self
                .equal(&plan)
                .unwrap_or_else(|| self.push(arm, stage, plan, false));
            places.push((stage, place));
        }
        places
    }

    /// Adds the last stage of an arm; returns the arm that has the same one.
    fn add_last<T: RecipeFamily>(
        &mut self,
        arm: &str,
        recipe: &Recipe<T>,
        places: &Places<'_>,
    ) -> Option<&str> {
        let last = *order(recipe).last()?;
        let plan = content(recipe, last, places);
        match self.equal(&plan) {
            None => drop(self.push(arm, last, plan, true)),
            Some(place) if self.0[place].is_last => return Some(&self.0[place].arm),
            Some(place) => {
                let member = &mut self.0[place];
                member.is_last = true;
                arm.clone_into(&mut member.arm);
            }
        }
        None
    }

    fn equal(&self, plan: &ModelPlan) -> Option<usize> {
        self.0.iter().position(|member| member.plan == *plan)
    }

    fn push(&mut self, arm: &str, stage: &str, plan: ModelPlan, is_last: bool) -> usize {
        self.0.push(Member {
            stage: stage.to_owned(),
            arm: arm.to_owned(),
            is_last,
            plan,
        });
        self.0.len() - 1
    }

    /// The last stage of an arm is called as the arm; another one as its stage, or `STAGE-ARM` where arms make different
    /// models of one stage.
    fn names(&self) -> Vec<String> {
        let of_stage = |stage: &str| {
            let members = self.0.iter();
            members
                .filter(|member| !member.is_last && member.stage == stage)
                .count()
        };
        let names = self.0.iter().map(
            |Member {
                 stage,
                 arm,
                 is_last,
                 ..
             }| match is_last {
                true => arm.clone(),
                false if of_stage(stage) > 1 => format!("{stage}-{arm}"),
                false => stage.clone(),
            },
        );
        names.collect()
    }

    /// The models under these names.
    fn named(self, names: &[String]) -> impl Iterator<Item = ModelPlan> {
        let name = |place: &str| {
            let place: Option<usize> = place.parse().ok();
            place
                .and_then(|place| names.get(place))
                .cloned()
                .unwrap_or_default()
        };
        let members = self.0.into_iter().zip(names);
        members.map(move |(member, own)| {
            let plan = member.plan;
            ModelPlan {
                name: own.clone(),
                from: match &plan.from {
                    Origin::Model(place) => Origin::Model(name(place)),
                    other => other.clone(),
                },
                teacher: plan.teacher.as_deref().map(name),
                legend: plan.legend(),
                ..plan
            }
        })
    }
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
    let (from, arrangement) = match (start, &stage.folder) {
        (Some(place), _) => (Origin::Model(place), None),
        (None, Some(dir)) => (Origin::Folder(dir.clone()), None),
        (None, None) => (Origin::Start, Some(&recipe.model)),
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
    let train = recipe.train_of(stage);
    let is_trained = train.epochs > 0;
    let is_given = from == Origin::Start && recipe.model.folder().is_some();
    ModelPlan {
        name: String::new(),
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
        train: is_trained.then_some(train),
        judge_before: T::JUDGES_BEFORE && is_given && is_trained,
        legend: None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{
        AnyRecipe,
        load::{self, VALID},
    };
    use super::*;

    fn planned(text: &str, overrides: &[&str]) -> Vec<ModelPlan> {
        let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
        match load::parse("mine.toml", text, &overrides) {
            Ok(AnyRecipe::Encoder(recipe)) => recipe.plan(),
            Ok(AnyRecipe::Decoder(recipe)) => recipe.plan(),
            Err(error) => panic!("{overrides:?}: {error}"),
        }
    }

    fn names(plan: &[ModelPlan]) -> Vec<&str> {
        plan.iter().map(|model| model.name.as_str()).collect()
    }

    const STAGES: &str =
        "stages={teacher={}, student={from='teacher', methods=['experts', 'layerwise']}}";

    #[test]
    fn a_recipe_without_stages_and_arms_trains_its_model() {
        let plan = planned(VALID, &[]);
        assert_eq!(names(&plan), ["train"]);
        assert_eq!(plan[0].from, Origin::Start);
        assert_eq!(plan[0].train.as_ref().map(|train| train.epochs), Some(5));
        assert_eq!(names(&planned(VALID, &[STAGES])), ["teacher", "student"]);
    }

    #[test]
    fn arms_share_the_stages_in_which_they_are_equal() {
        let arms = "arms=[{name='importance'}, {name='random', experts.order='random'}, \
                    {name='plain', stages.student.methods=['experts']}]";
        let plan = planned(VALID, &[STAGES, arms]);
        assert_eq!(names(&plan), ["teacher", "importance", "random", "plain"]);
        for student in &plan[1..] {
            assert_eq!(student.from, Origin::Model("teacher".to_owned()));
            assert!(student.experts.is_some());
        }
        assert_eq!(plan[1].teacher.as_deref(), Some("teacher"));
        assert_eq!(plan[3].teacher, None);
        assert!(plan[3].methods.is_empty());
        // Settings that are spelled out are those that are not.
        let arms =
            "arms=[{name='a'}, {name='b', layerwise.weight=1, stages.student.train.epochs=5}]";
        let message = load::refusal(VALID, &[STAGES, arms]);
        let expected = "`arms.1` is equal to the arm `a`: they train the same model";
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn models_of_one_stage_are_told_apart_by_the_first_arm_that_has_them() {
        let arms = "arms=[{name='a'}, {name='b', model.spans='window:4'}, \
                    {name='c', model.spans='window:4', experts.order='random'}]";
        let plan = planned(VALID, &[STAGES, arms]);
        assert_eq!(names(&plan), ["teacher-a", "teacher-b", "a", "b", "c"]);
        assert_eq!(plan[4].teacher.as_deref(), Some("teacher-b"));
    }

    #[test]
    fn a_stage_that_another_arm_ends_with_is_called_as_that_arm() {
        let arms = "arms=[{name='a'}, {name='b', stages={teacher={from='model', task=0.5}, student={from='model', methods=[]}}}]";
        let message = load::refusal(VALID, &[STAGES, arms]);
        assert!(message.contains("are both last stages"), "{message}");
        let turned = "arms=[{name='dense', stages={student={from='model', methods=[]}, teacher={from='student'}}}, {name='split'}]";
        let plan = planned(
            VALID,
            &[
                "stages={teacher={}, student={from='teacher', methods=['experts']}}",
                turned,
            ],
        );
        assert_eq!(names(&plan), ["student", "dense", "split"]);
    }

    #[test]
    fn names_that_two_models_would_have_are_refused() {
        let message = load::refusal(VALID, &[STAGES, "arms=[{name='teacher'}]"]);
        let expected =
            "`arms` gives two models the name `teacher`: call an arm or a stage something else";
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn a_teacher_is_trained_where_a_method_looks_at_it() {
        let stages = "stages={teacher={train.epochs=9}, student={teacher='teacher'}}";
        let arms = "arms=[{name='dense'}, {name='taught', stages.student.methods=['kd']}]";
        let plan = planned(VALID, &[stages, arms]);
        assert_eq!(names(&plan), ["teacher", "dense", "taught"]);
        assert_eq!(plan[1].teacher, None);
        let arms = "arms=[{name='dense'}]";
        assert_eq!(names(&planned(VALID, &[stages, arms])), ["dense"]);
    }

    const DECODER: &str = r#"
name = "mine"
model.path = "gpt2"
[data]
task = "text"
path = "books"
length = 32
"#;

    #[test]
    fn stages_that_start_at_a_decoder_folder_are_judged_before_their_training() {
        let arms =
            "arms=[{name='full', model.spans='full'}, {name='local', model.spans='window:4'}]";
        let plan = planned(DECODER, &[arms]);
        assert_eq!(names(&plan), ["checkpoint", "full", "local"]);
        assert_eq!(
            plan.iter()
                .map(|model| model.judge_before)
                .collect::<Vec<_>>(),
            [false, true, true]
        );
        assert!(plan[0].train.is_none());
        let plan = planned(
            DECODER,
            &["stages={a={}, b={from='a'}, c={from='b', spans='window:4', train.epochs=0}}"],
        );
        assert_eq!(names(&plan), ["checkpoint", "a", "b", "c"]);
        assert_eq!(
            plan.iter()
                .map(|model| model.judge_before)
                .collect::<Vec<_>>(),
            [false, true, false, false]
        );
        assert!(plan[3].train.is_none());
    }

    proptest! {
        #[test]
        fn models_come_after_those_that_they_need_under_names_of_their_own(
            arms in proptest::collection::vec((0_u8..3, 0_u8..3, 0_u8..3), 1..5),
        ) {
            let arms = arms.iter().enumerate().map(|(index, (spans, order, methods))| {
                let spans = ["full", "window:4", "window:8"][*spans as usize];
                let order = ["importance", "random", "inverse"][*order as usize];
                let methods = ["'experts', 'kd'", "'experts'", ""][*methods as usize];
                format!("{{name='arm{index}', model.spans='{spans}', experts.order='{order}', stages.student.methods=[{methods}]}}")
            });
            let arms = format!("arms=[{}]", arms.collect::<Vec<_>>().join(", "));
            let overrides = [STAGES.to_owned(), arms];
            // Arms may come out equal.
            if let Ok(AnyRecipe::Encoder(recipe)) = load::parse("mine.toml", VALID, &overrides) {
                let plan = recipe.plan();
                for (index, model) in plan.iter().enumerate() {
                    let before = names(&plan[..index]);
                    prop_assert!(!before.contains(&model.name.as_str()));
                    if let Origin::Model(name) = &model.from {
                        prop_assert!(before.contains(&name.as_str()));
                    }
                    if let Some(teacher) = &model.teacher {
                        prop_assert!(before.contains(&teacher.as_str()));
                    }
                    let equal = plan[..index].iter().any(|other| {
                        let renamed = ModelPlan { name: other.name.clone(), ..model.clone() };
                        *other == renamed
                    });
                    prop_assert!(!equal, "{} is there twice", model.name);
                }
            }
        }
    }
}
