//! Whether something became slower or larger than it was.

use super::{BenchRow, report::Report, report::milliseconds};
use crate::table::{Table, memory};

/// How much more memory a pass may take: threads that happen to work at the same time add a little.
const MEMORY_BAND: f64 = 0.05;
/// Bytes that are never more memory.
const MEMORY_FLOOR: u64 = 64 << 10;

/// One case then and now.
#[derive(Clone, Debug)]
struct Change<'a> {
    then: &'a BenchRow,
    now: &'a BenchRow,
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Same,
    Faster,
    Slower,
    Larger,
}

/// The cases that two reports have in common: of the same name, size and work. The machine's own are not
/// among them.
#[derive(Clone, Debug)]
pub struct Comparison<'a> {
    changes: Vec<Change<'a>>,
    /// By which share a median may be off.
    band: f64,
}

impl<'a> Comparison<'a> {
    /// Compares what was with what is. A case is slower if its median is more than `band` above what it
    /// was, such as 0.15, and the quartiles do not overlap; faster, if that holds the other way round.
    pub fn new(then: &'a Report, now: &'a Report, band: f64) -> Self {
        let cases = now.rows.iter().filter(|row| !row.is_machine());
        let changes = cases.filter_map(|now| {
            let then = then.row(&now.name, now.size)?;
            if then.work != now.work {
                return None;
            }
            let verdict = verdict(then, now, band);
            Some(Change { then, now, verdict })
        });
        Self {
            changes: changes.collect(),
            band,
        }
    }

    /// Number of cases that both reports have.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether they have none in common.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The cases that became slower, or take more memory.
    pub fn worse(&self) -> Vec<String> {
        let worse = [Verdict::Slower, Verdict::Larger];
        self.changes
            .iter()
            .filter(|change| worse.contains(&change.verdict))
            .map(|change| match change.now.size {
                0 => change.now.name.clone(),
                size => format!("{} at {size}", change.now.name),
            })
            .collect()
    }

    /// One line per case.
    pub fn table(&self) -> Table {
        let header = [
            "case",
            "size",
            "ms then",
            "ms now",
            "time",
            "memory then",
            "memory now",
            "",
        ];
        let mut cells = vec![header.map(str::to_owned).to_vec()];
        for Change { then, now, verdict } in &self.changes {
            let ratio = now.time.median_ms / then.time.median_ms;
            let verdict = match verdict {
                Verdict::Same => "",
                Verdict::Faster => "faster",
                Verdict::Slower => "slower",
                Verdict::Larger => "more memory",
            };
            cells.push(vec![
                now.name.clone(),
                now.size.to_string(),
                milliseconds(then.time.median_ms),
                milliseconds(now.time.median_ms),
                format!("{ratio:.2}x"),
                memory(then.peak_bytes),
                memory(now.peak_bytes),
                verdict.to_owned(),
            ]);
        }
        Table::from_cells(cells)
    }

    /// What counts as a change.
    pub fn rule(&self) -> String {
        format!(
            "slower or faster: medians differ by more than {:.0} %, and quartiles do not overlap; \
             more memory: more than {:.0} % and {}",
            100.0 * self.band,
            100.0 * MEMORY_BAND,
            memory(MEMORY_FLOOR)
        )
    }
}

fn verdict(then: &BenchRow, now: &BenchRow, band: f64) -> Verdict {
    let is_slower = |fast: &BenchRow, slow: &BenchRow| {
        let (fast, slow) = (&fast.time, &slow.time);
        slow.median_ms > fast.median_ms * (1.0 + band)
            && slow.lower_quartile_ms > fast.upper_quartile_ms
    };
    let more = (then.peak_bytes as f64 * MEMORY_BAND).max(MEMORY_FLOOR as f64);
    if is_slower(then, now) {
        Verdict::Slower
    } else if now.peak_bytes as f64 > then.peak_bytes as f64 + more {
        Verdict::Larger
    } else if is_slower(now, then) {
        Verdict::Faster
    } else {
        Verdict::Same
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::machine,
        super::report::tests::{report, row},
        *,
    };

    #[test]
    fn changes_within_the_band_or_within_the_spread_are_none() {
        let [then, mut now] = [10.0, 11.4].map(|ms| row("gelu", 0, ms));
        assert_eq!(verdict(&then, &now, 0.15), Verdict::Same);
        assert_eq!(verdict(&then, &row("gelu", 0, 13.0), 0.15), Verdict::Slower);
        assert_eq!(verdict(&row("gelu", 0, 13.0), &then, 0.15), Verdict::Faster);
        now.time.median_ms = 13.0;
        now.time.lower_quartile_ms = 10.5;
        assert_eq!(verdict(&then, &now, 0.15), Verdict::Same);
    }

    #[test]
    fn more_memory_is_worse() {
        let mut then = row("full", 1000, 10.0);
        then.peak_bytes = 10 << 20;
        let mut now = then.clone();
        now.peak_bytes = then.peak_bytes * 106 / 100;
        let machine = row(machine::COPY, 1, 1.0);
        let slow = row(machine::COPY, 1, 9.0);
        let mut other = row("wider", 1, 1.0);
        other.work.tokens = 9;
        let reports = [
            report(vec![
                machine,
                then,
                row("gone", 0, 1.0),
                row("wider", 1, 1.0),
            ]),
            report(vec![slow, now, row("new", 0, 1.0), other]),
        ];
        let comparison = Comparison::new(&reports[0], &reports[1], 0.15);
        assert_eq!(comparison.len(), 1);
        assert_eq!(comparison.worse(), ["full at 1000"]);
        assert!(comparison.table().to_text().contains("more memory"));
    }
}
