//! The recipes that ship inside the program.

/// Name and text of every recipe that `kiln run NAME` knows without a file.
pub const SHIPPED: &[(&str, &str)] = &[
    ("quickstart", include_str!("../../recipes/quickstart.toml")),
    ("sst2", include_str!("../../recipes/sst2.toml")),
    (
        "sst2-students",
        include_str!("../../recipes/sst2-students.toml"),
    ),
    ("cola", include_str!("../../recipes/cola.toml")),
    ("mnli", include_str!("../../recipes/mnli.toml")),
    ("squad", include_str!("../../recipes/squad.toml")),
    ("recall", include_str!("../../recipes/recall.toml")),
    (
        "recall-experts",
        include_str!("../../recipes/recall-experts.toml"),
    ),
    ("gutenberg", include_str!("../../recipes/gutenberg.toml")),
    (
        "gutenberg-experts",
        include_str!("../../recipes/gutenberg-experts.toml"),
    ),
    ("compose", include_str!("../../recipes/compose.toml")),
    ("summary", include_str!("../../recipes/summary.toml")),
    ("continue", include_str!("../../recipes/continue.toml")),
    ("partition", include_str!("../../recipes/partition.toml")),
    ("layers", include_str!("../../recipes/layers.toml")),
    ("routers", include_str!("../../recipes/routers.toml")),
    ("placement", include_str!("../../recipes/placement.toml")),
    (
        "placement-books",
        include_str!("../../recipes/placement-books.toml"),
    ),
];
