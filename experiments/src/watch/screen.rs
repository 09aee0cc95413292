//! A run watched on a terminal.

use std::{io, path::Path, time::Instant};

use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
    style::{Color, Modifier, Style},
    text::{Line as Row, Span, Text},
};

use super::{
    frame::{Frame, Line, Panel, Shown, Tone},
    state::{Event, Watch},
    stream::{BUDGET, FASTEST, TICK, pause},
    view::View,
};
use crate::{error::Error, interrupt::Stop};

/// The most events that are kept.
const MOST_EVENTS: usize = 1000;

/// What a person has asked for.
struct Screen<'a> {
    run: &'a Path,
    has_color: bool,
    panel: Panel,
    scroll: usize,
    last_scroll: usize,
    /// Lines of a page.
    page: usize,
    message: Option<String>,
    events: Vec<Event>,
}

/// Shows a run until a person quits or a stop is asked for.
///
/// # Errors
///
/// If run or store cannot be read at first, or the terminal cannot be used.
pub fn show(watch: &mut Watch, run: &Path, has_color: bool, stop: &Stop) -> Result<(), Error> {
    watch.poll(BUDGET)?;
    let mut screen = Screen {
        run,
        has_color,
        panel: Panel::Arms,
        scroll: 0,
        last_scroll: 0,
        page: 1,
        message: None,
        events: vec![],
    };
    let mut terminal = ratatui::try_init().map_err(Error::Output)?;
    let ended = screen.run(&mut terminal, watch, stop);
    ratatui::restore();
    ended.map_err(Error::Output)
}

impl Screen<'_> {
    fn run(
        &mut self,
        terminal: &mut DefaultTerminal,
        watch: &mut Watch,
        stop: &Stop,
    ) -> io::Result<()> {
        let mut view = View::of(watch);
        self.draw(terminal, &view)?;
        let (mut wait, mut polled) = (FASTEST, Instant::now());
        while !stop.requested() {
            let due = if watch.is_behind() { TICK } else { wait };
            let left = due.saturating_sub(polled.elapsed());
            let is_input = event::poll(left.min(TICK))?;
            if is_input && self.answer(event::read()?) {
                return Ok(());
            }
            let mut is_changed = is_input;
            if polled.elapsed() >= due {
                match watch.poll(BUDGET) {
                    Ok(changed) => {
                        wait = pause(wait, changed);
                        is_changed |= changed;
                    }
                    // A file system may be away for a moment.
                    Err(error) => {
                        wait = pause(wait, false);
                        self.message = Some(error.line());
                        is_changed = true;
                    }
                }
                polled = Instant::now();
                self.events.extend(watch.take_events());
                let surplus = self.events.len().saturating_sub(MOST_EVENTS);
                self.events.drain(..surplus);
                if is_changed {
                    view = View::of(watch);
                }
            }
            if is_changed {
                self.draw(terminal, &view)?;
            }
        }
        Ok(())
    }

    fn draw(&mut self, terminal: &mut DefaultTerminal, view: &View) -> io::Result<()> {
        let size = terminal.size()?;
        let frame = Frame::of(
            view,
            Shown {
                width: size.width.into(),
                height: Some(size.height.into()),
                panel: self.panel,
                scroll: self.scroll,
                events: &self.events,
                message: self.message.as_deref(),
            },
        );
        self.last_scroll = frame.last_scroll;
        self.scroll = self.scroll.min(frame.last_scroll);
        self.page = usize::from(size.height / 2).max(1);
        let rows = frame.lines.iter().map(|line| self.row(line));
        let text = Text::from(rows.collect::<Vec<_>>());
        terminal.draw(|area| area.render_widget(text, area.area()))?;
        Ok(())
    }

    fn row(&self, line: &Line) -> Row<'static> {
        let spans = line.0.iter();
        let spans = spans.map(|(tone, text)| Span::styled(text.clone(), self.style(*tone)));
        Row::from(spans.collect::<Vec<_>>())
    }

    fn style(&self, tone: Tone) -> Style {
        let style = Style::new();
        let color = match tone {
            Tone::Plain => return style,
            Tone::Strong => return style.add_modifier(Modifier::BOLD),
            Tone::Faint => return style.add_modifier(Modifier::DIM),
            Tone::Done => Color::Green,
            Tone::Running => Color::Cyan,
            Tone::Failed => Color::Red,
        };
        if self.has_color {
            style.fg(color)
        } else {
            style
        }
    }

    /// Takes in what a person does; true if that is to quit.
    fn answer(&mut self, event: event::Event) -> bool {
        let event::Event::Key(KeyEvent {
            code,
            modifiers,
            kind: KeyEventKind::Press | KeyEventKind::Repeat,
            ..
        }) = event
        else {
            return false;
        };
        self.message = None;
        let is_break = modifiers.contains(KeyModifiers::CONTROL) && code == KeyCode::Char('c');
        match code {
            _ if is_break => return true,
            KeyCode::Char('q') => return true,
            KeyCode::Esc if self.panel == Panel::Arms => return true,
            KeyCode::Esc => self.turn(Panel::Arms),
            KeyCode::Char('f') => self.turn(Panel::Failures),
            KeyCode::Char('l') => self.turn(Panel::Log),
            KeyCode::Char('o') => self.message = Some(report(self.run)),
            KeyCode::Down | KeyCode::Char('j') => self.scroll += 1,
            KeyCode::Up | KeyCode::Char('k') => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::PageDown | KeyCode::Char(' ') => self.scroll += self.page,
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(self.page),
            KeyCode::Home => self.scroll = 0,
            KeyCode::End => self.scroll = self.last_scroll,
            _ => {}
        }
        false
    }

    /// Shows a panel, or the arms again if it is shown.
    fn turn(&mut self, panel: Panel) {
        self.panel = if self.panel == panel {
            Panel::Arms
        } else {
            panel
        };
        self.scroll = 0;
    }
}

/// Where the report of a run is.
fn report(run: &Path) -> String {
    let mut files = ["report.html", "results.md"]
        .map(|name| run.join(name))
        .into_iter();
    match files.find(|file| file.exists()) {
        Some(file) => file.display().to_string(),
        None => "there is no report before all is done".to_owned(),
    }
}
