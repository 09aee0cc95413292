//! The table of all arms in LaTeX, with the rules of booktabs.

use crate::{
    ablate::statistics::Unit,
    report::{
        measure::Measure,
        number,
        summary::{Score, Summary},
    },
};

/// The table. It needs `\usepackage{booktabs}`, and amssymb for the check marks of factors. Values have the half-width of their interval; the best is bold if that is
/// decided.
pub fn table(summary: &Summary) -> String {
    let texts = 1 + summary.changes.len();
    let has_difference = summary.difference.is_some();
    let numbers = summary.metrics.len() + usize::from(has_difference) + summary.costs.len();
    let mut header = vec!["Arm".to_owned()];
    header.extend(summary.changes.iter().map(|(title, _)| escape(title)));
    header.extend(summary.metrics.iter().map(|metric| escape(&metric.title)));
    header.extend(summary.difference.iter().map(|(title, _)| escape(title)));
    header.extend(summary.costs.iter().map(|cost| escape(cost)));
    let mut text = format!(
        "% Needs \\usepackage{{booktabs}}, and amssymb for check marks.\n\\begin{{tabular}}{{{}{}}}\n\\toprule\n{} \\\\\n\\midrule\n",
        "l".repeat(texts),
        "r".repeat(numbers),
        header.join(" & ")
    );
    for row in &summary.rows {
        let mut cells = vec![escape(&row.name)];
        if row.is_reference {
            cells[0] += " (reference)";
        }
        cells.extend(row.changes.iter().map(|change| match change.as_str() {
            "\u{2713}" => "\\checkmark".to_owned(),
            change => escape(change),
        }));
        for (metric, score) in summary.metrics.iter().zip(&row.metrics) {
            cells.push(
                score
                    .as_ref()
                    .map_or_else(|| "--".to_owned(), |score| value(metric, score)),
            );
        }
        if let Some((_, unit)) = &summary.difference {
            let difference = row.difference.as_ref();
            let found =
                difference.and_then(|difference| Some((difference.value?, difference.interval)));
            cells.push(found.map_or_else(String::new, |(value, interval)| {
                signed(value, interval, *unit)
            }));
        }
        cells.extend(row.costs.iter().map(|cost| match cost {
            Some(cost) => escape(&cost.text),
            None => "--".to_owned(),
        }));
        text.extend([cells.join(" & ").as_str(), " \\\\\n"]);
    }
    text + "\\bottomrule\n\\end{tabular}\n"
}

/// A value with the half-width of its interval, else with the deviation over the seeds.
fn value(metric: &Measure, score: &Score) -> String {
    let half = score.interval.map(|(low, high)| (high - low) / 2.0);
    let spread = half.or(score.deviation);
    let mut told = metric.value(score.mean, spread);
    if score.is_best {
        told = format!("\\mathbf{{{told}}}");
    }
    match spread {
        Some(spread) => format!("${told} \\pm {}$", metric.value(spread, Some(spread))),
        None => format!("${told}$"),
    }
}

fn signed(value: f64, interval: Option<(f64, f64)>, unit: Unit) -> String {
    let scale = unit.scale();
    match interval {
        Some((low, high)) => {
            let half = (high - low) / 2.0 * scale;
            let decimals = number::decimals(half);
            format!(
                "${} \\pm {}$",
                number::signed(value * scale, decimals),
                number::fixed(half, decimals)
            )
        }
        None => format!("${}$", number::difference(value, None, unit)),
    }
}

/// A text that means itself.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => {
                escaped.push('\\');
                escaped.push(character);
            }
            '\\' => escaped.push_str("\\textbackslash{}"),
            '~' => escaped.push_str("\\textasciitilde{}"),
            '^' => escaped.push_str("\\textasciicircum{}"),
            '<' => escaped.push_str("\\textless{}"),
            '>' => escaped.push_str("\\textgreater{}"),
            '"' => escaped.push_str("\\char34{}"),
            '\u{d7}' => escaped.push_str("$\\times$"),
            '\u{f7}' => escaped.push_str("$\\div$"),
            '\u{2020}' => escaped.push_str("\\dag{}"),
            '\u{2013}' => escaped.push_str("--"),
            // What would begin an optional argument of the line before.
            '[' => escaped.push_str("{[}"),
            ']' => escaped.push_str("{]}"),
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
        assert_eq!(
            escape(r"a_b & 5 % \x <s>"),
            r"a\_b \& 5 \% \textbackslash{}x \textless{}s\textgreater{}"
        );
    }

    #[test]
    fn differences_have_their_half_width() {
        let found = signed(0.0262, Some((0.0171, 0.0353)), Unit::Points);
        assert_eq!(found, "$+2.62 \\pm 0.91$");
    }
}
