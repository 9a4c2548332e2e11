//! The terminal of `escrow top`: taken on opening, given back when dropped, whatever happened in between.

use std::io::{self, Stdout, Write as _};

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::style::{Attribute, Color, Print, ResetColor, SetAttribute, SetForegroundColor};
use crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen,
    LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size,
};
use crossterm::{execute, queue};

use super::frame::{Line, Style};

/// See the module.
pub(super) struct Screen {
    to: Stdout,
}

impl Screen {
    /// Takes the terminal.
    pub(super) fn open() -> io::Result<Self> {
        enable_raw_mode()?;
        // From here on it is given back, also when the next step fails.
        let mut screen = Self { to: io::stdout() };
        execute!(screen.to, EnterAlternateScreen, Hide)?;
        Ok(screen)
    }

    /// Columns and lines.
    pub(super) fn size(&self) -> (usize, usize) {
        size().map_or((80, 24), |(columns, lines)| (usize::from(columns), usize::from(lines)))
    }

    /// Shows a frame, in one piece.
    pub(super) fn draw(&mut self, lines: Vec<Line>) -> io::Result<()> {
        let (columns, height) = self.size();
        queue!(self.to, BeginSynchronizedUpdate)?;
        for (row, line) in lines.into_iter().take(height).enumerate() {
            queue!(self.to, MoveTo(0, row as u16))?;
            for (style, text) in line.cut(columns).0 {
                self.put(style, text)?;
            }
            queue!(self.to, Clear(ClearType::UntilNewLine))?;
            if row + 1 < height {
                queue!(self.to, MoveTo(0, row as u16 + 1))?;
            }
        }
        queue!(self.to, Clear(ClearType::FromCursorDown), EndSynchronizedUpdate)?;
        self.to.flush()
    }

    fn put(&mut self, style: Style, text: String) -> io::Result<()> {
        match style {
            Style::Plain => {}
            Style::Dim => queue!(self.to, SetAttribute(Attribute::Dim))?,
            Style::Strong => queue!(self.to, SetAttribute(Attribute::Bold))?,
            Style::Warning => {
                queue!(self.to, SetAttribute(Attribute::Bold), SetForegroundColor(Color::Yellow))?
            }
            Style::Alert => queue!(self.to, SetAttribute(Attribute::Bold), SetForegroundColor(Color::Red))?,
            Style::Heading => queue!(self.to, SetAttribute(Attribute::Reverse))?,
            Style::Chosen => {
                queue!(self.to, SetAttribute(Attribute::Reverse), SetAttribute(Attribute::Bold))?
            }
        }
        queue!(self.to, Print(text), SetAttribute(Attribute::Reset), ResetColor)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // There is nobody left to tell.
        let _ = execute!(self.to, Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}
