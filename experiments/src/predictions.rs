//! What a model answers to each example, as JSON lines.

use serde_json::{Map, Value, json};

use crate::{
    data::squad::SquadVersion,
    examples::Examples,
    metric::Scores,
    problem::{Answer, Rule, best_class},
};

/// The file of the answers in the folder of an evaluation.
pub const PREDICTIONS: &str = "predictions.jsonl";

/// The scores of a model, with what it answered to each example.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The scores, by the metric's name.
    pub scores: Scores,
    /// One object per example.
    pub predictions: Vec<Value>,
    /// What the scores are made of, by split.
    pub examples: Vec<Examples>,
}

/// One object per line.
pub fn lines(objects: impl IntoIterator<Item = Value>) -> String {
    let lines = objects.into_iter().map(|object| object.to_string() + "\n");
    lines.collect()
}

/// A summary of a text.
pub fn of_summary(id: &str, summary: &str) -> Value {
    json!({ "id": id, "summary": summary })
}

/// An answer with what the model thought of it.
pub fn of_answer(id: &str, answer: &Answer, rule: &Rule) -> Value {
    match answer {
        Answer::Class(scores) => {
            let names = match rule {
                Rule::Glue(task, _) => task.labels(),
                _ => &[],
            };
            let name = |class: usize| {
                names
                    .get(class)
                    .map_or_else(|| class.to_string(), ToString::to_string)
            };
            let probabilities: Map<String, Value> = softmax(scores)
                .into_iter()
                .enumerate()
                .map(|(class, probability)| (name(class), probability.into()))
                .collect();
            json!({ "index": index(id), "label": name(best_class(scores)), "probabilities": probabilities })
        }
        Answer::Score(score) => json!({ "index": index(id), "score": score }),
        Answer::Span(version, span) => {
            let mut object = json!({ "id": id, "answer": span.text(*version, 0.0) });
            if *version == SquadVersion::V2 {
                object["best_answer"] = span.answer.clone().into();
                object["null_margin"] = span.null_margin.into();
            }
            object
        }
    }
}

/// The place of an example in its file, as a number.
fn index(id: &str) -> Value {
    id.parse::<u64>().map_or_else(|_| id.into(), Into::into)
}

/// `e^x / sum e^x`.
fn softmax(scores: &[f32]) -> Vec<f64> {
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = scores
        .iter()
        .map(|score| f64::from(score - highest).exp())
        .collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{
        glue::{GlueTask, Split},
        squad::spans::SpanPrediction,
    };

    #[test]
    fn answers_have_what_the_model_thought_of_them() {
        let mnli = Rule::Glue(GlueTask::Mnli, Split::Dev);
        let found = of_answer("7", &Answer::Class(vec![0.0, 2.0, 2.0]), &mnli);
        assert_eq!(
            (found["index"].as_u64(), found["label"].as_str()),
            (Some(7), Some("neutral"))
        );
        let total: f64 = ["entailment", "neutral", "contradiction"]
            .iter()
            .filter_map(|name| found["probabilities"][*name].as_f64())
            .sum();
        assert!((total - 1.0).abs() < 1e-12);
        let span = Answer::Span(
            SquadVersion::V2,
            SpanPrediction {
                id: "q".to_owned(),
                answer: "the cat".to_owned(),
                null_margin: 0.5,
            },
        );
        let expected =
            json!({ "id": "q", "answer": "", "best_answer": "the cat", "null_margin": 0.5 });
        assert_eq!(of_answer("q", &span, &Rule::Accuracy), expected);
    }

    #[test]
    fn large_scores_have_probabilities() {
        assert_eq!(softmax(&[3e38, -3e38]), [1.0, 0.0]);
        assert_eq!(softmax(&[-3e38, -3e38]), [0.5, 0.5]);
    }
}
