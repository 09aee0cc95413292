//! The training loop of one call of `fit`.

use burn::{
    optim::{GradientsAccumulator, GradientsParams},
    prelude::*,
    tensor::FloatDType,
    train::{
        EventProcessorTraining, InferenceStep, Interrupter, Learner, LearnerEvent,
        SupervisedTrainingEventProcessor, TrainLoader, TrainingError, TrainingItem, ValidLoader,
        metric::store::{Aggregate, EventStoreClient, Split},
    },
};
use masformer_core::{Keep, seed};

use super::{Run, Settings};
use crate::{
    Batch, CallbackModel, Context, Outcome, Output, StageError, checkpoint::State, finite,
    gradients, outcome::Ending,
};

/// One call of `fit`.
pub(super) struct Session<'a, M: CallbackModel> {
    pub settings: &'a Settings,
    pub run: &'a mut Run<M>,
    pub keep: Keep,
    pub learner: Learner<M>,
    pub processor: SupervisedTrainingEventProcessor<M>,
    pub interrupter: &'a Interrupter,
    pub store: &'a EventStoreClient,
    pub epochs: usize,
    pub epoch: usize,
    pub iteration: usize,
}

/// The batches whose gradients make up one optimiser step.
struct Group<M: CallbackModel> {
    batches: Vec<Batch<M>>,
    gradients: GradientsAccumulator<M>,
    /// The sum of the batches' losses `[1]`, float32, without autodiff.
    loss: Option<Tensor<1>>,
}

impl<M: CallbackModel> Default for Group<M> {
    fn default() -> Self {
        Self {
            batches: Vec::new(),
            gradients: GradientsAccumulator::new(),
            loss: None,
        }
    }
}

impl<'a, M: CallbackModel> Session<'a, M> {
    /// Trains to the end and says what it was.
    pub fn fit(
        &mut self,
        train: &TrainLoader<M>,
        valid: &ValidLoader<M>,
        mut should_stop: impl FnMut(usize, &EventStoreClient) -> bool,
    ) -> Result<Ending, StageError> {
        let first = self.epoch;
        // Early stopping has no saved state: it sees the metrics of the earlier epochs again.
        for epoch in 1..first {
            if should_stop(epoch, self.store) {
                return Ok(Ending::new(Outcome::EarlyStopped, epoch));
            }
        }
        self.check_interrupt()?;
        for epoch in first..=self.epochs {
            self.epoch = epoch;
            self.train(train)?;
            self.validate(valid)?;
            self.save()?;
            if should_stop(epoch, self.store) {
                return Ok(Ending::new(Outcome::EarlyStopped, epoch));
            }
        }
        Ok(Ending::new(Outcome::Finished, self.epochs.max(first - 1)))
    }

    fn train(&mut self, loader: &TrainLoader<M>) -> Result<(), StageError> {
        let Settings {
            device,
            epoch,
            seed,
            accumulation,
            ..
        } = self.settings;
        epoch.set(self.epoch);
        // Whatever was drawn before, an epoch draws the same numbers each time it is run.
        seed::seed(device, epoch.seed(*seed));
        self.iteration = 0;
        self.set_done(0, 1);
        let model = self.learner.model();
        let context = self.context();
        self.run
            .callbacks
            .each(|callback| callback.on_epoch_start(&context, &model))?;
        drop(model);
        let items = loader.num_items();
        self.train_event(LearnerEvent::StartSplit {
            epoch_number: self.epoch,
            total_items: items,
        })?;

        let mut batches = loader.iter();
        let mut group = Group::default();
        while let Some(batch) = batches.next() {
            let batch = batch.map_err(TrainingError::from)?;
            let progress = batches.progress();
            self.begin_batch();
            let output = self.forward_backward(batch, &mut group)?;
            if group.batches.len() == *accumulation {
                self.optimize(std::mem::take(&mut group))?;
                self.set_done(progress.items_processed, items);
            }
            self.train_event(LearnerEvent::ProcessedItem(TrainingItem::new(
                output,
                progress,
                Some(self.iteration),
                Some(self.learner.lr_current()),
            )))?;
            self.check_interrupt()?;
        }
        if !group.batches.is_empty() {
            self.optimize(group)?;
        }
        let model = self.learner.model();
        let context = self.context();
        self.run
            .callbacks
            .each(|callback| callback.on_epoch_end(&context, &model))?;
        self.train_event(LearnerEvent::EndSplit(self.epoch))?;
        self.check_interrupt()
    }

    fn forward_backward(
        &mut self,
        mut batch: Batch<M>,
        group: &mut Group<M>,
    ) -> Result<Output<M>, StageError> {
        let model = self.learner.model();
        let context = self.context();
        self.run
            .callbacks
            .each(|callback| callback.before_forward(&context, &model, &mut batch))?;
        let mut step = model.forward_step(batch.clone(), self.keep.clone());
        let context = self.context();
        self.run
            .callbacks
            .each(|callback| callback.after_forward(&context, &model, &batch, &mut step))?;
        if !step.loss.is_tracked() {
            return Err(StageError::Untrainable);
        }
        let loss = step.loss.clone().without_autodiff().cast(FloatDType::F32);
        group.loss = Some(match group.loss.take() {
            Some(sum) => sum + loss,
            None => loss,
        });
        let mut gradients = step.loss.backward();
        let context = self.context();
        self.run
            .callbacks
            .each(|callback| callback.after_backward(&context, &model, &mut gradients))?;
        let gradients = GradientsParams::from_grads(gradients, &model);
        group.gradients.accumulate(&model, gradients);
        group.batches.push(batch);
        Ok(step.output)
    }

    fn optimize(&mut self, mut group: Group<M>) -> Result<(), StageError> {
        self.learner.lr_step();
        let model = self.learner.model();
        let mut gradients = group.gradients.grads();
        if group.batches.len() > 1 {
            gradients::scale(&model, &mut gradients, 1.0 / group.batches.len() as f64);
        }
        let context = self.context();
        self.run
            .callbacks
            .each(|callback| callback.before_optimizer(&context, &model, &mut gradients))?;
        let norm = self.check_finite(&model, &group, &gradients)?;
        let max_norm = self.settings.clip_norm;
        if let Some(factor) = max_norm.and_then(|max| gradients::clip_factor(norm, max)) {
            gradients::scale(&model, &mut gradients, factor);
        }
        // The optimiser works in place on parameters that nothing else holds.
        drop(model);
        drop(group);
        self.learner.optimizer_step(gradients);
        self.run.step += 1;
        self.replace_model()
    }

    /// Reads the loss, the gradients' norm and what the gauges observed, the one time a step waits for
    /// the device.
    fn check_finite(
        &self,
        model: &M,
        group: &Group<M>,
        gradients: &GradientsParams,
    ) -> Result<f64, StageError> {
        let norm = gradients::squared_norm(model, gradients).map(Tensor::sqrt);
        let Some((loss, norm)) = group.loss.clone().zip(norm) else {
            return Err(StageError::Untrainable);
        };
        let mut tensors = vec![loss, norm];
        let mut observers = vec![];
        for gauge in &self.settings.gauges {
            let unread = gauge.take_unread();
            observers.resize(observers.len() + unread.len(), gauge);
            tensors.extend(unread);
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "the one read of a step, for everything that the host has to know"
        )]
        let values = Tensor::cat(tensors, 0).into_data();
        let mut values = values.iter::<f64>();
        let [loss, norm] = [(); 2].map(|()| values.next().unwrap_or(f64::NAN));
        if loss.is_finite() && norm.is_finite() {
            self.settings.gradient_norm.set(norm);
            if let Some(total) = &self.settings.total_loss {
                total.add(loss, group.batches.len());
            }
            for (gauge, value) in observers.into_iter().zip(values) {
                gauge.set(value);
            }
            return Ok(norm);
        }
        Err(StageError::NotFinite {
            what: if loss.is_finite() {
                "the gradient"
            } else {
                "the loss"
            },
            epoch: self.epoch,
            step: self.run.step + 1,
            place: finite::locate(model, &group.batches, gradients, loss.is_finite()),
        })
    }

    fn replace_model(&mut self) -> Result<(), StageError> {
        let context = self.context();
        let learner = &mut self.learner;
        let mut mismatch = None;
        self.run.callbacks.each(|callback| {
            let model = learner.model();
            if let Some(replacement) = callback.after_optimizer(&context, &model)? {
                let record = replacement.into_record();
                // The learner panics on a record that does not fit, so it is tried out first.
                match model.try_load_record(record.clone()) {
                    Ok(_) => learner.load_model(record),
                    Err(error) => mismatch = Some(error),
                }
            }
            Ok(())
        })?;
        mismatch.map_or(Ok(()), |error| Err(StageError::Replacement(error)))
    }

    fn validate(&mut self, loader: &ValidLoader<M>) -> Result<(), StageError> {
        let model = self.learner.model().valid();
        self.valid_event(LearnerEvent::StartSplit {
            epoch_number: self.epoch,
            total_items: loader.num_items(),
        })?;
        let mut batches = loader.iter();
        let mut iteration = 0;
        while let Some(batch) = batches.next() {
            let batch = batch.map_err(TrainingError::from)?;
            let progress = batches.progress();
            iteration += 1;
            let output = InferenceStep::step(&model, batch);
            let item = TrainingItem::new(output, progress, Some(iteration), None);
            self.valid_event(LearnerEvent::ProcessedItem(item))?;
            self.check_interrupt()?;
        }
        self.valid_event(LearnerEvent::EndSplit(self.epoch))?;
        self.train_event(LearnerEvent::EndEpoch(self.epoch))?;
        self.processor.flush().map_err(TrainingError::from)?;
        let context = self.context();
        self.run
            .callbacks
            .each(|callback| callback.on_validation_end(&context, &model))
    }

    fn save(&mut self) -> Result<(), StageError> {
        if let Some(path) = finite::broken_parameter(&self.learner.model()) {
            return Err(StageError::NotFinite {
                what: "the model",
                epoch: self.epoch,
                step: self.run.step,
                place: format!("the parameter `{path}`"),
            });
        }
        // The store answers in turn, so its log has written this epoch's metrics by now.
        self.store
            .find_metric("", self.epoch, Aggregate::Mean, &Split::Valid);
        if let Some(source) = self.settings.log_failure.take() {
            let path = self.settings.metrics_path.clone();
            return Err(StageError::File { path, source });
        }
        if let Some(judge) = &self.settings.judge {
            self.run.best = judge.best(self.run.best, self.epoch, self.store);
        }
        let state = State {
            step: self.run.step,
            callbacks: self.run.callbacks.states(),
            best: self.run.best,
        };
        let checkpoints = &self.settings.checkpoints;
        Ok(checkpoints.save(self.epoch, &self.learner, self.store, &state)?)
    }

    fn begin_batch(&mut self) {
        self.iteration += 1;
        let Settings {
            gradient_norm,
            total_loss,
            gauges,
            ..
        } = self.settings;
        for gauge in gauges.iter().chain([gradient_norm]).chain(total_loss) {
            gauge.begin(self.iteration);
        }
    }

    fn set_done(&self, items: usize, of: usize) {
        let epochs = (self.epoch - 1) as f64 + items as f64 / of.max(1) as f64;
        self.settings.done.set(epochs / self.epochs as f64);
    }

    fn context(&self) -> Context<'a> {
        Context {
            epoch: self.epoch,
            epochs: self.epochs,
            iteration: self.iteration,
            step: self.run.step,
            done: self.settings.done.get(),
            learning_rate: self.learner.lr_current().base(),
            interrupter: self.interrupter,
            store: self.store,
        }
    }

    fn train_event(&mut self, event: LearnerEvent<Output<M>>) -> Result<(), StageError> {
        Ok(self
            .processor
            .process_train(event)
            .map_err(TrainingError::from)?)
    }

    fn valid_event(
        &mut self,
        event: LearnerEvent<<M as InferenceStep>::Output>,
    ) -> Result<(), StageError> {
        Ok(self
            .processor
            .process_valid(event)
            .map_err(TrainingError::from)?)
    }

    fn check_interrupt(&self) -> Result<(), StageError> {
        if !self.interrupter.should_stop() {
            return Ok(());
        }
        Err(match self.interrupter.error() {
            Some(error) => StageError::Training(error),
            None => StageError::Interrupted {
                epoch: self.epoch,
                reason: self.interrupter.get_message(),
            },
        })
    }
}
