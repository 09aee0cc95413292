//! Whether a fine-tuned model answers a task as the task's data does.

use moebert_core::pretrained::Pretrained;

use crate::{error::Error, recipe::Task};

/// Refuses a model with another head than `task` needs, and one whose `config.json` has the class
/// names of `task` in another order: its predictions would be taken for those of other classes.
///
/// Case does not count in names. Names that are not the task's say nothing of its order.
///
/// # Errors
///
/// If the head or the order differs.
pub fn check_fine_tuned(pretrained: &Pretrained, task: Task) -> Result<(), Error> {
    let found = pretrained.config().task();
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
    if is_permuted(&found, expected) {
        return Err(Error::Labels {
            path: pretrained.dir().to_owned(),
            task,
            found: found.join(", "),
        });
    }
    Ok(())
}

/// Whether both lists hold the same names in different orders.
fn is_permuted(found: &[&str], expected: &[&str]) -> bool {
    let lower =
        |names: &[&str]| -> Vec<String> { names.iter().map(|name| name.to_lowercase()).collect() };
    let sorted = |mut names: Vec<String>| {
        names.sort_unstable();
        names
    };
    let (found, expected) = (lower(found), lower(expected));
    found != expected && sorted(found) == sorted(expected)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use moebert_core::{
        bert::BertConfig,
        heads::{BertModelConfig, Task as Head},
        pretrained::{PretrainedConfig, SaveOptions, save},
    };

    use super::*;
    use crate::data::glue::GlueTask;

    #[test]
    fn only_another_order_of_the_same_names_is_refused() {
        let expected = ["entailment", "neutral", "contradiction"];
        for (found, permuted) in [
            (["contradiction", "entailment", "neutral"], true),
            (["CONTRADICTION", "NEUTRAL", "ENTAILMENT"], true),
            (["Entailment", "Neutral", "Contradiction"], false),
            (["yes", "maybe", "no"], false),
            (["neutral", "neutral", "entailment"], false),
        ] {
            assert_eq!(is_permuted(&found, &expected), permuted, "{found:?}");
        }
    }

    #[test]
    fn the_refusal_has_both_orders() {
        let bert = BertConfig::new()
            .with_vocab_size(5)
            .with_hidden_size(4)
            .with_num_hidden_layers(1)
            .with_num_attention_heads(1)
            .with_intermediate_size(4)
            .with_max_position_embeddings(4);
        let head = Head::Classification { classes: 3 };
        let model = BertModelConfig::new(bert.clone(), head).init(&Device::default());
        let folder = tempfile::tempdir().expect("a folder");
        let options = SaveOptions {
            labels: &["contradiction", "entailment", "neutral"],
            ..SaveOptions::default()
        };
        let config = PretrainedConfig::new(bert, head);
        save(folder.path(), &model, &config, options).expect("saved");
        let pretrained = Pretrained::open(folder.path()).expect("opened");
        let message = check_fine_tuned(&pretrained, Task::Glue(GlueTask::Mnli))
            .expect_err("another order")
            .to_string();
        let expected = "config.json: labels are contradiction, entailment, neutral; mnli needs \
                        entailment, neutral, contradiction";
        assert!(message.ends_with(expected), "{message}");
        let refused = check_fine_tuned(&pretrained, Task::Glue(GlueTask::Sst2));
        assert!(matches!(refused, Err(Error::Head { .. })));
    }
}
