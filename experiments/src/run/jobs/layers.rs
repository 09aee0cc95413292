//! What the layers of a trained model do with the data to validate on, beside its scores.

use std::path::Path;

use burn::module::Module;
use masformer_core::ops::prepack;
use moebert_core::layered::Layered;

use super::{super::family::Family, Jobs};
use crate::{
    error::Error,
    inside::{distances::distances, routes::routed},
    recipe::{ModelPlan, Origin},
};

impl<F: Family> Jobs<'_, F> {
    /// Writes which tokens the experts of a model get, if it has some, and how far its hidden states are from those of its
    /// teacher, or else of the model that it was made from. A model that the run has not trained was not validated, and has
    /// neither.
    pub(super) fn look_inside(
        &self,
        plan: &ModelPlan,
        learner: &F::Learner,
        dir: &Path,
    ) -> Result<(), Error> {
        // Rungs are judged to choose between arms, and nothing else is asked of them.
        let is_rung = !self.keys_of(plan).rungs.is_empty();
        let Some(recipe) = plan.train.as_ref().filter(|_| !is_rung) else {
            return Ok(());
        };
        let (family, stop) = (&self.run.family, &self.run.options.stop);
        let device = learner.devices().into_iter().next().unwrap_or_default();
        let loader = family.dev(recipe, &device)?;
        let mut layers = learner.stack().layers.iter();
        if layers.any(|layer| layer.feed_forward.experts().is_some()) {
            let _prepacked = prepack(learner);
            let texts = family.token_texts()?;
            routed(learner, loader.as_ref(), &texts, stop)?.write(dir)?;
        }
        let of_origin = match &plan.from {
            Origin::Model(name) => Some(name),
            _ => None,
        };
        let Some(name) = plan.teacher.as_ref().or(of_origin) else {
            return Ok(());
        };
        let other = self.plan(name);
        if !self.is_there(other)? || !self.can_begin(plan)? {
            return Ok(());
        }
        let begun = self.begin(self.place(&plan.name), &self.arranged(plan)?)?;
        let before = begun.split()?;
        let key = self.keys_of(other).train.as_ref();
        let other = self.load(&self.model(other)?)?;
        let models = [&before, learner];
        let found = distances(models, (key, &other), loader.as_ref(), stop)?;
        Ok(found.map_or(Ok(()), |found| found.write(dir))?)
    }

    /// Whether the store has a model of the plan. The stages that made the models of an evaluation may have been left behind
    /// when it was taken along.
    fn is_there(&self, plan: &ModelPlan) -> Result<bool, Error> {
        match &self.keys_of(plan).train {
            Some(key) => Ok(self.shelf.has(key)?),
            None => self.can_begin(plan),
        }
    }

    /// Whether the store has all that the training of a model begins with.
    fn can_begin(&self, plan: &ModelPlan) -> Result<bool, Error> {
        let keys = self.keys_of(plan);
        let start = self.keys.start.as_ref();
        let start = start.filter(|_| matches!(plan.from, Origin::Start));
        for key in [keys.importance.as_ref(), keys.drawn.as_ref(), start] {
            if let Some(key) = key
                && !self.shelf.has(key)?
            {
                return Ok(false);
            }
        }
        match &plan.from {
            Origin::Model(name) => self.is_there(self.plan(name)),
            _ => Ok(true),
        }
    }
}
