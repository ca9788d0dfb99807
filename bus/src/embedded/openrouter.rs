//! Questions about OpenRouter from the relay to the ingress of this process, in a channel.

use crate::{AskError, Error, Question, openrouter::DEADLINE, relays::Reply};
use bytes::Bytes;
use std::sync::{Mutex, PoisonError};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};

/// The most questions that wait for the ingress.
const MOST_WAITING: usize = 64;

type Asked = (Bytes, oneshot::Sender<Option<Bytes>>);

/// The way to the ingress, if it takes questions.
#[derive(Default)]
pub(super) struct ToIngress(Mutex<Option<mpsc::Sender<Asked>>>);

impl ToIngress {
    /// Leads the questions here from now on.
    pub(super) fn questions(&self) -> OpenRouterQuestions {
        let (sender, receiver) = mpsc::channel(MOST_WAITING);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        OpenRouterQuestions(receiver)
    }

    pub(super) async fn ask(&self, question: Bytes) -> Result<Bytes, AskError> {
        let deadline = Instant::now() + DEADLINE;
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (reply, answer) = oneshot::channel();
        let sent = match sender {
            Some(sender) => timeout_at(deadline, sender.send((question, reply))).await,
            None => return Err(no_ingress()),
        };
        match sent {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(no_ingress()),
            Err(_) => return Err(AskError::NotSent("too many questions wait for the ingress".into())),
        }
        match timeout_at(deadline, answer).await {
            Ok(Ok(Some(answer))) => Ok(answer),
            Ok(Ok(None)) => Err(no_ingress()),
            Ok(Err(_)) => Err(AskError::no_answer("the ingress dropped it")),
            Err(_) => Err(AskError::timed_out()),
        }
    }
}

fn no_ingress() -> AskError {
    AskError::NoIngress {
        detail: "in this process: it starts or stops, or its configuration has no openrouter.api_key".into(),
    }
}

/// The questions of the relay of this process.
pub struct OpenRouterQuestions(mpsc::Receiver<Asked>);

impl OpenRouterQuestions {
    pub(crate) async fn next(&mut self) -> Result<Question, Error> {
        let (question, reply) =
            self.0.recv().await.ok_or_else(|| Error::new("no more questions are taken"))?;
        Ok(Question { question, reply: Reply::Embedded(reply) })
    }

    #[expect(clippy::unused_async, reason = "the other backend asks a server")]
    pub(crate) async fn close(&mut self) {
        self.0.close();
    }
}

impl Drop for OpenRouterQuestions {
    fn drop(&mut self) {
        self.0.close();
        // Nothing took these, so they may be asked again.
        while let Ok((_, reply)) = self.0.try_recv() {
            let _ = reply.send(None);
        }
    }
}
