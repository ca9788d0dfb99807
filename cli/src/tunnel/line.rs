//! The meaning of a line in cloudflared's log.
//!
//! A line is a time, a level of three letters and a message, in colours on some systems:
//!
//! ```text
//! 2024-05-01T10:00:02Z INF |  https://some-words-here.trycloudflare.com                 |
//! 2024-05-01T10:00:03Z INF Registered tunnel connection connIndex=0 connection=… event=0 ip=… location=fra01 protocol=quic
//! 2024-05-01T10:00:04Z ERR Register tunnel error from server side error="Unauthorized: Tunnel not found" connIndex=0
//! ```
//!
//! Its final error has neither time nor level: `failed to request quick Tunnel: …`. The forms are those of cloudflared 2021.1 and
//! later.

/// The domain of quick tunnels.
const QUICK: &str = ".trycloudflare.com";

/// A line without its colours, its time and its box.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub level: Level,
    pub text: String,
    pub news: Option<News>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// Progress.
    Info,
    Error,
    /// Not a log line, such as the final error.
    Plain,
}

/// A change in the state of the tunnel.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The public URL of a quick tunnel, without a slash at its end.
    Url(String),
    /// Callbacks can come through.
    Connected,
    /// Cloudflare does not know the tunnel, or not by this token.
    Refused,
}

pub(super) fn read(line: &str) -> Line {
    let plain = anstream::adapter::strip_str(line).to_string();
    let (level, text) = split(&plain);
    let text = text.trim_matches(|c: char| c == '|' || c.is_whitespace()).to_owned();
    let news = match level {
        Level::Info => progress(&text),
        Level::Error => text.contains("Unauthorized: ").then_some(News::Refused),
        // The final error may name Cloudflare's own service.
        Level::Plain => None,
    };
    Line { level, text, news }
}

fn progress(text: &str) -> Option<News> {
    // Its wording since 2022, and before.
    if text.starts_with("Registered tunnel connection")
        || (text.starts_with("Connection ") && text.contains(" registered"))
    {
        return Some(News::Connected);
    }
    text.split_whitespace().find_map(quick_url).map(News::Url)
}

/// The level, before or after the time, and the rest of the line.
fn split(line: &str) -> (Level, &str) {
    let mut rest = line.trim();
    for _ in 0..2 {
        let (word, behind) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        match word {
            "TRC" | "DBG" | "INF" | "WRN" => return (Level::Info, behind),
            "ERR" | "FTL" | "PNC" => return (Level::Error, behind),
            _ => rest = behind.trim_start(),
        }
    }
    (Level::Plain, line)
}

/// Such a URL is a host of one name below the quick tunnels' own, and nothing else.
fn quick_url(word: &str) -> Option<String> {
    let host = word.strip_prefix("https://")?.trim_end_matches('/');
    let name = host.strip_suffix(QUICK)?;
    let is_name = !name.is_empty()
        && name != "api"
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    is_name.then(|| format!("https://{host}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(line: &str) -> Option<News> {
        read(line).news
    }

    #[test]
    fn the_url_is_found_in_its_box() {
        let found = Some(News::Url("https://buffalo-marco-cardiff-motel.trycloudflare.com".into()));
        for line in [
            "2023-04-18T14:06:49Z INF |  https://buffalo-marco-cardiff-motel.trycloudflare.com                                     |",
            "2023-04-18T14:06:49Z INF |  https://buffalo-marco-cardiff-motel.trycloudflare.com  |\r",
            "\u{1b}[90m2023-04-18T14:06:49Z\u{1b}[0m \u{1b}[32mINF\u{1b}[0m |  https://buffalo-marco-cardiff-motel.trycloudflare.com  |",
            "INF https://buffalo-marco-cardiff-motel.trycloudflare.com/",
            "2026-01-01T00:00:00Z INF Visit it at https://buffalo-marco-cardiff-motel.trycloudflare.com soon",
        ] {
            assert_eq!(news(line), found, "{line}");
        }
    }

    #[test]
    fn other_urls_are_not_taken_for_it() {
        for line in [
            "2023-04-18T14:06:46Z INF Thank you for trying Cloudflare Tunnel. Doing so, without a Cloudflare account, is a quick way to experiment and try it out. However, be aware that these account-less Tunnels have no uptime guarantee, are subject to the Cloudflare Online Services Terms of Use (https://www.cloudflare.com/website-terms/), and Cloudflare reserves the right to investigate your use of Tunnels for violations of such terms. If you intend to use Tunnels in production you should use a pre-created named tunnel by following: https://developers.cloudflare.com/cloudflare-one/connections/connect-apps",
            "2023-04-18T14:06:46Z INF Requesting new quick Tunnel on trycloudflare.com...",
            "2023-04-18T14:06:49Z INF +--------------------------------------------------------------------------------------------+",
            "2023-04-18T14:06:49Z INF |  Your quick Tunnel has been created! Visit it at (it may take some time to be reachable):  |",
            "2022-01-29T09:49:15Z ERR failed to request quick Tunnel: Post \"https://api.trycloudflare.com/tunnel\": dial tcp",
            "failed to request quick Tunnel: Post \"https://api.trycloudflare.com/tunnel\": dial tcp: no such host",
            "2022-01-29T09:49:15Z INF asking https://api.trycloudflare.com",
            "2022-01-29T09:49:15Z INF https://a.b.trycloudflare.com https://.trycloudflare.com https://trycloudflare.com",
            "2022-01-29T09:49:15Z INF https://evil.com/https://a.trycloudflare.com https://a.trycloudflare.com.evil.com",
            "2022-01-29T09:49:15Z INF https://user@a.trycloudflare.com http://a.trycloudflare.com https://A.trycloudflare.com",
            "2022-01-29T09:49:15Z ERR  error=\"no\" dest=https://some-words.trycloudflare.com/callbacks/me",
            "https://some-words.trycloudflare.com",
            "",
        ] {
            assert_eq!(news(line), None, "{line}");
        }
    }

    #[test]
    fn connections_and_refusals_are_recognized() {
        for line in [
            "2024-05-01T10:00:03Z INF Registered tunnel connection connIndex=0 connection=5f7e event=0 ip=198.51.100.7 location=fra01 protocol=quic",
            "2022-06-01T16:23:12Z INF Connection c206cf44-945f-4c3c-a85c-af60c6338dc2 registered connIndex=0 location=ORD",
        ] {
            assert_eq!(news(line), Some(News::Connected), "{line}");
        }
        let refused = "2021-08-02T13:44:44Z ERR Register tunnel error from server side error=\"Unauthorized: Tunnel not found\" connIndex=0";
        assert_eq!(news(refused), Some(News::Refused));
        for line in [
            "2024-05-01T10:00:05Z INF Retrying connection in up to 1m4s connIndex=0",
            "2024-05-01T10:00:05Z ERR Unable to reach the origin service. error=\"dial tcp 127.0.0.1:8080: connect: connection refused\"",
            "2024-05-01T10:00:05Z WRN Your version 2024.1 is outdated",
            "2024-05-01T10:00:05Z INF Unregistered tunnel connection connIndex=0",
        ] {
            assert_eq!(news(line), None, "{line}");
        }
    }

    #[test]
    fn levels_are_read_with_and_without_a_time() {
        let read = |line| {
            let Line { level, text, .. } = read(line);
            (level, text)
        };
        assert_eq!(read("2024-05-01T10:00:00Z ERR no  way\n"), (Level::Error, "no  way".into()));
        assert_eq!(read("FTL over"), (Level::Error, "over".into()));
        assert_eq!(read("2024-05-01T10:00:00Z WRN hm"), (Level::Info, "hm".into()));
        assert_eq!(
            read("Provided Tunnel token is not valid."),
            (Level::Plain, "Provided Tunnel token is not valid.".into())
        );
        assert_eq!(read("an INFORMAL ERR or"), (Level::Plain, "an INFORMAL ERR or".into()));
        assert_eq!(read("ERR"), (Level::Error, String::new()));
    }
}
