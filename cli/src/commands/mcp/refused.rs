//! Why a call did not do what it was asked for, and the next step. Agents read it as the result of the tool.

use super::answer::Answer;
use crate::Failure;

/// Why a call failed.
#[derive(Debug)]
pub(super) enum Refused {
    /// In our own words, with the next step.
    Ours(String),
    /// In the words of a relay, which may quote others, and the next step in ours.
    Relays {
        /// The relay's words.
        words: String,
        /// The next step.
        advice: String,
    },
}

impl Refused {
    /// The failure with another next step.
    pub(super) fn with(failure: &Failure, advice: impl Into<String>) -> Self {
        Self::Relays { words: as_arguments(&failure.to_string()), advice: advice.into() }
    }

    /// The text for the agent.
    pub(super) fn text(&self) -> String {
        let mut answer = Answer::new();
        match self {
            Self::Ours(text) => answer.add(text),
            Self::Relays { words, advice } => {
                let words = answer.fence().text(words);
                answer.add(&format!("Not done: {words}"));
                answer.add(&format!("Next step: {advice}"));
            }
        }
        answer.finish("")
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        let advice = match failure {
            Failure::Usage(_) => "correct the arguments, and call again.",
            Failure::Unknown(_) => {
                "check the name or the id. `deliveries` lists deliveries, newest first, with the ids of their events and jobs."
            }
            Failure::Unreachable(_) => {
                "call again in a minute; if it stays so, tell the operator of Talaria. Nothing was changed, unless the text says so."
            }
            Failure::NotAllowed(_) => {
                "tell the operator of Talaria: the token of this MCP server (TALARIA_TOKEN_FILE) is missing, or does not allow this."
            }
            Failure::Config(_) | Failure::Other(_) => {
                "if other arguments cannot change this, tell the operator of Talaria."
            }
        };
        Self::with(&failure, advice)
    }
}

/// A text about options of the command line, in the words of a tool.
fn as_arguments(text: &str) -> String {
    ["tenant", "route", "job"]
        .iter()
        .fold(text.to_owned(), |text, name| text.replace(&format!("--{name}"), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_has_a_next_step_and_a_fence() {
        let text = Refused::from(Failure::Usage("which tenant? --tenant takes one of: a, b".into())).text();
        assert!(text.contains("] which tenant? tenant takes one of: a, b [end "), "{text}");
        assert!(text.ends_with("\nNext step: correct the arguments, and call again.\n"), "{text}");
        let text = Refused::from(Failure::NotAllowed("scope".into())).text();
        assert!(text.contains("tell the operator"), "{text}");
        assert_eq!(Refused::Ours("no such tool".into()).text(), "no such tool\n");
    }
}
