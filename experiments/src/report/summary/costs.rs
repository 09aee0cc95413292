//! What models cost, as columns.

use crate::{
    report::{latency::Speeds, number},
    results::{ArmResults, ModelCost, Results},
    table::AttentionCost,
};

/// By how much measured and counted ratios may differ.
const FLAG: f64 = 1.5;

/// A cost of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// The number, to sort by.
    pub value: f64,
    /// As it is told.
    pub text: String,
}

type Cell<'a> = Box<dyn Fn(&ArmResults) -> Option<Cost> + 'a>;

/// A column.
pub struct Column<'a> {
    /// Its title.
    pub title: String,
    /// Whether a cell of it has a mark that needs an explanation.
    pub is_flagged: bool,
    cell: Cell<'a>,
}

impl Column<'_> {
    /// The cell of a model.
    pub fn cell(&self, arm: &ArmResults) -> Option<Cost> {
        (self.cell)(arm)
    }
}

/// The columns of a run: those that have something to tell.
pub fn columns<'a>(results: &'a Results, speeds: &'a Speeds<'a>) -> Vec<Column<'a>> {
    let counted = |of: fn(&ModelCost) -> u64| -> Cell<'a> {
        Box::new(move |arm| {
            let value = of(arm.cost.as_ref()?) as f64;
            (value > 0.0).then(|| Cost {
                value,
                text: number::count(value),
            })
        })
    };
    let attention = |of: fn(&AttentionCost) -> f64, is_share: bool| -> Cell<'a> {
        Box::new(move |arm| {
            let value = of(arm.cost.as_ref()?.attention.as_ref()?);
            let text = if is_share {
                number::fixed(value, 3)
            } else {
                number::count(value)
            };
            Some(Cost { value, text })
        })
    };
    let latency: Cell<'a> = Box::new(|arm| {
        let value = speeds.median(&arm.name)?;
        Some(Cost {
            value,
            text: number::short(value, 3),
        })
    });
    let ratio: Cell<'a> = Box::new(|arm| ratio(results, speeds, arm));
    let is_reference = speeds.reference() == results.reference.as_deref();
    let ratio_title = match speeds.reference() {
        Some(reference) if !is_reference => format!("latency \u{00f7} {reference}"),
        _ => "latency \u{00f7} reference".to_owned(),
    };
    let has_active = results
        .arms
        .iter()
        .filter_map(|arm| arm.cost.as_ref())
        .any(|cost| cost.active_parameters != cost.parameters);
    let has_state = results
        .arms
        .iter()
        .filter_map(|arm| arm.cost.as_ref()?.attention.as_ref())
        .any(|cost| cost.state_numbers > 0);
    let mut columns = vec![("parameters".to_owned(), counted(|cost| cost.parameters))];
    if has_active {
        columns.push(("active".to_owned(), counted(|cost| cost.active_parameters)));
    }
    columns.extend([
        (
            "multiply-adds/token".to_owned(),
            counted(|cost| cost.multiply_adds_per_token),
        ),
        (
            "attention of full".to_owned(),
            attention(|cost| cost.attention_share, true),
        ),
        (
            "cache".to_owned(),
            attention(|cost| cost.cached_positions as f64, false),
        ),
    ]);
    if has_state {
        columns.push((
            "state".to_owned(),
            attention(|cost| cost.state_numbers as f64, false),
        ));
    }
    columns.extend([("latency, ms".to_owned(), latency), (ratio_title, ratio)]);
    let columns = columns.into_iter().filter_map(|(title, cell)| {
        let found: Vec<Cost> = results.arms.iter().filter_map(&cell).collect();
        (!found.is_empty()).then(|| Column {
            title,
            is_flagged: found.iter().any(|cost| cost.text.contains('\u{2020}')),
            cell,
        })
    });
    columns.collect()
}

/// The measured ratio with its interval, marked where the counted one is far from it.
fn ratio(results: &Results, speeds: &Speeds<'_>, arm: &ArmResults) -> Option<Cost> {
    let reference = speeds.reference()?;
    if arm.name == reference {
        return Some(Cost {
            value: 1.0,
            text: "1".to_owned(),
        });
    }
    let found = speeds.ratio(&arm.name)?;
    let mut text = number::fixed(found.paired.ratio, 2);
    if let Some(interval) = found.paired.interval {
        let ends = [interval.ends.low, interval.ends.high].map(|end| number::fixed(end, 2));
        text.extend([" [", &ends[0], ", ", &ends[1], "]"]);
    }
    let products = |arm: &ArmResults| Some(arm.cost.as_ref()?.multiply_adds_per_token as f64);
    let counted = products(arm).zip(results.arm(reference).and_then(products));
    if let Some((own, base)) = counted
        && own > 0.0
        && base > 0.0
    {
        let far = found.paired.ratio / (own / base);
        if !(1.0 / FLAG..=FLAG).contains(&far) {
            text.push('\u{2020}');
        }
    }
    if found.varies {
        text += " varies by start";
    }
    Some(Cost {
        value: found.paired.ratio,
        text,
    })
}
