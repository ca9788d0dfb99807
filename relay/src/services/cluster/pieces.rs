//! Answers that are larger than a message of the bus, in pieces.
//!
//! The relay that is asked sends the first piece and keeps the rest for a while; the other one fetches piece by piece. A long
//! list is shortened instead, so only other large answers go in pieces: an event with many conflicts, the sums of thousands of
//! routes.

use crate::services::error::Error;
use bytes::{Bytes, BytesMut};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use talaria_proto::v1::{AnswerPiece, RestOfAnswer};
use tokio::time::Instant;

/// In bytes. With NATS' default limit of a mebibyte, there is room for the message's headers.
const LARGEST_PIECE: usize = 512 << 10;

/// In bytes.
pub(super) const LARGEST_ANSWER: usize = 64 << 20;

/// Of all kept answers, in bytes; the oldest is evicted.
const LARGEST_KEPT: usize = 2 * LARGEST_ANSWER;

const KEPT_FOR: Duration = Duration::from_secs(30);

/// Answers that are not fetched completely. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Pieces(Arc<Mutex<VecDeque<KeptAnswer>>>);

struct KeptAnswer {
    number: u64,
    since: Instant,
    answer: Bytes,
}

/// The most bytes of a piece, by the limit of the bus.
pub(super) fn largest_piece(largest_message: usize) -> usize {
    LARGEST_PIECE.min(largest_message / 2).max(1)
}

impl Pieces {
    /// The first piece of an answer. Keeps the rest.
    pub(super) fn first(&self, answer: Bytes, largest: usize) -> AnswerPiece {
        let size = answer.len() as u64;
        if answer.len() <= largest {
            return AnswerPiece { piece: answer, size, answer: 0 };
        }
        let piece = answer.slice(..largest);
        let number = rand::random::<u64>().max(1);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back(KeptAnswer { number, since: Instant::now(), answer });
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

/// An answer that is assembled from pieces.
#[derive(Default)]
pub(super) struct Assembly(BytesMut);

#[derive(Debug, PartialEq)]
pub(super) enum Assembled {
    Whole(Bytes),
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
    fn an_answer_that_is_too_large_for_a_message_goes_in_pieces() {
        let pieces = Pieces::default();
        let answer: Bytes = (0_u8..=250).collect();
        for (largest, count) in [(1_000, 1), (251, 1), (250, 2), (50, 6), (1, 251)] {
            assert_eq!(fetch(&pieces, &answer, largest), (answer.clone(), count));
        }
        assert_eq!(fetch(&pieces, &Bytes::new(), 10), (Bytes::new(), 1));
        assert!(pieces.0.lock().unwrap().is_empty(), "fetched answers are not kept");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_not_fetched_is_not_kept_for_ever() {
        let pieces = Pieces::default();
        let first = pieces.first(Bytes::from_static(b"abcdef"), 3);
        let rest = RestOfAnswer { answer: first.answer, offset: 3 };
        assert_eq!(pieces.rest(RestOfAnswer { offset: 6, ..rest }, 3), None, "behind its end");
        tokio::time::advance(KEPT_FOR + Duration::from_secs(1)).await;
        assert_eq!(pieces.rest(rest, 3), None);
        pieces.first(Bytes::from_static(b"abcdef"), 3);
        assert_eq!(pieces.0.lock().unwrap().len(), 1, "the old one was evicted");
    }

    #[test]
    fn invalid_pieces_are_refused() {
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
