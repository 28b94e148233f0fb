//! Where the table goes: redrawn on a terminal, a line now and then elsewhere, nothing where JSON is asked for.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often a terminal is redrawn.
const REDRAW: Duration = Duration::from_millis(250);
/// How often a line is written where there is no terminal.
const LINE: Duration = Duration::from_secs(5);

/// See the module.
pub(crate) struct Screen {
    kind: Kind,
    drawn: usize,
    due: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Terminal { colour: bool },
    Lines,
    Silent,
}

/// What is due now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    Table { colour: bool },
    Line,
}

impl Screen {
    pub(crate) fn new(json: bool) -> Self {
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let kind = if json {
            Kind::Silent
        } else if std::io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb") {
            Kind::Terminal { colour }
        } else {
            Kind::Lines
        };
        let first = if kind == Kind::Lines { LINE } else { Duration::ZERO };
        Self { kind, drawn: 0, due: Instant::now() + first }
    }

    /// Whether anything is to be shown at all, and in colour.
    pub(crate) fn colour(&self) -> bool {
        self.kind == Kind::Terminal { colour: true }
    }

    /// What is to be shown now; asking takes it off the list.
    pub(crate) fn due(&mut self) -> Due {
        let now = Instant::now();
        if now < self.due {
            return Due::Nothing;
        }
        match self.kind {
            Kind::Silent => Due::Nothing,
            Kind::Terminal { colour } => {
                self.due = now + REDRAW;
                Due::Table { colour }
            }
            Kind::Lines => {
                self.due = now + LINE;
                Due::Line
            }
        }
    }

    /// Draws the table over the one before.
    pub(crate) fn draw(&mut self, lines: &[String]) -> std::io::Result<()> {
        let mut text = String::new();
        if self.drawn > 0 {
            text.push_str(&format!("\x1b[{}A", self.drawn));
        }
        for line in lines {
            text.push_str("\x1b[2K");
            text.push_str(line);
            text.push('\n');
        }
        // A table with fewer lines than before leaves none of the old ones.
        text.push_str("\x1b[J");
        self.drawn = lines.len();
        write(&text)
    }

    /// Writes lines that stay.
    pub(crate) fn say(&mut self, lines: &[String]) -> std::io::Result<()> {
        if self.kind == Kind::Silent {
            return Ok(());
        }
        write(&lines.iter().map(|line| format!("{line}\n")).collect::<String>())
    }

    /// The last table: it stays.
    pub(crate) fn last(&mut self, lines: &[String]) -> std::io::Result<()> {
        match self.kind {
            Kind::Terminal { .. } => {
                self.draw(lines)?;
                self.drawn = 0;
                Ok(())
            }
            Kind::Lines => self.say(lines),
            Kind::Silent => Ok(()),
        }
    }
}

fn write(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
