//! A plan as text.

use crate::{
    number::{counted, p},
    run::{Basis, Decides, Plan, PlanRow, Planned, PlannedArm, State, Total},
    table::aligned,
};

/// Arms that are listed at most; JSON has all.
const ARMS: usize = 50;

/// The whole plan: a table of its stages, the arms, time and disk, and what the seeds can decide.
pub(super) fn text(plan: &Plan) -> String {
    let mut text = format!("{}\n", headline(plan));
    text.push_str(&table(&plan.rows));
    if plan.arms.iter().any(|arm| arm.is_reference) {
        text.push_str(&arms(&plan.arms));
    } else {
        text.push_str(&to_do(&plan.stages));
    }
    text.push('\n');
    text.push_str(&total(&plan.total));
    if let Some(decides) = &plan.decides {
        text.push_str(&decision(decides, plan.seeds.len()));
    }
    text
}

/// `quickstart: 6 arms x 6 seeds, reference order=importance shared=4`.
fn headline(plan: &Plan) -> String {
    let arms = plan.arms.len().max(1);
    let (arms, seeds) = (counted(arms, "arm"), counted(plan.seeds.len(), "seed"));
    let reference = plan.arms.iter().find(|arm| arm.is_reference);
    let reference = reference.map_or(String::new(), |arm| format!(", reference {}", arm.name));
    format!("{}: {arms} x {seeds}{reference}", plan.recipe)
}

/// The rows, each with a note.
fn table(rows: &[PlanRow]) -> String {
    let has = |count: fn(&PlanRow) -> usize| rows.iter().any(|row| count(row) > 0);
    let (has_in_work, has_failed) = (has(|row| row.in_work), has(|row| row.failed));
    let has_times = rows.iter().any(|row| !row.basis.is_empty());
    let columns = |cells: [String; 9]| -> Vec<String> {
        let is_shown = [
            true,
            true,
            true,
            has_in_work,
            has_failed,
            true,
            true,
            has_times,
            true,
        ];
        let cells = cells.into_iter().zip(is_shown);
        cells
            .filter(|(_, shown)| *shown)
            .map(|(cell, _)| cell)
            .collect()
    };
    let header = [
        "stage", "all", "done", "in work", "failed", "to do", "each", "time", "memory",
    ];
    let header = [columns(header.map(str::to_owned))].into_iter();
    let cells = rows.iter().map(|row| {
        columns([
            row.stage.clone(),
            row.all.to_string(),
            row.done.to_string(),
            row.in_work.to_string(),
            row.failed.to_string(),
            row.to_do.to_string(),
            each(row),
            basis(row),
            row.memory.map_or("-".to_owned(), size),
        ])
    });
    let lines = aligned(&header.chain(cells).collect::<Vec<_>>());
    let notes = [String::new()].into_iter().chain(rows.iter().map(note));
    let lines = lines.lines().zip(notes).map(|(line, note)| {
        let line = format!("  {line}  {note}");
        format!("{}\n", line.trim_end())
    });
    lines.collect()
}

/// How long one of the stages of a row takes.
fn each(row: &PlanRow) -> String {
    let is_known = row.basis.iter().all(|basis| *basis == Basis::Timed);
    let sign = if is_known { "" } else { "~" };
    match row.seconds {
        // Times that differ little are shown as one.
        Some([low, high]) if high <= 1.2 * low || high < 1.0 => {
            format!("{sign}{}", duration(f64::midpoint(low, high)))
        }
        Some([low, high]) => format!("{sign}{} to {}", duration(low), duration(high)),
        None if row.unknown > 0 => "unknown".to_owned(),
        None => "-".to_owned(),
    }
}

/// Where the times of a row are from.
fn basis(row: &PlanRow) -> String {
    let words = row.basis.iter().map(|basis| match basis {
        Basis::Timed => "known",
        Basis::Measured => "measured",
        Basis::Scaled => "scaled",
    });
    let words: Vec<&str> = words.collect();
    if words.is_empty() {
        return "-".to_owned();
    }
    words.join(", ")
}

fn note(row: &PlanRow) -> String {
    match row.arms {
        _ if row.alone => "alone on the machine".to_owned(),
        Some([_, 0 | 1]) | None => String::new(),
        Some([low, high]) if low == high => format!("shared by {high} arms"),
        Some([low, high]) => format!("shared by {low} to {high} arms"),
    }
}

/// The arms, the reference marked, each with its other names.
fn arms(arms: &[PlannedArm]) -> String {
    let mut text = "\n".to_owned();
    for arm in arms.iter().take(ARMS) {
        let mark = if arm.is_reference { '*' } else { ' ' };
        let aliases = match arm.aliases.as_slice() {
            [] => String::new(),
            aliases => format!("  (also: {})", aliases.join("; ")),
        };
        let line = format!("{mark} {}{aliases}\n", arm.name);
        text.push_str(&line);
    }
    if let Some(more) = arms.len().checked_sub(ARMS).filter(|more| *more > 0) {
        let more = counted(more, "more arm");
        text.extend(["  and ", &more, "; --json lists them\n"]);
    }
    text
}

/// The stages that are left, with their keys.
fn to_do(stages: &[Planned]) -> String {
    let open = stages.iter().filter(|stage| stage.state != State::Done);
    let lines = open.map(|stage| format!("{}  {}\n", stage.key, stage.title));
    let lines: String = lines.collect();
    if lines.is_empty() {
        return lines;
    }
    format!("\n{lines}")
}

fn total(total: &Total) -> String {
    let Total {
        seconds,
        longest_chain,
        unknown,
        disk_now,
        disk,
    } = total;
    let mut text = String::new();
    if *longest_chain > 0.0 {
        let times = seconds.iter().enumerate().map(|(index, time)| {
            let workers = if index == 0 {
                format!("with {}", counted(time.workers, "worker"))
            } else {
                format!("with {}", time.workers)
            };
            format!("{} {workers}", duration(time.seconds))
        });
        let times: Vec<String> = times.collect();
        let more = if disk > disk_now {
            format!("; disk {} at the end, {} now", size(*disk), size(*disk_now))
        } else {
            String::new()
        };
        text = format!(
            "about {} (longest chain {}){more}\n",
            times.join(", "),
            duration(*longest_chain)
        );
    } else if *unknown == 0 {
        text = format!("nothing is left to do; disk {}\n", size(*disk_now));
    }
    if *unknown > 0 {
        let stages = counted(*unknown, "stage");
        let of = if text.is_empty() {
            "time unknown"
        } else {
            "not counted"
        };
        let rest = " like none that this machine has done with this store\n";
        text.extend([of, ": ", &stages, rest]);
    }
    text
}

fn decision(decides: &Decides, seeds: usize) -> String {
    let Decides {
        comparisons,
        alpha,
        smallest_p,
        seeds_at_least,
        examples,
    } = decides;
    let seeds_are = counted(seeds, "seed");
    let what = format!("{} with the reference", counted(*comparisons, "comparison"));
    let examples = examples.map_or(String::new(), |examples| {
        format!(", {} each", counted(examples, "example"))
    });
    let smallest = p(*smallest_p);
    if *comparisons == 0 {
        return "one arm: nothing is compared\n".to_owned();
    }
    if seeds < *seeds_at_least {
        return format!(
            "{seeds_are} cannot decide at {alpha} (smallest p {smallest}), {seeds_at_least} can: {what}{examples}\n"
        );
    }
    format!(
        "{seeds_are} can decide, where a difference is large enough (smallest p {smallest}): {what}{examples}\n"
    )
}

/// Seconds in words, such as `0.4 s`, `38 s`, `9 min` and `2 h 5 min`.
fn duration(seconds: f64) -> String {
    match seconds {
        _ if seconds < 9.95 => format!("{seconds:.1} s"),
        _ if seconds < 99.5 => format!("{seconds:.0} s"),
        _ if seconds < 99.5 * 60.0 => format!("{:.0} min", seconds / 60.0),
        _ => {
            let minutes = (seconds / 60.0).round();
            format!(
                "{:.0} h {:.0} min",
                (minutes / 60.0).floor(),
                minutes % 60.0
            )
        }
    }
}

/// Bytes in words, by powers of 1000.
fn size(bytes: u64) -> String {
    let bytes = bytes as f64;
    let units = ["B", "kB", "MB", "GB", "TB"];
    let steps = units.iter().enumerate();
    let sizes = steps.map(|(power, unit)| (bytes / 1000f64.powi(power as i32), unit));
    let fitting = sizes.rev().find(|(size, _)| *size >= 1.0);
    let (size, unit) = fitting.unwrap_or((bytes, &units[0]));
    if size < 9.95 && *unit != "B" {
        format!("{size:.1} {unit}")
    } else {
        format!("{size:.0} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_have_two_digits_or_more() {
        for (seconds, expected) in [
            (0.04, "0.0 s"),
            (4.0, "4.0 s"),
            (38.2, "38 s"),
            (540.0, "9 min"),
            (7500.0, "2 h 5 min"),
            (90_000.0, "25 h 0 min"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
        for (bytes, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (4_200, "4.2 kB"),
            (310_000_000, "310 MB"),
            (2_000_000_000_000, "2.0 TB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
    }

    #[test]
    fn seeds_promise_nothing_that_they_cannot_hold() {
        let decides = |seeds: i32| Decides {
            comparisons: 5,
            alpha: 0.05,
            smallest_p: 2.0 * 0.5f64.powi(seeds),
            seeds_at_least: 6,
            examples: Some(2000),
        };
        assert_eq!(
            decision(&decides(6), 6),
            "6 seeds can decide, where a difference is large enough (smallest p 0.031): 5 comparisons with the reference, 2000 examples each\n"
        );
        assert_eq!(
            decision(&decides(3), 3),
            "3 seeds cannot decide at 0.05 (smallest p 0.250), 6 can: 5 comparisons with the reference, 2000 examples each\n"
        );
    }

    #[test]
    fn rows_tell_what_they_need() {
        let row = PlanRow {
            stage: "student".to_owned(),
            all: 36,
            done: 6,
            in_work: 1,
            failed: 0,
            to_do: 29,
            seconds: Some([21.0, 22.0]),
            unknown: 0,
            basis: [Basis::Timed].into(),
            memory: Some(340_000_000),
            arms: Some([1, 1]),
            alone: false,
        };
        let shared = PlanRow {
            seconds: Some([3.0, 9.0]),
            basis: [Basis::Measured, Basis::Scaled].into(),
            arms: Some([2, 6]),
            ..row.clone()
        };
        let unknown = PlanRow {
            basis: [].into(),
            seconds: None,
            unknown: 3,
            alone: true,
            memory: None,
            ..row.clone()
        };
        let expected = [
            "  stage    all  done  in work  to do             each              time  memory",
            "  student   36     6        1     29             22 s             known  340 MB",
            "  student   36     6        1     29  ~3.0 s to 9.0 s  measured, scaled  340 MB  shared by 2 to 6 arms",
            "  student   36     6        1     29          unknown                 -       -  alone on the machine",
        ];
        let table = table(&[row, shared, unknown]);
        assert_eq!(table.lines().collect::<Vec<_>>(), expected);
    }
}
