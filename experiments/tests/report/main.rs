//! Whole reports of made-up run folders.

mod sweep;

use experiments::{
    report::{Report, data::ReportData, layers::Layers, load::load},
    results::{ArmResults, Results, SCHEMA},
};
use sweep::Sweep;

fn data(sweep: Sweep) -> ReportData {
    let folder = tempfile::tempdir().unwrap();
    sweep::write(folder.path(), sweep).unwrap();
    load(folder.path()).unwrap()
}

const SMALL: Sweep = Sweep {
    arms: 6,
    seeds: 3,
    examples: 40,
    steps: 700,
};

#[test]
fn a_report_of_a_hundred_arms_is_small() {
    let data = data(Sweep {
        arms: 100,
        seeds: 6,
        examples: 100,
        steps: 60,
    });
    let html = Report::new(&data).html().unwrap();
    assert!(html.len() < 2 * 1024 * 1024, "{} bytes", html.len());
}

#[test]
fn the_same_results_make_the_same_bytes() {
    let (data, again) = (data(SMALL), data(SMALL));
    let (first, second) = (Report::new(&data), Report::new(&again));
    assert_eq!(first.html().unwrap(), second.html().unwrap());
    assert_eq!(first.markdown(), second.markdown());
}

#[test]
fn nothing_in_a_report_is_taken_for_markup_and_nothing_is_requested() {
    let data = data(SMALL);
    let report = Report::new(&data);
    let html = report.html().unwrap();
    assert!(
        html.contains("order=&lt;script&gt;alert(1)"),
        "the arm is not there"
    );
    assert_eq!(html.matches("<script>").count(), 1);
    assert_eq!(html.matches("</script>").count(), 1);
    for request in [
        "http:",
        "https:",
        "url(",
        "@import",
        "src=",
        "<link rel=\"style",
    ] {
        assert!(!html.contains(request), "{request}");
    }
    assert!(
        report.markdown().contains("&lt;script&gt;") && !report.markdown().contains("<script>")
    );
    assert!(report.latex().contains(r"\textless{}script\textgreater{}"));
    for name in report.figures() {
        let svg = report.svg(name).unwrap();
        assert!(!svg.contains("<script"), "{name}");
    }
}

#[test]
fn figures_have_names_of_their_own_and_long_series_are_thinned() {
    let data = data(SMALL);
    let report = Report::new(&data);
    let names = report.figures();
    let mut different = names.clone();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), names.len(), "{names:?}");
    for name in [
        "forest",
        "factors",
        "cost-latency",
        "seeds",
        "curves-training-loss",
        "calibration",
        "experts-evenness",
        "experts-entropy",
        "experts-load-2",
        "distances-before",
        "distances-after",
        "distances-alignment",
        "distances-training",
        "time",
    ] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    assert!(
        report
            .html()
            .unwrap()
            .contains("Series are thinned to 500 points.")
    );
    assert!(report.svg("no such figure").is_none());
}

#[test]
fn failed_seeds_have_their_cause_and_views_without_data_a_reason() {
    let data = data(SMALL);
    let report = Report::new(&data);
    let html = report.html().unwrap();
    for text in [
        "not finite: the loss is NaN at step 410",
        "step 410 loss NaN",
        "2 of 3 seeds",
        "accuracy, % before training",
        "no verdict",
    ] {
        assert!(html.contains(text), "{text}");
    }
    let left_out: Vec<&str> = report.left_out().iter().map(|view| view.title).collect();
    assert_eq!(left_out, ["Span map", "Score by position"]);
    assert!(report.markdown().contains("seed 2 failed: not finite"));
}

#[test]
fn runs_of_earlier_versions_have_no_layers_and_a_report() {
    let mut data = data(SMALL);
    data.layers = Layers::default();
    // Nor did they watch routers.
    data.curves.retain(|curve| curve.name != "Busiest expert");
    let report = Report::new(&data);
    let left_out = report.left_out().iter();
    let left_out: Vec<(&str, &str)> = left_out
        .map(|view| (view.title, view.reason.as_str()))
        .collect();
    for (title, reason) in [
        ("Expert load", "no router was watched while training"),
        ("Tokens of experts", "no evaluation recorded which tokens"),
        (
            "Layer distances",
            "no evaluation compared the hidden states",
        ),
    ] {
        assert!(
            left_out
                .iter()
                .any(|(left, why)| *left == title && why.starts_with(reason)),
            "{left_out:?}"
        );
    }
}

#[test]
fn an_almost_empty_run_has_a_report() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.json");
    let error = load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("has no results.json"), "{error}");
    std::fs::write(&path, r#"{"rows": []}"#).unwrap();
    let error = load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("another version of kiln"), "{error}");
    let arm = ArmResults {
        name: "a".to_owned(),
        ..ArmResults::default()
    };
    let results = Results {
        schema: SCHEMA,
        arms: vec![arm],
        ..Results::default()
    };
    std::fs::write(&path, serde_json::to_vec(&results).unwrap()).unwrap();
    let data = load(folder.path()).unwrap();
    let html = Report::new(&data).html().unwrap();
    assert!(html.contains("<h2 id=\"left-out-title\">"));
}

#[test]
fn odd_data_have_a_report_too() {
    for (arms, seeds, examples, steps) in [(4, 1, 1, 1), (4, 2, 3, 2), (13, 2, 35, 11)] {
        let mut data = data(Sweep {
            arms,
            seeds,
            examples,
            steps,
        });
        let report = Report::new(&data).html().unwrap();
        assert!(report.contains("</html>"));
        // Numbers that are missing, equal, 0 or huge.
        for arm in &mut data.results.arms {
            for estimate in arm.metrics.values_mut() {
                (estimate.low, estimate.high) = (None, None);
                estimate.mean = Some(0.0);
            }
            for seed in &mut arm.seeds {
                seed.metrics
                    .values_mut()
                    .for_each(|value| *value = f64::NAN);
            }
            arm.cost = None;
        }
        for comparison in &mut data.results.comparisons {
            if let Some(numbers) = &mut comparison.statistics {
                (numbers.low, numbers.high) = (None, None);
                (numbers.simultaneous.low, numbers.simultaneous.high) = (None, None);
                numbers.difference = 0.0;
            }
        }
        for curve in &mut data.curves {
            curve.points.iter_mut().for_each(|point| point.1 = 1e30);
        }
        for importance in &mut data.importance {
            importance
                .layers
                .iter_mut()
                .flatten()
                .for_each(|score| *score = 0.0);
        }
        for series in &mut data.layers.series {
            let values = series.points.iter_mut().flat_map(|point| &mut point.1);
            values.for_each(|value| *value = 0.0);
        }
        for found in &mut data.layers.routed {
            found.what.layers.truncate(1);
            found.what.layers[0].experts[0].words.clear();
        }
        for found in &mut data.layers.distances {
            found
                .what
                .squares
                .iter_mut()
                .for_each(|square| *square = 0.0);
            found.what.after.cka.clear();
        }
        for evaluation in &mut data.evaluations {
            evaluation.values.iter_mut().for_each(|value| *value = None);
        }
        let times = data.timings.as_mut().unwrap();
        times
            .latencies
            .iter_mut()
            .for_each(|times| times.ms.truncate(1));
        times
            .stages
            .iter_mut()
            .for_each(|stage| stage.finished = None);
        data.results.reference = None;
        let report = Report::new(&data).html().unwrap();
        for broken in ["NaN", "inf,", "-inf"] {
            assert!(
                !report
                    .replace("the loss is NaN", "")
                    .replace("loss NaN", "")
                    .contains(broken),
                "{broken}"
            );
        }
    }
}
