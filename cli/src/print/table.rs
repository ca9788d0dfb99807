//! Rows in columns: a table whose rows are all there, and rows that come one after another.

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

/// How long a cell is at most where there is no terminal, and the last one of a row, in characters.
const LONGEST_CELL: usize = 60;
const LONGEST_LAST: usize = 400;

/// A cell of a table, and how it looks.
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

/// A table, as wide as the terminal; elsewhere as wide as what stands in it. Each cell is one line of no great length, also
/// where a stranger wrote it. Where columns are left out, a line below says so.
pub(crate) fn table(columns: &[Column], rows: Vec<Vec<Cell>>, screen: Screen) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(laid_out(columns, rows, screen).as_bytes())?;
    out.flush()
}

fn laid_out(columns: &[Column], mut rows: Vec<Vec<Cell>>, screen: Screen) -> String {
    for row in &mut rows {
        bound(row);
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

/// Makes each cell one line of bounded length.
fn bound(row: &mut [Cell]) {
    let last = row.len().saturating_sub(1);
    for (index, Cell(text, _)) in row.iter_mut().enumerate() {
        *text = keep_beginning(&one_line(text), if index == last { LONGEST_LAST } else { LONGEST_CELL });
    }
}

/// Adds a row, without spaces at its end.
fn line(text: &mut String, columns: &[Column], row: &[Cell], widths: &[Option<usize>]) {
    let mut padding = 0;
    for ((column, Cell(cell, style)), fitted) in columns.iter().zip(row).zip(widths) {
        let Some(fitted) = *fitted else { continue };
        let shown = column.cut(cell, fitted);
        let taken = width(&shown);
        if !shown.is_empty() {
            // Writing into a String cannot fail.
            let _ = write!(text, "{:padding$}{style}{shown}{style:#}", "");
            padding = 0;
        }
        padding += fitted.saturating_sub(taken) + GAP;
    }
    text.push('\n');
}

/// Rows that come one after another: a column becomes wider when a row needs it, and stays so.
pub(crate) struct Rows<const N: usize> {
    columns: [Column; N],
    widest: [usize; N],
    screen: Screen,
}

impl<const N: usize> Rows<N> {
    /// With columns as wide as these at first. The last one is as long as the line has room.
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

    /// The names of the columns.
    pub(crate) fn heads(&self) -> String {
        let heads: Vec<Cell> = self.columns.iter().map(|column| Cell::styled(column.head, DIM)).collect();
        self.laid_out(&heads)
    }

    /// A row.
    pub(crate) fn row(&mut self, cells: [Cell; N]) -> String {
        let mut cells = Vec::from(cells);
        bound(&mut cells);
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
    fn a_table_is_as_wide_as_what_stands_in_it_where_there_is_no_terminal() {
        assert_eq!(
            shown(None),
            "ID   TYPE             WHY\n\
             a1   video.completed  it was\\nforged \\u{1b}[2J by a stranger\n\
             b22  image.done\n"
        );
    }

    #[test]
    fn a_table_fits_the_terminal_and_says_what_it_leaves_out() {
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
    fn a_cell_of_no_end_is_cut_also_where_there_is_no_terminal() {
        let rows = vec![vec!["x".repeat(100).into(), "t".into(), "y".repeat(1_000).into()]];
        let text = plain(&laid_out(&COLUMNS, rows, Screen { width: None }));
        assert!(text.lines().all(|line| width(line) <= LONGEST_CELL + 4 + LONGEST_LAST + 2 * GAP), "{text}");
    }

    #[test]
    fn rows_that_come_later_stand_below_those_before() {
        let mut rows = Rows::new(COLUMNS, [2, 6, 0], Screen { width: None });
        assert_eq!(plain(&rows.heads()), "ID  TYPE    WHY");
        let row = |rows: &mut Rows<3>, id: &str| plain(&rows.row([id.into(), "t".into(), "why not".into()]));
        assert_eq!(row(&mut rows, "a"), "a   t       why not");
        assert_eq!(row(&mut rows, "longer"), "longer  t       why not");
        assert_eq!(row(&mut rows, "a"), "a       t       why not", "and it stays so");
        let mut rows = Rows::new(COLUMNS, [2, 6, 0], Screen { width: Some(14) });
        assert_eq!(row(&mut rows, "a"), "a   why not");
        assert!(width(&row(&mut rows, "longer")) <= 16);
    }
}
