//! `kiln export`: a run for other programs.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::print;
use crate::{
    error::Error,
    export::{
        error::ExportError,
        event_folders,
        long_table::LongTable,
        mlflow::{Client, HttpTransport},
        mlflow_runs, predictions, results_tables,
        run_folder::{self, ModelRun},
        trackio,
    },
    graph::is_store,
    record::{RESULTS, is_run},
    results::{Results, Timings},
};

/// Write a run for other programs: TensorBoard, tables, MLflow, Trackio
///
/// Every model of the run is written with each seed: the values of its training, its scores and its recipe. The tables are the results,
/// comparisons and times of the run, and the predictions of each model.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kiln export runs/quickstart --to tensorboard
  kiln export runs/quickstart --to mlflow --url http://127.0.0.1:5000")]
pub struct ExportArgs {
    /// The run folder
    run: PathBuf,
    /// What to write
    #[arg(long, value_enum, value_name = "FORMAT")]
    to: Target,
    /// The folder to write into [default: RUN/export/FORMAT]
    #[arg(long, value_name = "D", conflicts_with = "url")]
    dir: Option<PathBuf>,
    /// The address of the MLflow server, http://HOST:PORT
    #[arg(long, value_name = "U")]
    url: Option<String>,
    /// Print what was written as JSON
    #[arg(long)]
    json: bool,
}

/// A format, and its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Target {
    /// Event files of TensorBoard, in a folder for each model and seed
    Tensorboard,
    /// Tables as CSV
    Csv,
    /// Tables as Parquet
    Parquet,
    /// Runs of an MLflow server; a later export updates them
    Mlflow,
    /// CSV files for `trackio.import_csv`, one for each model and seed
    Trackio,
}

/// What an export wrote.
#[derive(Serialize)]
#[serde(untagged)]
enum Written {
    File {
        path: PathBuf,
    },
    Run {
        arm: String,
        seed: u64,
        experiment: String,
        run: String,
        created: bool,
    },
}

/// A run that is exported.
struct Source {
    folder: PathBuf,
    results: Results,
    models: Vec<ModelRun>,
}

/// Exports a run.
///
/// # Errors
/// The folder has no run or no results, a file cannot be read or written, or the server refuses something.
pub fn run(args: &ExportArgs) -> Result<(), Error> {
    let server = match (args.to, &args.url) {
        (Target::Mlflow, None) => {
            let problem = "`--to mlflow` needs the server's address: --url http://HOST:PORT";
            return Err(Error::Usage(problem.to_owned()));
        }
        (Target::Mlflow, Some(url)) => Some(HttpTransport::new(url).map_err(ExportError::from)?),
        (_, Some(_)) => {
            let problem = "`--url` is for `--to mlflow`; the other formats take --dir";
            return Err(Error::Usage(problem.to_owned()));
        }
        (_, None) => None,
    };
    let source = Source::open(&args.run)?;
    let written = match server {
        Some(server) => source.to_mlflow(&Client::new(server))?,
        None => source.to_files(args)?,
    };
    if args.json {
        let json = serde_json::to_string_pretty(&written).unwrap_or_default();
        return print(&(json + "\n"));
    }
    let lines = written.iter().map(Written::line);
    print(&lines.collect::<String>())
}

/// Refuses a folder whose files something else is read from: those of a run, a store or a model.
fn check_dir(dir: &Path, run: &Path) -> Result<(), Error> {
    let absolute = |path: &Path| {
        let path = std::path::absolute(path).map_err(|source| Error::file(path, source))?;
        // What is there may be a link.
        let there = path.ancestors().find(|above| above.exists());
        let (Some(there), Some(rest)) =
            (there, there.and_then(|there| path.strip_prefix(there).ok()))
        else {
            return Ok(path);
        };
        let real = fs::canonicalize(there).map_err(|source| Error::file(there, source))?;
        // Joined with nothing, it would be a folder.
        let is_there = rest.as_os_str().is_empty();
        Ok::<_, Error>(if is_there { real } else { real.join(rest) })
    };
    let (real, own) = (absolute(dir)?, absolute(run)?.join("export"));
    let refused = |what: &str| {
        let dir = dir.display();
        Err(Error::Usage(format!(
            "`--dir`: {dir} is {what}; choose another folder"
        )))
    };
    if real.starts_with(&own) && real != own {
        return Ok(());
    }
    for above in real.ancestors() {
        if is_run(above) {
            return refused("in a run folder");
        }
        if is_store(above) {
            return refused("in a store");
        }
    }
    if real.join("config.json").exists() {
        return refused("the folder of a model");
    }
    if real.is_file() {
        return refused("a file");
    }
    Ok(())
}

impl Source {
    fn open(folder: &Path) -> Result<Self, Error> {
        let shown = folder.display();
        if !is_run(folder) {
            return Err(Error::Usage(format!("{shown} is no run folder")));
        }
        if !folder.join(RESULTS).exists() {
            let problem =
                format!("{shown} has no results yet; run its command again to go on with it");
            return Err(Error::Usage(problem));
        }
        let results = Results::read(folder)?;
        Ok(Self {
            models: run_folder::models(folder, &results)?,
            folder: folder.to_owned(),
            results,
        })
    }

    fn to_files(&self, args: &ExportArgs) -> Result<Vec<Written>, Error> {
        let name = args.to.to_possible_value();
        let name = name.as_ref().map_or("", |value| value.get_name());
        let default = || args.run.join("export").join(name);
        let dir = args.dir.clone().unwrap_or_else(default);
        check_dir(&dir, &args.run)?;
        let files = match args.to {
            Target::Tensorboard => self.to_tensorboard(&dir)?,
            Target::Trackio => self.to_trackio(&dir)?,
            _ => self.to_tables(&dir, args.to)?,
        };
        let written = files.into_iter().map(|path| Written::File { path });
        Ok(written.collect())
    }

    fn to_tensorboard(&self, dir: &Path) -> Result<Vec<PathBuf>, Error> {
        let folders = event_folders::folders(&self.models, dir);
        if let Some(file) = event_folders::earlier(folders) {
            let problem = format!(
                "{} is of an earlier export; delete {} or choose another --dir",
                file.display(),
                dir.display()
            );
            return Err(Error::Usage(problem));
        }
        let folders = event_folders::folders(&self.models, dir);
        let files = self
            .models
            .iter()
            .zip(folders)
            .map(|(model, folder)| Ok(event_folders::write(model, &folder)?));
        files.collect()
    }

    fn to_trackio(&self, dir: &Path) -> Result<Vec<PathBuf>, Error> {
        let files = self.models.iter().map(|model| {
            let path = dir.join(format!("{}-seed-{}.csv", model.folder(), model.seed));
            let table = trackio::table(model).map_err(ExportError::from)?;
            write(&table, Target::Csv, &path, &[])?;
            Ok(path)
        });
        files.collect()
    }

    fn to_tables(&self, dir: &Path, form: Target) -> Result<Vec<PathBuf>, Error> {
        let end = if form == Target::Csv {
            "csv"
        } else {
            "parquet"
        };
        let mut files = vec![];
        let timings = Timings::read(&self.folder)?;
        let tables = results_tables::tables(&self.results, &timings).map_err(ExportError::from)?;
        for (name, table) in tables {
            let path = dir.join(format!("{name}.{end}"));
            write(
                &table,
                form,
                &path,
                &results_tables::metadata(&self.results),
            )?;
            files.push(path);
        }
        for model in &self.models {
            let Some(stage) = &model.evaluation else {
                continue;
            };
            for split in predictions::of_stage(stage)? {
                let name = format!(
                    "{}-seed-{}-{}.{end}",
                    model.folder(),
                    model.seed,
                    split.split
                );
                let path = dir.join("predictions").join(name);
                let metadata = split.metadata.iter();
                let metadata: Vec<_> = metadata
                    .map(|(key, value)| (*key, value.as_str()))
                    .collect();
                write(&split.table, form, &path, &metadata)?;
                files.push(path);
            }
        }
        Ok(files)
    }

    fn to_mlflow(&self, client: &Client<HttpTransport>) -> Result<Vec<Written>, Error> {
        // The files are of the whole run: its first model has them.
        let mut artifacts = mlflow_runs::artifacts(&self.folder)?;
        let mut written = vec![];
        for model in &self.models {
            let Some(run) = mlflow_runs::of_model(model, artifacts.clone()) else {
                continue;
            };
            artifacts.clear();
            let exported = client
                .export(&self.results.run, &run)
                .map_err(ExportError::from)?;
            written.push(Written::Run {
                arm: run.arm,
                seed: run.seed,
                experiment: exported.experiment,
                run: exported.run,
                created: exported.created,
            });
        }
        Ok(written)
    }
}

/// Writes a table, and makes its folder.
fn write(
    table: &LongTable,
    form: Target,
    path: &Path,
    metadata: &[(&str, &str)],
) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(|source| Error::file(folder, source))?;
    let written = if form == Target::Csv {
        table.write_csv(path)
    } else {
        table.write_parquet(path, metadata)
    };
    Ok(written.map_err(ExportError::from)?)
}

impl Written {
    fn line(&self) -> String {
        match self {
            Self::File { path } => format!("{}\n", path.display()),
            Self::Run {
                arm,
                seed,
                run,
                created,
                ..
            } => {
                let done = if *created { "created" } else { "updated" };
                format!("{arm} seed {seed}: {done} run {run}\n")
            }
        }
    }
}
