//! `talaria hermes`

use super::{http_url, path::path};
use clap::Args as ClapArgs;
use std::path::PathBuf;

/// `talaria hermes`
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  talaria hermes                                      when there is only one route
  talaria hermes acme/video
  talaria hermes acme/video --install ~/.hermes
  talaria hermes acme/video --install ~/.hermes --enable
  talaria hermes acme/failures --deliver telegram --install ~/.hermes
  talaria hermes acme/video --uninstall ~/.hermes

With --install, an existing subscription of that name gets the values that the route needs: secret, prompt, events, \
deliver_only, enabled, profile, filters and script. Replaced values are shown. Its skills, toolsets, deliver and \
deliver_extra are kept. A prompt or a cron_job of your own is replaced with --force only.

It also installs the extension that reports to Talaria how runs end, and the skill talaria-video. The extension works once \
config.yaml enables it, which --enable does, and the gateway was restarted; docs/hermes.md has more. --uninstall takes out what was installed and has not been \
changed since, and says what it leaves; a subscription of your own that was there before is put back.")]
pub struct Hermes {
    /// The route, as TENANT/ROUTE; needed where the configuration has more than one
    pub route: Option<String>,
    /// Merge the subscription into this Hermes home's webhook_subscriptions.json
    #[arg(long, value_name = "DIR", value_parser = path())]
    pub install: Option<PathBuf>,
    /// Where Hermes delivers the agent's answer, or on a deliver_only route the prompt: telegram, discord, slack, …
    #[arg(long, value_name = "TARGET", value_parser = target)]
    pub deliver: Option<String>,
    /// Replace a prompt or a cron_job of your own, and changed files of the extension, too
    #[arg(long, requires = "install")]
    pub force: bool,
    /// Enable the extension and the MCP server in this Hermes home's config.yaml
    #[arg(long, requires = "install")]
    pub enable: bool,
    /// Where the gateway reaches the relay's HTTP port, to report runs; console.listen where it is left out
    #[arg(long, value_name = "URL", value_parser = relay_url, requires = "install")]
    pub url: Option<url::Url>,
    /// The file with the token that the MCP server shows to the relay
    #[arg(long, value_name = "FILE", value_parser = path(), requires = "install")]
    pub token_file: Option<PathBuf>,
    /// Take the route, and with the last one the extension, out of this Hermes home
    #[arg(long, value_name = "DIR", value_parser = path(), conflicts_with_all = ["install", "deliver"])]
    pub uninstall: Option<PathBuf>,
}

/// The extension adds a path to it, and signs each report.
fn relay_url(text: &str) -> Result<url::Url, String> {
    let url = http_url(text)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "expected a URL without user and password: reports are signed with the secret of the route"
                .to_owned(),
        );
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("expected a URL without ? and #: reports go to /runs/TENANT/ROUTE below it".to_owned());
    }
    Ok(url)
}

/// Webhooks of Hermes take the name of a platform without a chat, unlike its cron jobs.
fn target(text: &str) -> Result<String, String> {
    let (platform, chat) = text.find([':', '/', '.']).map_or((text, ""), |at| text.split_at(at));
    let platform = platform.to_ascii_lowercase();
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if platform.is_empty()
        || !platform.chars().all(is_name)
        || ["all", "origin", "local"].contains(&platform.as_str())
    {
        return Err("expected the name of a platform, such as telegram, discord or slack, or log".to_owned());
    }
    let is_chat = !chat.is_empty() && !matches!(chat.get(1..), Some("" | "all" | "home" | "origin"));
    match (is_chat, platform == text) {
        (_, true) => Ok(platform),
        (true, _) => Err(format!(
            "Hermes takes the platform alone here: write --deliver {platform}, and the chat as extra: {{chat_id: \"…\"}} of the route"
        )),
        (false, _) => Err(format!(
            "Hermes takes the platform alone here: write --deliver {platform}, which is its home channel"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_of_a_relay_is_one_that_a_path_can_be_added_to() {
        for text in ["http://127.0.0.1:8090", "https://relay.example.com/talaria/"] {
            assert!(relay_url(text).is_ok(), "{text}");
        }
        for (text, help) in [
            ("http://u:secret@h", "without user and password"),
            ("http://u@h", "without user and password"),
            ("http://h/?a=b", "without ? and #"),
            ("http://h/#", "without ? and #"),
            ("h:8090", "begins with http://"),
        ] {
            let error = relay_url(text).unwrap_err();
            assert!(error.contains(help), "{text}: {error}");
        }
    }

    #[test]
    fn a_target_is_the_name_of_a_platform() {
        for text in ["telegram", "log", "github_comment", "my-plugin2"] {
            assert_eq!(target(text).unwrap(), text);
        }
        for (text, help) in [
            ("telegram/all", "write --deliver telegram, which is its home channel"),
            ("telegram:-100123", "write --deliver telegram, and the chat as extra: {chat_id: \"…\"}"),
            ("Telegram", "write --deliver telegram,"),
            ("all", "expected the name of a platform"),
            ("origin", "expected the name of a platform"),
            ("", "expected the name of a platform"),
            ("a b", "expected the name of a platform"),
        ] {
            assert!(target(text).unwrap_err().contains(help), "{text}: {}", target(text).unwrap_err());
        }
    }
}
