//! The merge of several relays' pages into one list. Pure.
//!
//! Each source gives its entries from the highest position down to some end. At or above the highest of these ends, the list is
//! complete and in order; below it entries may be missing. So a page is complete when it has enough entries above that line, and
//! until then the sources whose end is the line are asked for more.

use std::collections::BTreeMap;

/// A part of a list, from one source.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::services) struct Page<P, T> {
    /// From the highest position down.
    pub items: Vec<(P, T)>,
    /// The position up to which the source has read, if it has more entries below.
    pub end: Option<P>,
    /// The number of all entries, if the list has it.
    pub total: u64,
}

impl<P: Clone, T> Page<P, T> {
    /// From the entries of a query, and whether there are more.
    pub(in crate::services) fn new((items, more): (Vec<(P, T)>, bool)) -> Self {
        let end = items.last().filter(|_| more).map(|(position, _)| position.clone());
        Self { items, end, total: 0 }
    }

    /// From the entries of a query, and the position up to which it has read if there are more.
    pub(in crate::services) fn up_to((items, end): (Vec<(P, T)>, Option<P>)) -> Self {
        Self { items, end, total: 0 }
    }

    /// Removes entries, and keeps the end.
    pub(in crate::services) fn retain(mut self, keep: impl Fn(&T) -> bool) -> Self {
        self.items.retain(|(_, item)| keep(item));
        self
    }
}

pub(super) struct Merge<P, T> {
    size: usize,
    join: fn(&mut T, T),
    known: BTreeMap<P, T>,
    /// The end of each source; `None` when it has no more.
    ends: Vec<Option<P>>,
    total: u64,
}

impl<P: Ord + Clone, T> Merge<P, T> {
    /// For a page of `size` entries. Entries of two sources at the same position are joined.
    pub(super) fn new(size: usize, join: fn(&mut T, T)) -> Self {
        Self { size, join, known: BTreeMap::new(), ends: Vec::new(), total: 0 }
    }

    /// Adds a source with its first page. Gives the source's number.
    pub(super) fn add(&mut self, page: Page<P, T>) -> usize {
        self.ends.push(page.end);
        self.total += page.total;
        self.insert(page.items);
        self.ends.len() - 1
    }

    /// Adds a source's next page. A source that makes no progress is not asked again.
    pub(super) fn go_on(&mut self, source: usize, page: Page<P, T>) {
        if let Some(end) = self.ends.get_mut(source) {
            *end = page.end.filter(|new| end.as_ref().is_some_and(|old| new < old));
        }
        self.insert(page.items);
    }

    /// The source cannot be asked any more.
    pub(super) fn give_up(&mut self, source: usize) {
        if let Some(end) = self.ends.get_mut(source) {
            *end = None;
        }
    }

    fn insert(&mut self, items: Vec<(P, T)>) {
        for (position, item) in items {
            match self.known.get_mut(&position) {
                Some(known) => (self.join)(known, item),
                None => drop(self.known.insert(position, item)),
            }
        }
    }

    /// The sources to ask before the page is complete, each for the entries below the position.
    pub(super) fn to_ask(&self) -> Vec<(usize, P)> {
        let Some(line) = self.ends.iter().flatten().max() else { return Vec::new() };
        if self.known.range(line..).take(self.size).count() >= self.size {
            return Vec::new();
        }
        let at_the_line = self.ends.iter().enumerate().filter(|(_, end)| end.as_ref() == Some(line));
        at_the_line.map(|(source, _)| (source, line.clone())).collect()
    }

    /// The page, as far as it is complete.
    pub(super) fn finish(self) -> Page<P, T> {
        let line = self.ends.iter().flatten().max().cloned();
        let mut items: Vec<(P, T)> = self.known.into_iter().rev().collect();
        if let Some(line) = &line {
            items.retain(|(position, _)| position >= line);
        }
        let is_cut = items.len() > self.size;
        items.truncate(self.size);
        let end = if is_cut { items.last().map(|(position, _)| position.clone()) } else { line };
        Page { items, end, total: self.total }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The answer of a relay with these positions that gives at most `cut` entries.
    fn ask(relay: &[u32], below: u32, size: usize, cut: usize) -> Page<u32, u32> {
        let mut found: Vec<_> = relay.iter().filter(|it| **it < below).map(|it| (*it, 1)).collect();
        found.sort_by(|a, b| b.cmp(a));
        let max = size.min(cut);
        let more = found.len() > max;
        found.truncate(max);
        Page { total: relay.len() as u64, ..Page::new((found, more)) }
    }

    fn merged(relays: &[Vec<u32>], below: u32, size: usize, cut: usize) -> Page<u32, u32> {
        let mut merge = Merge::new(size, |known, other| *known += other);
        for relay in relays {
            merge.add(ask(relay, below, size, cut));
        }
        loop {
            let to_ask = merge.to_ask();
            if to_ask.is_empty() {
                return merge.finish();
            }
            for (source, below) in to_ask {
                merge.go_on(source, ask(&relays[source], below, size, cut));
            }
        }
    }

    fn positions(page: &Page<u32, u32>) -> Vec<u32> {
        page.items.iter().map(|(position, _)| *position).collect()
    }

    #[test]
    fn two_relays_make_one_list() {
        let relays = [vec![9, 7, 1], vec![8, 2]];
        let first = merged(&relays, u32::MAX, 2, usize::MAX);
        assert_eq!((positions(&first), first.end, first.total), (vec![9, 8], Some(8), 5));
        let second = merged(&relays, 8, 2, usize::MAX);
        assert_eq!((positions(&second), second.end), (vec![7, 2], Some(2)));
        let third = merged(&relays, 2, 2, usize::MAX);
        assert_eq!((positions(&third), third.end), (vec![1], None), "the last page has no token");
        assert_eq!(merged(&[vec![], vec![]], 9, 2, 1).items, []);
    }

    #[test]
    fn a_page_that_is_not_full_says_where_to_go_on() {
        let mut merge = Merge::new(3, |_, _| ());
        merge.add(Page { items: vec![(9, 1), (4, 1)], end: None, total: 0 });
        merge.add(Page { items: vec![], end: Some(6), total: 0 });
        assert_eq!(merge.to_ask(), [(1, 6)]);
        let page = merge.finish();
        assert_eq!((positions(&page), page.end), (vec![9], Some(6)), "the other one may have more above 4");
        let mut nothing = Merge::new(3, |_: &mut u32, _| ());
        nothing.add(Page { items: vec![], end: Some(6), total: 0 });
        assert_eq!(nothing.finish().end, Some(6));
    }

    #[test]
    fn an_entry_of_two_relays_is_there_once() {
        let page = merged(&[vec![3, 2], vec![3]], 9, 5, 9);
        assert_eq!(page.items, [(3, 2), (2, 1)], "joined");
    }

    #[test]
    fn a_relay_that_gives_less_than_it_is_asked_for_is_asked_again() {
        let relays = [vec![9, 8, 7, 6], vec![5]];
        let page = merged(&relays, u32::MAX, 3, 1);
        assert_eq!((positions(&page), page.end), (vec![9, 8, 7], Some(7)));
    }

    #[test]
    fn a_relay_that_fails_or_gets_no_further_is_left_out() {
        let mut merge = Merge::new(3, |_, _| ());
        merge.add(Page { items: vec![(9, 1)], end: Some(9), total: 0 });
        merge.add(Page { items: vec![(5, 1)], end: None, total: 0 });
        assert_eq!(merge.to_ask(), [(0, 9)]);
        merge.go_on(0, Page { items: vec![], end: Some(9), total: 0 });
        assert_eq!(merge.to_ask(), []);
        let mut again = Merge::new(3, |_, _| ());
        again.add(Page { items: vec![(9, 1)], end: Some(9), total: 0 });
        again.give_up(0);
        assert_eq!(again.finish().items, [(9, 1)], "its entries stay");
        assert_eq!(positions(&merge.finish()), [9, 5]);
    }

    proptest! {
        /// Page by page, the list has all entries, whatever the relays have and however little each gives.
        #[test]
        fn pages_give_everything_once_and_in_order(
            relays in prop::collection::vec(prop::collection::vec(0_u32..40, 0..20), 1..4),
            size in 1_usize..9,
            cut in 1_usize..9,
        ) {
            let relays: Vec<Vec<u32>> = relays.into_iter().map(|mut relay| {
                relay.sort_unstable();
                relay.dedup();
                relay
            }).collect();
            let mut all: Vec<u32> = relays.iter().flatten().copied().collect();
            all.sort_unstable();
            all.dedup();
            all.reverse();
            let (mut read, mut below) = (Vec::new(), u32::MAX);
            loop {
                let page = merged(&relays, below, size, cut);
                read.extend(positions(&page));
                let Some(end) = page.end else { break };
                prop_assert_eq!(page.items.len(), size, "only the last page is not full");
                below = end;
            }
            prop_assert_eq!(read, all);
        }
    }
}
