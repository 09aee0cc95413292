//! A model whose feed-forward layers are split into experts before its training.

use burn::data::dataloader::DataLoader;
use distill::{Method, objective::RouterLosses};
use masformer_core::Decoder;
use moebert_core::{
    adapt::adapt,
    half::Half,
    importance::{Importance, ImportanceSource},
    layered::Layered,
    pretrained::{PretrainedDecoder, save_decoder},
    router::{RouterKind, gate::BALANCE, top_k::Z},
};

use super::Seed;
use crate::{
    data::{
        DataError,
        language::{LanguageLoader, token_counts},
    },
    error::Error,
    learner::language::LanguageLearner,
    recipe::{DataSplit, ExpertsRecipe, SpanModel},
    run::{expert_files, expert_plan, score_neurons},
};

impl Seed<'_> {
    /// The model to begin with, split as the recipe says.
    pub(super) fn split(
        &self,
        model: &SpanModel,
        recipe: &ExpertsRecipe,
        start: &PretrainedDecoder,
    ) -> Result<PretrainedDecoder, Error> {
        let stage = self.stage(&format!("{}/experts", model.name));
        let output = self.run.folder.stage_dir(&stage)?.join("model");
        if self.run.folder.done::<()>(&stage)?.is_none() {
            let decoder = &start.config().decoder;
            let sizes = (decoder.spans.len(), decoder.width);
            let importance = if recipe.order.needs_importance() {
                Some(self.importance(model, start)?)
            } else {
                None
            };
            let counts = if recipe.router == RouterKind::HashBalance {
                let train = self.run.problem.train();
                let counts = token_counts(train.as_ref(), decoder.vocabulary);
                Some(counts.map_err(DataError::from)?)
            } else {
                None
            };
            let scores = importance.as_ref();
            let plan = expert_plan(recipe, scores, sizes, counts.as_deref(), self.seed)?;
            let dense = self.load(start)?;
            let split = adapt(dense, &plan.layout, &plan.router, counts.as_deref())?;
            let files = expert_files(&split, &plan, recipe, sizes.1, importance)?;
            let tokenizer = self.run.problem.tokenizer_dir();
            save_decoder(&output, &split, start.config(), Some(&files), tokenizer)?;
            self.run.folder.finish(&stage, &())?;
        }
        let chunk = self.run.recipe.model.feed_forward_chunk;
        let split = PretrainedDecoder::open(output)?;
        Ok(split.map(|folder| Ok(folder.with_feed_forward_chunk(chunk)))?)
    }

    /// The importance scores of the neurons that a model begins with.
    fn importance(
        &self,
        model: &SpanModel,
        start: &PretrainedDecoder,
    ) -> Result<Importance, Error> {
        let stage = self.stage(&format!("{}/importance", model.name));
        let path = self.run.folder.stage_dir(&stage)?;
        let path = path.join("importance.safetensors");
        if self.run.folder.done::<()>(&stage)?.is_none() {
            self.say(&format!("scoring the neurons of `{}`", model.name));
            let recipe = &self.run.recipe.importance;
            let problem = &self.run.problem;
            let sequences = match recipe.split {
                DataSplit::Train => problem.train(),
                DataSplit::Dev => problem.dev(),
            };
            let device = &self.run.options.device;
            let pad = problem.pad_id();
            let loader = LanguageLoader::in_order(sequences, recipe.batch_size, pad, device);
            let loader = loader.map_err(DataError::from)?.first(recipe.samples);
            let learner = LanguageLearner::to_judge(&self.load(start)?);
            let bar = self.run.progress.bar("importance", loader.num_items());
            let sizes = learner.model.neurons();
            let stop = &self.run.options.stop;
            let importance = score_neurons(&learner, sizes, &loader, stop, |done, _| {
                bar.set_position(done as u64);
            })?;
            bar.finish_and_clear();
            let source = ImportanceSource {
                task: self.run.recipe.data.task.to_string(),
                split: recipe.split.name().to_owned(),
            };
            importance.save(&path, &source)?;
            self.run.folder.finish(&stage, &())?;
        }
        Ok(Importance::load(&path)?.0)
    }

    /// What the routers of a model add to its loss; nothing for a dense model.
    pub(super) fn routers(&self, model: &Decoder<Half>) -> Option<Method<LanguageLearner>> {
        let layers = model.stack.layers.iter();
        let mut experts = layers.filter_map(|layer| layer.feed_forward.experts());
        let router = &experts.next()?.router;
        let weights = &self.run.recipe.router;
        let mut losses = RouterLosses::default();
        if router.gate().is_some() {
            losses = losses.with(BALANCE, "Balance loss", weights.balance);
        }
        if router.experts_per_token() > 1 {
            losses = losses.with(Z, "Router z-loss", weights.z);
        }
        Some(Method::Objective(Box::new(losses)))
    }
}
