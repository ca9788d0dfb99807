//! Questions of relays about OpenRouter, which ingresses answer. They are kept nowhere. See invariant 14.

use crate::{Error, Question, dispatch, embedded, nats};
use std::time::Duration;
use thiserror::Error as ThisError;

/// The timeout of a question. OpenRouter may need a minute to answer a submit.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

/// Why a question about OpenRouter has no answer.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum AskError {
    /// No ingress takes questions.
    #[error("no ingress takes questions for OpenRouter {detail}; see docs/errors/no-ingress.md")]
    NoIngress {
        /// Where none is, and what to do.
        detail: String,
    },
    /// The question is larger than the bus accepts.
    #[error(
        "a request of {size} bytes is larger than the bus takes, which is {limit}: give images by their URLs"
    )]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The most that it may have.
        limit: usize,
    },
    /// The question was not sent.
    #[error("the question for OpenRouter was not sent: {0}")]
    NotSent(String),
    /// The question was sent, and no answer came.
    #[error("no ingress answered the question for OpenRouter: {0}; see docs/errors/no-ingress.md")]
    NoAnswer(String),
}

impl AskError {
    /// Whether certainly no ingress carries the question out, now or later.
    pub fn was_not_asked(&self) -> bool {
        !matches!(self, Self::NoAnswer(_))
    }

    #[expect(clippy::needless_pass_by_value, reason = "so that it can be given to map_err")]
    pub(crate) fn no_answer(reason: impl ToString) -> Self {
        Self::NoAnswer(reason.to_string())
    }

    pub(crate) fn timed_out() -> Self {
        Self::NoAnswer(format!("none came within {} s", DEADLINE.as_secs()))
    }
}

/// The questions of relays to the ingresses.
pub enum OpenRouterQuestions {
    /// Those of the relay in this process.
    Embedded(embedded::OpenRouterQuestions),
    /// Those that the server gives to this ingress.
    Nats(nats::Questions),
}

impl OpenRouterQuestions {
    /// The next one. An error when they are closed and all were given, or when the subscription ended, and a new one is needed.
    pub async fn next(&mut self) -> Result<Question, Error> {
        dispatch!(self, questions => questions.next().await)
    }

    /// Takes no more questions. Those that came already are still given.
    pub async fn close(&mut self) {
        dispatch!(self, questions => questions.close().await);
    }
}
