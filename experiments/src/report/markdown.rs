//! The table of all arms in Markdown, for a pull request.

use crate::{
    report::{number, summary::Summary},
    results::Results,
};

/// The table, with verdicts, failed arms and notes.
pub fn table(results: &Results, summary: &Summary) -> String {
    let mut header = vec!["arm".to_owned()];
    header.extend(summary.changes.iter().map(|(title, _)| escape(title)));
    header.extend(summary.metrics.iter().map(|metric| escape(&metric.title)));
    if let Some((title, _)) = &summary.difference {
        header.extend([escape(title), "verdict".to_owned()]);
    }
    header.extend(summary.costs.iter().map(|cost| escape(cost)));
    let mut text = line(&header);
    let texts = 1 + summary.changes.len();
    let rule: Vec<String> = (0..header.len())
        .map(|column| if column < texts { "---" } else { "---:" }.to_owned())
        .collect();
    text += &line(&rule);
    for row in &summary.rows {
        let mut cells = vec![escape(&row.name)];
        if row.is_reference {
            cells[0] += " (reference)";
        }
        cells.extend(row.changes.iter().map(|change| escape(change)));
        for (metric, score) in summary.metrics.iter().zip(&row.metrics) {
            cells.push(match score {
                None => "-".to_owned(),
                Some(score) => {
                    let told = match score.deviation {
                        Some(deviation) => format!(
                            "{} \u{b1} {}",
                            metric.value(score.mean, Some(deviation)),
                            metric.value(deviation, Some(deviation))
                        ),
                        None => metric.with_interval(score.mean, score.interval),
                    };
                    if score.is_best {
                        format!("**{told}**")
                    } else {
                        told
                    }
                }
            });
        }
        if let Some((_, unit)) = &summary.difference {
            let difference = row.difference.as_ref();
            let value =
                difference.and_then(|difference| Some((difference.value?, difference.interval)));
            cells.push(value.map_or_else(String::new, |(value, interval)| {
                number::difference(value, interval, *unit)
            }));
            cells.push(
                difference
                    .map_or("", |difference| difference.kind.word())
                    .to_owned(),
            );
        }
        cells.extend(row.costs.iter().map(|cost| match cost {
            Some(cost) => escape(&cost.text),
            None => "-".to_owned(),
        }));
        text += &line(&cells);
    }
    for comparison in results.primary() {
        text.extend(["\n- ", &escape(&comparison.verdict.sentence)]);
    }
    text.push('\n');
    for failed in &summary.failed {
        let (arm, seed) = (escape(&failed.arm), failed.seed.to_string());
        let reason = escape(&failed.reason);
        text.extend([
            "
- ",
            &arm,
            ", seed ",
            &seed,
            " failed: ",
            &reason,
        ]);
    }
    if !summary.failed.is_empty() {
        text.push('\n');
    }
    for note in &summary.notes {
        text.extend(["\n", &escape(note), "\n"]);
    }
    text
}

fn line(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

/// A text that means itself in a cell.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' => {
                escaped.push('\\');
                escaped.push(character);
            }
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            character if character.is_control() => escaped.push(' '),
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_mean_themselves() {
        assert_eq!(escape("a|b_c<d>\n"), "a\\|b\\_c&lt;d&gt; ");
    }
}
