//! Ablations: arms from axes, from a table, and from both.

use std::fs;

use super::{
    bad_input::refuse,
    kiln::{Kiln, rows, text_of},
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
    let stages = plan["stages"].as_array().unwrap().iter();
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
    let two = ["--ui", "none", "--jobs", "2"];
    kiln.succeed(&[&grid[..], &QUICK, &two].concat());
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
    let arms = fs::read_dir(kiln.path("run/arms")).unwrap();
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

    // Whoever watches sees all of it, and trainings leave nothing of what they told meanwhile.
    let text = kiln.succeed(&["watch", "run", "--once"]);
    for part in [
        "100 %",
        "2 of 2 seeds",
        "order=inverse shared=4  ##",
        "all stages are done",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let json = kiln.succeed(&["watch", "run", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["arms"].as_array().unwrap().len(), 5);
    assert!(json["arms"][2]["difference"].is_number());
    let trained = kiln.path("run/arms/teacher/seed-1/train");
    assert!(trained.join("done.json").exists() && !trained.join("progress.json").exists());
    for (arguments, text) in [
        (&["watch", "runs"][..], "has no arms.json"),
        (&["watch", "run", "--store", "elsewhere"], "no such store"),
    ] {
        refuse(&kiln, arguments, &[text]);
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

/// The trainings that the store has finished.
fn trained(kiln: &Kiln) -> usize {
    let stages = fs::read_dir(kiln.path("runs/store")).unwrap();
    let stages = stages.map(|stage| stage.unwrap());
    let is_trained = |stage: &fs::DirEntry| {
        let name = stage.file_name().into_string().unwrap();
        name.starts_with("train-") && stage.path().join("done.json").exists()
    };
    stages.filter(is_trained).count()
}

/// 27 arms and 3 seeds train a teacher for each seed; another sweep over keys of students trains none, and another key of
/// the teacher trains three.
#[test]
fn twenty_seven_arms_train_three_teachers() {
    let kiln = Kiln::new();
    let tiny = [
        "data.synthetic.train=8",
        "data.synthetic.dev=10",
        "train.epochs=1",
        "latency.repeats=1",
        "arms=[]",
    ];
    let sweep = |out: &str, keys: &[&str]| {
        let fixed = ["ablate", "small.toml", "--seeds", "3", "--out", out];
        let two = ["--ui", "none", "--jobs", "2"];
        kiln.succeed(&[&fixed[..], &tiny, keys, &two].concat());
        trained(&kiln)
    };
    let all = [
        "experts.order=importance,random,inverse",
        "experts.shared=0,4,8",
        "experts.router=hash-random,hash-balance,gate-token",
    ];
    assert_eq!(sweep("all", &all), 3 + 3 * 27);
    let students = ["stages.student.train.learning_rate=2e-3,3e-3,4e-3"];
    assert_eq!(sweep("students", &students), 3 + 3 * (27 + 3));
    let teacher = [
        "stages.teacher.train.learning_rate=2e-3",
        "experts.order=random,inverse",
    ];
    assert_eq!(sweep("teacher", &teacher), 3 + 3 * (27 + 3) + 3 + 3 * 2);
}

#[test]
fn a_table_has_blocks_and_the_recipe_has_arms() {
    let kiln = Kiln::new();
    let text = fs::read_to_string(kiln.path("small.toml")).unwrap();
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
        let fixed = &["ablate", "table.toml", "--plan", "--json"][..];
        kiln.succeed(&[fixed, &QUICK, extra].concat())
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
fn arms_that_come_out_equal_are_one() {
    let kiln = Kiln::new();
    let arguments = [
        "ablate",
        "small.toml",
        "arms=[]",
        "experts.shared=0,4",
        "stages.student.methods=[experts,layerwise],[layerwise]",
        "--out",
        "run",
    ];
    let plan = kiln.start(
        &[
            &arguments[..],
            &QUICK,
            &[
                "--plan",
                "--reference",
                "experts.shared=0",
                "stages.student.methods=[layerwise]",
            ],
        ]
        .concat(),
    );
    let (text, notes) = (text_of(&plan.stdout), text_of(&plan.stderr));
    // Without experts, neurons that experts share change nothing.
    let first = "shared=0 student.methods=[layerwise]";
    let note = format!(
        "arm `{first}` stands for `shared=4 student.methods=[layerwise]`, too: they train the same model"
    );
    assert!(notes.contains(&note), "{notes}");
    for part in [
        &format!("small: 3 arms x 1 seed, reference {first}\n"),
        &format!("\n* {first}  (also: shared=4 student.methods=[layerwise])\n"),
        "shared by 3 arms",
        "1 seed cannot decide at 0.05 (smallest p 1.000), 6 can: 2 comparisons with the reference, 60 examples each\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_plan_writes_nothing_and_estimates_what_this_machine_has_done() {
    let kiln = Kiln::new();
    let plan = |kiln: &Kiln, seeds: &'static str| {
        let fixed = ["ablate", "small.toml", "--seeds", seeds, "--plan", "--json"];
        let plan = kiln.succeed(&[&fixed[..], &QUICK].concat());
        serde_json::from_str::<serde_json::Value>(&plan).unwrap()
    };
    let before = plan(&kiln, "2");
    assert!(!kiln.path("runs").exists());
    // Where no stage was done, a few steps are measured.
    assert_eq!(before["total"]["unknown"], 0);
    for stage in before["stages"].as_array().unwrap() {
        assert_eq!(stage["estimate"]["basis"], "measured", "{stage}");
        assert!(stage["estimate"]["seconds"].as_f64() > Some(0.0), "{stage}");
    }
    kiln.succeed(
        &[
            &["ablate", "small.toml", "--seeds", "1", "--ui", "none"][..],
            &QUICK,
        ]
        .concat(),
    );
    let store = || {
        let entries = fs::read_dir(kiln.path("runs/store/.kiln")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let (entries, after) = (store(), plan(&kiln, "2"));
    assert_eq!(store(), entries);
    assert_eq!(after["total"]["unknown"], 0);
    let stages = after["stages"].as_array().unwrap();
    let open = || stages.iter().filter(|stage| stage["state"] != "done");
    assert!(open().count() * 2 == stages.len());
    for stage in open() {
        assert_eq!(stage["estimate"]["basis"], "timed", "{stage}");
        // Times of passes are in the record, and no file.
        let has_files = stage["stage"] != "measure";
        let disk = stage["estimate"]["disk"].as_u64();
        assert_eq!(disk > Some(0), has_files, "{stage}");
    }
    let seconds = |place: &str| after["total"].pointer(place).unwrap().as_f64().unwrap();
    let (one, two) = (seconds("/seconds/0/seconds"), seconds("/seconds/1/seconds"));
    assert!(two <= one && two >= one / 2.0 && two >= seconds("/longest_chain"));
    // Another learning rate takes as long, and is told to be scaled.
    let shown = kiln.succeed(
        &[
            &["plan", "small.toml"][..],
            &[
                "latency.repeats=1",
                "train.epochs=2",
                "data.synthetic.dev=60",
            ],
        ]
        .concat(),
    );
    assert!(shown.contains("  ~"), "{shown}");
    assert!(shown.contains("training `teacher`"), "{shown}");
}

#[test]
fn mistakes_are_refused_before_work() {
    let kiln = Kiln::new();
    for (arguments, texts) in [
        (
            &["experts.ordre=random,inverse"][..],
            &[
                "`experts.ordre=random,inverse`, arm `ordre=random`: ",
                "experts.ordre",
                "did you mean",
                "(and in 1 more arm)",
            ][..],
        ),
        (
            &["experts.shared=0,3"],
            &["`experts.shared=0,3`, arm `shared=3`: ", "experts.shared"],
        ),
        (
            &["name=a,b"],
            &["an arm cannot change `name`: it is that of the run"],
        ),
        (
            &["experts.shared=0,8", "--reference", "-x", "--plan"],
            &["the reference `-x` is no arm"],
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
