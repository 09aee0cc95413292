//! Lines of text of a view.

mod arms;
mod line;
mod panels;

pub use self::line::{Line, Tone};
use self::{
    arms::arms,
    panels::{failures, log},
};
use super::{
    state::Event,
    text::{cut, duration},
    view::{RunningView, View},
};
use crate::number::counted;

/// Between two columns.
const GAP: usize = 2;
/// The least columns of the title of a stage that is cut.
const SHORTEST_TITLE: usize = 16;

/// What a frame shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Panel {
    /// The arms.
    Arms,
    /// The failures.
    Failures,
    /// What happened while it was watched.
    Log,
}

/// How a view is shown.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// Columns.
    pub width: usize,
    /// Lines; none for as many as there are.
    pub height: Option<usize>,
    /// What is shown.
    pub panel: Panel,
    /// The lines of the panel that are scrolled away.
    pub scroll: usize,
    /// What happened.
    pub events: &'a [Event],
    /// What is said at the bottom in place of the keys.
    pub message: Option<&'a str>,
}

/// A frame, and how far its panel can be scrolled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The lines.
    pub lines: Vec<Line>,
    /// The largest scroll that shows something new.
    pub last_scroll: usize,
}

impl Frame {
    /// The frame of a view.
    pub fn of(view: &View, shown: Shown<'_>) -> Self {
        let mut lines = header(view, shown.width);
        lines.push(Line::default());
        let mut footer = vec![];
        if shown.panel == Panel::Arms {
            footer.extend(running(view, shown.width, shown.height));
        }
        footer.push(bottom(view, shown));
        let room = shown
            .height
            .map(|height| height.saturating_sub(lines.len() + footer.len()).max(1));
        let (heading, panel) = match shown.panel {
            Panel::Arms => arms(view, shown.width, room),
            Panel::Failures => (None, failures(view, shown.width)),
            Panel::Log => (None, log(shown.events)),
        };
        let room = room.map(|room| room - usize::from(heading.is_some()).min(room - 1));
        let room = room.unwrap_or(panel.len());
        let last_scroll = panel.len().saturating_sub(room);
        lines.extend(heading);
        let begin = shown.scroll.min(last_scroll);
        lines.extend(panel.into_iter().skip(begin).take(room));
        lines.extend(footer);
        let lines = lines.into_iter().map(|line| line.cut(shown.width));
        Self {
            lines: lines.collect(),
            last_scroll,
        }
    }

    /// Its lines as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            text.push_str(&line.text());
            text.push('\n');
        }
        text
    }
}

/// The state of the whole, in one line or two.
fn header(view: &View, width: usize) -> Vec<Line> {
    let percent = 100 * view.done / view.stages.max(1);
    let mut line = Line::of(Tone::Strong, &view.run);
    let mut part = |tone, text: String| line.push(tone, format!("   {text}"));
    let (done, all) = (view.done, view.stages);
    part(Tone::Plain, format!("{done}/{all} stages  {percent} %"));
    for (count, what) in [(view.failed, "failed"), (view.blocked, "blocked")] {
        if count > 0 {
            part(Tone::Failed, format!("{count} {what}"));
        }
    }
    if !view.is_over {
        part(Tone::Plain, counted(view.workers, "worker"));
        if let Some(seconds) = view.seconds_left {
            let more = if view.is_longer { "> " } else { "" };
            part(Tone::Plain, format!("{more}{} left", duration(seconds)));
        }
    }
    let seeds = format!("{} of {}", view.seeds_done, counted(view.seeds, "seed"));
    let right = match &view.metric {
        Some(metric) => format!("{metric}, {seeds}"),
        None => seeds,
    };
    let length = right.chars().count();
    if line.width() + GAP + length <= width {
        line.pad(width - length);
        line.push(Tone::Plain, right);
        return vec![line];
    }
    let mut second = Line::default();
    second.pad(width.saturating_sub(length));
    second.push(Tone::Plain, right);
    vec![line, second]
}

/// What processes are at work on, below an empty line; not more than a quarter of the lines.
fn running(view: &View, width: usize, height: Option<usize>) -> Vec<Line> {
    let room = height.map_or(usize::MAX, |height| (height / 4).max(3));
    let mut lines = vec![Line::default()];
    let all = view.running.len();
    let count = if all > room { room - 1 } else { all };
    let rows: Vec<Row> = view.running[..count].iter().map(Row::of).collect();
    let widest = |of: fn(&Row) -> &str| {
        let widths = rows.iter().map(|row| of(row).chars().count());
        widths.max().unwrap_or_default()
    };
    let owner = widest(|row| &row.owner);
    let room = width.saturating_sub(owner + widest(|row| &row.progress) + 2 * GAP);
    let title = widest(|row| &row.title).min(room.max(SHORTEST_TITLE));
    for row in rows {
        let mut line = Line::of(Tone::Plain, row.owner);
        line.pad(owner + GAP);
        line.push(Tone::Plain, cut(&row.title, title));
        line.pad(owner + title + 2 * GAP);
        line.push(row.tone, row.progress);
        lines.push(line);
    }
    if count < all {
        lines.push(Line::of(Tone::Faint, format!("and {} more", all - count)));
    }
    if all > 0 {
        lines.push(Line::default());
    }
    lines
}

/// What the line of a stage is made of.
struct Row {
    owner: String,
    title: String,
    tone: Tone,
    progress: String,
}

impl Row {
    fn of(stage: &RunningView) -> Self {
        let (tone, progress) = match stage.is_alive {
            Some(false) => (Tone::Failed, "no sign of life".to_owned()),
            _ => (Tone::Running, progress(stage)),
        };
        // The steps tell that it is a training.
        let title = stage.title.as_str();
        let title = title.strip_prefix("training ").unwrap_or(title);
        Self {
            owner: format!("{}:{}", stage.host, stage.pid),
            title: title.to_owned(),
            tone,
            progress,
        }
    }
}

/// `step 310/1125  41 step/s  20 s left`.
fn progress(stage: &RunningView) -> String {
    let step = stage.step.zip(stage.steps);
    let rate = stage.steps_per_second.map(rate_text);
    let left = stage.seconds_left.map(duration);
    let parts = [
        step.map(|(step, steps)| format!("step {step}/{steps}")),
        rate.map(|rate| format!("{rate} step/s")),
        left.map(|left| format!("{left} left")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("  ")
}

/// A rate with two digits or more.
pub(super) fn rate_text(rate: f64) -> String {
    let decimals = match rate {
        rate if rate >= 10.0 => 0,
        rate if rate >= 1.0 => 1,
        _ => 2,
    };
    format!("{rate:.decimals$}")
}

/// The last line.
fn bottom(view: &View, shown: Shown<'_>) -> Line {
    let note = if view.is_over && view.failed == 0 {
        "all stages are done"
    } else if view.is_over {
        "nothing is left that can be done"
    } else {
        "interim; no verdicts before the end"
    };
    let Some(height) = shown.height else {
        return Line::of(Tone::Faint, note);
    };
    if let Some(message) = shown.message {
        return Line::of(Tone::Strong, message);
    }
    let keys = "[f]ailures  [l]og  [o]pen report  [q]uit";
    let mut line = Line::of(Tone::Plain, keys);
    let length = note.chars().count();
    if height > 0 && line.width() + GAP + length <= shown.width {
        line.pad(shown.width - length);
        line.push(Tone::Faint, note);
    }
    line
}

#[cfg(test)]
mod tests;
