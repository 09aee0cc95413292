//! Lines and bars between the stages that have a dashboard of their own.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Ui;
use crate::quiet::unless_quiet;

/// Tells a person what is being done, on the standard error.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    ui: Ui,
}

impl Progress {
    /// Progress in the form that was asked for.
    pub fn new(ui: Ui) -> Self {
        Self {
            ui: unless_quiet(ui),
        }
    }

    /// One line.
    pub fn say(self, text: &str) {
        if self.ui != Ui::None {
            eprintln!("{text}");
        }
    }

    /// A bar over so many items, to be told how many are done. It is drawn on terminals only.
    pub fn bar(self, label: &str, total: usize) -> ProgressBar {
        let target = match self.ui {
            Ui::None => ProgressDrawTarget::hidden(),
            Ui::Tui | Ui::Plain => ProgressDrawTarget::stderr(),
        };
        let bar = ProgressBar::with_draw_target(Some(total as u64), target);
        if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {eta}") {
            bar.set_style(style);
        }
        bar.with_prefix(label.to_owned())
    }
}
