//! Finds the position in the file of each character of a scalar.

use super::{Scalar, Style};
use crate::diagnostic::Position;

impl Scalar {
    /// The position in the file of each character of the text, and one more for its end. `at` is
    /// where the scalar begins in `file`.
    ///
    /// Indentation, folded lines and quotes are in the file and not in the text, so both are walked
    /// together. Each character of the text matches the next equal one in the file. The position of
    /// an escape (`\t`) is where it begins.
    pub fn positions(&self, file: &str, at: Position) -> Vec<Position> {
        let mut source = Source {
            rest: file.get(self.source.clone()).unwrap_or_default(),
            at,
        };
        match self.style {
            // The parser returns the start of a block's text, not of its `|`.
            Style::Plain | Style::Block => {}
            Style::SingleQuoted | Style::DoubleQuoted => source.skip(1),
        }
        let mut positions = Vec::with_capacity(self.text.len() + 1);
        let mut characters = self.text.chars().peekable();
        if self.style == Style::Block {
            // Nor of the empty lines before it.
            while characters.next_if_eq(&'\n').is_some() {
                positions.push(at);
            }
        }
        for character in characters {
            positions.push(self.place(character, &mut source));
        }
        positions.push(source.at);
        positions
    }

    fn place(&self, character: char, source: &mut Source<'_>) -> Position {
        if self.style == Style::DoubleQuoted {
            source.join_lines();
        }
        if !character.is_whitespace() {
            source.skip_blanks();
        }
        let place = source.at;
        match source.rest.chars().next() {
            Some('\\') if self.style == Style::DoubleQuoted => source.skip_escape(),
            Some('\'') if self.style == Style::SingleQuoted => source.skip(2),
            _ if character == '\n' => source.skip_line(),
            Some('\n') if character.is_whitespace() => {}
            _ => source.skip(1),
        }
        place
    }
}

/// The unread part of a scalar's source.
struct Source<'a> {
    rest: &'a str,
    at: Position,
}

impl Source<'_> {
    fn skip(&mut self, characters: usize) {
        for _ in 0..characters {
            let mut rest = self.rest.chars();
            match rest.next() {
                Some('\n') => {
                    self.at.line += 1;
                    self.at.column = 1;
                }
                Some(_) => self.at.column += 1,
                None => return,
            }
            self.rest = rest.as_str();
        }
    }

    fn skip_line(&mut self) {
        let characters = self.rest.chars().take_while(|next| *next != '\n').count();
        self.skip(characters + 1);
    }

    fn skip_blanks(&mut self) {
        let blanks = self.rest.chars().take_while(|next| next.is_whitespace());
        self.skip(blanks.count());
    }

    /// A backslash at a line's end joins the lines and is no character.
    fn join_lines(&mut self) {
        while self.rest.starts_with("\\\n") || self.rest.starts_with("\\\r\n") {
            self.skip(1);
            self.skip_blanks();
        }
    }

    fn skip_escape(&mut self) {
        let digits = match self.rest.as_bytes().get(1) {
            Some(b'x') => 2,
            Some(b'u') => 4,
            Some(b'U') => 8,
            _ => 0,
        };
        self.skip(2 + digits);
    }
}
