//! The seam for what a model learns from: terms of the loss, one method a file.

pub mod distilbert;
pub mod kd;
pub mod layerwise;
pub mod minilm;
pub mod pkd;
pub mod router;
pub mod ted;
pub mod ted_filters;
pub mod tinybert;

use burn::{nn::Linear, prelude::*, tensor::FloatDType};
use masformer_core::{Keep, Trace};

use crate::{Gauge, LeftParts, MethodError, Shape, Signals, StageError};

pub use distilbert::DistilBert;
pub use kd::Kd;
pub use layerwise::Layerwise;
pub use minilm::{MiniLm, RelationWeights};
pub use pkd::{Patience, Pkd};
pub use router::RouterLosses;
pub use ted::{StudentFilters, Ted};
pub use ted_filters::{HeadActivation, TedFilters};
pub use tinybert::TinyBert;

/// A method that adds terms to the loss.
///
/// Objectives are asked in the order in which a stage got them. An error of any of them stops the training and comes
/// back from `Stage::fit`.
#[allow(unused_variables, reason = "the defaults need no argument")]
pub trait Objective: Send {
    /// A name that is unique in a stage; its parts and its errors go by it.
    fn name(&self) -> &'static str;

    /// Refuses settings that cannot work, whatever the models are.
    ///
    /// # Errors
    ///
    /// What is wrong with a setting.
    fn check(&self) -> Result<(), MethodError> {
        Ok(())
    }

    /// What the student's forward passes should keep.
    fn keep(&self) -> Keep;

    /// What the teacher's forward passes should keep; `None` where no teacher is needed.
    fn keep_of_teacher(&self) -> Option<Keep> {
        None
    }

    /// The names under which the dashboard shows values of this objective.
    fn shows(&self) -> Vec<&'static str> {
        vec![]
    }

    /// Whether [`terms`](Self::terms) adds to the loss. If any objective does, the stage shows the sum as `Total
    /// loss`, beside the loss of the task.
    fn adds_to_loss(&self) -> bool {
        true
    }

    /// Whether the model stays as it is, without dropout, while weights of this objective are trained.
    fn freezes_model(&self) -> bool {
        false
    }

    /// The objective whose weights this one begins with: those that earlier trainings of student and teacher left.
    fn begins_with(&self) -> Option<&'static str> {
        None
    }

    /// Weights of its own, which are trained with the model. They are made again before a checkpoint is read, with the
    /// same shapes.
    ///
    /// # Errors
    ///
    /// If the method does not fit what is given.
    fn parts(&self, given: Given<'_>) -> Result<Vec<Linear>, MethodError> {
        Ok(vec![])
    }

    /// Those of its trained weights that later trainings can begin with; the others are gone at the end.
    fn leaves(&self, parts: &[Linear], model: &Shape) -> Vec<Linear> {
        vec![]
    }

    /// The terms of a batch. `parts` are those of [`parts`](Self::parts), as trained so far; the teacher's signals are
    /// there where [`keep_of_teacher`](Self::keep_of_teacher) asks for them.
    ///
    /// # Errors
    ///
    /// If student and teacher do not fit together.
    fn terms(
        &self,
        parts: &[Linear],
        student: &Signals,
        teacher: Option<&Signals>,
    ) -> Result<Terms, MethodError>;
}

/// What there is when an objective makes its weights.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// The sizes of the student.
    pub student: &'a Shape,
    /// The sizes of the teacher, if there is one.
    pub teacher: Option<&'a Shape>,
    /// What the training left that made the model to begin with.
    pub of_student: &'a LeftParts,
    /// What the teacher's training left.
    pub of_teacher: &'a LeftParts,
    /// Where the weights are to be.
    pub device: &'a Device,
}

/// What an objective makes of a batch.
#[derive(Debug, Default)]
pub struct Terms {
    /// Summands of the loss `[1]`, weighted, in the order in which they are added.
    pub added: Vec<Tensor<1>>,
    /// Values `[1]` for the dashboard, by their names in [`Objective::shows`].
    pub shown: Vec<(&'static str, Tensor<1>)>,
    /// Values of single layers, which `layers.jsonl` gets.
    pub layers: Vec<LayerValues>,
}

/// What a batch says of one layer.
#[derive(Clone, Debug)]
pub struct LayerValues {
    /// What it is, as in `layers.jsonl`; names of different objectives differ.
    pub name: &'static str,
    /// The layer, from 0; of hidden states their index, where 0 is the output of the embedding.
    pub layer: usize,
    /// The values `[K]`, float32 and without autodiff. The stage reads them together with the loss of the optimiser's
    /// step, so that nothing waits for them.
    pub values: Tensor<1>,
}

impl LayerValues {
    /// Values `[K]` of a layer.
    pub fn new(name: &'static str, layer: usize, values: Tensor<1>) -> Self {
        Self {
            name,
            layer,
            values: values.without_autodiff().cast(FloatDType::F32),
        }
    }
}

impl Terms {
    /// Adds the sum of losses `[1]`, weighted, and shows it before it is weighted.
    pub fn add(
        &mut self,
        name: &'static str,
        losses: impl IntoIterator<Item = Tensor<1>>,
        weight: f64,
    ) {
        if let Some(loss) = losses.into_iter().reduce(|sum, loss| sum + loss) {
            self.shown.push((name, loss.clone()));
            self.added.push(loss.mul_scalar(weight));
        }
    }
}

/// Refuses a weight of a term that is negative or not finite.
///
/// # Errors
///
/// If it is.
pub fn check_weight(key: &str, weight: f64) -> Result<(), MethodError> {
    if weight >= 0.0 && weight.is_finite() {
        return Ok(());
    }
    Err(format!("`{key}` must be 0 or more, not {weight}").into())
}

/// A hidden state that a forward pass was asked to keep; `model` is `student` or `teacher`.
///
/// # Errors
///
/// If it was not kept.
pub fn hidden_state(model: &str, trace: &Trace, index: usize) -> Result<Tensor<3>, MethodError> {
    let state = trace.hidden.get(&index).cloned();
    state.ok_or_else(|| format!("the {model} kept no hidden state {index} to compare").into())
}

/// The teacher's signals, which a stage hands to every objective that asks for them.
///
/// # Errors
///
/// If there are none.
pub fn followed(teacher: Option<&Signals>) -> Result<&Signals, MethodError> {
    teacher.ok_or_else(|| "there is no teacher to follow".into())
}

/// The objectives of a stage.
#[derive(Default)]
pub(crate) struct Objectives(Vec<Shown>);

/// An objective with the gauges of the values that it shows.
struct Shown {
    objective: Box<dyn Objective>,
    gauges: Vec<Gauge>,
}

impl Objectives {
    /// Takes another objective.
    pub fn push(&mut self, objective: Box<dyn Objective>) {
        let gauges = objective.shows().into_iter().map(Gauge::new).collect();
        self.0.push(Shown { objective, gauges });
    }

    fn all(&self) -> impl Iterator<Item = &dyn Objective> {
        self.0.iter().map(|shown| shown.objective.as_ref())
    }

    /// The values that the dashboard shows.
    pub fn gauges(&self) -> impl Iterator<Item = &Gauge> {
        self.0.iter().flat_map(|shown| &shown.gauges)
    }

    /// The names of the objectives.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|shown| shown.objective.name())
    }

    /// Everything any objective wants kept of the student.
    pub fn keep(&self) -> Keep {
        let wishes = self.all().map(Objective::keep);
        wishes.fold(Keep::default(), Keep::or)
    }

    /// Everything any objective wants kept of the teacher, if any needs one.
    pub fn keep_of_teacher(&self) -> Option<Keep> {
        let wishes = self.all().filter_map(Objective::keep_of_teacher);
        wishes.reduce(Keep::or)
    }

    /// Whether any adds to the loss.
    pub fn add_to_loss(&self) -> bool {
        self.all().any(Objective::adds_to_loss)
    }

    /// Whether any keeps the model as it is.
    pub fn freeze_model(&self) -> bool {
        self.all().any(Objective::freezes_model)
    }

    /// The parts of each objective.
    pub fn parts(&self, given: Given<'_>) -> Result<Vec<Vec<Linear>>, StageError> {
        let parts = |objective: &dyn Objective| {
            if given.teacher.is_none() && objective.keep_of_teacher().is_some() {
                return Err(StageError::NoTeacher(objective.name()));
            }
            let parts = objective.check().and_then(|()| objective.parts(given));
            parts.map_err(|source| StageError::method(objective.name(), source))
        };
        self.all().map(parts).collect()
    }

    /// What all objectives leave of their trained parts.
    pub fn left(&self, parts: &[Vec<Linear>], model: &Shape) -> LeftParts {
        let mut left = LeftParts::default();
        for (objective, parts) in self.all().zip(parts) {
            left.insert(objective.name(), objective.leaves(parts, model));
        }
        left
    }

    /// The weighted loss of the task, if it counts, with the terms of all objectives; and what they say of layers.
    pub fn add(
        &self,
        mut loss: Option<Tensor<1>>,
        parts: &[Vec<Linear>],
        student: &Signals,
        teacher: Option<&Signals>,
    ) -> Result<(Option<Tensor<1>>, Vec<LayerValues>), StageError> {
        let mut layers = vec![];
        for (Shown { objective, gauges }, parts) in self.0.iter().zip(parts) {
            let terms = objective.terms(parts, student, teacher);
            let terms = terms.map_err(|source| StageError::method(objective.name(), source))?;
            loss = loss
                .into_iter()
                .chain(terms.added)
                .reduce(|sum, term| sum + term);
            for (name, value) in terms.shown {
                let gauge = gauges.iter().find(|gauge| gauge.title() == name);
                if let Some(gauge) = gauge {
                    gauge.observe(value);
                }
            }
            layers.extend(terms.layers);
        }
        Ok((loss, layers))
    }
}
