//! The tools: names, arguments, and the sentences that describe them. docs/mcp.md has the same, as a test holds.

use crate::args::Allow;
use serde_json::{Map, Value, json};

/// A tool.
#[derive(Debug)]
pub(super) struct Tool {
    /// Its name.
    pub name: &'static str,
    /// The `--allow` that it needs.
    pub needs: Allow,
    /// What a call changes.
    pub effect: Effect,
    /// What it does.
    pub about: &'static str,
    /// Its arguments.
    pub arguments: &'static [Argument],
}

/// What a call changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing.
    Reads,
    /// Adds something.
    Adds,
    /// Changes or ends something.
    Destroys,
}

/// An argument of a tool.
#[derive(Debug)]
pub(super) struct Argument {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Whether every call has it.
    pub required: bool,
    /// What it means.
    pub about: &'static str,
}

/// The type of an argument.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Text,
    Texts,
    Whole,
    Number,
    Flag,
    /// An object of any members.
    Object,
    /// An object of texts.
    Context,
    /// A list of objects with `kind` and `url`.
    References,
    /// An object of [`FILTER`].
    Filter,
}

const fn may(name: &'static str, kind: Kind, about: &'static str) -> Argument {
    Argument { name, kind, required: false, about }
}

const fn must(name: &'static str, kind: Kind, about: &'static str) -> Argument {
    Argument { name, kind, required: true, about }
}

const TENANT: Argument = may("tenant", Kind::Text, "The tenant; needed where the token is for several.");
const REASON: Argument = must("reason", Kind::Text, "Why. It is recorded with the action.");
const JOB: Argument = must("job", Kind::Text, "The job: job_… or its id at OpenRouter.");
const DELIVERY: Argument = must("delivery", Kind::Text, "The delivery: dlv_….");

/// The members of a filter of deliveries. All of them hold together.
pub(super) const FILTER: &[Argument] = &[
    may("tenant", Kind::Text, "Of this tenant."),
    may("route", Kind::Text, "To this route: ROUTE or TENANT/ROUTE."),
    may("job", Kind::Text, "Of this job: job_… or its id at OpenRouter."),
    may(
        "states",
        Kind::Texts,
        "In one of these states: waiting, delivered, ignored, parked, cancelled, ambiguous.",
    ),
    may("since", Kind::Text, "Received since: RFC 3339, or how long ago, such as 2h."),
    may("until", Kind::Text, "Received before."),
    may("type", Kind::Text, "Of this event type, or of all below it: video.generation.*"),
    may("model", Kind::Text, "Of this model."),
    may(
        "outcomes",
        Kind::Texts,
        "With one of these outcomes of the last attempt, such as failed, route_fault or answer_lost.",
    ),
    may("http", Kind::Texts, "With one of these HTTP statuses of the last attempt: 503 or 5xx."),
    may("why", Kind::Text, "With this text in the reason."),
    may(
        "runs",
        Kind::Texts,
        "Whose agent's run was: finished, failed, interrupted or command; or none, where no run was reported.",
    ),
];

/// All tools.
pub(super) const TOOLS: &[Tool] = &[
    Tool {
        name: "video_models",
        needs: Allow::Read,
        effect: Effect::Reads,
        about: "List the models that make videos, with the values that each takes and its price. Call it before video_submit.",
        arguments: &[TENANT, may("model", Kind::Text, "Only models with this in their id.")],
    },
    Tool {
        name: "video_submit",
        needs: Allow::Submit,
        effect: Effect::Adds,
        about: "Submit a video to be made. It costs money. The answer comes at once and the video minutes later: the result is \
                delivered by itself to the tenant's routes, with the context, so do not wait for it. Choose a request_id, and repeat \
                a call that failed or whose answer was lost with the same one: the same id is never a second job.",
        arguments: &[
            TENANT,
            must("model", Kind::Text, "The model's id, such as google/veo-3.1."),
            may("prompt", Kind::Text, "What the video shows. Some models work from an image alone."),
            may("duration", Kind::Whole, "Seconds, one of the model's."),
            may("resolution", Kind::Text, "Such as 720p."),
            may("aspect_ratio", Kind::Text, "Such as 16:9."),
            may("size", Kind::Text, "WIDTHxHEIGHT, instead of resolution and aspect_ratio."),
            may("first_frame", Kind::Text, "The image to begin with: an https or data URL."),
            may("last_frame", Kind::Text, "The image to end with: an https or data URL."),
            may("references", Kind::References, "Images, sounds and videos that the video is made after."),
            may("generate_audio", Kind::Flag, "With sound, or without."),
            may("seed", Kind::Whole, "For a result that can be repeated."),
            may("provider_options", Kind::Object, "Options of the model's provider."),
            may("upscale_factor", Kind::Number, "For upscalers: how many times larger."),
            may("creativity", Kind::Whole, "For upscalers: how much is made up."),
            may(
                "context",
                Kind::Context,
                "The chat that asked, which gets the result: platform, chat_id, thread_id, and others of your own. At most 16.",
            ),
            may("route", Kind::Text, "The only route that gets the result: ROUTE or TENANT/ROUTE."),
            may(
                "request_id",
                Kind::Text,
                "The request's id, which you choose: 1 to 128 of the characters a-z A-Z 0-9 - _ . and :. Left out, a random one is \
                 made and returned.",
            ),
        ],
    },
    Tool {
        name: "video_status",
        needs: Allow::Read,
        effect: Effect::Reads,
        about: "Show a job: its state, its cost, and whether its result was delivered. Not needed to get the result.",
        arguments: &[JOB, TENANT],
    },
    Tool {
        name: "video_link",
        needs: Allow::Read,
        effect: Effect::Reads,
        about: "Give the links to the files of a completed job, and their paths where they are kept. Every client with a link can \
                fetch the file until the link expires.",
        arguments: &[JOB, TENANT],
    },
    Tool {
        name: "deliveries",
        needs: Allow::Read,
        effect: Effect::Reads,
        about: "List deliveries of callbacks, newest first, at most 20 at once.",
        arguments: &[
            may("filter", Kind::Filter, "Which deliveries."),
            may("page", Kind::Text, "The page after the one that gave this token."),
        ],
    },
    Tool {
        name: "why",
        needs: Allow::Read,
        effect: Effect::Reads,
        about: "Explain why a callback was delivered or not, with every attempt and the next step.",
        arguments: &[
            must(
                "id",
                Kind::Text,
                "An event (evt_…), a delivery (dlv_…), or a job (job_… or its id at OpenRouter).",
            ),
            TENANT,
        ],
    },
    Tool {
        name: "plan_replay",
        needs: Allow::Control,
        effect: Effect::Reads,
        about: "Plan to send deliveries again: one by delivery, one by event and route, or all that match a filter. Hermes runs the \
                agent again for each of them. Nothing is done before confirm.",
        arguments: &[
            may("delivery", Kind::Text, "The delivery, in any state: dlv_…."),
            may("event", Kind::Text, "An event: evt_…. With route."),
            may("route", Kind::Text, "The name of the route that gets the event."),
            may("filter", Kind::Filter, "Which deliveries. Without states, those that are parked."),
            REASON,
        ],
    },
    Tool {
        name: "plan_cancel",
        needs: Allow::Control,
        effect: Effect::Reads,
        about: "Plan to cancel a waiting delivery. Nothing is done before confirm.",
        arguments: &[DELIVERY, REASON],
    },
    Tool {
        name: "plan_pause",
        needs: Allow::Control,
        effect: Effect::Reads,
        about: "Plan to stop sending to a route or for a whole tenant. Callbacks are still taken, and wait. Nothing is done before \
                confirm.",
        arguments: &[
            must("target", Kind::Text, "TENANT/ROUTE, or TENANT for all of its routes."),
            may("for", Kind::Text, "How long, such as 2h; until it is resumed where it is left out."),
            REASON,
        ],
    },
    Tool {
        name: "plan_resume",
        needs: Allow::Control,
        effect: Effect::Reads,
        about: "Plan to end a pause. Nothing is done before confirm.",
        arguments: &[must("target", Kind::Text, "TENANT/ROUTE or TENANT, as it was paused."), REASON],
    },
    Tool {
        name: "plan_probe",
        needs: Allow::Control,
        effect: Effect::Reads,
        about: "Plan to try a shut route now, with one waiting delivery. Nothing is done before confirm.",
        arguments: &[must("target", Kind::Text, "TENANT/ROUTE."), REASON],
    },
    Tool {
        name: "confirm",
        needs: Allow::Control,
        effect: Effect::Destroys,
        about: "Carry out a plan. A code is good once, for 5 minutes, and only while that which it is about has not changed. Show the \
                plan to the user before you confirm it.",
        arguments: &[must("code", Kind::Text, "The code that the plan gave.")],
    },
];

/// The JSON Schema of an object with these members.
pub(super) fn schema(arguments: &[Argument]) -> Map<String, Value> {
    let properties: Map<String, Value> =
        arguments.iter().map(|argument| (argument.name.to_owned(), property(argument))).collect();
    let required: Vec<&str> = arguments.iter().filter(|it| it.required).map(|it| it.name).collect();
    let mut schema = Map::new();
    schema.insert("type".into(), "object".into());
    schema.insert("properties".into(), properties.into());
    schema.insert("required".into(), required.into());
    schema.insert("additionalProperties".into(), false.into());
    schema
}

fn property(argument: &Argument) -> Value {
    let mut property = match argument.kind {
        Kind::Text => json!({"type": "string"}),
        Kind::Texts => json!({"type": "array", "items": {"type": "string"}}),
        Kind::Whole => json!({"type": "integer"}),
        Kind::Number => json!({"type": "number"}),
        Kind::Flag => json!({"type": "boolean"}),
        Kind::Object => json!({"type": "object"}),
        Kind::Context => json!({"type": "object", "additionalProperties": {"type": "string"}}),
        Kind::References => json!({"type": "array", "items": {
            "type": "object",
            "properties": {"kind": {"type": "string", "enum": ["image", "audio", "video"]}, "url": {"type": "string"}},
            "required": ["kind", "url"],
            "additionalProperties": false,
        }}),
        Kind::Filter => schema(FILTER).into(),
    };
    if let Some(members) = property.as_object_mut() {
        members.insert("description".into(), argument.about.into());
    }
    property
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// The tools as docs/mcp.md has them.
    fn page() -> String {
        let rows = |arguments: &[Argument]| {
            let row = |it: &Argument| {
                let required = if it.required { ", required" } else { "" };
                format!("| `{}`{required} | {} |\n", it.name, it.about)
            };
            arguments.iter().map(row).collect::<String>()
        };
        let mut page = String::new();
        for tool in TOOLS {
            let Tool { name, about, arguments, .. } = tool;
            page +=
                &format!("### {name}\n\n{about}\n\n| Argument | Means |\n|---|---|\n{}\n", rows(arguments));
        }
        page += &format!("### Filters\n\n| Member of `filter` | Means |\n|---|---|\n{}", rows(FILTER));
        page
    }

    #[test]
    fn the_page_has_every_tool_in_the_words_that_agents_read() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/mcp.md");
        let text = fs::read_to_string(path).unwrap();
        let expected = page();
        assert!(text.contains(&expected), "docs/mcp.md lacks this part:\n{expected}");
    }

    #[test]
    fn descriptions_are_short() {
        for tool in TOOLS {
            assert!(tool.about.len() <= 400, "{}", tool.name);
            for argument in tool.arguments.iter().chain(FILTER) {
                assert!(argument.about.len() <= 200, "{}.{}", tool.name, argument.name);
            }
        }
    }

    #[test]
    fn a_schema_names_types_and_required_arguments() {
        let submit = TOOLS.iter().find(|tool| tool.name == "video_submit").unwrap();
        let schema = Value::from(schema(submit.arguments));
        assert_eq!(schema["required"], json!(["model"]));
        assert_eq!(schema["properties"]["duration"]["type"], "integer");
        assert_eq!(schema["properties"]["context"]["additionalProperties"]["type"], "string");
        let replay = TOOLS.iter().find(|tool| tool.name == "plan_replay").unwrap();
        let schema = Value::from(super::schema(replay.arguments));
        assert_eq!(schema["properties"]["filter"]["properties"]["states"]["items"]["type"], "string");
        assert_eq!(schema["required"], json!(["reason"]));
    }
}
