//! Decisions about an append, from the server's answer and the partition's last commit. Pure; [`super::append`] does the I/O.
//!
//! A commit that is not acknowledged may be in the journal, may still arrive there, or never. It is sent again with the same
//! bytes, the same number ([`COMMIT`](super::names::COMMIT)) and the same expectation, so the server stores at most one copy:
//! the first one moves the subject's end, which the others do not expect.

use super::store::NotStored;
use async_nats::jetstream::ErrorCode;

/// The meaning of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The commit is durable.
    Stored(u64),
    /// The partition's last commit is not the expected one, or another copy of this commit is in flight.
    Unexpected,
    /// It can never be stored.
    TooLarge,
    /// The commit may be stored or not.
    Unknown,
}

/// Reads an answer.
pub(super) fn answer(sent: &Result<u64, NotStored>) -> Answer {
    match sent {
        Ok(seq) => Answer::Stored(*seq),
        Err(NotStored::Refused(code, _)) => match *code {
            ErrorCode::STREAM_WRONG_LAST_SEQUENCE | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT => {
                Answer::Unexpected
            }
            ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM => Answer::TooLarge,
            // This copy was not stored; an earlier one may be.
            _ => Answer::Unknown,
        },
        Err(NotStored::Unknown(_)) => Answer::Unknown,
    }
}

/// The end of a partition's journal, as the stream's leader knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The commit in flight.
    Ours(u64),
    /// Another commit.
    Other(u64),
    /// There is no commit of the partition, and the stream begins here: 0 if it never had a message.
    None { first_of_stream: u64 },
}

/// The outcome of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The commit is durable.
    Stored(u64),
    /// The commit is not in the journal; it has to expect this end.
    SendAgain { expected: u64 },
    /// Another relay appended.
    Overtaken,
    /// The stream lost commits that were acknowledged.
    LostEnd { last: u64 },
}

/// Decides the outcome for a commit after the one at `acknowledged` (0 for none).
pub(super) fn resolve(end: End, acknowledged: u64) -> Verdict {
    match end {
        End::Ours(seq) => Verdict::Stored(seq),
        End::Other(seq) if seq > acknowledged => Verdict::Overtaken,
        End::Other(seq) if seq == acknowledged => Verdict::SendAgain { expected: seq },
        End::Other(last) => Verdict::LostEnd { last },
        // The partition never had a commit, or all were trimmed: then the server accepts an expectation of 0 alone.
        End::None { first_of_stream } if acknowledged == 0 || first_of_stream > acknowledged => {
            Verdict::SendAgain { expected: 0 }
        }
        End::None { .. } => Verdict::LostEnd { last: 0 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    fn refused(code: ErrorCode) -> Result<u64, NotStored> {
        Err(NotStored::Refused(code, Error::new("x")))
    }

    #[test]
    fn only_an_acknowledgement_means_stored_and_only_a_size_means_never() {
        let cases = [
            (Ok(7), Answer::Stored(7)),
            (refused(ErrorCode::STREAM_WRONG_LAST_SEQUENCE), Answer::Unexpected),
            (refused(ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT), Answer::Unexpected),
            (refused(ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM), Answer::TooLarge),
            (refused(ErrorCode::STREAM_STORE_FAILED), Answer::Unknown),
            (refused(ErrorCode::INSUFFICIENT_RESOURCES), Answer::Unknown),
            (refused(ErrorCode::CLUSTER_NOT_AVAILABLE), Answer::Unknown),
            (Err(NotStored::Unknown(Error::new("timed out"))), Answer::Unknown),
        ];
        for (sent, expected) in cases {
            assert_eq!(answer(&sent), expected, "{sent:?}");
        }
    }

    #[test]
    fn a_commit_of_ours_is_stored_wherever_it_is() {
        for acknowledged in [0, 5, 9] {
            assert_eq!(resolve(End::Ours(10), acknowledged), Verdict::Stored(10));
        }
    }

    #[test]
    fn a_commit_that_is_not_there_is_sent_again() {
        assert_eq!(resolve(End::Other(5), 5), Verdict::SendAgain { expected: 5 });
        for first_of_stream in [0, 1, 100] {
            let end = End::None { first_of_stream };
            assert_eq!(resolve(end, 0), Verdict::SendAgain { expected: 0 }, "the partition's first");
        }
    }

    #[test]
    fn after_all_of_a_partition_was_trimmed_nothing_is_expected() {
        assert_eq!(resolve(End::None { first_of_stream: 6 }, 5), Verdict::SendAgain { expected: 0 });
    }

    #[test]
    fn a_later_commit_of_another_relay_overtakes() {
        assert_eq!(resolve(End::Other(6), 5), Verdict::Overtaken);
        assert_eq!(resolve(End::Other(1), 0), Verdict::Overtaken);
    }

    #[test]
    fn an_acknowledged_commit_that_is_gone_without_trimming_was_lost() {
        assert_eq!(resolve(End::Other(4), 5), Verdict::LostEnd { last: 4 });
        for first_of_stream in [0, 1, 5] {
            assert_eq!(resolve(End::None { first_of_stream }, 5), Verdict::LostEnd { last: 0 });
        }
    }
}
