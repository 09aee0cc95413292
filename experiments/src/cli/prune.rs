//! `kiln prune`: deletes stages that no run needs.

use std::{collections::BTreeSet, fmt::Write, path::PathBuf, time::Duration};

use clap::Args;
use serde_json::json;

use super::run::StoreArgs;
use crate::{
    error::Error,
    graph::{Key, Leases, Store, prune},
    record,
    table::memory,
};

/// Delete the stages that no run needs
///
/// A run needs its stages as long as its folder is there. Stages that a process is at work on stay.
#[derive(Debug, Args)]
#[command(after_help = "Example: what would go\n  kiln prune --older 7d --dry-run")]
pub struct PruneArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Keep the stages of this run folder, too; several may be given
    #[arg(long, value_name = "DIR")]
    keep: Vec<PathBuf>,
    /// Delete only what is older, as in 12h or 30d
    #[arg(long, value_name = "AGE", default_value = "1d", value_parser = age)]
    older: Duration,
    /// Delete the checkpoints of unfinished trainings instead; these begin anew the next time
    #[arg(long)]
    checkpoints: bool,
    /// Show what would be deleted
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// An age such as `90min`, `12h` or `30d`.
fn age(text: &str) -> Result<Duration, &'static str> {
    const FORM: &str = "expected a number with a unit: 0s, 90min, 12h or 30d";
    let digits = text
        .find(|digit: char| !digit.is_ascii_digit())
        .ok_or(FORM)?;
    let (number, unit) = text.split_at(digits);
    let seconds: u64 = match unit {
        "s" => 1,
        "min" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err(FORM),
    };
    let number: u64 = number.parse().map_err(|_| FORM)?;
    Ok(Duration::from_secs(number.saturating_mul(seconds)))
}

/// Deletes stages and prints what went.
///
/// # Errors
/// The store or the record of a run cannot be read, or a stage cannot be deleted.
pub fn run(args: &PruneArgs) -> Result<(), Error> {
    if !args.store.path.exists() {
        let path = args.store.path.display();
        return Err(Error::Usage(format!(
            "--store {path}: there is no such store"
        )));
    }
    let store = Store::open(&args.store.path)?;
    let leases = Leases::new(&store);
    let removed = if args.checkpoints {
        prune::checkpoints(&leases, args.dry_run)?
    } else {
        let mut keep: BTreeSet<Key> = BTreeSet::new();
        for run in store.runs()? {
            keep.extend(record::stages(&run)?.unwrap_or_default());
        }
        for run in &args.keep {
            let stages = record::stages(run)?;
            keep.extend(stages.ok_or_else(|| {
                Error::Usage(format!("--keep {}: there is no run", run.display()))
            })?);
        }
        prune::sweep(&leases, &keep, args.older, args.dry_run)?
    };
    let bytes: u64 = removed.iter().map(|removed| removed.bytes).sum();
    if args.json {
        let removed = removed
            .iter()
            .map(|removed| json!({ "path": removed.path, "bytes": removed.bytes }));
        return super::print_json(&json!({
            "dry_run": args.dry_run,
            "bytes": bytes,
            "removed": removed.collect::<Vec<_>>(),
        }));
    }
    let mut text = String::new();
    for prune::Removed { path, bytes } in &removed {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}  {}", path.display(), memory(*bytes));
    }
    let verb = if args.dry_run {
        "would delete"
    } else {
        "deleted"
    };
    let _ = writeln!(text, "{verb} {} folders, {}", removed.len(), memory(bytes));
    super::print(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_a_unit() {
        assert_eq!(age("0s").unwrap(), Duration::ZERO);
        assert_eq!(age("90min").unwrap(), Duration::from_mins(90));
        assert_eq!(age("2h").unwrap(), Duration::from_hours(2));
        for wrong in ["", "3", "d", "-1d", "1 week"] {
            assert!(age(wrong).is_err(), "{wrong}");
        }
    }
}
