//! `kiln watch`: a live view of a run.

use std::{
    env,
    io::{self, IsTerminal},
    path::PathBuf,
    time::Duration,
};

use clap::Args;
use ratatui::crossterm::terminal;

use super::run::StoreArgs;
use crate::{
    error::Error,
    interrupt::Stop,
    watch::{
        View, Watch,
        frame::{Frame, Panel, Shown},
        screen, stream,
    },
};

/// Columns where there is no terminal.
const COLUMNS: usize = 80;

/// Watch a run: the state of every arm with interim intervals, what is being done, and what failed
///
/// Works on any machine that sees the run folder and the store, and writes nothing. Without a terminal, it prints a line per event
/// until nothing is left to do. Verdicts are not shown before all is done: to stop once one looks good would make it wrong.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kiln watch runs/quickstart-ablation")]
pub struct WatchArgs {
    /// The run folder
    run: PathBuf,
    #[command(flatten)]
    store: StoreArgs,
    /// Print the state once, as text
    #[arg(long)]
    once: bool,
    /// Print the state once, as JSON
    #[arg(long, conflicts_with = "once")]
    json: bool,
}

/// Shows the run.
///
/// # Errors
/// The folder is not that of a run, there is no store, or they cannot be read.
pub fn run(args: &WatchArgs) -> Result<(), Error> {
    let mut watch = Watch::open(&args.run, &args.store.path)?;
    if args.json || args.once {
        watch.poll(Duration::MAX)?;
        let view = View::of(&watch);
        if args.json {
            // Names, titles and numbers are plain.
            let json = serde_json::to_string_pretty(&view).unwrap_or_default();
            return super::print(&(json + "\n"));
        }
        let is_terminal = io::stdout().is_terminal();
        let size = if is_terminal {
            terminal::size().ok()
        } else {
            None
        };
        let frame = Frame::of(
            &view,
            Shown {
                width: size.map_or(COLUMNS, |(width, _)| width.into()),
                height: None,
                panel: Panel::Arms,
                scroll: 0,
                events: &[],
                message: None,
            },
        );
        return super::print(&frame.text());
    }
    let stop = Stop::on_signals()?;
    if io::stdout().is_terminal() && io::stdin().is_terminal() {
        let has_color = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        return screen::show(&mut watch, &args.run, has_color, &stop);
    }
    stream::stream(&mut watch, &stop)
}
