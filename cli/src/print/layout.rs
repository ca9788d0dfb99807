//! The width of columns.

use std::{io::IsTerminal, os::fd::AsFd};
use terminal_size::{Width, terminal_size_of};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Between two columns.
pub(super) const GAP: usize = 2;

/// The width of a terminal that does not report it.
const DEFAULT_WIDTH: usize = 80;

/// Where no more columns can be left out, those that may be cut are cut to this width at most.
const NARROWEST: usize = 8;

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub head: &'static str,
    /// If the columns do not fit, those of the highest rank are left out first, and those of rank 0 never. Free space goes to the
    /// lowest rank first.
    rank: u8,
    /// The width to which cells may be cut, if they may.
    least: Option<usize>,
    /// Whether a cut cell keeps its end instead of its beginning.
    keeps_end: bool,
    /// Whether it gets free space last.
    grows_last: bool,
    /// Whether cells are never cut, without a terminal either.
    pub(super) is_whole: bool,
}

impl Column {
    /// A column that is never left out, and never cut to fit a terminal.
    pub(crate) const fn new(head: &'static str) -> Self {
        Self { head, rank: 0, least: None, keeps_end: false, grows_last: false, is_whole: false }
    }

    /// May be left out, before columns of lower rank.
    pub(crate) const fn rank(self, rank: u8) -> Self {
        Self { rank, ..self }
    }

    /// May be cut to this width.
    pub(crate) const fn at_least(self, least: usize) -> Self {
        Self { least: Some(least), ..self }
    }

    /// A cut cell keeps its end.
    pub(crate) const fn keeps_end(self) -> Self {
        Self { keeps_end: true, ..self }
    }

    /// Gets free space last.
    pub(crate) const fn grows_last(self) -> Self {
        Self { grows_last: true, ..self }
    }

    /// Holds ids, which people copy: no cell is ever cut.
    pub(crate) const fn whole(self) -> Self {
        Self { is_whole: true, ..self }
    }

    /// A text, cut to this width.
    pub(super) fn cut(&self, text: &str, width: usize) -> String {
        if self.keeps_end { keep_end(text, width) } else { keep_beginning(text, width) }
    }
}

/// The output of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Screen {
    /// The width of the terminal; `None` for complete output, for programs or with `--wide`.
    pub width: Option<usize>,
}

impl Screen {
    pub(crate) fn stdout(wide: bool) -> Self {
        if wide { Self { width: None } } else { Self::of(std::io::stdout()) }
    }

    pub(crate) fn stderr() -> Self {
        Self::of(std::io::stderr())
    }

    fn of(out: impl IsTerminal + AsFd) -> Self {
        if !out.is_terminal() {
            return Self { width: None };
        }
        let width = terminal_size_of(out).map_or(DEFAULT_WIDTH, |(Width(width), _)| width.into());
        Self { width: Some(width) }
    }

    /// An id, in its short form on a terminal.
    pub(crate) fn id(self, id: &str) -> String {
        match self.width {
            Some(_) => talaria_core::short_id::short(id),
            None => id.to_owned(),
        }
    }
}

/// The width of a text on a terminal.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// The widths of columns, from those of their widest cells; `None` for columns that are left out.
pub(super) fn fit(columns: &[Column], widest: &[usize], screen: Screen) -> Vec<Option<usize>> {
    let Some(room) = screen.width else { return widest.iter().copied().map(Some).collect() };
    let least =
        |(column, widest): (&Column, &usize)| column.least.map_or(*widest, |least| least.min(*widest));
    let mut widths: Vec<Option<usize>> = columns.iter().zip(widest).map(least).map(Some).collect();
    while total(&widths) > room {
        let droppable =
            columns.iter().zip(&mut widths).filter(|(column, width)| column.rank > 0 && width.is_some());
        match droppable.max_by_key(|(column, _)| column.rank) {
            Some((_, width)) => *width = None,
            None => break,
        }
    }
    let mut excess = total(&widths).saturating_sub(room);
    for (column, width) in columns.iter().zip(&mut widths).rev() {
        if let (Some(_), Some(width)) = (column.least, width) {
            let cut = width.saturating_sub(NARROWEST).min(excess);
            *width -= cut;
            excess -= cut;
        }
    }
    let mut left = room.saturating_sub(total(&widths));
    let mut by_rank: Vec<_> = columns.iter().zip(&mut widths).zip(widest).collect();
    by_rank.sort_by_key(|((column, _), _)| (column.grows_last, column.rank));
    for ((_, width), widest) in by_rank {
        if let Some(width) = width {
            let more = widest.saturating_sub(*width).min(left);
            *width += more;
            left -= more;
        }
    }
    widths
}

/// The width of a line.
fn total(widths: &[Option<usize>]) -> usize {
    let shown = || widths.iter().flatten();
    shown().sum::<usize>() + GAP * shown().count().saturating_sub(1)
}

/// The beginning of a text, with … if it is cut.
pub(super) fn keep_beginning(text: &str, longest: usize) -> String {
    if width(text) <= longest {
        return text.to_owned();
    }
    let mut kept = fitting(text.chars(), longest);
    kept.push('…');
    kept
}

/// The end of a text, with … if it is cut.
fn keep_end(text: &str, longest: usize) -> String {
    if width(text) <= longest {
        return text.to_owned();
    }
    let end = fitting(text.chars().rev(), longest);
    ['…'].into_iter().chain(end.chars().rev()).collect()
}

/// The characters that fit into one cell less than this.
fn fitting(text: impl Iterator<Item = char>, cells: usize) -> String {
    let mut left = cells.saturating_sub(1);
    text.take_while(|c| {
        let fits = c.width().unwrap_or(0) <= left;
        left = left.saturating_sub(c.width().unwrap_or(0));
        fits
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const COLUMNS: [Column; 4] = [
        Column::new("ID"),
        Column::new("NAME").at_least(5),
        Column::new("TYPE").rank(2).at_least(4).keeps_end(),
        Column::new("WHY").rank(1).at_least(6),
    ];

    fn at(width: usize) -> Vec<Option<usize>> {
        fit(&COLUMNS, &[10, 12, 8, 40], Screen { width: Some(width) })
    }

    #[test]
    fn columns_are_cut_and_then_left_out_by_rank() {
        let all = vec![Some(10), Some(12), Some(8), Some(40)];
        assert_eq!(fit(&COLUMNS, &[10, 12, 8, 40], Screen { width: None }), all, "off a terminal");
        assert_eq!(at(200), all);
        assert_eq!(at(76), all, "exactly");
        assert_eq!(at(75), [Some(10), Some(12), Some(7), Some(40)], "the type gives way first");
        assert_eq!(at(40), [Some(10), Some(12), Some(4), Some(8)]);
        assert_eq!(at(31), [Some(10), Some(5), Some(4), Some(6)], "as narrow as all of them can be");
        assert_eq!(at(30), [Some(10), Some(10), None, Some(6)]);
        assert_eq!(at(24), [Some(10), Some(12), None, None]);
        assert_eq!(at(3), [Some(10), Some(5), None, None], "columns of rank 0 wrap");
    }

    #[test]
    fn a_text_is_cut_at_its_end_or_beginning() {
        let (begins, ends) = (COLUMNS[3], COLUMNS[2]);
        assert_eq!((begins.cut("äbc", 3), begins.cut("äbcd", 3)), ("äbc".into(), "äb…".into()));
        assert_eq!(ends.cut("video.generation.completed", 10), "…completed");
        assert_eq!((ends.cut("image.done", 10), ends.cut("x", 0)), ("image.done".into(), "…".into()));
        // A character may take two cells, or none.
        assert_eq!((begins.cut("日本語", 4), width("日本語")), ("日…".into(), 6));
    }

    #[test]
    fn ids_are_short_on_a_terminal() {
        let id = "evt_25m74olgq62heqt2gyhnio2unzditsxs";
        assert_eq!(Screen { width: Some(80) }.id(id), "evt_25m74olgq62h");
        assert_eq!(Screen { width: None }.id(id), id);
    }

    proptest! {
        #[test]
        fn a_line_never_grows_beyond_the_terminal_while_anything_can_give_way(
            widest in prop::collection::vec(0_usize..60, 4),
            room in 0_usize..200,
        ) {
            let widths = fit(&COLUMNS, &widest, Screen { width: Some(room) });
            let nothing_gives_way = widths[2..].iter().all(Option::is_none) && widths[1] <= Some(5);
            prop_assert!(total(&widths) <= room || nothing_gives_way, "{widths:?}");
            for (width, widest) in widths.iter().zip(&widest) {
                prop_assert!(width.is_none_or(|width| width <= *widest));
            }
        }

        #[test]
        fn a_cut_text_fits(text in "\\PC{0,20}", longest in 1_usize..20) {
            prop_assert!(width(&COLUMNS[3].cut(&text, longest)) <= longest);
            prop_assert!(width(&COLUMNS[2].cut(&text, longest)) <= longest);
        }
    }
}
