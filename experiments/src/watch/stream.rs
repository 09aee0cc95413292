//! A run watched without a terminal: a line per event, and one per ten seconds of a stage that is being done.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use super::{
    frame::rate_text,
    state::Watch,
    text::{clock, duration},
    view::{RunningView, View},
};
use crate::{error::Error, interrupt::Stop, number::counted, stdout::print, unix_time::now};

/// How often the store is read while something changes, and at least.
pub(super) const FASTEST: Duration = Duration::from_secs(2);
const SLOWEST: Duration = Duration::from_secs(10);
/// The longest time that estimates may take between two frames.
pub(super) const BUDGET: Duration = Duration::from_millis(300);
/// The shortest time between two lines of a stage.
const EVERY: Duration = Duration::from_secs(10);
/// How often a request to stop is looked for.
pub(super) const TICK: Duration = Duration::from_millis(200);

/// The pause before the store is read again: longer and longer while nothing changes.
pub(super) fn pause(before: Duration, is_changed: bool) -> Duration {
    if is_changed {
        FASTEST
    } else {
        (before * 3 / 2).min(SLOWEST)
    }
}

/// Prints what happens until every stage is done or cannot be, or a stop is asked for.
///
/// # Errors
///
/// If run or store cannot be read, or the output cannot be written.
pub fn stream(watch: &mut Watch, stop: &Stop) -> Result<(), Error> {
    let mut told: BTreeMap<String, (Instant, Option<usize>)> = BTreeMap::new();
    let mut wait = FASTEST;
    let mut is_first = true;
    loop {
        let is_changed = watch.poll(BUDGET)?;
        for event in watch.take_events() {
            print(&format!("{} {}\n", clock(event.time), event.text))?;
        }
        if is_changed || is_first {
            let view = View::of(watch);
            if std::mem::take(&mut is_first) {
                let View {
                    run,
                    done,
                    stages,
                    workers,
                    ..
                } = &view;
                let text = format!(
                    "{run}: {done}/{stages} stages done, {}",
                    counted(*workers, "worker")
                );
                print(&format!("{} {text}\n", clock(now())))?;
            }
            for stage in &view.running {
                let last = told.get(&stage.stage);
                let is_due =
                    last.is_none_or(|(at, step)| at.elapsed() >= EVERY && *step != stage.step);
                if is_due && let Some(text) = line(stage) {
                    print(&format!("{} {text}\n", clock(now())))?;
                    told.insert(stage.stage.clone(), (Instant::now(), stage.step));
                }
            }
        }
        if watch.is_over() && !watch.is_behind() {
            let View {
                done,
                stages,
                failed,
                blocked,
                ..
            } = View::of(watch);
            let text = format!("{done}/{stages} stages done, {failed} failed, {blocked} blocked");
            return print(&format!("{} {text}\n", clock(now())));
        }
        wait = pause(wait, is_changed);
        let begin = Instant::now();
        while begin.elapsed() < wait {
            if stop.requested() {
                return Ok(());
            }
            thread::sleep(TICK.min(wait));
        }
    }
}

/// `training order=random seed 4 step 310/1125 loss 0.412 41/s 20 s left`; none if the stage does not tell how far it is.
fn line(stage: &RunningView) -> Option<String> {
    let (step, steps) = stage.step.zip(stage.steps)?;
    let mut text = format!("{} step {step}/{steps}", stage.title);
    let more = [
        stage.loss.map(|loss| format!(" loss {loss:.3}")),
        stage
            .steps_per_second
            .map(|rate| format!(" {}/s", rate_text(rate))),
        stage
            .seconds_left
            .map(|seconds| format!(" {} left", duration(seconds))),
    ];
    text.extend(more.into_iter().flatten());
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_while_nothing_changes() {
        let mut wait = FASTEST;
        let mut waits = vec![];
        for _ in 0..5 {
            wait = pause(wait, false);
            waits.push(wait.as_secs_f64());
        }
        assert_eq!(waits, [3.0, 4.5, 6.75, 10.0, 10.0]);
        assert_eq!(pause(wait, true), FASTEST);
    }

    #[test]
    fn a_stage_has_a_line_if_it_tells_how_far_it_is() {
        let mut stage = RunningView {
            stage: "train-0".to_owned(),
            title: "training order=random seed 4".to_owned(),
            host: "node2".to_owned(),
            pid: 4711,
            is_alive: Some(true),
            step: None,
            steps: None,
            loss: Some(0.4123),
            steps_per_second: Some(41.2),
            seconds_left: Some(19.8),
        };
        assert_eq!(line(&stage), None);
        (stage.step, stage.steps) = (Some(310), Some(1125));
        assert_eq!(
            line(&stage).unwrap(),
            "training order=random seed 4 step 310/1125 loss 0.412 41/s 20 s left"
        );
    }
}
