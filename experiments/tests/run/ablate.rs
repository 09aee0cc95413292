//! Ablations: arms from axes, from a table, and from both.

use super::{
    bad_input::refuse,
    kiln::{Kiln, rows},
};

const QUICK: [&str; 3] = [
    "latency.repeats=1",
    "train.epochs=1",
    "data.synthetic.dev=60",
];

/// The stages that a plan has, by their kind and by what is still to do.
fn stages(kiln: &Kiln, arguments: &[&str]) -> Vec<(String, bool)> {
    let plan = kiln.succeed(&[arguments, &QUICK, &["--plan", "--json"]].concat());
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    let stages = plan.as_array().unwrap().iter();
    let stages = stages.map(|stage| {
        let key = stage["key"].as_str().unwrap();
        let kind = key.split('-').next().unwrap();
        (kind.to_owned(), stage["state"] != "done")
    });
    stages.collect()
}

fn trainings(stages: &[(String, bool)]) -> [usize; 2] {
    let all = stages.iter().filter(|(kind, _)| kind == "train");
    let to_do = all.clone().filter(|(_, to_do)| *to_do);
    [all.count(), to_do.count()]
}

#[test]
fn a_grid_trains_each_shared_stage_once() {
    let kiln = Kiln::new();
    let sweep = |keys: &[&'static str]| {
        let fixed = [
            "ablate",
            "small.toml",
            "arms=[]",
            "--seeds",
            "2",
            "--out",
            "run",
        ];
        [&fixed[..], keys].concat()
    };
    let grid = sweep(&["experts.order=random,inverse", "experts.shared=0,4"]);
    // A teacher and four students for each of two seeds.
    assert_eq!(trainings(&stages(&kiln, &grid)), [10, 10]);
    kiln.succeed(&[&grid[..], &QUICK, &["--ui", "none"]].concat());
    let names: Vec<String> = rows(&kiln, "run")
        .iter()
        .map(|row| format!("{} {}", row["name"].as_str().unwrap(), row["seed"]))
        .collect();
    let expected = [
        "teacher 1",
        "teacher 2",
        "order=random shared=0 1",
        "order=random shared=0 2",
        "order=random shared=4 1",
        "order=random shared=4 2",
        "order=inverse shared=0 1",
        "order=inverse shared=0 2",
        "order=inverse shared=4 1",
        "order=inverse shared=4 2",
    ];
    assert_eq!(names, expected);
    let arms = std::fs::read_dir(kiln.path("run/arms")).unwrap();
    let arms: Vec<String> = arms
        .map(|arm| arm.unwrap().file_name().into_string().unwrap())
        .collect();
    let has = |start: &str| arms.iter().any(|arm| arm.starts_with(start));
    assert!(has("order=random_shared=0-") && has("teacher"), "{arms:?}");

    // Two of its arms.
    let [one, other] = ["random", "inverse"].map(|order| format!("run:order={order} shared=0"));
    let text = kiln.succeed(&["compare", &one, &other]);
    for part in ["experts.order", "\"random\"", "seed 2: ", "2 seeds"] {
        assert!(text.contains(part), "{text}");
    }
    let json = kiln.succeed(&["compare", &one, &other, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["keys"].as_array().unwrap().len(), 1);
    // Two seeds decide nothing, unless the models are equal.
    let kind = json["comparison"]["verdict"]["kind"].as_str().unwrap();
    assert!(["undecided", "identical"].contains(&kind), "{kind}");
    for (model, texts) in [
        ("run", &["has several models", "run:NAME"][..]),
        (
            "run:order=randum shared=0",
            &["no model `order=randum shared=0`", "did you mean"],
        ),
        ("elsewhere", &["elsewhere"]),
    ] {
        refuse(&kiln, &["compare", &one, model], texts);
    }

    // Another value of a student's key trains students alone, and one of the teacher's trains all.
    let more = sweep(&["experts.order=random,inverse", "experts.shared=0,4,8"]);
    assert_eq!(trainings(&stages(&kiln, &more)), [14, 4]);
    let teacher = sweep(&[
        "experts.order=random,inverse",
        "experts.shared=0,4",
        "stages.teacher.train.learning_rate=2e-3",
    ]);
    assert_eq!(trainings(&stages(&kiln, &teacher)), [10, 10]);
}

#[test]
fn a_table_has_blocks_and_the_recipe_has_arms() {
    let kiln = Kiln::new();
    let text = std::fs::read_to_string(kiln.path("small.toml")).unwrap();
    let table = r#"
[ablate]
seeds = [3, 5]
reference = "cut"

[[ablate.block]]
zip = { "experts.width" = [4, 8], "experts.shared" = [0, 8] }
[[ablate.block]]
variants = [{ name = "no experts", set = { "stages.student.methods" = ["layerwise"] } }]
"#;
    kiln.write("table.toml", format!("{text}{table}"));
    let plan = |extra: &[&str]| {
        let arguments = [&["ablate", "table.toml", "--plan"], &QUICK[..], extra].concat();
        kiln.succeed(&arguments)
    };
    let shown = plan(&[]);
    for name in [
        "`cut`",
        "`gated`",
        "`experts.width=4 shared=0`",
        "`experts.width=8 shared=8`",
        "`no experts`",
    ] {
        assert!(
            shown.contains(&format!("seed 3: training {name}")),
            "{shown}"
        );
        assert!(
            shown.contains(&format!("seed 5: training {name}")),
            "{shown}"
        );
    }
    // The command line wins.
    assert!(plan(&["--seeds", "7"]).contains("seed 7: training `gated`"));
    // `kiln run` takes the arms of the recipe alone.
    let run = kiln.succeed(&[&["plan", "table.toml"], &QUICK[..]].concat());
    assert!(
        run.contains("training `gated`") && !run.contains("no experts"),
        "{run}"
    );
}

#[test]
fn mistakes_are_refused_before_work() {
    let kiln = Kiln::new();
    for (arguments, texts) in [
        (
            &["experts.ordre=random,inverse"][..],
            &["arm `ordre=random`", "experts.ordre", "did you mean"][..],
        ),
        (
            &["experts.shared=0,3"],
            &["arm `shared=3`", "experts.shared"],
        ),
        (
            &["seeds=[1],[2]"],
            &["`seeds`", "every arm runs every seed"],
        ),
        (
            &["experts.width+experts.shared=4+0,8"],
            &["`8` has 1 value"],
        ),
        (
            &["experts.shared=0,8", "--reference", "experts.shared=4"],
            &["experts.shared=4", "no arm"],
        ),
        (&["experts.shared=0,8", "--seeds", "0"], &["--seeds"]),
        (&["experts.shared=0,8", "--alpha", "2"], &["--alpha"]),
        (
            &["experts.shared=0,8", "--metric", "acuracy"],
            &["`acuracy`", "did you mean `accuracy`?"],
        ),
        (&["experts.shared=0,8", "--margin", "much"], &["--margin"]),
    ] {
        let arguments = [
            &["ablate", "small.toml", "arms=[]", "--out", "refused"],
            arguments,
        ]
        .concat();
        refuse(&kiln, &arguments, texts);
    }
    assert!(!kiln.path("refused").exists());
}
