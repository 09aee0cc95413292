use burn::{
    tensor::TensorReadError,
    train::metric::{
        LossInput, Metric, MetricMetadata, MetricName, Numeric, NumericEntry, SerializedEntry,
    },
};

use super::*;

/// A metric with a value for each epoch that was settled before.
#[derive(Clone)]
struct Settled {
    values: Vec<f64>,
    epoch: Epoch,
}

impl Settled {
    fn now(&self) -> f64 {
        self.values[self.epoch.get() - 1]
    }
}

impl Metric for Settled {
    type Input = LossInput;

    fn name(&self) -> MetricName {
        Arc::new("Settled".to_owned())
    }

    fn update(
        &mut self,
        _: &LossInput,
        _: &MetricMetadata,
    ) -> Result<SerializedEntry, TensorReadError> {
        self.compute()
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        let value = self.now().to_string();
        Ok(SerializedEntry::new(value.clone(), value))
    }

    fn clear(&mut self) {}
}

impl Numeric for Settled {
    fn value(&self) -> Option<NumericEntry> {
        Some(NumericEntry::Value(self.now()))
    }

    fn running_value(&self) -> Option<NumericEntry> {
        self.value()
    }

    fn final_value(&self) -> NumericEntry {
        NumericEntry::Final(self.now())
    }
}

/// A stage that keeps the epoch with the highest of these values, one for each epoch.
fn judged(directory: &Path, values: &[f64]) -> Stage<Toy> {
    let epoch = Epoch::default();
    let config = StageConfig {
        schedule: Schedule::Constant,
        accumulation: 2,
        ..config(directory, values.len())
    };
    let metric = Settled {
        values: values.to_vec(),
        epoch: epoch.clone(),
    };
    let train = ToyLoader::new(20, 4).shuffled(&epoch).shared();
    Stage::new(config, train, ToyLoader::new(8, 4).shared())
        .epoch(epoch)
        .metrics((LossMetric::new(), metric.clone()))
        .keep_best(&metric, Direction::Highest)
}

/// The parameters after so many epochs.
fn bits_after(epochs: usize) -> Vec<Vec<u32>> {
    let directory = tempfile::tempdir().unwrap();
    let values: Vec<f64> = (0..epochs).map(|epoch| epoch as f64).collect();
    let fitted = judged(directory.path(), &values).fit(toy()).unwrap();
    assert_eq!((fitted.kept, fitted.epoch), (epochs, epochs));
    fitted.model.bits()
}

fn stop_in(epoch: usize) -> StopAt {
    StopAt {
        epoch,
        iteration: 3,
        abort: false,
    }
}

fn left(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory.join("checkpoints")).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// It gets better once and then worse; the third epoch is as good as the second.
const WORSE: [f64; 4] = [1.0, 3.0, 3.0, 0.0];

#[test]
fn the_best_epoch_is_kept_whatever_comes_after_it() {
    let _turn = serial();
    let directory = tempfile::tempdir().unwrap();
    let fitted = judged(directory.path(), &WORSE).fit(toy()).unwrap();
    assert_eq!((fitted.outcome, fitted.epoch), (Outcome::Finished, 4));
    assert_eq!(fitted.kept, 2);
    assert!(fitted.model.bits() == bits_after(2));
    assert!(!fitted.model.head.weight.val().is_autodiff());
    assert_eq!(left(directory.path()), ["epoch-2", "epoch-4"]);
    let outcome = fs::read_to_string(directory.path().join("outcome.json")).unwrap();
    assert!(outcome.contains("\"kept\": 2"), "{outcome}");
}

#[test]
fn a_stop_in_any_epoch_keeps_the_same() {
    let _turn = serial();
    let whole = tempfile::tempdir().unwrap();
    let expected = judged(whole.path(), &WORSE).fit(toy()).unwrap();
    for epoch in 1..=4 {
        let directory = tempfile::tempdir().unwrap();
        let stage = judged(directory.path(), &WORSE).callback(stop_in(epoch));
        assert!(stage.fit(toy()).is_err());
        let fitted = judged(directory.path(), &WORSE).fit(toy()).unwrap();
        assert_eq!(fitted.resumed_from, Some(Position { epoch, batch: 2 }));
        assert_eq!(fitted.kept, 2);
        assert!(fitted.model.bits() == expected.model.bits());
        assert_eq!(metrics(directory.path()), metrics(whole.path()));
        assert_eq!(left(directory.path()), left(whole.path()));
    }
}

#[test]
fn a_stage_that_ended_returns_its_best_model_and_more_epochs_go_on() {
    let _turn = serial();
    let directory = tempfile::tempdir().unwrap();
    let first = judged(directory.path(), &WORSE).fit(toy()).unwrap();
    let seen = Arc::new(AtomicUsize::new(0));
    let again = judged(directory.path(), &WORSE)
        .callback(Count(seen.clone()))
        .fit(toy())
        .unwrap();
    assert_eq!(seen.load(Ordering::Relaxed), 0);
    assert_eq!((again.kept, again.epoch), (2, 4));
    assert!(again.model.bits() == first.model.bits());

    let no_better = [&WORSE[..], &[2.0]].concat();
    let more = judged(directory.path(), &no_better).fit(toy()).unwrap();
    assert_eq!(
        (more.resumed_from, more.kept),
        (Some(Position::after(4)), 2)
    );
    assert!(more.model.bits() == first.model.bits());
    let better = [&no_better[..], &[4.0]].concat();
    let more = judged(directory.path(), &better).fit(toy()).unwrap();
    assert_eq!(
        (more.resumed_from, more.kept),
        (Some(Position::after(5)), 6)
    );
    assert!(more.model.bits() == bits_after(6));
    assert_eq!(left(directory.path()), ["epoch-6"]);
}

#[test]
fn a_best_model_that_is_lost_is_an_error() {
    let _turn = serial();
    let lose = |directory: &Path| fs::remove_dir_all(directory.join("checkpoints/epoch-2"));
    let message = |directory: &Path| {
        let seen = Arc::new(AtomicUsize::new(0));
        let stage = judged(directory, &WORSE).callback(Count(seen.clone()));
        let error = stage.fit(toy()).unwrap_err().to_string();
        let expected = "the model of the best epoch, 2, is missing or damaged: checkpoint ";
        assert!(error.starts_with(expected), "{error}");
        assert!(error.contains("epoch-2/model.bpk"), "{error}");
        seen.load(Ordering::Relaxed)
    };
    let ended = tempfile::tempdir().unwrap();
    judged(ended.path(), &WORSE).fit(toy()).unwrap();
    let model = ended.path().join("checkpoints/epoch-2/model.bpk");
    fs::write(&model, "half").unwrap();
    message(ended.path());
    lose(ended.path()).unwrap();
    message(ended.path());

    // Before an epoch is trained, and not after the last one.
    let stopped = tempfile::tempdir().unwrap();
    let stage = judged(stopped.path(), &WORSE).callback(stop_in(4));
    assert!(stage.fit(toy()).is_err());
    lose(stopped.path()).unwrap();
    let before = metrics(stopped.path());
    message(stopped.path());
    assert_eq!(metrics(stopped.path()), before);
}

#[test]
fn an_epoch_that_is_not_finite_is_never_the_best() {
    let _turn = serial();
    let directory = tempfile::tempdir().unwrap();
    let values = [f64::NAN, -1.0, f64::INFINITY];
    let fitted = judged(directory.path(), &values).fit(toy()).unwrap();
    assert_eq!(fitted.kept, 2);

    let directory = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let error = judged(directory.path(), &[f64::NAN; 2]).fit(toy());
        let error = error.unwrap_err().to_string();
        let expected =
            "there is no best epoch to keep: `Settled` of the validation was finite in none";
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn an_early_stop_keeps_the_best_too() {
    let _turn = serial();
    let directory = tempfile::tempdir().unwrap();
    let patient = || {
        let values = [1.0, 3.0, 2.0, 2.0, 9.0];
        let metric = Settled {
            values: values.to_vec(),
            epoch: Epoch::default(),
        };
        judged(directory.path(), &values).early_stopping(MetricEarlyStoppingStrategy::new(
            &metric,
            Aggregate::Mean,
            Direction::Highest,
            Split::Valid,
            StoppingCondition::NoImprovementSince { n_epochs: 2 },
        ))
    };
    assert!(patient().callback(stop_in(4)).fit(toy()).is_err());
    for _ in 0..2 {
        let fitted = patient().fit(toy()).unwrap();
        assert_eq!((fitted.outcome, fitted.epoch), (Outcome::EarlyStopped, 4));
        assert_eq!(fitted.kept, 2);
        assert!(fitted.model.bits() == bits_after(2));
    }
}

#[test]
fn the_last_epoch_is_kept_where_nothing_else_is_asked_for() {
    let _turn = serial();
    let directory = tempfile::tempdir().unwrap();
    let fitted = stage(config(directory.path(), 4)).fit(toy()).unwrap();
    assert_eq!((fitted.kept, fitted.epoch), (4, 4));
    let outcome = fs::read_to_string(directory.path().join("outcome.json")).unwrap();
    assert!(outcome.contains("\"kept\": 4"), "{outcome}");
    assert_eq!(left(directory.path()), ["epoch-4"]);
}
