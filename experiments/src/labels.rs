//! Whether a fine-tuned model answers a task as the task's data does, and in which order.

use burn::{module::Param, prelude::*};
use moebert_core::{
    heads::BertModel,
    pretrained::{CONFIG_FILE, LoadReport, Pretrained},
};

use crate::{data::glue::GlueTask, error::Error, recipe::Task, warning::warn};

/// Refuses a model with another head than `task` needs, and one whose `config.json` has the names of other
/// classes: those of another task, or, where it has experts, which no other tool makes, any others.
///
/// Case and blanks around do not count in names. If none of the names is the task's, those of a dense model say nothing
/// of what they mean: its classes are taken in their order, with a warning.
///
/// # Errors
///
/// If the head or the names differ.
pub fn check_fine_tuned(pretrained: &Pretrained, task: Task) -> Result<(), Error> {
    let found = pretrained.config().head();
    if found != task.head() {
        return Err(Error::Head {
            path: pretrained.dir().to_owned(),
            task,
            found,
        });
    }
    let expected = task.labels();
    let Some(found) = pretrained.config().labels() else {
        return Ok(());
    };
    if are_permuted(&found, expected) {
        return Ok(());
    }
    let is_of_other_task = || {
        GlueTask::ALL
            .iter()
            .any(|other| are_permuted(&found, other.labels()))
    };
    let is_known = |name: &&str| {
        expected
            .iter()
            .any(|expected| plain(expected) == plain(name))
    };
    let is_foreign = found.iter().all(|name| !is_known(name)) && !is_of_other_task();
    if pretrained.experts().is_none() && is_foreign {
        warn(&format!(
            "{}: labels are {}, which are not those of {task}; they are taken for {} in this order",
            pretrained.dir().join(CONFIG_FILE).display(),
            found.join(", "),
            expected.join(", ")
        ));
        return Ok(());
    }
    Err(Error::Labels {
        path: pretrained.dir().to_owned(),
        task,
        found: found.join(", "),
    })
}

/// Loads a model that was fine-tuned on a task, its classes in the task's order: `config.json` may have the same
/// names in another one.
///
/// # Errors
///
/// As [`Pretrained::load_whole`].
pub fn load_fine_tuned(
    pretrained: &Pretrained,
    task: Task,
    device: &Device,
) -> Result<(BertModel, LoadReport), Error> {
    let (model, report) = pretrained.load_whole(Some(task.head()), device)?;
    let found = pretrained.config().labels().unwrap_or_default();
    let model = match order(&found, task.labels()) {
        Some(order) => with_classes(model, &order),
        None => model,
    };
    Ok((model, report))
}

/// For each class of the task the place of its name in `found`; `None` where the order is the same, or the names
/// are not the task's.
fn order(found: &[&str], expected: &[&str]) -> Option<Vec<usize>> {
    if !are_permuted(found, expected) {
        return None;
    }
    let place = |name: &&str| found.iter().position(|found| plain(found) == plain(name));
    let order: Vec<usize> = expected.iter().map(place).collect::<Option<_>>()?;
    (!order.is_sorted()).then_some(order)
}

/// The model with the outputs of its head in another order.
fn with_classes(mut model: BertModel, order: &[usize]) -> BertModel {
    let Some(head) = &mut model.head else {
        return model;
    };
    let device = head.weight.device();
    let order: Vec<i64> = order.iter().map(|class| *class as i64).collect();
    let order = Tensor::<1, Int>::from_data(order.as_slice(), &device);
    head.weight = Param::from_tensor(head.weight.val().select(1, order.clone()));
    head.bias = head
        .bias
        .take()
        .map(|bias| Param::from_tensor(bias.val().select(0, order)));
    model
}

/// A name without what does not count in it.
fn plain(name: &str) -> String {
    name.trim().to_lowercase()
}

/// Whether both lists hold the same names, in whatever order.
fn are_permuted(found: &[&str], expected: &[&str]) -> bool {
    let sorted = |names: &[&str]| {
        let mut names: Vec<String> = names.iter().map(|name| plain(name)).collect();
        names.sort_unstable();
        names
    };
    sorted(found) == sorted(expected)
}

#[cfg(test)]
mod tests {
    use masformer_core::Trace;
    use moebert_core::{
        bert::{BertConfig, BertInput},
        heads::{BertModelConfig, Head, Logits},
        pretrained::{PretrainedConfig, SaveOptions, save},
    };

    use super::*;

    const MNLI: Task = Task::Glue(GlueTask::Mnli);

    /// A folder whose model names its classes so.
    fn folder(labels: &[&str]) -> (tempfile::TempDir, Pretrained) {
        let bert = BertConfig::new()
            .with_vocab_size(5)
            .with_hidden_size(4)
            .with_num_hidden_layers(1)
            .with_num_attention_heads(1)
            .with_intermediate_size(4)
            .with_max_position_embeddings(4);
        let head = Head::Classification {
            classes: labels.len(),
        };
        let model = BertModelConfig::new(bert.clone(), head).init(&Device::default());
        let folder = tempfile::tempdir().expect("a folder");
        let options = SaveOptions {
            labels,
            ..SaveOptions::default()
        };
        let config = PretrainedConfig::new(bert, head);
        save(folder.path(), &model, &config, options).expect("saved");
        let pretrained = Pretrained::open(folder.path()).expect("opened");
        (folder, pretrained)
    }

    fn logits(model: &BertModel) -> Vec<f32> {
        let device = Device::default();
        let ids = Tensor::<2, Int>::from_data([[1, 2, 3]], &device);
        let input = BertInput {
            token_type_ids: ids.zeros_like(),
            input_ids: ids,
            padding: None,
        };
        match model.forward(&input, &mut Trace::nothing()).logits {
            Some(Logits::Sequence(logits)) => logits.into_data().iter().collect(),
            _ => panic!("a classifier"),
        }
    }

    #[test]
    fn classes_are_brought_into_the_order_of_the_task_by_their_names() {
        for (labels, places) in [
            (["contradiction", "entailment", "neutral"], [1, 2, 0]),
            (["CONTRADICTION", "NEUTRAL", "ENTAILMENT"], [2, 1, 0]),
            (["Entailment", "Neutral", "Contradiction"], [0, 1, 2]),
            (["contradiction", "entailment", " neutral "], [1, 2, 0]),
            (["yes", "maybe", "no"], [0, 1, 2]),
        ] {
            let (_folder, pretrained) = folder(&labels);
            check_fine_tuned(&pretrained, MNLI).expect("it can answer");
            let device = Device::default();
            let (plain, _) = pretrained.load_whole(None, &device).expect("loaded");
            let (ordered, _) = load_fine_tuned(&pretrained, MNLI, &device).expect("loaded");
            let plain = logits(&plain);
            assert_eq!(
                logits(&ordered),
                places.map(|place| plain[place]),
                "{labels:?}"
            );
        }
    }

    #[test]
    fn the_classes_of_another_task_are_refused() {
        let (_folder, pretrained) = folder(&["Negative", "positive"]);
        check_fine_tuned(&pretrained, Task::Glue(GlueTask::Sst2)).expect("its task");
        let refused = check_fine_tuned(&pretrained, Task::Glue(GlueTask::Cola));
        let message = refused.expect_err("another task").to_string();
        let expected =
            "config.json: labels are Negative, positive; cola needs unacceptable, acceptable";
        assert!(message.ends_with(expected), "{message}");
        let refused = check_fine_tuned(&pretrained, MNLI);
        assert!(matches!(refused, Err(Error::Head { .. })));
        // Half of the names are the task's: the others cannot be guessed.
        let (_folder, pretrained) = folder(&["positive", "neg"]);
        let refused = check_fine_tuned(&pretrained, Task::Glue(GlueTask::Sst2));
        assert!(matches!(refused, Err(Error::Labels { .. })));
    }
}
