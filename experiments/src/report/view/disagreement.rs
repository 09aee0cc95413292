//! Where an arm and the reference answer differently.

mod examples;
mod lengths;

use crate::{
    number::p,
    report::{
        data::{Evaluation, ReportData},
        extent::extent,
        figure::{DataTable, Figure, cell},
        number,
        section::{Block, Made, Section, Table},
        subject::Subject,
        svg::{Canvas, Entry, Legend, Marker, Rows, Scale},
    },
};

/// The section.
pub fn make(subject: &Subject<'_>) -> Made {
    let data = subject.data;
    let Some(reference) = data.results.reference.as_deref() else {
        return Err("no arms were compared".to_owned());
    };
    let changes: Vec<Change<'_>> = data
        .results
        .arms
        .iter()
        .filter(|arm| arm.is_arm && arm.name != reference)
        .filter_map(|arm| Change::of(data, &arm.name, reference))
        .collect();
    if changes.is_empty() {
        return Err(
            "no two arms have answers to the same examples that are right or wrong".to_owned(),
        );
    }
    let mut blocks = vec![
        Block::Table(table(&changes)),
        Block::Figures(figures(subject, &changes)),
    ];
    match &data.no_texts {
        None => {}
        Some(reason) => blocks.push(Block::Text(format!(
            "Examples are named by number: {reason}."
        ))),
    }
    let named: Vec<&Change<'_>> = changes
        .iter()
        .filter(|change| subject.styles.get(change.arm).is_some())
        .collect();
    blocks.extend(
        named
            .iter()
            .filter_map(|change| examples::table(data, change))
            .map(Block::Table),
    );
    if named.len() < changes.len() {
        blocks.push(Block::Text(
            "Examples are shown for the best arms alone.".to_owned(),
        ));
    }
    Ok(Section {
        id: "disagreement",
        title: "Disagreement",
        blocks,
    })
}

/// What an arm gets right and the reference does not, and the other way round.
pub struct Change<'a> {
    /// The arm.
    pub arm: &'a str,
    /// The arm that it is compared with.
    pub reference: &'a str,
    /// The evaluations of both by seed.
    pub pairs: Vec<(&'a Evaluation, &'a Evaluation)>,
    /// By example: with how many seeds it was gained, and lost.
    pub by_example: Vec<(usize, usize)>,
    /// Over all seeds: both right, gained, lost, both wrong.
    counts: [usize; 4],
    mcnemar: Vec<f64>,
}

impl<'a> Change<'a> {
    fn of(data: &'a ReportData, arm: &'a str, reference: &'a str) -> Option<Self> {
        let of = |name: &'a str| {
            let own = data.evaluations.iter();
            own.filter(move |evaluation| evaluation.arm == name && !evaluation.values.is_empty())
        };
        let pairs: Vec<(&Evaluation, &Evaluation)> = of(arm)
            .filter_map(|own| Some((own, of(reference).find(|base| base.seed == own.seed)?)))
            .filter(|(own, base)| own.values.len() == base.values.len())
            .collect();
        let examples = pairs.first()?.0.values.len();
        let mut by_example = vec![(0, 0); examples];
        let mut counts = [0; 4];
        for (own, base) in &pairs {
            for (place, (own, base)) in own.values.iter().zip(&base.values).enumerate() {
                let (Some(own), Some(base)) = (own, base) else {
                    continue;
                };
                let (own, base) = (is_right(*own)?, is_right(*base)?);
                counts[match (own, base) {
                    (true, true) => 0,
                    (true, false) => 1,
                    (false, true) => 2,
                    (false, false) => 3,
                }] += 1;
                by_example[place].0 += usize::from(own && !base);
                by_example[place].1 += usize::from(base && !own);
            }
        }
        let comparison = data.results.comparison(arm);
        Some(Self {
            arm,
            reference,
            pairs,
            by_example,
            counts,
            mcnemar: comparison.map_or_else(Vec::new, |comparison| {
                comparison.mcnemar.iter().map(|test| test.p).collect()
            }),
        })
    }

    /// A count as a mean over the seeds.
    fn mean(&self, place: usize) -> f64 {
        self.counts[place] as f64 / self.pairs.len() as f64
    }
}

/// Whether a value means right or wrong; none for values in between.
fn is_right(value: f32) -> Option<bool> {
    match value {
        value if value.to_bits() == 1.0_f32.to_bits() => Some(true),
        value if value.to_bits() == 0.0_f32.to_bits() => Some(false),
        _ => None,
    }
}

fn table(changes: &[Change<'_>]) -> Table {
    let has_tests = changes.iter().any(|change| !change.mcnemar.is_empty());
    let mut header = vec!["arm", "both right", "gained", "lost", "both wrong"];
    if has_tests {
        header.push("p by seed (McNemar)");
    }
    let caption = format!(
        "Examples that each arm and {} get right, mean over the seeds",
        changes[0].reference
    );
    let mut table = Table::new(&caption, &header, 1);
    for change in changes {
        let mut row = vec![change.arm.to_owned()];
        row.extend((0..4).map(|place| number::fixed(change.mean(place), 1)));
        if has_tests {
            row.push(tests(&change.mcnemar));
        }
        table.rows.push(row);
    }
    table
}

fn tests(ps: &[f64]) -> String {
    let texts: Vec<String> = ps.iter().map(|value| p(*value)).collect();
    if texts.len() <= 6 {
        return texts.join(", ");
    }
    let (least, largest) = extent(ps.iter().copied()).unwrap_or_default();
    format!("{} to {}", p(least), p(largest))
}

fn figures(subject: &Subject<'_>, changes: &[Change<'_>]) -> Vec<Figure> {
    let mut figures = vec![bars(changes)];
    figures.extend(lengths::figure(subject, changes));
    figures
}

/// Examples lost to the left, gained to the right.
fn bars(changes: &[Change<'_>]) -> Figure {
    let mut data = DataTable::new(&["arm", "gained", "lost"]);
    let mut values = vec![0.0];
    for change in changes {
        let (gained, lost) = (change.mean(1), change.mean(2));
        values.extend([gained, -lost]);
        data.push([change.arm.to_owned(), cell(gained), cell(lost)]);
    }
    let names: Vec<&str> = changes.iter().map(|change| change.arm).collect();
    let mut canvas = Canvas::new();
    let scale = Scale::linear(values, (f64::NEG_INFINITY, f64::INFINITY));
    let rows = Rows::draw(
        &mut canvas,
        &names,
        "examples: lost (left), gained (right)",
        scale,
    );
    let zero = rows.x.at(0.0);
    for (row, change) in changes.iter().enumerate() {
        let y = rows.y(row) - 5.0;
        let (gained, lost) = (rows.x.at(change.mean(1)), rows.x.at(-change.mean(2)));
        canvas.open_titled(
            "c0",
            &format!("{}: {} gained", change.arm, cell(change.mean(1))),
        );
        canvas.rect("bar", (zero, y), (gained - zero, 10.0));
        canvas.close();
        canvas.open_titled(
            "c1",
            &format!("{}: {} lost", change.arm, cell(change.mean(2))),
        );
        canvas.rect("hatch", (lost, y), (zero - lost, 10.0));
        canvas.close();
    }
    canvas.line("zero", (zero, rows.ends.0), (zero, rows.ends.1));
    let entry = |class, is_hollow, name: &str| Entry {
        class,
        is_hollow,
        dashes: None,
        marker: Some(Marker::Square),
        name: name.to_owned(),
    };
    let entries = vec![entry("c1", true, "lost"), entry("c0", false, "gained")];
    let bottom = Legend { entries }.draw(&mut canvas, rows.bottom);
    Figure {
        name: "gained-lost".to_owned(),
        title: format!("Examples gained and lost against {}", changes[0].reference),
        caption: "Mean over the seeds. Arms with equal scores can still answer differently."
            .to_owned(),
        drawing: canvas.finish(bottom),
        data,
    }
}
