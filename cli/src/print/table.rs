//! Rows in columns: complete tables, and rows that are printed one after another.

use super::{
    Column, DIM, Screen,
    layout::{GAP, fit, keep_beginning, width},
    one_line, state_name, state_style,
};
use anstyle::Style;
use std::{
    fmt::{self, Write as _},
    io::{self, Write as _},
};
use talaria_proto::v1::DeliveryState;

/// Maximum width of a cell without a terminal.
const MAX_CELL: usize = 60;

/// Maximum width of the last cell in a row.
const MAX_LAST_CELL: usize = 400;

/// A cell with its style.
#[derive(Clone)]
pub(crate) struct Cell(String, Style);

impl<T: fmt::Display> From<T> for Cell {
    fn from(text: T) -> Self {
        Self(text.to_string(), Style::new())
    }
}

impl Cell {
    pub(crate) fn styled(text: impl fmt::Display, style: Style) -> Self {
        Self(text.to_string(), style)
    }

    pub(crate) fn state(state: DeliveryState) -> Self {
        Self::styled(state_name(state), state_style(state))
    }
}

/// Prints a table that fits the terminal. Cells are single lines of limited width. A line below names the columns that are left out.
pub(crate) fn table(columns: &[Column], rows: Vec<Vec<Cell>>, screen: Screen) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(laid_out(columns, rows, screen).as_bytes())?;
    out.flush()
}

fn laid_out(columns: &[Column], mut rows: Vec<Vec<Cell>>, screen: Screen) -> String {
    for row in &mut rows {
        bound(columns, row);
    }
    let heads: Vec<Cell> = columns.iter().map(|column| Cell::styled(column.head, DIM)).collect();
    let widest: Vec<usize> = (0..columns.len())
        .map(|column| {
            let cells = std::iter::once(&heads).chain(&rows).filter_map(|row| row.get(column));
            cells.map(|Cell(text, _)| width(text)).max().unwrap_or(0)
        })
        .collect();
    let widths = fit(columns, &widest, screen);
    let mut text = String::new();
    for row in std::iter::once(&heads).chain(&rows) {
        line(&mut text, columns, row, &widths);
    }
    let left_out: Vec<&str> = columns
        .iter()
        .zip(&widths)
        .filter(|(column, width)| width.is_none() && !column.head.is_empty())
        .map(|(column, _)| column.head)
        .collect();
    if !left_out.is_empty() {
        let _ = writeln!(text, "{DIM}Left out: {}; --wide shows all.{DIM:#}", left_out.join(", "));
    }
    text
}

/// Makes each cell a single line of limited width, unless its column is whole.
fn bound(columns: &[Column], row: &mut [Cell]) {
    let last = row.len().saturating_sub(1);
    for (index, (column, Cell(text, _))) in columns.iter().zip(row).enumerate() {
        *text = one_line(text);
        if !column.is_whole {
            *text = keep_beginning(text, if index == last { MAX_LAST_CELL } else { MAX_CELL });
        }
    }
}

/// Adds a row, without trailing spaces.
fn line(text: &mut String, columns: &[Column], row: &[Cell], widths: &[Option<usize>]) {
    let mut padding = 0;
    for ((column, Cell(cell, style)), fitted) in columns.iter().zip(row).zip(widths) {
        let Some(fitted) = *fitted else { continue };
        let shown = column.cut(cell, fitted);
        let used = width(&shown);
        if !shown.is_empty() {
            // Writing into a String cannot fail.
            let _ = write!(text, "{:padding$}{style}{shown}{style:#}", "");
            padding = 0;
        }
        padding += fitted.saturating_sub(used) + GAP;
    }
    text.push('\n');
}

/// Rows that are printed one after another. A column grows with its widest cell so far.
pub(crate) struct Rows<const N: usize> {
    columns: [Column; N],
    widest: [usize; N],
    screen: Screen,
}

impl<const N: usize> Rows<N> {
    /// Begins with these widths. The last column gets the rest of the line.
    pub(crate) fn new(columns: [Column; N], least: [usize; N], screen: Screen) -> Self {
        let mut widest = least;
        for (widest, column) in widest.iter_mut().zip(&columns) {
            *widest = (*widest).max(width(column.head));
        }
        if let Some(last) = widest.last_mut() {
            *last = screen.width.unwrap_or(*last).max(*last);
        }
        Self { columns, widest, screen }
    }

    pub(crate) fn heads(&self) -> String {
        let heads: Vec<Cell> = self.columns.iter().map(|column| Cell::styled(column.head, DIM)).collect();
        self.laid_out(&heads)
    }

    pub(crate) fn row(&mut self, cells: [Cell; N]) -> String {
        let mut cells = Vec::from(cells);
        bound(&self.columns, &mut cells);
        let growing = self.widest.iter_mut().zip(&cells).take(N.saturating_sub(1));
        growing.for_each(|(widest, Cell(text, _))| *widest = (*widest).max(width(text)));
        self.laid_out(&cells)
    }

    fn laid_out(&self, cells: &[Cell]) -> String {
        let mut widths = fit(&self.columns, &self.widest, self.screen);
        if self.screen.width.is_none()
            && let Some(last) = widths.last_mut()
        {
            *last = Some(usize::MAX);
        }
        let mut text = String::new();
        line(&mut text, &self.columns, cells, &widths);
        text.pop();
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [
        Column::new("ID"),
        Column::new("TYPE").rank(1).at_least(6).keeps_end(),
        Column::new("WHY").at_least(8),
    ];

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    fn shown(width: Option<usize>) -> String {
        let rows = vec![
            vec!["a1".into(), "video.completed".into(), "it was\nforged \u{1b}[2J by a stranger".into()],
            vec![Cell::from("b22"), "image.done".into(), "".into()],
        ];
        plain(&laid_out(&COLUMNS, rows, Screen { width }))
    }

    #[test]
    fn without_a_terminal_a_table_is_as_wide_as_its_cells() {
        assert_eq!(
            shown(None),
            "ID   TYPE             WHY\n\
             a1   video.completed  it was\\nforged \\u{1b}[2J by a stranger\n\
             b22  image.done\n"
        );
    }

    #[test]
    fn a_table_fits_the_terminal_and_names_missing_columns() {
        let narrow = shown(Some(32));
        assert_eq!(
            narrow,
            "ID   TYPE    WHY\n\
             a1   …leted  it was\\nforged \\u{…\n\
             b22  …\u{2e}done\n"
        );
        assert!(narrow.lines().all(|line| width(line) <= 32));
        assert_eq!(
            shown(Some(16)),
            "ID   WHY\n\
             a1   it was\\nfo…\n\
             b22\n\
             Left out: TYPE; --wide shows all.\n"
        );
    }

    #[test]
    fn long_cells_are_cut_without_a_terminal_too() {
        let rows = vec![vec!["x".repeat(100).into(), "t".into(), "y".repeat(1_000).into()]];
        let text = plain(&laid_out(&COLUMNS, rows, Screen { width: None }));
        assert!(text.lines().all(|line| width(line) <= MAX_CELL + 4 + MAX_LAST_CELL + 2 * GAP), "{text}");
    }

    #[test]
    fn ids_are_whole_everywhere() {
        let columns = [Column::new("MODEL").whole(), Column::new("WHY").rank(1)];
        let id = "x".repeat(70);
        for width in [None, Some(80), Some(20)] {
            let text =
                plain(&laid_out(&columns, vec![vec![Cell::from(&id), "why".into()]], Screen { width }));
            assert!(text.contains(&id), "{text}");
        }
    }

    #[test]
    fn later_rows_keep_the_columns() {
        let mut rows = Rows::new(COLUMNS, [2, 6, 0], Screen { width: None });
        assert_eq!(plain(&rows.heads()), "ID  TYPE    WHY");
        let row = |rows: &mut Rows<3>, id: &str| plain(&rows.row([id.into(), "t".into(), "why not".into()]));
        assert_eq!(row(&mut rows, "a"), "a   t       why not");
        assert_eq!(row(&mut rows, "longer"), "longer  t       why not");
        assert_eq!(row(&mut rows, "a"), "a       t       why not", "columns never shrink");
        let mut rows = Rows::new(COLUMNS, [2, 6, 0], Screen { width: Some(14) });
        assert_eq!(row(&mut rows, "a"), "a   why not");
        assert!(width(&row(&mut rows, "longer")) <= 16);
    }
}
