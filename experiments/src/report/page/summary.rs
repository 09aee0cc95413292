//! The table of all arms as the template wants it: cells with what they sort by, and bars.

use serde::Serialize;

use crate::{
    ablate::statistics::Unit,
    number::p_value,
    report::{
        measure::Measure,
        number,
        summary::{Difference, FailedSeed, Row, Score, Summary},
        svg::px,
    },
};

/// The size of a bar in pixels.
const BAR: (f64, f64) = (110.0, 14.0);

/// The table.
#[derive(Serialize)]
pub struct SummaryView {
    columns: Vec<Column>,
    rows: Vec<RowView>,
    failed: Vec<FailedView>,
    notes: Vec<String>,
    has_best: bool,
}

#[derive(Serialize)]
struct Column {
    title: String,
    hint: String,
    is_text: bool,
}

#[derive(Serialize)]
struct RowView {
    name: String,
    detail: String,
    /// What is special of it, in a word or two.
    badge: String,
    class: &'static str,
    cells: Vec<CellView>,
}

#[derive(Default, Serialize)]
struct CellView {
    text: String,
    /// A second line.
    more: String,
    /// The number to sort by.
    sort: Option<f64>,
    svg: String,
    class: &'static str,
    is_best: bool,
}

#[derive(Serialize)]
struct FailedView {
    arm: String,
    seed: u64,
    reason: String,
    log: String,
}

impl SummaryView {
    /// The view of a table.
    pub fn of(summary: &Summary) -> Self {
        let column = |title: &str, hint: &str, is_text: bool| Column {
            title: title.to_owned(),
            hint: hint.to_owned(),
            is_text,
        };
        let mut columns = vec![];
        columns.extend(
            summary
                .changes
                .iter()
                .map(|(title, key)| column(title, key, true)),
        );
        columns.extend(
            summary
                .metrics
                .iter()
                .map(|metric| column(&metric.title, "", false)),
        );
        if let Some((title, _)) = &summary.difference {
            columns.push(column(title, "", false));
            columns.push(column("verdict", "", true));
        }
        columns.extend(summary.costs.iter().map(|cost| column(cost, "", false)));
        let bars = Bars::of(summary);
        Self {
            columns,
            rows: summary
                .rows
                .iter()
                .map(|row| row_view(summary, row, &bars))
                .collect(),
            failed: summary.failed.iter().map(failed).collect(),
            notes: summary.notes.clone(),
            has_best: summary
                .rows
                .iter()
                .flat_map(|row| &row.metrics)
                .flatten()
                .any(|score| score.is_best),
        }
    }
}

fn failed(failed: &FailedSeed) -> FailedView {
    FailedView {
        arm: failed.arm.clone(),
        seed: failed.seed,
        reason: failed.reason.clone(),
        log: failed.log.clone(),
    }
}

fn row_view(summary: &Summary, row: &Row, bars: &Bars) -> RowView {
    let mut cells = vec![];
    cells.extend(row.changes.iter().map(|change| CellView {
        text: change.clone(),
        ..CellView::default()
    }));
    let scores = summary.metrics.iter().zip(&row.metrics);
    cells.extend(scores.map(|(metric, score)| score_cell(metric, score.as_ref())));
    if let Some((_, unit)) = &summary.difference {
        cells.extend(difference_cells(row, *unit, bars));
    }
    cells.extend(row.costs.iter().map(|cost| match cost {
        Some(cost) => {
            let (text, more) = cost.text.split_once(' ').unwrap_or((&cost.text, ""));
            CellView {
                text: text.to_owned(),
                more: more.to_owned(),
                sort: Some(cost.value),
                ..CellView::default()
            }
        }
        None => missing(),
    }));
    let (done, all) = row.seeds;
    let mut badges = vec![];
    if row.is_reference {
        badges.push("reference".to_owned());
    }
    if row.is_source {
        badges.push("not an arm".to_owned());
    }
    if done < all {
        badges.push(format!("{done} of {all} seeds"));
    }
    let is_open = row
        .difference
        .is_some_and(|difference| !difference.kind.is_decided());
    RowView {
        name: row.name.clone(),
        detail: row.detail.clone(),
        badge: badges.join(", "),
        class: if row.is_reference {
            "reference"
        } else if is_open {
            "undecided"
        } else {
            ""
        },
        cells,
    }
}

fn missing() -> CellView {
    CellView {
        text: "-".to_owned(),
        ..CellView::default()
    }
}

fn score_cell(metric: &Measure, score: Option<&Score>) -> CellView {
    let Some(score) = score else {
        return missing();
    };
    let half = score.interval.map(|(low, high)| (high - low) / 2.0);
    let spread = half.or(score.deviation);
    CellView {
        text: metric.value(score.mean, spread),
        more: match (score.interval, score.deviation) {
            (Some((low, high)), _) => {
                format!(
                    "[{}, {}]",
                    metric.value(low, half),
                    metric.value(high, half)
                )
            }
            (None, Some(deviation)) => format!("sd {}", metric.value(deviation, spread)),
            (None, None) => String::new(),
        },
        sort: Some(score.mean),
        is_best: score.is_best,
        ..CellView::default()
    }
}

/// The cells of the difference and of the verdict.
fn difference_cells(row: &Row, unit: Unit, bars: &Bars) -> [CellView; 2] {
    let Some(difference) = &row.difference else {
        return [CellView::default(), CellView::default()];
    };
    let told = difference
        .value
        .map(|value| number::difference(value, difference.interval, unit));
    let told = told.unwrap_or_else(|| "-".to_owned());
    let (text, more) = told.split_once(' ').unwrap_or((&told, ""));
    [
        CellView {
            text: text.to_owned(),
            more: more.to_owned(),
            sort: difference.value,
            svg: bars.svg(difference),
            class: difference.kind.class(),
            ..CellView::default()
        },
        CellView {
            text: format!("{} {}", difference.kind.sign(), difference.kind.word()),
            more: difference.p.map_or_else(String::new, p_value),
            sort: difference.p,
            class: difference.kind.class(),
            ..CellView::default()
        },
    ]
}

/// Bars of differences on one scale.
struct Bars {
    low: f64,
    high: f64,
}

impl Bars {
    fn of(summary: &Summary) -> Self {
        let differences = summary
            .rows
            .iter()
            .filter_map(|row| row.difference.as_ref());
        let ends = differences.flat_map(|difference| {
            let (low, high) = difference.interval.unzip();
            [difference.value, low, high]
        });
        let (mut low, mut high) = (0.0_f64, 0.0_f64);
        for end in ends.flatten().filter(|end| end.is_finite()) {
            low = low.min(end);
            high = high.max(end);
        }
        Self {
            low,
            high: if high > low { high } else { low + 1.0 },
        }
    }

    fn x(&self, value: f64) -> f64 {
        5.0 + (value - self.low) / (self.high - self.low) * (BAR.0 - 10.0)
    }

    fn svg(&self, difference: &Difference) -> String {
        let Some(value) = difference.value else {
            return String::new();
        };
        let (zero, at, middle) = (self.x(0.0), self.x(value), BAR.1 / 2.0);
        let interval = difference.interval.map_or_else(String::new, |(low, high)| {
            let (low, high) = (self.x(low), self.x(high));
            format!(
                r#"<path class="ln" d="M{} {middle}H{}"/>"#,
                px(low),
                px(high)
            )
        });
        format!(
            r#"<svg class="diff" viewBox="0 0 {} {}" aria-hidden="true"><path class="ax" d="M{} 0V{}"/><rect class="half" x="{}" y="4" width="{}" height="6"/>{interval}<circle class="mk" cx="{}" cy="{middle}" r="3"/></svg>"#,
            BAR.0,
            BAR.1,
            px(zero),
            BAR.1,
            px(zero.min(at)),
            px((at - zero).abs()),
            px(at),
        )
    }
}
