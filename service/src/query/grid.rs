//! Renders cells as a table of text that fits a terminal.

use std::fmt::Write as _;

/// Columns are shortened to this width before others are omitted.
const NARROWEST: usize = 12;

/// The most rows that a terminal shows: half from the start, half from the end.
const MOST_ROWS: usize = 40;

/// Up to this many rows show all their columns, one per line, where a table would omit columns.
const MOST_RECORDS: usize = 5;

/// Replaces omitted parts.
const ELLIPSIS: char = '…';

/// Cells of rows of equal length, without line breaks.
pub(super) struct Grid {
    pub(super) header: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
}

impl Grid {
    /// The table with its counts. With a `width` its lines are no longer than that: cells are
    /// shortened, columns and rows are omitted, and the last line states it.
    pub(super) fn text(&self, width: Option<usize>) -> String {
        let natural = self.widths();
        let layout = match width {
            Some(width) => Layout::within(&natural, width),
            None => Layout::full(&natural),
        };
        if let (Some(width), true) = (width, self.rows.len() <= MOST_RECORDS)
            && layout.shown() < natural.len()
            && !self.rows.is_empty()
        {
            return self.records(width);
        }
        let is_long = width.is_some() && self.rows.len() > MOST_ROWS;
        let mut text = String::new();
        layout.rule(&mut text);
        layout.line(&mut text, &self.header);
        layout.rule(&mut text);
        let half = MOST_ROWS / 2;
        for (index, row) in self.rows.iter().enumerate() {
            if is_long && index == half {
                layout.line(&mut text, &vec![ELLIPSIS.to_string(); row.len()]);
            }
            if !is_long || index < half || index >= self.rows.len() - half {
                layout.line(&mut text, row);
            }
        }
        layout.rule(&mut text);
        text.push_str(&counted(self.rows.len(), "row"));
        if is_long {
            let _ = write!(text, " ({MOST_ROWS} shown)");
        }
        let shown = layout.shown();
        if shown < natural.len() {
            let _ = write!(text, ", {} columns ({shown} shown)", natural.len());
        }
        if is_long || shown < natural.len() || layout.shortens(&natural) {
            text.push_str("; a pipe shows everything");
        }
        text.push('\n');
        text
    }

    /// One line per column, row after row.
    fn records(&self, width: usize) -> String {
        let names = self.header.iter().map(|name| length(name)).max();
        let names = names.unwrap_or(0).min(width / 3);
        let room = width.saturating_sub(names + 4);
        let mut text = String::new();
        let mut is_short = false;
        for (number, row) in (1..).zip(&self.rows) {
            let _ = writeln!(text, "row {number}");
            for (name, cell) in self.header.iter().zip(row) {
                is_short |= length(cell) > room;
                let (name, cell) = (shortened(name, names), shortened(cell, room));
                let pad = " ".repeat(names - length(&name));
                let _ = writeln!(text, "  {name}{pad}  {cell}");
            }
        }
        text.push_str(&counted(self.rows.len(), "row"));
        if is_short {
            text.push_str("; a pipe shows everything");
        }
        text.push('\n');
        text
    }

    fn widths(&self) -> Vec<usize> {
        let lengths = |row: &Vec<String>| row.iter().map(|cell| length(cell)).collect::<Vec<_>>();
        let header = lengths(&self.header);
        self.rows.iter().map(lengths).fold(header, |widest, row| {
            widest.iter().zip(row).map(|(&a, b)| a.max(b)).collect()
        })
    }
}

/// `1 row`, `1,200 rows`.
fn counted(count: usize, noun: &str) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    let plural = if count == 1 { "" } else { "s" };
    format!("{text} {noun}{plural}")
}

/// The width of each column.
struct Layout(Vec<Column>);

/// A column in the output.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Column {
    Wide(usize),
    /// Omitted; a run of such columns shows as one ellipsis.
    Omitted,
}

impl Layout {
    fn full(natural: &[usize]) -> Self {
        Self(natural.iter().copied().map(Column::Wide).collect())
    }

    /// Shortens the widest columns first, and then omits those in the middle.
    fn within(natural: &[usize], width: usize) -> Self {
        // No column is wider than the terminal, however long its cells are.
        let natural: Vec<usize> = natural.iter().map(|&it| it.min(width)).collect();
        let least: Vec<usize> = natural.iter().map(|&it| it.min(NARROWEST)).collect();
        let mut layout = Self::full(&natural);
        while layout.width() > width {
            let widest = layout
                .0
                .iter_mut()
                .zip(&least)
                .filter_map(|(it, &least)| match it {
                    Column::Wide(wide) if *wide > least => Some(wide),
                    _ => None,
                });
            if let Some(wide) = widest.max_by_key(|wide| **wide) {
                *wide -= 1;
                continue;
            }
            let shown: Vec<usize> = (0..natural.len())
                .filter(|&index| layout.0[index] != Column::Omitted)
                .collect();
            if shown.len() <= 2 {
                break;
            }
            layout.0[shown[shown.len() / 2]] = Column::Omitted;
            // The other columns get the room of the omitted one.
            for (index, &natural) in natural.iter().enumerate() {
                if layout.0[index] != Column::Omitted {
                    layout.0[index] = Column::Wide(natural);
                }
            }
        }
        layout
    }

    /// The columns by their index, with each run of omitted ones as a single column of the
    /// ellipsis' width.
    fn visible(&self) -> impl Iterator<Item = (Option<usize>, usize)> {
        let columns = self.0.iter().enumerate();
        columns.filter_map(|(index, column)| match column {
            Column::Wide(wide) => Some((Some(index), *wide)),
            Column::Omitted if index > 0 && self.0[index - 1] == Column::Omitted => None,
            Column::Omitted => Some((None, 1)),
        })
    }

    fn width(&self) -> usize {
        self.visible().map(|(_, wide)| wide + 3).sum::<usize>() + 1
    }

    fn shown(&self) -> usize {
        let omitted = self.0.iter().filter(|it| **it == Column::Omitted).count();
        self.0.len() - omitted
    }

    fn shortens(&self, natural: &[usize]) -> bool {
        let mut pairs = self.0.iter().zip(natural);
        pairs.any(|(column, &natural)| matches!(column, Column::Wide(wide) if *wide < natural))
    }

    fn rule(&self, text: &mut String) {
        for (_, wide) in self.visible() {
            let _ = write!(text, "+{}", "-".repeat(wide + 2));
        }
        text.push_str("+\n");
    }

    fn line(&self, text: &mut String, cells: &[String]) {
        for (index, wide) in self.visible() {
            let cell = match index {
                Some(index) => shortened(&cells[index], wide),
                None => ELLIPSIS.to_string(),
            };
            let pad = wide.saturating_sub(length(&cell));
            let _ = write!(text, "| {cell}{} ", " ".repeat(pad));
        }
        text.push_str("|\n");
    }
}

fn length(cell: &str) -> usize {
    cell.chars().count()
}

fn shortened(cell: &str, wide: usize) -> String {
    if length(cell) <= wide {
        return cell.to_owned();
    }
    let mut kept: String = cell.chars().take(wide.saturating_sub(1)).collect();
    kept.push(ELLIPSIS);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(columns: usize, rows: usize, cell: &str) -> Grid {
        Grid {
            header: (0..columns).map(|index| format!("c{index}")).collect(),
            rows: vec![vec![cell.to_owned(); columns]; rows],
        }
    }

    #[test]
    fn regression_lines_fit_the_terminal() {
        for columns in [1, 2, 3, 8, 40] {
            for cell in ["x", "a value of some length", &"long ".repeat(50)] {
                for width in [40, 80, 120] {
                    let grid = grid(columns, 2, cell);
                    let text = grid.text(Some(width));
                    let counts = text.lines().count() - 1;
                    let widest = text.lines().take(counts).map(length).max().unwrap();
                    assert!(widest <= width, "{columns} {width}\n{text}");
                    let full = grid.text(None);
                    assert!(full.contains(cell) && !full.contains(ELLIPSIS), "{full}");
                }
            }
        }
    }

    #[test]
    fn a_few_wide_rows_show_all_their_columns() {
        let text = grid(20, 2, "a value of some length").text(Some(80));
        assert!(
            text.starts_with("row 1\n  c0   a value of some length\n"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 2 * 21 + 1);
        assert!(text.ends_with("\n2 rows\n"), "{text}");
        let text = grid(20, 2, &"long ".repeat(50)).text(Some(80));
        assert!(
            text.ends_with("\n2 rows; a pipe shows everything\n"),
            "{text}"
        );
    }

    #[test]
    fn what_is_left_out_is_counted() {
        let text = grid(20, 1000, "a value of some length").text(Some(80));
        let last = text.lines().last().unwrap();
        assert!(
            last.starts_with("1,000 rows (40 shown), 20 columns ("),
            "{last}"
        );
        assert!(last.ends_with("; a pipe shows everything"), "{last}");
        assert_eq!(text.lines().count(), 3 + 41 + 1 + 1);
        assert!(grid(2, 1, "x").text(Some(80)).ends_with("\n1 row\n"));
    }
}
