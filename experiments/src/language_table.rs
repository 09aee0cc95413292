//! The table at the end of a run of language models: what each schedule scores and what it costs.

use masformer_core::{MixerSpec, Mixing, Span};
use serde::{Deserialize, Serialize};

use crate::{
    metric::Scores,
    table::{Table, by_name, count, score},
};

/// One model of one seed, as `results.json` holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LanguageRow {
    /// `checkpoint`, or the model's name.
    pub name: String,
    /// The seed of this training.
    pub seed: u64,
    /// What each layer attends to, from the bottom.
    pub spans: Vec<Span>,
    /// What each layer mixes tokens with, from the bottom; empty where all are attention.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mixers: Vec<MixerSpec>,
    /// Scores of the checkpoint under these spans, before the training; none for fresh models.
    pub metrics_before: Option<Scores>,
    /// Scores on the data to judge by.
    pub metrics: Scores,
    /// Number of weights.
    pub parameters: u64,
    /// Pairs of a query and a key in a sequence of the training's length, one head a layer.
    pub attention_pairs: u64,
    /// These as a share of those of full attention.
    pub attention_share: f64,
    /// Positions that a decoder keeps after such a sequence, over all layers.
    pub cached_positions: u64,
    /// Numbers that a decoder keeps for a sequence besides keys and values, over all layers: the states of mixers.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub state_numbers: u64,
    /// What a token passes through; where some model of the run has experts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<ActiveCost>,
    /// Seconds of training since its last start; none for the checkpoint.
    pub seconds: Option<f64>,
}

/// What one token of a model passes through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveCost {
    /// The experts; none for dense feed-forward layers.
    pub experts: Option<String>,
    /// Number of weights.
    pub parameters: u64,
    /// Multiply-adds of the layers, for a sequence of the training's length.
    pub multiply_adds_per_token: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The rows of a run, ready to be shown: one line a model, mean and standard deviation over the
/// seeds, and of the scores those of `columns`.
pub fn table(rows: &[LanguageRow], columns: &[&str]) -> Table {
    let has_before = rows.iter().any(|row| row.metrics_before.is_some());
    let mut header = vec!["model".to_owned(), "layers".to_owned()];
    for column in columns {
        if has_before {
            header.push(format!("{column} before training"));
        }
        header.push((*column).to_owned());
    }
    header.extend(["parameters", "attention pairs", "of full", "cache"].map(str::to_owned));
    let has_states = rows.iter().any(|row| row.state_numbers > 0);
    header.extend(has_states.then(|| "state".to_owned()));
    let has_active = rows.iter().any(|row| row.active.is_some());
    if has_active {
        header.extend(["experts", "active", "multiply-adds/token"].map(str::to_owned));
    }
    let groups = by_name(rows, |row| &row.name);
    let mut cells = vec![header];
    for (name, group) in &groups {
        let mut line = vec![(*name).to_owned(), summary(group[0])];
        let scores = |of: &dyn Fn(&LanguageRow) -> Option<f64>| {
            score(&group.iter().filter_map(|row| of(row)).collect::<Vec<_>>())
        };
        for column in columns {
            if has_before {
                line.push(scores(&|row| {
                    row.metrics_before.as_ref()?.get(*column).copied()
                }));
            }
            line.push(scores(&|row| row.metrics.get(*column).copied()));
        }
        // Costs follow from spans and mixers: they are the same for all seeds.
        line.push(count(group[0].parameters));
        line.push(count(group[0].attention_pairs));
        line.push(format!("{:.3}", group[0].attention_share));
        line.push(count(group[0].cached_positions));
        line.extend(has_states.then(|| count(group[0].state_numbers)));
        if let Some(active) = &group[0].active {
            let experts = active.experts.as_deref().unwrap_or("dense");
            line.push(experts.to_owned());
            line.push(count(active.parameters));
            line.push(count(active.multiply_adds_per_token));
        }
        cells.push(line);
    }
    Table::from_cells(cells, groups.iter().map(|(_, group)| group.len()).max())
}

/// Runs of equal layers from the bottom, as in `2 full, 4 window:64`.
fn summary(row: &LanguageRow) -> String {
    let layers = Mixing::of_layers(&row.spans, &row.mixers);
    let runs = layers.chunk_by(|a, b| a == b);
    let runs = runs.map(|run| format!("{} {}", run.len(), run[0]));
    runs.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, seed: u64, before: Option<f64>, after: f64) -> LanguageRow {
        let scores = |value| Scores::from([("bits_per_byte".to_owned(), value)]);
        LanguageRow {
            name: name.to_owned(),
            seed,
            spans: vec![
                Span::Full,
                "window:8".parse().unwrap(),
                "window:8".parse().unwrap(),
            ],
            mixers: vec![],
            metrics_before: before.map(scores),
            metrics: scores(after),
            parameters: 1_200_000,
            attention_pairs: 5000,
            attention_share: 0.25,
            cached_positions: 48,
            state_numbers: 0,
            active: None,
            seconds: None,
        }
    }

    #[test]
    fn a_continued_model_is_shown_before_and_after() {
        let rows = [
            row("checkpoint", 1, None, 2.0),
            row("local", 1, Some(4.0), 2.5),
            row("local", 2, Some(4.0), 2.7),
        ];
        let text = table(&rows, &["bits_per_byte"]).to_markdown();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "| model | layers | bits_per_byte before training | bits_per_byte | parameters | \
             attention pairs | of full | cache |"
        );
        assert_eq!(
            lines[2],
            "| checkpoint | 1 full, 2 window:8 | - | 2.00 | 1.2M | 5000 | 0.250 | 48 |"
        );
        assert_eq!(
            lines[3],
            "| local | 1 full, 2 window:8 | 4.00 ± 0.00 | 2.60 ± 0.14 | 1.2M | 5000 | 0.250 | 48 |"
        );
    }

    #[test]
    fn what_a_token_passes_is_shown_beside_experts() {
        let active = |experts: Option<&str>| ActiveCost {
            experts: experts.map(str::to_owned),
            parameters: 800_000,
            multiply_adds_per_token: 70_000,
        };
        let mut rows = [row("full", 1, None, 0.5), row("experts", 1, None, 0.5)];
        rows[0].active = Some(active(None));
        rows[1].active = Some(active(Some("4 experts of 64, hash-random")));
        let text = table(&rows, &["bits_per_byte"]).to_markdown();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].ends_with("cache | experts | active | multiply-adds/token |"));
        assert!(
            lines[2].ends_with("48 | dense | 800.0k | 70.0k |"),
            "{text}"
        );
        let experts = "48 | 4 experts of 64, hash-random | 800.0k | 70.0k |";
        assert!(lines[3].ends_with(experts), "{text}");
    }

    #[test]
    fn a_fresh_model_has_no_before() {
        let text = table(&[row("full", 1, None, 0.5)], &["bits_per_byte"]).to_text();
        assert!(!text.contains("before"), "{text}");
        assert!(text.contains("0.5000"), "{text}");
    }
}
