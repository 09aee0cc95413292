use super::*;
use crate::{
    ablate::statistics::{Interval, Unit},
    graph::failure::Cause,
    watch::view::{ArmView, FailureView, SeedView},
};

fn arm(name: &str, marks: &str, mean: Option<[f64; 3]>, difference: Option<[f64; 3]>) -> ArmView {
    let interval = |[_, low, high]: [f64; 3]| Interval { low, high };
    let seed = |mark| match mark {
        '#' => SeedView::Done,
        '*' => SeedView::Running,
        '!' => SeedView::Failed,
        _ => SeedView::Waiting,
    };
    ArmView {
        name: name.to_owned(),
        is_reference: mean.is_some() && difference.is_none(),
        seeds: marks.chars().map(seed).collect(),
        mean: mean.map(|mean| mean[0]),
        interval: mean.map(interval),
        difference: difference.map(|difference| difference[0]),
        difference_interval: difference.map(interval),
        unit: difference.map(|_| Unit::Points),
        failure: marks
            .contains('!')
            .then(|| "failed: not finite, train seed 3, step 410".to_owned()),
    }
}

fn running(title: &str, pid: u32, is_alive: Option<bool>) -> RunningView {
    RunningView {
        stage: "train-0".to_owned(),
        title: title.to_owned(),
        host: "node2".to_owned(),
        pid,
        is_alive,
        step: Some(310),
        steps: Some(1125),
        loss: Some(0.412),
        steps_per_second: Some(41.2),
        seconds_left: Some(19.8),
    }
}

fn view() -> View {
    View {
        schema: 1,
        run: "partition".to_owned(),
        metric: Some("accuracy".to_owned()),
        stages: 135,
        done: 37,
        failed: 1,
        blocked: 1,
        workers: 2,
        seconds_left: Some(480.0),
        is_longer: false,
        is_over: false,
        seeds: 6,
        seeds_done: 3,
        arms: vec![
            arm(
                "order=importance shared=4",
                "####*.",
                Some([0.9812, 0.9741, 0.9884]),
                None,
            ),
            arm(
                "order=random shared=4",
                "###*..",
                Some([0.9741, 0.9552, 0.9931]),
                Some([-0.71, -2.13, 0.74]),
            ),
            arm(
                "order=inverse shared=0",
                "##!...",
                Some([0.9, 0.8, 1.0]),
                None,
            ),
            arm("order=inverse shared=4", "......", None, None),
        ],
        running: vec![
            running("training order=random shared=4 seed 4", 4711, Some(true)),
            running("training order=importance shared=4 seed 5", 12, Some(false)),
        ],
        failures: vec![FailureView {
            stage: "train-1".to_owned(),
            title: "training order=inverse shared=0 seed 3".to_owned(),
            cause: Cause::NotFinite,
            message: "the loss is not finite in epoch 1, step 410; first not finite: `layers.0`"
                .to_owned(),
            place: None,
            host: "node2".to_owned(),
            attempts: 2,
            log: vec!["step 409 loss 812.1".to_owned()],
            blocks: 1,
        }],
    }
}

fn shown(width: usize, height: Option<usize>) -> Shown<'static> {
    Shown {
        width,
        height,
        panel: Panel::Arms,
        scroll: 0,
        events: &[],
        message: None,
    }
}

#[test]
fn a_frame_of_80_columns() {
    let frame = Frame::of(&view(), shown(80, Some(24)));
    assert_eq!(
        frame.text(),
        "partition   37/135 stages  27 %   1 failed   1 blocked   2 workers   8 min left
                                                          accuracy, 3 of 6 seeds

                           seeds   accuracy              difference in points
order=importance shared=4  ####*.  0.981 [0.974, 0.988]  reference
order=random shared=4      ###*..  0.974 [0.955, 0.993]  -0.7 [-2.1, +0.7]
order=inverse shared=0     ##!...  failed: not finite, train seed 3, step 410
order=inverse shared=4     ......

node2:4711  order=random shared=4 seed 4     step 310/1125  41 step/s  20 s left
node2:12    order=i…ortance shared=4 seed 5  no sign of life

[f]ailures  [l]og  [o]pen report  [q]uit     interim; no verdicts before the end
"
    );
    assert_eq!(frame.last_scroll, 0);
}

#[test]
fn a_wide_frame_has_one_line_for_the_whole() {
    let frame = Frame::of(&view(), shown(140, None));
    let text = frame.text();
    let first = text.lines().next().unwrap();
    assert!(first.ends_with("accuracy, 3 of 6 seeds") && first.chars().count() == 140);
    assert!(
        text.contains("step 310/1125  41 step/s  20 s left"),
        "{text}"
    );
    assert!(text.ends_with("interim; no verdicts before the end\n"));
}

#[test]
fn what_needs_attention_comes_first_where_not_all_fits() {
    let mut view = view();
    let idle = (0..40).map(|index| arm(&format!("idle {index}"), "......", None, None));
    view.arms.splice(0..0, idle);
    let frame = Frame::of(&view, shown(80, Some(24)));
    assert_eq!(frame.lines.len(), 24);
    let names: Vec<String> = frame.lines[4..8].iter().map(Line::text).collect();
    let starts = [
        "order=inverse shared=0",
        "order=importance",
        "order=random",
        "idle 0",
    ];
    for (name, start) in names.iter().zip(starts) {
        assert!(name.starts_with(start), "{name}");
    }
    let scrolled = Frame::of(
        &view,
        Shown {
            scroll: usize::MAX,
            ..shown(80, Some(24))
        },
    );
    assert_eq!(frame.last_scroll, 44 - 15);
    assert!(scrolled.text().contains("order=inverse shared=4"));
    assert!(scrolled.text().contains("accuracy              difference"));
}

#[test]
fn no_line_is_wider_than_the_terminal_and_no_frame_higher() {
    let mut view = view();
    view.arms[0].name = "a".repeat(300);
    view.running = (0..50)
        .map(|pid| running(&"long ".repeat(30), pid, None))
        .collect();
    for (width, height) in [(80, 24), (20, 5), (140, 40), (1, 1)] {
        for panel in [Panel::Arms, Panel::Failures, Panel::Log] {
            let shown = Shown {
                panel,
                ..shown(width, Some(height))
            };
            let frame = Frame::of(&view, shown);
            let widest = frame.lines.iter().map(Line::width).max();
            assert!(widest <= Some(width), "{}", frame.text());
            assert!(frame.lines.len() <= height.max(14), "{}", frame.text());
        }
    }
    let text = Frame::of(&view, shown(80, Some(24))).text();
    assert!(text.contains("and 45 more"), "{text}");
}

#[test]
fn many_seeds_are_counted() {
    let mut view = view();
    view.arms[0] = arm("many", &"#".repeat(20), None, None);
    view.arms[1] = arm("mixed", &"#*!.".repeat(5), None, None);
    let text = Frame::of(&view, shown(80, None)).text();
    assert!(text.contains("#20/20"), "{text}");
    assert!(text.contains("#5/20 *5 !5"), "{text}");
}

#[test]
fn failures_and_what_happened_have_panels() {
    let events = [Event {
        time: 1_700_000_071,
        text: "training order=random seed 4 done in 21 s".to_owned(),
    }];
    let shown = |panel| Shown {
        panel,
        events: &events,
        ..shown(80, Some(24))
    };
    let text = Frame::of(&view(), shown(Panel::Failures)).text();
    for expected in [
        "training order=inverse shared=0 seed 3: not finite on node2, tried 2 times",
        "    the loss is not finite in epoch 1, step 410;",
        "    step 409 loss 812.1",
        "needed by 1 stage",
    ] {
        assert!(text.contains(expected), "{text}");
    }
    let text = Frame::of(&view(), shown(Panel::Log)).text();
    assert!(
        text.contains("22:14:31Z training order=random seed 4 done in 21 s"),
        "{text}"
    );
    let mut none = view();
    none.failures.clear();
    let text = Frame::of(&none, shown(Panel::Failures)).text();
    assert!(text.contains("nothing has failed"), "{text}");
}
