//! A session owns the model and its optimiser, and is the training loop of a stage.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use burn::{
    data::dataloader::DataLoader,
    optim::{GradientsAccumulator, GradientsParams},
    prelude::*,
    tensor::FloatDType,
    train::{
        EventProcessorTraining, Interrupter, LearnerEvent, SupervisedTrainingEventProcessor,
        TrainingError, TrainingItem,
        metric::store::{Aggregate, EventStoreClient, Split},
    },
};
use masformer_core::{Keep, seed};

use crate::{
    Batch, CallbackState, CheckpointRequest, Checkpoints, Context, Epoch, Gauge, LayerValues,
    Outcome, Output, Schedule, SignalSource, StageError, StandIn, Trainable, Trainee,
    best::{Best, Judge},
    callback::Callbacks,
    checkpoint::{CheckpointEvery, Position, State},
    finite, gradients,
    layer_log::LayerLog,
    metric_log::{LogFailure, SharedSums},
    objective::Objectives,
    outcome::Ending,
    progress::{At, ProgressFile, steps_of_epoch},
    trainee::Learner,
};

/// What a stage settles before the training starts.
pub(crate) struct Settings {
    pub device: Device,
    pub epochs: usize,
    /// The epoch after which the training stops.
    pub last_epoch: usize,
    pub seed: u64,
    pub learning_rate: f64,
    pub schedule: Schedule,
    pub accumulation: usize,
    pub clip_norm: Option<f64>,
    pub task_weight: f64,
    pub epoch: Epoch,
    pub checkpoints: Checkpoints,
    pub every: CheckpointEvery,
    /// Asks for a checkpoint now.
    pub request: CheckpointRequest,
    pub gradient_norm: Gauge,
    pub gauges: Vec<Gauge>,
    /// Shows the loss with what objectives add to it, where they do.
    pub total_loss: Option<Gauge>,
    /// Which epoch's model is kept, if not the last.
    pub judge: Option<Judge>,
    pub log_failure: LogFailure,
    pub sums: SharedSums,
    pub metrics_path: PathBuf,
}

/// The methods of a stage and its teacher.
pub(crate) struct Methods<M: Trainable> {
    pub callbacks: Callbacks<M>,
    pub objectives: Objectives,
    pub teacher: Option<Box<dyn SignalSource<Batch<M>>>>,
}

/// One training of one model.
pub(crate) struct Session<M: Trainable> {
    pub settings: Settings,
    pub methods: Methods<M>,
    pub learner: Learner<M>,
    pub train: Arc<dyn DataLoader<Batch<M>>>,
    pub valid: Arc<dyn DataLoader<Batch<M>>>,
    /// Where the next group of batches begins.
    pub position: Position,
    /// The callbacks' states there.
    pub states: BTreeMap<String, CallbackState>,
    /// The latest checkpoint.
    pub saved: Saved,
    /// Optimiser steps taken.
    pub step: usize,
    /// The best epoch so far, where it is kept.
    pub best: Option<Best>,
    /// What the student's forward passes keep.
    pub keep: Keep,
    /// The epoch, from 1.
    pub epoch: usize,
    /// Batches of the epoch that were begun.
    pub iteration: usize,
    /// The share of the training that the optimiser's steps have covered.
    pub done: f64,
    /// The learning rate of the latest optimiser step.
    pub rate: f64,
    /// What methods say of single layers.
    pub layers: LayerLog,
    /// The file that tells how far it is.
    pub progress: Option<ProgressFile>,
    /// When it began.
    pub began: Instant,
    /// The time before, up to the checkpoint that it went on from.
    pub earlier: Duration,
}

/// The latest checkpoint of a session, or its beginning.
pub(crate) struct Saved {
    pub position: Position,
    pub step: usize,
    pub at: Instant,
}

/// What burn-train lends to a session.
pub(crate) struct Show<'a, M: Trainable> {
    pub processor: SupervisedTrainingEventProcessor<StandIn<M>>,
    pub interrupter: &'a Interrupter,
    pub store: &'a EventStoreClient,
}

/// The batches whose gradients make up one optimiser step.
struct Group<M: Trainable> {
    batches: Vec<Batch<M>>,
    gradients: GradientsAccumulator<Trainee<M>>,
    /// The sum of the batches' losses `[1]`, float32, without autodiff.
    loss: Option<Tensor<1>>,
    /// What the batches say of single layers.
    layers: Vec<LayerValues>,
}

impl<M: Trainable> Default for Group<M> {
    fn default() -> Self {
        Self {
            batches: Vec::new(),
            gradients: GradientsAccumulator::new(),
            loss: None,
            layers: Vec::new(),
        }
    }
}

impl<M: Trainable> Session<M> {
    /// Trains to the end, or up to where it is to stop, and says what it was.
    pub fn fit(
        &mut self,
        show: &mut Show<'_, M>,
        mut should_stop: impl FnMut(usize, &EventStoreClient) -> bool,
    ) -> Result<Ending, StageError> {
        let first = self.position.epoch;
        self.epoch = first;
        // Early stopping has no saved state: it sees the metrics of the earlier epochs again.
        for epoch in 1..first {
            if should_stop(epoch, show.store) {
                return Ok(Ending::new(Outcome::EarlyStopped, epoch));
            }
        }
        self.check_interrupt(show)?;
        let last = self.settings.last_epoch;
        for epoch in first..=last {
            self.epoch = epoch;
            self.train(show)?;
            self.validate(show)?;
            if let Some(judge) = &self.settings.judge {
                self.best = judge.best(self.best, epoch, show.store);
            }
            self.position = Position::after(epoch);
            self.save(show)?;
            if should_stop(epoch, show.store) {
                return Ok(Ending::new(Outcome::EarlyStopped, epoch));
            }
        }
        Ok(Ending::new(Outcome::Finished, last.max(first - 1)))
    }

    fn train(&mut self, show: &mut Show<'_, M>) -> Result<(), StageError> {
        self.settings.epoch.set(self.epoch);
        self.iteration = self.position.batch;
        self.set_done(0, 1);
        let loader = self.train.clone();
        let items = loader.num_items();
        show.train(LearnerEvent::StartSplit {
            epoch_number: self.epoch,
            total_items: items,
        })?;

        let mut batches = loader.iter();
        if let Some(skipped) = self.iteration.checked_sub(1) {
            batches
                .nth(skipped)
                .transpose()
                .map_err(TrainingError::from)?;
            self.set_done(batches.progress().items_processed, items);
        }
        let mut group = Group::default();
        let mut next = batches.next();
        while let Some(batch) = next {
            let batch = batch.map_err(TrainingError::from)?;
            let progress = batches.progress();
            // One ahead, to know the last batch of the epoch: it ends its group.
            next = batches.next();
            self.begin_batch();
            let output = self.forward_backward(show, batch, &mut group)?;
            let is_whole = group.batches.len() == self.settings.accumulation || next.is_none();
            if is_whole {
                let loss = self.optimize(show, std::mem::take(&mut group))?;
                self.set_done(progress.items_processed, items);
                self.tell(loss, progress.items_processed, items);
                self.position.batch = self.iteration;
                self.states = self.methods.callbacks.states();
            }
            show.train(LearnerEvent::ProcessedItem(TrainingItem::new(
                output,
                progress,
                Some(self.iteration),
                Some(self.rate.into()),
            )))?;
            if is_whole && self.is_due() {
                self.save(show)?;
            }
            self.check_interrupt(show)?;
        }
        self.layers.write(self.epoch, self.step)?;
        show.train(LearnerEvent::EndSplit(self.epoch))?;
        self.check_interrupt(show)
    }

    /// Whether it is time for a checkpoint within the epoch.
    fn is_due(&self) -> bool {
        if self.settings.request.take() {
            return true;
        }
        match self.settings.every {
            CheckpointEvery::Steps(steps) => self.step >= self.saved.step + steps,
            CheckpointEvery::Seconds(seconds) => self.saved.at.elapsed().as_secs() >= seconds,
        }
    }

    fn forward_backward(
        &mut self,
        show: &Show<'_, M>,
        mut batch: Batch<M>,
        group: &mut Group<M>,
    ) -> Result<Output<M>, StageError> {
        let context = self.context(show);
        let trainee = self.learner.trainee();
        let Methods {
            callbacks,
            objectives,
            teacher,
        } = &mut self.methods;
        callbacks.each(|callback| callback.before_forward(&context, &trainee.model, &mut batch))?;
        let step = trainee.model.forward_step(batch.clone(), self.keep.clone());
        let keep = objectives.keep_of_teacher();
        let taught = teacher.as_ref().zip(keep);
        let taught = taught.map(|(teacher, keep)| teacher.signals(&batch, keep));
        let weight = self.settings.task_weight;
        let task = (weight != 0.0).then(|| match step.loss {
            loss if (weight - 1.0).abs() < f64::EPSILON => loss,
            loss => loss.mul_scalar(weight),
        });
        let (loss, layers) =
            objectives.add(task, &trainee.parts, &step.signals, taught.as_ref())?;
        let Some(loss) = loss.filter(Tensor::is_tracked) else {
            return Err(StageError::Untrainable);
        };
        let value = loss.clone().without_autodiff().cast(FloatDType::F32);
        group.loss = Some(match group.loss.take() {
            Some(sum) => sum + value,
            None => value,
        });
        let gradients = GradientsParams::from_grads(loss.backward(), trainee);
        group.gradients.accumulate(trainee, gradients);
        group.batches.push(batch);
        group.layers.extend(layers);
        Ok(step.output)
    }

    /// Takes an optimiser step; returns the mean loss of its batches.
    fn optimize(&mut self, show: &Show<'_, M>, mut group: Group<M>) -> Result<f64, StageError> {
        let Settings {
            schedule,
            learning_rate,
            clip_norm,
            ..
        } = self.settings;
        self.rate = learning_rate * schedule.factor(self.done);
        let context = self.context(show);
        let trainee = self.learner.trainee();
        let mut gradients = group.gradients.grads();
        if group.batches.len() > 1 {
            gradients::scale(trainee, &mut gradients, 1.0 / group.batches.len() as f64);
        }
        let callbacks = &mut self.methods.callbacks;
        callbacks
            .each(|callback| callback.before_optimizer(&context, &trainee.model, &mut gradients))?;
        let [loss, norm] = self.check_finite(&group, &gradients)?;
        if let Some(factor) = clip_norm.and_then(|max| gradients::clip_factor(norm, max)) {
            gradients::scale(self.learner.trainee(), &mut gradients, factor);
        }
        // The optimiser works in place on parameters that nothing else holds.
        drop(group);
        self.learner.step(self.rate, gradients);
        self.step += 1;
        self.layers.end_step(self.epoch, self.step)?;
        let context = self.context(show);
        let (callbacks, learner) = (&mut self.methods.callbacks, &mut self.learner);
        callbacks.each(|callback| {
            if let Some(model) = callback.after_optimizer(&context, learner.model())? {
                learner.replace(model);
            }
            Ok(())
        })?;
        Ok(loss)
    }

    /// Tells those who watch of a step, after so many items of the epoch.
    fn tell(&mut self, loss: f64, processed: usize, items: usize) {
        let Some(file) = &mut self.progress else {
            return;
        };
        let Settings {
            last_epoch: epochs,
            accumulation,
            ..
        } = self.settings;
        let of_epoch = steps_of_epoch(self.iteration, processed, items, accumulation);
        let taken = self.iteration.div_ceil(accumulation);
        let at = At {
            step: self.step,
            steps: self.step + of_epoch - taken + of_epoch * (epochs - self.epoch),
            epoch: self.epoch,
            epochs,
        };
        file.tell(at, loss);
    }

    /// Reads the loss, the gradients' norm, what the gauges observed and what is said of layers, the one time a step waits
    /// for the device. Returns the mean loss of the batches, and the norm.
    fn check_finite(
        &mut self,
        group: &Group<M>,
        gradients: &GradientsParams,
    ) -> Result<[f64; 2], StageError> {
        let trainee = self.learner.trainee();
        let norm = gradients::squared_norm(trainee, gradients).map(Tensor::sqrt);
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
        tensors.extend(group.layers.iter().map(|layer| layer.values.clone()));
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
            for (gauge, value) in observers.into_iter().zip(values.by_ref()) {
                gauge.set(value);
            }
            for layer in &group.layers {
                let [count] = layer.values.dims();
                let values: Vec<f64> = values.by_ref().take(count).collect();
                self.layers.add(layer.name, layer.layer, &values);
            }
            return Ok([loss / group.batches.len() as f64, norm]);
        }
        Err(StageError::NotFinite {
            what: if loss.is_finite() {
                "the gradient"
            } else {
                "the loss"
            },
            epoch: self.epoch,
            step: self.step + 1,
            place: finite::locate(trainee, &group.batches, gradients, loss.is_finite()),
        })
    }

    fn validate(&mut self, show: &mut Show<'_, M>) -> Result<(), StageError> {
        let Settings {
            device,
            seed,
            epoch,
            ..
        } = &self.settings;
        // Batches are counted from 1.
        seed::seed(device, epoch.seed_of_batch(*seed, 0));
        let model = self.learner.model().valid();
        let model = self.methods.callbacks.for_evaluation(model)?;
        let loader = self.valid.clone();
        show.valid(LearnerEvent::StartSplit {
            epoch_number: self.epoch,
            total_items: loader.num_items(),
        })?;
        let mut batches = loader.iter();
        let mut iteration = 0;
        while let Some(batch) = batches.next() {
            let batch = batch.map_err(TrainingError::from)?;
            let progress = batches.progress();
            iteration += 1;
            let output = model.forward_step(batch, Keep::default()).output;
            let item = TrainingItem::new(output, progress, Some(iteration), None);
            show.valid(LearnerEvent::ProcessedItem(item))?;
            self.check_interrupt(show)?;
        }
        show.valid(LearnerEvent::EndSplit(self.epoch))?;
        show.train(LearnerEvent::EndEpoch(self.epoch))?;
        Ok(show.processor.flush().map_err(TrainingError::from)?)
    }

    /// Writes a checkpoint of the latest whole group of batches.
    fn save(&mut self, show: &mut Show<'_, M>) -> Result<(), StageError> {
        if let Some(path) = finite::broken_parameter(self.learner.trainee()) {
            return Err(StageError::NotFinite {
                what: "the model",
                epoch: self.epoch,
                step: self.step,
                place: format!("the parameter `{path}`"),
            });
        }
        show.processor.flush().map_err(TrainingError::from)?;
        // The store answers in turn, so its log has written all metrics by now.
        show.store
            .find_metric("", self.epoch, Aggregate::Mean, &Split::Valid);
        if let Some(source) = self.settings.log_failure.take() {
            let path = self.settings.metrics_path.clone();
            return Err(StageError::File { path, source });
        }
        let batch = self.position.batch;
        let state = State {
            step: self.step,
            rate: self.rate,
            seconds: (self.earlier + self.began.elapsed()).as_secs_f64(),
            callbacks: self.states.clone(),
            best: self.best,
            sums: (batch > 0).then(|| self.settings.sums.up_to(batch)),
            layers: self.layers.state().clone(),
        };
        let checkpoints = &self.settings.checkpoints;
        checkpoints.save(self.position, &self.learner, &state)?;
        self.saved = Saved {
            position: self.position,
            step: self.step,
            at: Instant::now(),
        };
        Ok(())
    }

    fn begin_batch(&mut self) {
        self.iteration += 1;
        let Settings {
            device,
            seed,
            epoch,
            gradient_norm,
            total_loss,
            gauges,
            ..
        } = &self.settings;
        // Whatever was drawn before, a batch draws the same numbers each time it is run.
        seed::seed(device, epoch.seed_of_batch(*seed, self.iteration));
        for gauge in gauges.iter().chain([gradient_norm]).chain(total_loss) {
            gauge.begin(self.iteration);
        }
    }

    fn set_done(&mut self, items: usize, of: usize) {
        let epochs = (self.epoch - 1) as f64 + items as f64 / of.max(1) as f64;
        self.done = epochs / self.settings.epochs as f64;
    }

    fn context<'a>(&self, show: &Show<'a, M>) -> Context<'a> {
        Context {
            epoch: self.epoch,
            epochs: self.settings.epochs,
            iteration: self.iteration,
            step: self.step,
            done: self.done,
            learning_rate: self.rate,
            interrupter: show.interrupter,
            store: show.store,
        }
    }

    /// Ends the training with a checkpoint where a stop was asked for.
    fn check_interrupt(&mut self, show: &mut Show<'_, M>) -> Result<(), StageError> {
        if !show.interrupter.should_stop() {
            return Ok(());
        }
        if let Some(error) = show.interrupter.error() {
            return Err(StageError::Training(error));
        }
        if self.position != self.saved.position {
            self.save(show)?;
        }
        Err(StageError::Interrupted {
            epoch: self.epoch,
            reason: show.interrupter.get_message(),
        })
    }
}

impl<M: Trainable> Show<'_, M> {
    fn train(&mut self, event: LearnerEvent<Output<M>>) -> Result<(), StageError> {
        Ok(self
            .processor
            .process_train(event)
            .map_err(TrainingError::from)?)
    }

    fn valid(&mut self, event: LearnerEvent<Output<M>>) -> Result<(), StageError> {
        Ok(self
            .processor
            .process_valid(event)
            .map_err(TrainingError::from)?)
    }
}
