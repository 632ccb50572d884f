//! Text from elsewhere in logs and answers: one line of it stays one line, and no terminal obeys it.

use std::{
    fmt::Write as _,
    io::{self, Write},
    path::Path,
};

use tracing_subscriber::fmt::MakeWriter;

/// The text with control characters written out, like `\n` and `\u{1b}`.
pub(crate) fn plain(text: &str) -> String {
    escape(text, |_| false)
}

/// A file's name as it is shown.
pub(crate) fn shown(path: &Path) -> String {
    plain(&path.display().to_string())
}

fn escape(text: &str, keep: impl Fn(char) -> bool) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if !is_obeyed(c) || keep(c) {
            plain.push(c);
        } else {
            write!(plain, "{}", c.escape_default()).expect("a string takes everything");
        }
    }
    plain
}

/// Control characters, and those that turn the direction of what follows.
fn is_obeyed(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// Standard error for a log: each event is one line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OneLine {
    /// Lines are coloured; what comes from elsewhere is free of such escapes already.
    pub(crate) coloured: bool,
}

impl<'a> MakeWriter<'a> for OneLine {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        *self
    }
}

impl Write for OneLine {
    /// Takes one event, as the subscriber hands it over.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(event);
        let line = escape(line.strip_suffix('\n').unwrap_or(&line), |c| self.coloured && c == '\u{1b}');
        writeln!(io::stderr(), "{line}")?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_that_a_terminal_obeys() {
        assert_eq!(plain("a\nb\r\u{1b}[2J\u{9b}\u{7f}\u{202e}"), r"a\nb\r\u{1b}[2J\u{9b}\u{7f}\u{202e}");
        assert_eq!(plain("Tür – 門.jpg"), "Tür – 門.jpg");
    }
}
