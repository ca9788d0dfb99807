//! Our rendering, filtering and guarding beside the real Hermes' own, on thousands of random cases.
//!
//! Seeds are printed; TALARIA_TEST_SEED repeats a run.

use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _};
use talaria_core::{
    hermes::{filter::Filter, pattern::Pattern, template::render_extra},
    json::{Document, Text, Value, parse, print::dump_line, print::dump_text},
};
use talaria_tests::{binary, hermes::Oracle, seeded};

const CASES: usize = 3_000;

/// Words that are keys, path elements and values.
const WORDS: [&str; 12] =
    ["a", "b", "data", "id", "status", "0", "1", "", "event_type", "payload", "é", "__raw__"];

const SCALARS: [&str; 34] = [
    "null",
    "true",
    "false",
    "0",
    "-0",
    "1",
    "-17",
    "18446744073709551616",
    "-9223372036854775809",
    "1.0",
    "-0.0",
    "1E2",
    "1e16",
    "1e15",
    "123456789012345680.0",
    "1e-4",
    "0.00001",
    "5e-324",
    "1e309",
    "-1e309",
    "NaN",
    "Infinity",
    "-Infinity",
    "2.2250738585072011e-308",
    "0.1000000000000000055511151231257827",
    "\"\"",
    "\"x\"",
    "\"é\\n\\u0000\\u007f\"",
    "\"\\ud83d\\ude00\"",
    "\"\\ud83d\"",
    "\"\\ude00\\ud83d\"",
    "\"{a}\"",
    "\"completed\"",
    "\"\\/\\b\\f\\r\\t\\\"\\\\\"",
];

/// Random JSON text, as some sender might write it.
fn json(random: &mut StdRng, depth: u32) -> String {
    let space =
        |random: &mut StdRng| ["", "", "", " ", "\n", "\t "].choose(random).copied().unwrap_or_default();
    match if depth == 0 { 0 } else { random.random_range(0..10) } {
        0..=4 => match random.random_range(0..8) {
            0 => {
                format!("{:?}", f64::from_bits(random.random()).clamp(-1e300, 1e300)).replace("inf", "1e999")
            }
            1 => random.random::<i64>().to_string(),
            2 => dump_text(&text(random)),
            _ => SCALARS.choose(random).unwrap().to_string(),
        },
        5..=6 => {
            let items: Vec<_> = (0..random.random_range(0..5)).map(|_| json(random, depth - 1)).collect();
            format!("[{}{}]", space(random), items.join(&format!("{},", space(random))))
        }
        _ => object(random, depth - 1),
    }
}

fn object(random: &mut StdRng, depth: u32) -> String {
    let members: Vec<_> = (0..random.random_range(0..7))
        .map(|_| {
            let key = dump_text(&(*WORDS.choose(random).unwrap()).into());
            format!("{key}: {}", json(random, depth))
        })
        .collect();
    format!("{{{}}}", members.join(" , "))
}

/// Random text, surrogates included.
fn text(random: &mut StdRng) -> Text {
    let mut text = Text::new();
    let length = if random.random_ratio(1, 30) { 3_000 } else { 12 };
    for _ in 0..random.random_range(0..length) {
        text.push_code_point(match random.random_range(0..20) {
            0 => random.random_range(0xD800..0xE000),
            1 => random.random_range(0x1_0000..0x11_0000),
            2 => random.random_range(0..0x20),
            3..=5 => random.random_range(0x7F..0xD800),
            _ => random.random_range(0x20..0x7F),
        });
    }
    text
}

fn template(random: &mut StdRng) -> Text {
    let mut template = Text::new();
    for _ in 0..random.random_range(0..6) {
        match random.random_range(0..8) {
            0 => template.push_text(&text(random)),
            1 => template.push_str(
                ["{", "}", "{}", "{{a}}", "{a-b}", "{ a }", "{a", "{é}", "{a:>3}"].choose(random).unwrap(),
            ),
            2 => template.push_str("{__raw__}"),
            3 => template.push_str("{event_type}"),
            _ => {
                let path: Vec<&str> =
                    (0..random.random_range(1..4)).map(|_| *WORDS.choose(random).unwrap()).collect();
                template.push_str(&format!("{{{}}}", path.join(".")));
            }
        }
    }
    template
}

/// Breaks some text somewhere.
fn damage(random: &mut StdRng, text: &str) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(0..=chars.len());
        match random.random_range(0..3) {
            0 if at < chars.len() => drop(chars.remove(at)),
            1 if at < chars.len() => {
                chars[at] =
                    *['"', '\\', ',', ':', '{', ']', '0', 'e', '.', '-', 'u', '\n'].choose(random).unwrap();
            }
            _ => chars.insert(
                at,
                *['"', '\\', ',', '}', '[', '1', 'E', '+', ' ', '\u{1}', 'N', 'é'].choose(random).unwrap(),
            ),
        }
    }
    chars.into_iter().collect()
}

fn read(bytes: &[u8]) -> Document {
    parse(bytes).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(bytes)))
}

/// `talaria render --jsonl` beside `WebhookAdapter._render_prompt`, on whole and on broken payloads.
#[test]
fn prompts_are_the_ones_that_hermes_renders() {
    let mut random = seeded("prompts");
    let mut oracle = Oracle::start();
    let cases: Vec<String> = (0..CASES)
        .map(|_| {
            let mut body =
                if random.random_ratio(1, 10) { json(&mut random, 4) } else { object(&mut random, 4) };
            if random.random_ratio(1, 4) {
                body = damage(&mut random, &body);
            }
            let (template, event) = (template(&mut random), text(&mut random));
            let fields = [
                ("template", &template),
                ("body", &body.as_str().into()),
                ("event_type", &event),
                ("route", &"my-route".into()),
            ];
            let fields: Vec<String> =
                fields.iter().map(|(key, text)| format!("\"{key}\": {}", dump_text(text))).collect();
            format!("{{\"ask\": \"render\", {}}}", fields.join(", "))
        })
        .collect();
    let output =
        binary::run_with_input(binary::workspace(), &["render", "--jsonl"], cases.join("\n").as_bytes());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let ours: Vec<&[u8]> =
        output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    assert_eq!(ours.len(), cases.len());
    let mut errors = 0;
    for (case, ours) in cases.iter().zip(ours) {
        let (ours, theirs) = (read(ours), read(&oracle.ask(case)));
        match theirs.root().get("prompt") {
            Some(prompt) => {
                assert_eq!(ours.root().get("prompt").and_then(Value::as_text), prompt.as_text(), "{case}");
            }
            None => {
                errors += 1;
                assert!(ours.root().get("error").is_some(), "Hermes says {:?} to {case}", theirs.root());
            }
        }
    }
    assert!((CASES / 20..CASES / 2).contains(&errors), "{errors} of {CASES} were errors");
}

#[test]
fn floats_are_printed_as_python_prints_them() {
    let mut random = seeded("floats");
    let mut oracle = Oracle::start();
    for _ in 0..CASES {
        let float = match random.random_range(0..4) {
            // Often halfway between two numbers with the same number of digits.
            3 => {
                random.random_range(1_u64 << 49..1 << 53) as f64
                    / [2.0, 4.0, 8.0, 1024.0][random.random_range(0..4)]
            }
            0 => f64::from_bits(random.random()),
            1 => random.random_range(-1e6..1e6_f64),
            _ => f64::from(random.random_range(1..1000)) * 10_f64.powi(random.random_range(-30..30)),
        };
        if !float.is_finite() {
            continue;
        }
        let written = format!("{float:e}");
        let theirs = read(&oracle.ask(&format!("{{\"ask\": \"float\", \"text\": \"{written}\"}}")));
        let body = format!(
            "{{\"x\": {}}}",
            if written.contains('.') { written.clone() } else { written.replace('e', ".0e") }
        );
        let ours = talaria_core::hermes::template::Template::new(&"{x}".into());
        let ours = ours.render(read(body.as_bytes()).root(), &"".into(), &"".into()).text;
        assert_eq!(Some(&ours), theirs.root().get("repr").and_then(Value::as_text), "{written}");
    }
}

#[test]
fn extra_values_are_the_ones_that_hermes_renders() {
    let mut random = seeded("extra");
    let mut oracle = Oracle::start();
    for _ in 0..CASES / 10 {
        let (body, values) = (object(&mut random, 3), [template(&mut random), template(&mut random)]);
        let extra = format!(
            "{{\"chat_id\": {}, \"x\": {}, \"n\": [1, \"{{a}}\"]}}",
            dump_text(&values[0]),
            dump_text(&values[1])
        );
        let question = format!(
            "{{\"ask\": \"extra\", \"extra\": {extra}, \"body\": {}}}",
            dump_text(&body.as_str().into())
        );
        let theirs = read(&oracle.ask(&question));
        let ours = render_extra(read(extra.as_bytes()).root(), &Value::Null, read(body.as_bytes()).root());
        assert_eq!(dump_line(&ours), dump_line(theirs.root().get("extra").unwrap()), "{question}");
    }
}

fn filter(random: &mut StdRng, depth: u32) -> String {
    if depth > 0 && random.random_ratio(1, 3) {
        let specs: Vec<_> = (0..random.random_range(0..4)).map(|_| filter(random, depth - 1)).collect();
        return match random.random_range(0..3) {
            0 => format!("{{\"all\": [{}]}}", specs.join(",")),
            1 => format!("{{\"any\": [{}]}}", specs.join(",")),
            _ => format!("{{\"not\": {}}}", filter(random, depth - 1)),
        };
    }
    let path: Vec<&str> = (0..random.random_range(1..4)).map(|_| *WORDS.choose(random).unwrap()).collect();
    let field = dump_text(&path.join(".").as_str().into());
    let operator = match random.random_range(0..8) {
        0 => format!("\"exists\": {}", random.random::<bool>()),
        1 => "\"missing\": true".into(),
        2 => format!("\"equals\": {}", json(random, 2)),
        3 => format!("\"not_equals\": {}", json(random, 2)),
        4 => format!("\"contains\": {}", SCALARS.choose(random).unwrap()),
        5 => format!("\"in\": [{}, {}]", json(random, 1), SCALARS.choose(random).unwrap()),
        6 => format!("\"contains\": {}", dump_text(&(*WORDS.choose(random).unwrap()).into())),
        _ => format!(
            "\"regex\": {}",
            dump_text(
                &(*["^$", "e", "true|False", r"\d+\.\d", "\"a\": ", "^[a-z]+$"].choose(random).unwrap())
                    .into()
            )
        ),
    };
    format!("{{\"field\": {field}, {operator}}}")
}

#[test]
fn filters_decide_as_hermes_decides() {
    let mut random = seeded("filters");
    let mut oracle = Oracle::start();
    let (mut matched, mut asked) = (0, 0);
    for _ in 0..CASES {
        // A question is one line. And in Python a NaN is in a list of that very NaN, which the operand of a route's
        // configuration never is.
        let (filters, body) =
            (filter(&mut random, 2).replace(['\n', '\t'], " ").replace("NaN", "1.5"), object(&mut random, 3));
        // An invalid pattern is refused when the configuration is read.
        let Ok(ours) = Filter::compile(read(filters.as_bytes()).root()) else { continue };
        let question = format!(
            "{{\"ask\": \"filter\", \"filters\": {filters}, \"event_type\": \"video.done\", \"body\": {}}}",
            dump_text(&body.as_str().into())
        );
        let theirs = read(&oracle.ask(&question));
        let Some(Value::Bool(theirs)) = theirs.root().get("matches") else {
            // Hermes answers 500: a value that cannot be a key is looked up among keys.
            assert!(filters.contains("contains"), "{:?} to {question}", theirs.root());
            continue;
        };
        asked += 1;
        matched += usize::from(*theirs);
        assert_eq!(ours.matches(read(body.as_bytes()).root(), &"video.done".into()), *theirs, "{question}");
    }
    assert!(asked > CASES / 2 && matched > CASES / 10, "{matched} of {asked} matched");
}

#[test]
fn patterns_match_as_in_python() {
    let mut oracle = Oracle::start();
    let patterns = [
        "ed$",
        r"ed\Z",
        "^fail",
        "(?i)VEO",
        r"\bveo\b",
        r"^\w+$",
        r"^\W+$",
        r"\s",
        r"^\S+$",
        r"\d{2,3}",
        "(?m)^b$",
        "(?s)a.b",
        "a.b",
        "[^a-z]",
        r"[\w.-]+@[\w.-]+",
        "(?P<x>a)b",
        "a{0,2}b",
        r"[\s,]",
        r"[\W_]",
        "x*?y",
        r"\.",
        "(a|b)+c",
        r"\$",
        "(?x) a b",
        r"\\Z",
        "[]a]",
        "[a-]",
        r"\x41",
        r"\u00e9",
        r"[\d\-]",
        "^$",
    ];
    let texts = [
        "",
        "failed",
        "failed\n",
        "failed\n\n",
        "a\nb",
        "b",
        "veo-3.1",
        "Google/VEO",
        "größe",
        "e\u{301}",
        "\u{1c}",
        "a b",
        "12",
        "1234",
        "a@b.c",
        "ab",
        "_",
        "é",
        "A",
        "\u{660}",
        "x\u{2028}y",
        "$",
        "\\Z",
        "]",
        "-",
        "²",
        "Ⅷ",
        "ª",
        "٣",
    ];
    let mut compared = 0;
    for pattern in patterns {
        let Ok(ours) = Pattern::new(pattern) else { continue };
        for text in texts {
            let question = format!(
                "{{\"ask\": \"search\", \"pattern\": {}, \"text\": {}}}",
                dump_text(&pattern.into()),
                dump_text(&text.into())
            );
            let theirs = read(&oracle.ask(&question));
            let Some(Value::Bool(theirs)) = theirs.root().get("matches") else {
                panic!("{:?} to {question}", theirs.root())
            };
            assert_eq!(ours.is_match(text), *theirs, "{pattern} in {text:?}");
            compared += 1;
        }
    }
    assert!(compared > 700, "{compared} were compared");
}

/// Whatever a payload holds, Hermes finds nothing in the guarded prompt that it would expand or obey.
#[test]
fn nothing_in_a_guarded_prompt_is_live_for_hermes() {
    use talaria_core::{
        config::Guard,
        hermes::{command, template::Template},
    };
    let mut random = seeded("guard");
    let mut oracle = Oracle::start();
    let pieces = [
        "@",
        "@file:",
        "file:",
        "@folder:x",
        "@git:1",
        "@url:http://h/",
        "@diff",
        "@staged",
        "diff",
        "/",
        "/stop",
        " ",
        "é",
        "a",
        "\n",
        "`x y`",
        "\"q\"",
        "x@file:y",
        "@IMAGE:x\n",
        "@issue:",
        "\u{3000}",
        "\u{2060}",
    ];
    let templates = [
        "{v}",
        "@{v}",
        "{v}{w}",
        "x {v} {w}",
        "/{v}",
        "(@{v}:{w})",
        "{__raw__}",
        "\n{v}",
        "@file:{v}",
        "@url:\"a {v}\"{w}",
    ];
    let mut defused = 0;
    for _ in 0..CASES {
        let mut piece = || {
            (0..random.random_range(0..4)).map(|_| *pieces.choose(&mut random).unwrap()).collect::<String>()
        };
        let (v, w) = (piece(), piece());
        let body =
            format!("{{\"v\": {}, \"w\": {}}}", dump_text(&v.as_str().into()), dump_text(&w.as_str().into()));
        let template = Template::new(&(*templates.choose(&mut random).unwrap()).into());
        let prompt = template.render(read(body.as_bytes()).root(), &"t".into(), &"r".into());
        let (prompt, notes) = talaria_relay::defuse(prompt, Guard { commands: true, references: true });
        defused += usize::from(!notes.is_empty());
        let answer =
            read(&oracle.ask(&format!("{{\"ask\": \"references\", \"prompt\": {}}}", dump_text(&prompt))));
        assert_eq!(dump_line(answer.root()), "{\"references\": []}", "{prompt:?}");
        assert!(!command::is_command(&prompt), "{prompt:?}");
    }
    assert!(defused > CASES / 4, "{defused} prompts had something to defuse");
}
