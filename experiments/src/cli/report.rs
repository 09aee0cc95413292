//! `kiln report`: what a run shows, as one page.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use moebert_core::file;
use serde::Serialize;

use super::print;
use crate::{
    error::Error,
    report::{LeftOut, Report, load::load},
};

/// Write the report of a run: one HTML file with its verdicts, tables and charts
///
/// The report is RUN/report.html. It asks for no other file, and can be read without a network and without scripts. What the run has no
/// data for is left out, with the reason at the end.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kiln report runs/partition --svg
  kiln report runs/partition --format latex > partition.tex")]
pub struct ReportArgs {
    /// The run folders
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// What to make: the page, or the table alone, which is printed
    #[arg(long, value_enum, default_value_t = Format::Html)]
    format: Format,
    /// Write each chart to RUN/figures/NAME.svg, too
    #[arg(long)]
    svg: bool,
    /// Print what was written as JSON
    #[arg(long)]
    json: bool,
}

/// What a report is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// RUN/report.html
    Html,
    /// The table in Markdown, with the verdicts
    Markdown,
    /// The table in LaTeX, for the package booktabs
    Latex,
}

/// What was written of a run.
#[derive(Serialize)]
struct Written {
    run: PathBuf,
    report: Option<PathBuf>,
    figures: Vec<PathBuf>,
    left_out: Vec<LeftOut>,
}

/// Writes reports, or prints tables.
///
/// # Errors
/// A folder is that of no run that has ended, is damaged or cannot be written.
pub fn run(args: &ReportArgs) -> Result<(), Error> {
    let mut written = vec![];
    for run in &args.runs {
        let data = load(run)?;
        let report = Report::new(&data);
        let page = match args.format {
            Format::Html => {
                let path = run.join("report.html");
                file::write(&path, report.html()?.as_bytes())?;
                Some(path)
            }
            Format::Markdown | Format::Latex if args.json => None,
            Format::Markdown => {
                print(&report.markdown())?;
                None
            }
            Format::Latex => {
                print(&report.latex())?;
                None
            }
        };
        written.push(Written {
            run: run.clone(),
            report: page,
            figures: if args.svg {
                figures(run, &report)?
            } else {
                vec![]
            },
            left_out: report.left_out().to_vec(),
        });
    }
    if args.json {
        return print(&format!("{}\n", serde_json::json!(written)));
    }
    let pages = written.iter().filter_map(|written| written.report.as_ref());
    let lines = pages.map(|path| format!("{}\n", path.display()));
    print(&lines.collect::<String>())
}

/// Writes the charts of a report into `RUN/figures`.
fn figures(run: &Path, report: &Report<'_>) -> Result<Vec<PathBuf>, Error> {
    let folder = run.join("figures");
    std::fs::create_dir_all(&folder).map_err(|source| file::FileError::Write {
        path: folder.clone(),
        source,
    })?;
    let mut paths = vec![];
    for name in report.figures() {
        if let Some(svg) = report.svg(name) {
            let path = folder.join(format!("{name}.svg"));
            file::write(&path, svg.as_bytes())?;
            paths.push(path);
        }
    }
    Ok(paths)
}
