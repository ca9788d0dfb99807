//! Answers that are larger than a message of the bus.
//!
//! The relay that is asked sends the first piece and keeps the rest for a while; the one that asks fetches piece by piece.
//! Lists give less than they are asked for instead of becoming very large (see `list`), so what goes in pieces is an answer
//! that cannot be divided otherwise: an event with many conflicts, the sums of thousands of routes.

use crate::services::error::Error;
use bytes::{Bytes, BytesMut};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use talaria_proto::v1::{AnswerPiece, RestOfAnswer};
use tokio::time::Instant;

/// A piece leaves room for a message's headers where the bus takes a mebibyte, as NATS does by default.
const LARGEST_PIECE: usize = 512 << 10;

/// An answer of more bytes is not given.
pub(super) const LARGEST_ANSWER: usize = 64 << 20;

/// All that is kept at once, in bytes; the oldest makes room.
const LARGEST_KEPT: usize = 2 * LARGEST_ANSWER;

/// How long the rest of an answer is kept.
const KEPT_FOR: Duration = Duration::from_secs(30);

/// Answers of which the rest was not fetched yet. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Pieces(Arc<Mutex<VecDeque<Kept>>>);

struct Kept {
    number: u64,
    since: Instant,
    answer: Bytes,
}

/// The most bytes of a piece, where the bus takes messages of so many bytes.
pub(super) fn largest_piece(largest_message: usize) -> usize {
    LARGEST_PIECE.min(largest_message / 2).max(1)
}

impl Pieces {
    /// The first piece of an answer; the rest is kept.
    pub(super) fn first(&self, answer: Bytes, largest: usize) -> AnswerPiece {
        let size = answer.len() as u64;
        if answer.len() <= largest {
            return AnswerPiece { piece: answer, size, answer: 0 };
        }
        let piece = answer.slice(..largest);
        let number = rand::random::<u64>().max(1);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back(Kept { number, since: Instant::now(), answer });
        let mut bytes: usize = kept.iter().map(|kept| kept.answer.len()).sum();
        while let Some(oldest) = kept.front()
            && (bytes > LARGEST_KEPT || oldest.since.elapsed() > KEPT_FOR)
        {
            bytes -= oldest.answer.len();
            kept.pop_front();
        }
        AnswerPiece { piece, size, answer: number }
    }

    /// A later piece; `None` when the answer is not kept any more.
    pub(super) fn rest(&self, asked: RestOfAnswer, largest: usize) -> Option<AnswerPiece> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = kept.iter().position(|kept| kept.number == asked.answer)?;
        let answer = kept.get(index).filter(|kept| kept.since.elapsed() <= KEPT_FOR)?.answer.clone();
        let from = usize::try_from(asked.offset).ok().filter(|from| *from < answer.len())?;
        let to = answer.len().min(from.saturating_add(largest));
        let is_last = to == answer.len();
        if is_last {
            kept.remove(index);
        }
        let number = if is_last { 0 } else { asked.answer };
        Some(AnswerPiece { piece: answer.slice(from..to), size: answer.len() as u64, answer: number })
    }
}

/// An answer, while it is put together.
#[derive(Default)]
pub(super) struct Assembly(BytesMut);

/// Whether an answer is whole.
#[derive(Debug, PartialEq)]
pub(super) enum Assembled {
    Whole(Bytes),
    /// This has to be asked for next.
    Needs(RestOfAnswer),
}

impl Assembly {
    pub(super) fn add(&mut self, piece: &AnswerPiece) -> Result<Assembled, Error> {
        let size = usize::try_from(piece.size).ok().filter(|size| *size <= LARGEST_ANSWER);
        self.0.extend_from_slice(&piece.piece);
        match size {
            Some(size) if size == self.0.len() => Ok(Assembled::Whole(self.0.split().freeze())),
            Some(size) if size > self.0.len() && !piece.piece.is_empty() && piece.answer != 0 => {
                Ok(Assembled::Needs(RestOfAnswer { answer: piece.answer, offset: self.0.len() as u64 }))
            }
            _ => Err(Error::NotUnderstood),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetch(pieces: &Pieces, answer: &Bytes, largest: usize) -> (Bytes, usize) {
        let mut assembly = Assembly::default();
        let (mut piece, mut count) = (pieces.first(answer.clone(), largest), 1);
        loop {
            match assembly.add(&piece).unwrap() {
                Assembled::Whole(whole) => return (whole, count),
                Assembled::Needs(rest) => piece = pieces.rest(rest, largest).unwrap(),
            }
            count += 1;
        }
    }

    #[test]
    fn what_is_too_large_for_a_message_goes_in_pieces() {
        let pieces = Pieces::default();
        let answer: Bytes = (0_u8..=250).collect();
        for (largest, count) in [(1_000, 1), (251, 1), (250, 2), (50, 6), (1, 251)] {
            assert_eq!(fetch(&pieces, &answer, largest), (answer.clone(), count));
        }
        assert_eq!(fetch(&pieces, &Bytes::new(), 10), (Bytes::new(), 1));
        assert!(pieces.0.lock().unwrap().is_empty(), "what was fetched is not kept");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_fetched_is_not_kept_for_ever() {
        let pieces = Pieces::default();
        let first = pieces.first(Bytes::from_static(b"abcdef"), 3);
        let rest = RestOfAnswer { answer: first.answer, offset: 3 };
        assert_eq!(pieces.rest(RestOfAnswer { offset: 6, ..rest }, 3), None, "behind its end");
        tokio::time::advance(KEPT_FOR + Duration::from_secs(1)).await;
        assert_eq!(pieces.rest(rest, 3), None);
        pieces.first(Bytes::from_static(b"abcdef"), 3);
        assert_eq!(pieces.0.lock().unwrap().len(), 1, "the old one made room");
    }

    #[test]
    fn what_makes_no_answer_is_refused() {
        let add = |piece: AnswerPiece| Assembly::default().add(&piece).is_err();
        let piece = Bytes::from_static(b"abc");
        assert!(add(AnswerPiece { piece: piece.clone(), size: 2, answer: 0 }), "longer than it says");
        assert!(
            add(AnswerPiece { piece: piece.clone(), size: 9, answer: 0 }),
            "a rest that cannot be asked for"
        );
        assert!(add(AnswerPiece { piece: Bytes::new(), size: 9, answer: 1 }), "no progress");
        assert!(add(AnswerPiece { piece, size: u64::MAX, answer: 1 }), "too large");
    }
}
