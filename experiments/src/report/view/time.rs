//! What the sweep took, and when.

use std::collections::BTreeMap;

use crate::{
    report::{
        data::ReportData,
        figure::{DataTable, Figure, cell},
        number,
        section::{Block, Made, Section, Table},
        style::Style,
        subject::Subject,
        svg::{Anchor, Canvas, Entry, Legend, Marker, Scale, WIDTH, fitted, text_width},
    },
    results::{StageTime, Timings},
};

/// The height of a lane.
const LANE: f64 = 18.0;
/// Idle times longer than this share of the work are left out.
const IDLE: f64 = 0.03;

/// The section.
pub fn make(subject: &Subject<'_>) -> Made {
    let data = subject.data;
    let Some(timings) = data
        .timings
        .as_ref()
        .filter(|timings| !timings.stages.is_empty())
    else {
        return Err("no stage has a record of its time".to_owned());
    };
    let mut blocks = vec![Block::Table(table(timings))];
    let bars = bars(data, timings);
    let reused = timings.stages.len() - bars.len();
    if reused > 0 {
        blocks.push(Block::Text(format!(
            "{reused} stages were in the store before the run was started, or have no time of their own, and are not in the chart."
        )));
    }
    if !bars.is_empty() {
        blocks.push(Block::Figures(vec![gantt(bars)]));
    }
    Ok(Section {
        id: "time",
        title: "Time",
        blocks,
    })
}

fn table(timings: &Timings) -> Table {
    let mut kinds: Vec<(&str, Vec<&StageTime>)> = vec![];
    for stage in &timings.stages {
        match kinds.iter_mut().find(|(name, _)| *name == stage.key.kind()) {
            Some((_, stages)) => stages.push(stage),
            None => kinds.push((stage.key.kind(), vec![stage])),
        }
    }
    let mut table = Table::new(
        "Time of stages by kind; stages that arms share count once",
        &[
            "stage",
            "number",
            "all together",
            "median",
            "longest",
            "peak memory",
        ],
        1,
    );
    let mut together = 0.0;
    for (kind, stages) in &kinds {
        let mut seconds: Vec<f64> = stages.iter().map(|stage| stage.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        let all: f64 = seconds.iter().sum();
        together += all;
        let memory = stages.iter().filter_map(|stage| stage.peak_memory).max();
        table.rows.push(vec![
            (*kind).to_owned(),
            stages.len().to_string(),
            number::time(all),
            number::time(seconds[seconds.len() / 2]),
            number::time(seconds[seconds.len() - 1]),
            memory.map_or_else(|| "-".to_owned(), |memory| number::memory(memory as f64)),
        ]);
    }
    table.rows.push(vec![
        "all".to_owned(),
        timings.stages.len().to_string(),
        number::time(together),
        "-".to_owned(),
        "-".to_owned(),
        "-".to_owned(),
    ]);
    table
}

/// A stage with its time, in seconds since 1970.
struct Bar<'a> {
    stage: &'a StageTime,
    start: f64,
    end: f64,
}

/// The stages that ran since the run was first started, by rising start.
fn bars<'a>(data: &ReportData, timings: &'a Timings) -> Vec<Bar<'a>> {
    let starts = data.record.starts.iter();
    let starts = starts.filter_map(|start| start.get("started_unix_s")?.as_f64());
    let first = starts.fold(f64::INFINITY, f64::min);
    let first = if first.is_finite() { first } else { 0.0 };
    let mut bars: Vec<Bar<'_>> = timings
        .stages
        .iter()
        .filter_map(|stage| {
            let start = stage.finished? as f64 - stage.seconds;
            // Times of files are whole seconds.
            let end = start + stage.seconds;
            (end >= first - 1.0).then_some(Bar { stage, start, end })
        })
        .collect();
    bars.sort_by(|a, b| {
        a.start
            .total_cmp(&b.start)
            .then(a.stage.key.cmp(&b.stage.key))
    });
    bars
}

/// Takes long idle times out, so that work fills the chart; returns where they were.
fn without_idle(bars: &mut [Bar<'_>]) -> Vec<f64> {
    let work: f64 = bars.iter().map(|bar| bar.end - bar.start).sum();
    let Some(first) = bars.first().map(|bar| bar.start) else {
        return vec![];
    };
    let (mut busy, mut left_out) = (first, first);
    let mut cuts = vec![];
    for bar in bars {
        let idle = bar.start - busy;
        if idle > work * IDLE && idle > 60.0 {
            left_out += idle;
            cuts.push(bar.start - left_out);
        }
        busy = busy.max(bar.end);
        bar.start -= left_out;
        bar.end -= left_out;
    }
    cuts
}

/// The lane of each bar: per machine, the first that is free.
fn lanes<'a>(bars: &[Bar<'a>]) -> (Vec<usize>, Vec<&'a str>) {
    let mut by_host: BTreeMap<&str, Vec<Vec<usize>>> = BTreeMap::new();
    for (place, bar) in bars.iter().enumerate() {
        let lanes = by_host.entry(&bar.stage.host).or_default();
        // Ends of stages are known to a second.
        let is_free = |lane: &Vec<usize>| {
            let last = lane.last().map(|last| bars[*last].end);
            last.is_none_or(|end| end <= bar.start + 2.5)
        };
        match lanes.iter_mut().find(|lane| is_free(lane)) {
            Some(lane) => lane.push(place),
            None => lanes.push(vec![place]),
        }
    }
    let mut of_bar = vec![0; bars.len()];
    let mut names = vec![];
    for (host, lanes) in by_host {
        for lane in lanes {
            for place in lane {
                of_bar[place] = names.len();
            }
            names.push(host);
        }
    }
    (of_bar, names)
}

fn gantt(mut bars: Vec<Bar<'_>>) -> Figure {
    let cuts = without_idle(&mut bars);
    let (lane_of, names) = lanes(&bars);
    let end = bars.iter().map(|bar| bar.end).fold(0.0, f64::max);
    let (unit, seconds) = match end {
        end if end < 300.0 => ("seconds", 1.0),
        end if end < 18_000.0 => ("minutes", 60.0),
        _ => ("hours", 3600.0),
    };
    let mut kinds: Vec<&str> = vec![];
    for bar in &bars {
        if !kinds.contains(&bar.stage.key.kind()) {
            kinds.push(bar.stage.key.kind());
        }
    }
    let widest = names
        .iter()
        .map(|name| text_width(name))
        .fold(0.0, f64::max);
    let left = widest.min(120.0) + 14.0;
    let right = WIDTH - 16.0;
    let x = Scale::exact(0.0, end / seconds).to(left, right);
    let lower = 8.0 + names.len() as f64 * LANE;
    let mut canvas = Canvas::new();
    for (lane, name) in names.iter().enumerate() {
        if lane == 0 || names[lane - 1] != *name {
            let y = 8.0 + lane as f64 * LANE + 13.0;
            canvas.text("tx", (left - 8.0, y), Anchor::End, &fitted(name, 120.0));
        }
    }
    let mut data = DataTable::new(&["stage", "machine", &format!("start, {unit}"), "seconds"]);
    for (bar, lane) in bars.iter().zip(&lane_of) {
        let style = style_of(&kinds, bar.stage.key.kind());
        let title = format!("{}: {}", bar.stage.title, number::time(bar.stage.seconds));
        let (start, end) = (x.at(bar.start / seconds), x.at(bar.end / seconds));
        canvas.open_titled(style.class, &title);
        let (share, _) = height_of(&kinds, bar.stage.key.kind());
        let tall = (LANE - 4.0) * share;
        let y = 8.0 + (*lane + 1) as f64 * LANE - 2.0 - tall;
        canvas.rect("bar", (start, y), ((end - start - 0.5).max(0.7), tall));
        canvas.close();
        data.push([
            bar.stage.title.clone(),
            names[*lane].to_owned(),
            cell(bar.start / seconds),
            cell(bar.stage.seconds),
        ]);
    }
    for cut in &cuts {
        let at = x.at(cut / seconds);
        canvas.line("limit", (at, 2.0), (at, lower));
    }
    canvas.line("ax", (left, lower), (right, lower));
    for (value, text) in x.ticks(5) {
        canvas.line("ax", (x.at(value), lower), (x.at(value), lower + 4.0));
        canvas.text("mu", (x.at(value), lower + 17.0), Anchor::Middle, &text);
    }
    let middle = f64::midpoint(left, right);
    canvas.text("tx", (middle, lower + 34.0), Anchor::Middle, unit);
    let entries = kinds.iter().map(|kind| {
        let name = format!("{kind}, {}", height_of(&kinds, kind).1);
        Entry {
            marker: Some(Marker::Square),
            ..style_of(&kinds, kind).marker_entry(&name)
        }
    });
    let legend = Legend {
        entries: entries.collect(),
    };
    let bottom = legend.draw(&mut canvas, lower + 42.0);
    let idle = match cuts.len() {
        0 => String::new(),
        1 => " One idle time is left out at the dashed line.".to_owned(),
        cuts => format!(" {cuts} idle times are left out at dashed lines."),
    };
    Figure {
        name: "time".to_owned(),
        title: "Stages by worker".to_owned(),
        caption: format!(
            "A bar per stage; a machine has as many lanes as stages ran at once. Names show under the pointer.{idle}"
        ),
        drawing: canvas.finish(bottom),
        data,
    }
}

/// The heights of bars by kind, so that colour says nothing alone.
const HEIGHTS: [(f64, &str); 4] = [
    (1.0, "full height"),
    (0.67, "two thirds high"),
    (0.45, "half high"),
    (0.25, "a quarter high"),
];

fn height_of(kinds: &[&str], kind: &str) -> (f64, &'static str) {
    let place = kinds.iter().position(|other| *other == kind);
    HEIGHTS[place.unwrap_or(0).min(HEIGHTS.len() - 1)]
}

fn style_of(kinds: &[&str], kind: &str) -> Style {
    let place = kinds.iter().position(|other| *other == kind);
    Style::of_place(place.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(kind: &str, finished: u64, seconds: f64) -> StageTime {
        StageTime {
            key: format!("{kind}-{finished:032x}").parse().unwrap(),
            title: kind.to_owned(),
            seed: 1,
            seconds,
            peak_memory: None,
            host: "m".to_owned(),
            finished: Some(finished),
        }
    }

    #[test]
    fn stages_at_once_have_lanes_and_idle_times_are_left_out() {
        let timings = Timings {
            stages: vec![
                stage("train", 1100, 100.0),
                stage("train", 1150, 100.0),
                stage("train", 9100, 100.0),
                stage("old", 10, 5.0),
            ],
            ..Timings::default()
        };
        let mut data = ReportData::default();
        let start = serde_json::json!({"started_unix_s": 1000});
        data.record.starts = vec![start.as_object().unwrap().clone()];
        let mut bars = bars(&data, &timings);
        assert_eq!(bars.len(), 3);
        assert_eq!(without_idle(&mut bars), [150.0]);
        assert_eq!((bars[2].start, bars[2].end), (150.0, 250.0));
        assert_eq!(lanes(&bars), (vec![0, 1, 0], vec!["m", "m"]));
    }
}
