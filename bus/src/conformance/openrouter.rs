//! Invariant 14.

use super::{Backend, relays::REPEAT};
use crate::{AskError, Bus, OpenRouterQuestions, Publisher};
use bytes::Bytes;
use std::collections::HashSet;
use tokio::task::JoinHandle;

/// Answers each question with itself behind `name`.
fn answer(mut questions: OpenRouterQuestions, name: &'static str) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Ok(asked) = questions.next().await {
            let answer = [name.as_bytes(), b" answers ", &asked.question[..]].concat();
            asked.answer(answer.into()).await.unwrap();
        }
    })
}

/// Asks until an ingress answers, because any question may be lost.
async fn asked(bus: &Bus, question: &'static str) -> Bytes {
    loop {
        let answer = bus.ask_openrouter(Bytes::from_static(question.as_bytes()));
        if let Ok(Ok(answer)) = tokio::time::timeout(REPEAT, answer).await {
            return answer;
        }
    }
}

/// Asks until no ingress takes questions.
async fn unanswered(bus: &Bus) -> AskError {
    loop {
        if let Ok(Err(error)) = tokio::time::timeout(REPEAT, bus.ask_openrouter(Bytes::new())).await {
            return error;
        }
    }
}

pub async fn i14_an_ingress_answers_questions_about_openrouter(backend: &impl Backend) {
    let bus = backend.open().await;
    let questions = bus.publisher().openrouter_questions().await.unwrap();
    let answering = answer(questions, "it");
    assert_eq!(asked(&bus, "one").await, "it answers one");
    let (second, third) = tokio::join!(asked(&bus, "two"), asked(&bus, "three"));
    assert_eq!((&second[..], &third[..]), (&b"it answers two"[..], &b"it answers three"[..]));
    answering.abort();
}

pub async fn i14_a_question_that_no_ingress_gets_was_not_asked(backend: &impl Backend) {
    let bus = backend.open().await;
    let error = bus.ask_openrouter(Bytes::new()).await.unwrap_err();
    assert!(matches!(error, AskError::NoIngress { .. }) && error.was_not_asked(), "{error}");
    assert!(error.to_string().contains("openrouter.api_key"), "it says what is missing: {error}");
    // Neither after an ingress is gone.
    let questions = bus.publisher().openrouter_questions().await.unwrap();
    drop(questions);
    assert!(unanswered(&bus).await.was_not_asked());
    // Nor one that does not fit, where a server has a bound.
    let answering = answer(bus.publisher().openrouter_questions().await.unwrap(), "it");
    let large = Bytes::from(vec![b'x'; 3 << 20]);
    match bus.ask_openrouter(large.clone()).await {
        Ok(answer) => assert_eq!(answer.len(), "it answers ".len() + large.len()),
        Err(error) => {
            assert!(error.was_not_asked(), "{error}");
            let AskError::TooLarge { size, limit } = error else { panic!("{error}") };
            assert!(size == large.len() && limit < size && error.to_string().contains(&limit.to_string()));
        }
    }
    answering.abort();
}

pub async fn i14_a_question_goes_to_one_ingress(backend: &impl Backend) {
    let bus = backend.open().await;
    let Some(second) = backend.open_second().await else { return };
    let questions = |publisher: Publisher| async move { publisher.openrouter_questions().await.unwrap() };
    let answering = [
        answer(questions(bus.publisher()).await, "the first"),
        answer(questions(second.publisher()).await, "the second"),
    ];
    let mut answers = HashSet::new();
    while answers.len() < 2 {
        answers.insert(asked(&bus, "one").await);
    }
    assert!(
        answers.contains(&b"the first answers one"[..]) && answers.contains(&b"the second answers one"[..])
    );
    answering.iter().for_each(JoinHandle::abort);
}

pub async fn i14_an_ingress_that_closes_answers_what_came(backend: &impl Backend) {
    let bus = backend.open().await;
    let mut questions = bus.publisher().openrouter_questions().await.unwrap();
    let asker = bus.clone();
    let asking = tokio::spawn(async move { asker.ask_openrouter(Bytes::from_static(b"a question")).await });
    let question = questions.next().await.unwrap();
    questions.close().await;
    assert!(questions.next().await.is_err(), "no question comes after it was closed");
    assert!(unanswered(&bus).await.was_not_asked());
    question.answer(Bytes::from_static(b"an answer")).await.unwrap();
    assert_eq!(asking.await.unwrap().unwrap(), "an answer");
}
