//! The one entry point: a stage fits a model, writes checkpoints and goes on from them.

mod config;
mod kept;
mod launch;
mod method;

use std::{collections::BTreeSet, fs, path::Path, sync::Arc, time::Duration};

use burn::{
    data::dataloader::DataLoader,
    module::{Module, ParamGroup},
    prelude::*,
    train::{
        Interrupter, MetricEarlyStoppingStrategy, MetricRegistration, SupervisedTraining,
        metric::{Adaptor, Metric, Numeric, store::Direction},
    },
};

use self::kept::{Kept, ended, load_best};
pub use self::{config::StageConfig, method::Method};
use crate::{
    Batch, Callback, CheckpointRequest, Checkpoints, Epoch, Gauge, Given, LeftParts, Objective,
    Outcome, Output, SignalSource, StageError, StandIn, Surgery, Trainable, Trainee,
    best::Judge,
    callback::Callbacks,
    checkpoint::{Position, State},
    objective::Objectives,
    outcome::Ending,
    session::Methods,
    stand_in::NoData,
    strategy::Run,
    trainee::Learner,
};

/// The norm of the gradients on the dashboard.
const GRADIENT_NORM: &str = "Gradient norm";
/// The loss with what objectives add to it on the dashboard.
const TOTAL_LOSS: &str = "Total loss";

/// One training of one model, which can be stopped anywhere and run again.
///
/// The folder holds `checkpoints/` with a folder for each, `metrics.jsonl`, `layers.jsonl` if methods measure single layers,
/// `experiment.log` and, once the stage ended, `outcome.json`.
pub struct Stage<M: Trainable> {
    config: StageConfig,
    training: SupervisedTraining<StandIn<M>>,
    train: Arc<dyn DataLoader<Batch<M>>>,
    valid: Arc<dyn DataLoader<Batch<M>>>,
    epoch: Epoch,
    interrupter: Interrupter,
    request: CheckpointRequest,
    surgeries: Vec<Box<dyn Surgery<M>>>,
    methods: Methods<M>,
    judge: Option<Judge>,
    /// What earlier trainings of the model and of its teacher left.
    left: [LeftParts; 2],
}

/// A model at the end of its stage.
#[derive(Debug)]
pub struct Fitted<M> {
    /// The model in evaluation form, without autodiff; `Module::train` brings it back.
    pub model: M,
    /// What the objectives leave for later trainings.
    pub left: LeftParts,
    /// How the stage ended.
    pub outcome: Outcome,
    /// The last epoch that was run.
    pub epoch: usize,
    /// The epoch that the model is of: the last one, or the best.
    pub kept: usize,
    /// The place of the checkpoint that this run went on from.
    pub resumed_from: Option<Position>,
    /// The time that the training had taken up to there, over all resumes.
    pub earlier: Duration,
}

impl<M: Trainable> Stage<M> {
    /// A stage over these data, which need not be on the model's device.
    pub fn new(
        config: StageConfig,
        train: Arc<dyn DataLoader<Batch<M>>>,
        valid: Arc<dyn DataLoader<Batch<M>>>,
    ) -> Self {
        let none = || Arc::new(NoData);
        Self {
            training: SupervisedTraining::new(&config.directory, none(), none()),
            config,
            train,
            valid,
            epoch: Epoch::default(),
            interrupter: Interrupter::new(),
            request: CheckpointRequest::default(),
            surgeries: Vec::new(),
            methods: Methods {
                callbacks: Callbacks::default(),
                objectives: Objectives::default(),
                teacher: None,
            },
            judge: None,
            left: <[LeftParts; 2]>::default(),
        }
    }

    /// The handle that the training loader reads the epoch from.
    pub fn epoch(mut self, epoch: Epoch) -> Self {
        self.epoch = epoch;
        self
    }

    /// The handle that stops the training from outside.
    pub fn interrupter(mut self, interrupter: Interrupter) -> Self {
        self.interrupter = interrupter;
        self
    }

    /// The handle that asks for checkpoints from outside.
    pub fn checkpoint_request(mut self, request: CheckpointRequest) -> Self {
        self.request = request;
        self
    }

    /// The name before the lines of progress.
    pub fn label(mut self, label: &str) -> Self {
        self.training = self.training.label(label);
        self
    }

    /// Metrics of training and validation, a tuple of up to six.
    ///
    /// In training, a metric's value of a batch must follow from that batch alone: a training that goes on in the middle
    /// of an epoch has not seen those before.
    pub fn metrics<Me: MetricRegistration<StandIn<M>>>(mut self, metrics: Me) -> Self {
        self.training = self.training.metrics(metrics);
        self
    }

    /// A metric of the training alone; its value of a batch must follow from that batch, as in [`Self::metrics`].
    pub fn train_metric<Me>(mut self, metric: Me) -> Self
    where
        Me: Metric + Numeric + 'static,
        Output<M>: Adaptor<Me::Input>,
    {
        self.training = self.training.metric_train_numeric(metric);
        self
    }

    /// A metric of the validation alone.
    pub fn valid_metric<Me>(mut self, metric: Me) -> Self
    where
        Me: Metric + Numeric + 'static,
        Output<M>: Adaptor<Me::Input>,
    {
        self.training = self.training.metric_valid_numeric(metric);
        self
    }

    /// Ends the training when a metric no longer improves, also across a stop.
    pub fn early_stopping(mut self, strategy: MetricEarlyStoppingStrategy) -> Self {
        self.training = self.training.early_stopping(strategy);
        self
    }

    /// Returns the model of the epoch with the best value of a metric of the validation, also across a
    /// stop, and not that of the last epoch. Of equal epochs it is the earlier; one whose value is not
    /// finite is never the best.
    ///
    /// The metric must be among [`metrics`](Self::metrics). Epochs that were trained before this was
    /// asked for do not count: their models are gone.
    pub fn keep_best<Me: Metric>(mut self, metric: &Me, better: Direction) -> Self {
        self.judge = Some(Judge {
            metric: metric.name(),
            better,
        });
        self
    }

    /// The model that objectives compare the student with. It is run once for each batch if at least one objective
    /// needs it, and otherwise not at all.
    pub fn teacher(mut self, teacher: impl SignalSource<Batch<M>> + 'static) -> Self {
        self.methods.teacher = Some(Box::new(teacher));
        self
    }

    /// What the training that made the model left for objectives of this one.
    pub fn left_of_student(mut self, left: LeftParts) -> Self {
        self.left[0] = left;
        self
    }

    /// What the teacher's training left.
    pub fn left_of_teacher(mut self, left: LeftParts) -> Self {
        self.left[1] = left;
        self
    }

    /// Adds a change of the model's structure before the training. Those of a stage are made in the order in which
    /// they were added.
    pub fn surgery(self, surgery: impl Surgery<M> + 'static) -> Self {
        self.methods([Method::Surgery(Box::new(surgery))])
    }

    /// Adds terms of the loss.
    pub fn objective(self, objective: impl Objective + 'static) -> Self {
        self.methods([Method::Objective(Box::new(objective))])
    }

    /// Adds a method that takes part in the loop.
    pub fn callback(self, callback: impl Callback<M> + 'static) -> Self {
        self.methods([Method::Callback(Box::new(callback))])
    }

    /// Adds methods that are made elsewhere.
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method<M>>) -> Self {
        for method in methods {
            match method {
                Method::Surgery(surgery) => self.surgeries.push(surgery),
                Method::Objective(objective) => self.methods.objectives.push(objective),
                Method::Callback(callback) => self.methods.callbacks.push(callback),
            }
        }
        self
    }

    /// Trains the model from the newest whole checkpoint on, or from the start if there is none.
    ///
    /// A stage that ended returns its model at once.
    ///
    /// # Errors
    ///
    /// If a setting cannot work, a method fails, a number stops being finite, a file cannot be
    /// written, the best epoch is asked for and there is none or its checkpoint is lost, or the training
    /// is interrupted. The checkpoints before that stay.
    pub fn fit(mut self, model: M) -> Result<Fitted<M>, StageError> {
        self.config.validate()?;
        self.check_names()?;
        let directory = self.config.directory.clone();
        create(&directory)?;
        let checkpoints = Checkpoints::new(directory.join("checkpoints"));
        let resumed_from = checkpoints.latest()?;
        if let Some(Position { epoch, batch: 1.. }) = resumed_from {
            let last = self.config.last_epoch();
            let key = match self.config.stop_after {
                Some(_) => "stop_after",
                None => "epochs",
            };
            let rule = "at least the epoch that the newest checkpoint is in the middle of; delete the checkpoints to \
                        train anew";
            config::check(key, last, last >= epoch, rule)?;
        }
        let Some(device) = model.devices().into_iter().next() else {
            return Err(StageError::Untrainable);
        };
        let device = device.autodiff();
        let mut state = match resumed_from {
            Some(position) => checkpoints.load_state(position, &device.clone().inner())?,
            None => State::default(),
        };
        let earlier = state.earlier();
        let mut trainee = self.prepare(model, &device)?;
        let surgeries = std::mem::take(&mut self.surgeries);
        if let Some(position) = resumed_from {
            trainee = checkpoints.load_trainee(position, trainee)?;
        }
        let mut learner = Learner::new(trainee.clone().fork(&device), &self.config.adam);
        let callbacks = &mut self.methods.callbacks;
        callbacks.each(|callback| {
            callback
                .check()
                .and_then(|()| callback.begin(learner.model()))
        })?;
        callbacks.load_states(std::mem::take(&mut state.callbacks))?;

        let judge = self.judge.clone();
        state.best = state.best.filter(|_| judge.is_some());
        if let Some(ending) = ended(&directory, resumed_from, self.config.last_epoch())? {
            let kept = Kept::of(
                ending.epoch,
                trainee.valid(),
                judge.as_ref(),
                state.best,
                &checkpoints,
                &mut self.methods.callbacks,
            )?;
            let fitted = kept.fitted(ending, resumed_from, earlier, &self.methods)?;
            return finish(&surgeries, fitted);
        }
        if let Some(best) = state.best
            && Some(Position::after(best.epoch)) != resumed_from
        {
            // Not hours later, when it is needed.
            load_best(&checkpoints, best, trainee.clone())?;
        }
        // The learner alone holds the weights, and updates them in place.
        drop(trainee);
        if let Some(position) = resumed_from {
            learner.load_optimizer(checkpoints.load_optimizer(position)?);
        }
        let Run {
            mut session,
            ending,
        } = self.launch(&device, learner, &checkpoints, resumed_from, state)?;
        let Some(ending) = ending else {
            return Err(StageError::Interrupted {
                epoch: 0,
                reason: None,
            });
        };
        let ending = ending?;
        let kept = Kept::of(
            ending.epoch,
            session.learner.into_valid(),
            judge.as_ref(),
            session.best,
            &checkpoints,
            &mut session.methods.callbacks,
        )?;
        let ending = Ending {
            kept: Some(kept.epoch),
            ..ending
        };
        ending.write(&directory)?;
        let fitted = kept.fitted(ending, resumed_from, earlier, &session.methods)?;
        finish(&surgeries, fitted)
    }

    /// Refuses two methods of one name and form, and two values of one name on the dashboard.
    fn check_names(&self) -> Result<(), StageError> {
        let Methods {
            callbacks,
            objectives,
            ..
        } = &self.methods;
        let surgeries = self.surgeries.iter().map(|surgery| surgery.name());
        // The forms of one method share its name.
        let name = repeated(surgeries)
            .or_else(|| repeated(objectives.names()))
            .or_else(|| repeated(callbacks.names()));
        if let Some(name) = name {
            return Err(StageError::DuplicateMethod(name.to_owned()));
        }
        let gauges = callbacks.gauges();
        let titles = gauges.iter().chain(objectives.gauges()).map(Gauge::title);
        match repeated([GRADIENT_NORM, TOTAL_LOSS].into_iter().chain(titles)) {
            Some(title) => Err(StageError::DuplicateMetric(title.to_owned())),
            None => Ok(()),
        }
    }

    /// The model after surgery, and the parts of the objectives.
    fn prepare(&self, mut model: M, device: &Device) -> Result<Trainee<M>, StageError> {
        self.epoch.set(0);
        masformer_core::seed::seed(device, self.epoch.seed(self.config.seed));
        for surgery in &self.surgeries {
            let changed = surgery.check().and_then(|()| surgery.apply(model));
            model = changed.map_err(|source| StageError::method(surgery.name(), source))?;
        }
        let objectives = &self.methods.objectives;
        if objectives.freeze_model() {
            model = model.freeze();
        } else if !self.config.freeze.is_empty() {
            let frozen = ParamGroup::from_ids(self.config.freeze.ids(&model)?);
            model = model.freeze_group(frozen);
        }
        let teacher = self.methods.teacher.as_ref().map(|teacher| teacher.shape());
        let [of_student, of_teacher] = &self.left;
        let parts = objectives.parts(Given {
            student: &model.shape(),
            teacher: teacher.as_ref(),
            of_student,
            of_teacher,
            device,
        })?;
        Ok(Trainee { model, parts })
    }
}

/// Finishes surgery, the last one first.
fn finish<M: Trainable>(
    surgeries: &[Box<dyn Surgery<M>>],
    fitted: Fitted<M>,
) -> Result<Fitted<M>, StageError> {
    let Fitted { mut model, .. } = fitted;
    for surgery in surgeries.iter().rev() {
        let finished = surgery.finish(model);
        model = finished.map_err(|source| StageError::method(surgery.name(), source))?;
    }
    Ok(Fitted { model, ..fitted })
}

/// The first name that occurs a second time.
fn repeated<'a>(mut names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = BTreeSet::new();
    names.find(|name| !seen.insert(*name))
}

fn create(directory: &Path) -> Result<(), StageError> {
    fs::create_dir_all(directory).map_err(|source| StageError::File {
        path: directory.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests;
