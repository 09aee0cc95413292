//! Tables as text that fits into a terminal.

use std::ops::Range;

use crate::terminal::{columns, wrapped};

/// Between two columns.
const GAP: usize = 2;

/// `cells` in columns of equal width, the header first: the first column to the left, numbers to the right.
///
/// A table that is too wide for the terminal loses the columns that are equal in all lines, which are told below it. If it still is,
/// names stand on lines of their own, where that is enough; otherwise the columns follow each other in several blocks.
pub(crate) fn aligned(cells: &[Vec<String>]) -> String {
    within(cells, columns())
}

fn within(cells: &[Vec<String>], columns: usize) -> String {
    let table = Layout::new(cells.to_vec());
    if table.width() <= columns {
        return table.text(columns);
    }
    let (mut table, equal) = table.without_equal();
    if table.width() > columns {
        table.has_own_lines = table.rest() <= columns || table.widths[0] > columns / 2;
    }
    let mut text = table.text(columns);
    if !equal.is_empty() {
        text.push_str(&listed("the same for all:", &equal, columns));
    }
    text
}

/// Texts after a title, separated by commas; a line ends between two of them where there is room for each.
fn listed(title: &str, texts: &[String], columns: usize) -> String {
    let mut lines = title.to_owned();
    let mut length = title.chars().count();
    for (index, text) in texts.iter().enumerate() {
        let comma = if index + 1 < texts.len() { "," } else { "" };
        let own = text.chars().count() + comma.len();
        if length + 1 + own > columns {
            lines.push_str("\n ");
            length = 1;
        }
        lines.extend([" ", text, comma]);
        length += 1 + own;
    }
    lines.push('\n');
    lines
}

/// A table and how it is laid out.
struct Layout {
    cells: Vec<Vec<String>>,
    /// By column; there is at least one.
    widths: Vec<usize>,
    /// Whether the first cell of a line stands above the others.
    has_own_lines: bool,
}

impl Layout {
    fn new(cells: Vec<Vec<String>>) -> Self {
        let count = cells.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let width = |column: usize| {
            let cells = cells.iter().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max()
        };
        Self {
            widths: (0..count)
                .map(|column| width(column).unwrap_or(0))
                .collect(),
            cells,
            has_own_lines: false,
        }
    }

    /// In one block, the first column beside the others.
    fn width(&self) -> usize {
        self.widths.iter().sum::<usize>() + GAP * (self.widths.len() - 1)
    }

    /// In one block, the first column above the others.
    fn rest(&self) -> usize {
        self.widths[1..].iter().map(|width| width + GAP).sum()
    }

    /// The columns that differ, and those that do not as texts of title and value.
    fn without_equal(self) -> (Self, Vec<String>) {
        let Some((header, lines)) = self.cells.split_first() else {
            return (self, vec![]);
        };
        let is_equal = |column: usize| {
            let mut values = lines.iter().map(|line| line.get(column));
            let first = values.next().flatten();
            let is_told = |text: Option<&String>| text.is_some_and(|text| !text.is_empty());
            column > 0
                && lines.len() > 1
                && is_told(first)
                && is_told(header.get(column))
                && values.all(|value| value == first)
        };
        let equal: Vec<usize> = (0..self.widths.len()).filter(|it| is_equal(*it)).collect();
        let told = equal.iter().map(|&column| {
            let cell = |line: &[String]| line.get(column).cloned().unwrap_or_default();
            format!("{} {}", cell(header), cell(&lines[0]))
        });
        let told = told.collect();
        let kept = |line: &Vec<String>| {
            let cells = line.iter().enumerate();
            let kept = cells.filter(|(column, _)| !equal.contains(column));
            kept.map(|(_, cell)| cell.clone()).collect()
        };
        (Self::new(self.cells.iter().map(kept).collect()), told)
    }

    /// What a line begins with, in columns of the terminal.
    fn lead(&self) -> usize {
        if self.has_own_lines {
            0
        } else {
            self.widths[0]
        }
    }

    /// The columns after the first one that stand beside each other; a column that is too wide stands alone.
    fn blocks(&self, columns: usize) -> Vec<Range<usize>> {
        let mut blocks = vec![];
        let (mut start, mut width) = (1, self.lead());
        for (column, own) in self.widths.iter().enumerate().skip(1) {
            if width + GAP + own > columns && column > start {
                blocks.push(start..column);
                (start, width) = (column, self.lead());
            }
            width += GAP + own;
        }
        blocks.push(start..self.widths.len());
        blocks
    }

    fn text(&self, columns: usize) -> String {
        let blocks = self.blocks(columns);
        let blocks = blocks.into_iter().map(|block| self.block(block, columns));
        blocks.collect::<Vec<_>>().join("\n")
    }

    /// Some columns of all lines after the first one.
    fn block(&self, block: Range<usize>, columns: usize) -> String {
        let mut text = String::new();
        for (index, line) in self.cells.iter().enumerate() {
            let name = line.first().map_or("", String::as_str);
            let mut start = format!("{name:<width$}", width = self.widths[0]);
            if self.has_own_lines {
                if index > 0 {
                    text.extend([name, "\n"]);
                }
                start = String::new();
            }
            let cells = block.clone().filter_map(|column| {
                let cell = line.get(column)?;
                Some(format!(
                    "{:GAP$}{cell:>width$}",
                    "",
                    width = self.widths[column]
                ))
            });
            let whole = start.clone() + &cells.collect::<String>();
            let is_alone = block.len() == 1;
            if is_alone && whole.chars().count() > columns {
                let indent = self.lead() + GAP;
                let cell = line.get(block.start).map_or("", String::as_str);
                let lines = wrapped(cell, columns.saturating_sub(indent), 0);
                let lines = lines.trim_end().replace('\n', &format!("\n{:indent$}", ""));
                text.extend([format!("{start:indent$}{lines}").trim_end(), "\n"]);
            } else {
                text.extend([whole.trim_end(), "\n"]);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cells(lines: &[&[&str]]) -> Vec<Vec<String>> {
        let line = |line: &&[&str]| line.iter().map(ToString::to_string).collect();
        lines.iter().map(line).collect()
    }

    fn table() -> Vec<Vec<String>> {
        cells(&[
            &["model", "accuracy", "parameters", "active"],
            &["teacher", "0.91 [0.90, 0.92]", "1.2M", "1.2M"],
            &["experts", "0.9", "1.2M", "0.8M"],
        ])
    }

    #[test]
    fn a_table_that_fits_is_one_block() {
        let expected = "\
model             accuracy  parameters  active
teacher  0.91 [0.90, 0.92]        1.2M    1.2M
experts                0.9        1.2M    0.8M
";
        assert_eq!(within(&table(), 46), expected);
        assert_eq!(within(&[], 46), "");
    }

    #[test]
    fn equal_columns_are_told_below() {
        let expected = "\
model             accuracy  active
teacher  0.91 [0.90, 0.92]    1.2M
experts                0.9    0.8M
the same for all: parameters 1.2M
";
        assert_eq!(within(&table(), 45), expected);
    }

    #[test]
    fn long_names_stand_above_their_numbers() {
        let expected = "           accuracy  active
teacher
  0.91 [0.90, 0.92]    1.2M
experts
                0.9    0.8M
the same for all:
  parameters 1.2M
";
        assert_eq!(within(&table(), 28), expected);
    }

    #[test]
    fn many_columns_follow_each_other_in_blocks() {
        let expected = "\
model             accuracy
teacher  0.91 [0.90, 0.92]
experts                0.9

model    active
teacher    1.2M
experts    0.8M
the same for all:
  parameters 1.2M
";
        assert_eq!(within(&table(), 26), expected);
    }

    #[test]
    fn a_long_text_goes_on_in_the_next_line() {
        let table = cells(&[&["device", ""], &["cuda", "no driver was found"]]);
        assert_eq!(
            within(&table, 20),
            "device\ncuda    no driver\n        was found\n"
        );
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_is_too_wide(
            lines in proptest::collection::vec(proptest::collection::vec("[a-z]{1,12}", 4), 3..6),
            columns in 30_usize..60,
        ) {
            let text = within(&lines, columns);
            prop_assert!(text.lines().all(|line| line.chars().count() <= columns), "{text}");
            // The title of names is left out where these stand alone.
            for cell in lines.iter().flatten().skip(1) {
                prop_assert!(text.contains(cell.as_str()), "{cell} in {text}");
            }
        }
    }
}
