//! A real browser: Debian's chromium, driven over WebDriver by its chromedriver.
//!
//! The few commands that tests need are sent here. Of the crates for it, thirtyfour turns on `preserve_order` of serde_json, with
//! which the debug binary would order its JSON differently from the release binary, and fantoccini needs a crate under the MPL.

use crate::{at_the_end_of_this_process, binary::workspace, poll, until};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::{Command, Stdio},
    sync::{LazyLock, OnceLock},
    time::Duration,
};
use tempfile::TempDir;
use tokio::sync::{Semaphore, SemaphorePermit};

/// The time zone of every browser: five hours and three quarters before UTC, without daylight saving.
pub const ZONE: &str = "Asia/Kathmandu";

/// How many browsers run at once. More only wait for the processors.
static TURNS: Semaphore = Semaphore::const_new(2);

/// How long a page may take to show a text.
const SOON: Duration = Duration::from_secs(20);

/// The name of an element's id in WebDriver.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// What chromium is started with. Nothing of it leaves the machine.
const ARGUMENTS: &[&str] = &[
    "--headless=new",
    // root has no sandbox.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    // Chromium ends with chromedriver, whose end closes the pipe.
    "--remote-debugging-pipe",
    "--window-size=1280,900",
    "--hide-scrollbars",
];

/// How a page is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// For names.
    pub name: &'static str,
    /// The width of the window, in CSS pixels.
    pub width: u32,
    scheme: &'static str,
}

/// Light, dark, and on the narrowest screen that WCAG asks for.
pub const LOOKS: [Look; 3] = [
    Look { name: "light", width: 1280, scheme: "light" },
    Look { name: "dark", width: 1280, scheme: "dark" },
    Look { name: "narrow", width: 320, scheme: "light" },
];

/// A browser with a profile of its own. Everything panics with the browser's error.
pub struct Browser {
    http: reqwest::Client,
    session: String,
    base: String,
    _profile: TempDir,
    _turn: SemaphorePermit<'static>,
}

impl std::fmt::Debug for Browser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Browser").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The runtime may be at its end, so without it.
        let (address, path) = self.session.trim_start_matches("http://").split_once('/').unwrap();
        if let Ok(mut stream) = TcpStream::connect(address) {
            let _ = write!(stream, "DELETE /{path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
            let _ = stream.read(&mut [0; 64]);
        }
    }
}

impl Browser {
    /// A browser that opens pages of this address.
    pub async fn start(server: SocketAddr) -> Self {
        Self::with(server, json!({})).await
    }

    /// A browser that runs no scripts of pages.
    pub async fn without_scripts(server: SocketAddr) -> Self {
        Self::with(server, json!({"profile.managed_default_content_settings.javascript": 2})).await
    }

    async fn with(server: SocketAddr, preferences: Value) -> Self {
        let turn = TURNS.acquire().await.unwrap();
        let (http, profile) = (crate::http(), tempfile::tempdir().unwrap());
        let mut arguments: Vec<String> = ARGUMENTS.iter().map(|&argument| argument.to_owned()).collect();
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": arguments, "prefs": preferences},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let driver = format!("http://{}", driver());
        let answer = send(&http, "POST", &format!("{driver}/session"), Some(&capabilities)).await;
        let id = answer["sessionId"].as_str().unwrap();
        Self {
            session: format!("{driver}/session/{id}"),
            http,
            base: format!("http://{server}"),
            _profile: profile,
            _turn: turn,
        }
    }

    async fn command(&self, verb: &str, path: &str, body: Option<Value>) -> Value {
        send(&self.http, verb, &format!("{}{path}", self.session), body.as_ref()).await
    }

    /// A command of the browser's own protocol.
    pub async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.command("POST", "/goog/cdp/execute", Some(json!({"cmd": command, "params": parameters}))).await
    }

    /// Opens a path of the server, or a whole URL.
    pub async fn open(&self, path: &str) {
        let url = if path.starts_with('/') { format!("{}{path}", self.base) } else { path.to_owned() };
        self.command("POST", "/url", Some(json!({"url": url}))).await;
    }

    /// The path and the query of the page.
    pub async fn path(&self) -> String {
        let url = self.command("GET", "/url", None).await;
        let url = url.as_str().unwrap();
        url.strip_prefix(&self.base).unwrap_or(url).to_owned()
    }

    /// The page's title.
    pub async fn title(&self) -> String {
        self.command("GET", "/title", None).await.as_str().unwrap().to_owned()
    }

    /// Runs the body of a function in the page, with these `arguments`.
    pub async fn run(&self, script: &str, arguments: &[&str]) -> Value {
        self.command("POST", "/execute/sync", Some(json!({"script": script, "args": arguments}))).await
    }

    /// Waits until the body of a function returns true.
    pub async fn until(&self, what: &str, script: &str, arguments: &[&str]) {
        until(what, async || (self.run(script, arguments).await == true).then_some(())).await;
    }

    /// The visible text of the first element, or of nothing.
    pub async fn text(&self, selector: &str) -> String {
        let text =
            self.run("return document.querySelector(arguments[0])?.innerText ?? ''", &[selector]).await;
        text.as_str().unwrap().to_owned()
    }

    /// Asserts that the first element shows each of these texts, soon.
    pub async fn shows(&self, selector: &str, texts: &[&str]) {
        for text in texts {
            let shown = async || self.text(selector).await.contains(text).then_some(());
            if poll(SOON, shown).await.is_none() {
                let (path, shown) = (self.path().await, self.text(selector).await);
                panic!("{path} has no {text:?} in {selector}: {shown}");
            }
        }
    }

    /// Waits until the first element shows a text.
    pub async fn until_shows(&self, selector: &str, text: &str) {
        let script = "return (document.querySelector(arguments[0])?.innerText ?? '').includes(arguments[1])";
        until(&format!("{text:?} in {selector}"), async || {
            (self.run(script, &[selector, text]).await == true).then_some(())
        })
        .await;
    }

    /// How many elements there are.
    pub async fn count(&self, selector: &str) -> u64 {
        self.run("return document.querySelectorAll(arguments[0]).length", &[selector]).await.as_u64().unwrap()
    }

    /// The answer to a command for the first element. Elements are found again that news have replaced meanwhile.
    async fn to_element(&self, using: &str, value: &str, command: &str, body: Value) -> Value {
        let found = json!({"using": using, "value": value});
        until(&format!("{value} to take {command}"), async || {
            let element = self.command("POST", "/element", Some(found.clone())).await;
            let url = format!("{}/element/{}/{command}", self.session, element[ELEMENT].as_str().unwrap());
            let value = ask(&self.http, "POST", &url, Some(&body)).await;
            (value["error"] != "stale element reference").then(|| expect(&url, value))
        })
        .await
    }

    /// Clicks, and waits for the next page.
    async fn leave(&self, using: &str, value: &str) {
        self.run("window.isLeft = true", &[]).await;
        self.to_element(using, value, "click", json!({})).await;
        let arrived = "return window.isLeft === undefined && document.readyState === 'complete'";
        self.until(&format!("the page behind {value}"), arrived, &[]).await;
    }

    /// Clicks on the first element, as with a mouse.
    pub async fn click(&self, selector: &str) {
        self.to_element("css selector", selector, "click", json!({})).await;
    }

    /// Clicks on the first element, which leads to another page.
    pub async fn go(&self, selector: &str) {
        self.leave("css selector", selector).await;
    }

    /// Clicks on the first button with this name, which sends a form.
    pub async fn press(&self, name: &str) {
        self.leave("xpath", &format!("//main//button[normalize-space()='{name}']")).await;
    }

    /// Follows the first link with this text.
    pub async fn follow(&self, text: &str) {
        self.leave("link text", text).await;
    }

    /// Types into an element.
    pub async fn fill(&self, selector: &str, text: &str) {
        self.to_element("css selector", selector, "value", json!({"text": text})).await;
    }

    /// Presses keys, one after another, wherever the focus is. The others than characters have WebDriver's numbers.
    pub async fn keys(&self, keys: &str) {
        let presses: Vec<Value> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key.to_string()})))
            .collect();
        let actions = json!({"actions": [{"type": "key", "id": "keyboard", "actions": presses}]});
        self.command("POST", "/actions", Some(actions)).await;
    }

    /// The cookies, with their attributes.
    pub async fn cookies(&self) -> Vec<Value> {
        self.command("GET", "/cookie", None).await.as_array().unwrap().clone()
    }

    /// Removes all cookies.
    pub async fn forget_cookies(&self) {
        self.command("DELETE", "/cookie", None).await;
    }

    /// The warnings and errors in the browser's console since the last call: of scripts, refused contents, failed requests.
    pub async fn complaints(&self) -> Vec<String> {
        let lines = self.command("POST", "/se/log", Some(json!({"type": "browser"}))).await;
        let lines = lines.as_array().unwrap().iter().filter(|line| line["level"] != "DEBUG");
        lines.map(|line| line["message"].as_str().unwrap().to_owned()).collect()
    }

    /// Looks at all pages like this from now on.
    pub async fn look(&self, look: Look) {
        let size = json!({"width": look.width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": look.scheme}]});
        self.devtools("Emulation.setEmulatedMedia", features).await;
    }

    /// Writes the whole page as a PNG file.
    pub async fn screenshot(&self, file: &Path) {
        let script = "return [document.documentElement.scrollWidth, document.documentElement.scrollHeight]";
        let size = self.run(script, &[]).await;
        let clip = json!({"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1});
        let asked = json!({"captureBeyondViewport": true, "clip": clip});
        let answer = self.devtools("Page.captureScreenshot", asked).await;
        let image = data_encoding::BASE64.decode(answer["data"].as_str().unwrap().as_bytes()).unwrap();
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, image).unwrap();
    }

    /// The faults that axe finds on the page by WCAG 2.1 A and AA.
    pub async fn inaccessible(&self) -> Vec<String> {
        static AXE: LazyLock<String> = LazyLock::new(|| {
            let path = workspace().join("target/browser/node_modules/axe-core/axe.min.js");
            fs::read_to_string(&path)
                .unwrap_or_else(|_| panic!("{} is missing: `make test-browser` installs it", path.display()))
        });
        self.run(&AXE, &[]).await;
        let script = r"
            const done = arguments[arguments.length - 1];
            const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa'];
            axe.run(document, {runOnly: {type: 'tag', values: tags}, resultTypes: ['violations']}).then(
              (found) => done(found.violations.flatMap((rule) => rule.nodes.map(
                (node) => `${rule.id}: ${node.failureSummary} ${node.html}`))),
              (error) => done([String(error)]));";
        let found = self.command("POST", "/execute/async", Some(json!({"script": script, "args": []}))).await;
        found.as_array().unwrap().iter().map(|fault| fault.as_str().unwrap().to_owned()).collect()
    }
}

async fn send(http: &reqwest::Client, verb: &str, url: &str, body: Option<&Value>) -> Value {
    expect(url, ask(http, verb, url, body).await)
}

fn expect(url: &str, value: Value) -> Value {
    assert!(value.get("error").is_none(), "{url}: {}: {}", value["error"], value["message"]);
    value
}

async fn ask(http: &reqwest::Client, verb: &str, url: &str, body: Option<&Value>) -> Value {
    let mut request = http.request(verb.parse().unwrap(), url);
    if let Some(body) = body {
        request = request.header("content-type", "application/json").body(body.to_string());
    }
    let answer = request.send().await.unwrap().bytes().await.unwrap();
    let mut answer: Value = serde_json::from_slice(&answer).unwrap();
    answer["value"].take()
}

/// The address of the chromedriver of this process.
fn driver() -> SocketAddr {
    static DRIVER: OnceLock<SocketAddr> = OnceLock::new();
    *DRIVER.get_or_init(|| {
        // It asks for a free port of IPv4, takes the same of IPv6, and ends if another process has that one.
        let mut said = Vec::new();
        for _ in 0..5 {
            match start_driver() {
                Ok(port) => return (Ipv4Addr::LOCALHOST, port).into(),
                Err(lines) => said.extend(lines),
            }
        }
        panic!("chromedriver ended five times without a port:\n{}", said.join("\n"))
    })
}

/// The port of a new chromedriver, or what it printed before it ended.
fn start_driver() -> Result<u16, Vec<String>> {
    let mut command = Command::new("chromedriver");
    command.arg("--port=0").env("TZ", ZONE).env("LANG", "en_GB.UTF-8");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("chromedriver (Debian: chromium-driver) does not start: {error}"));
    let id = child.id().to_string();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut said = Vec::new();
    for line in lines.by_ref() {
        if let Some((_, port)) = line.split_once("successfully on port ") {
            let port = port.trim_end_matches('.').parse().expect("chromedriver names a port");
            at_the_end_of_this_process("kill \"$1\"", &[&id]);
            // Its later lines are read, so that it never waits.
            std::thread::spawn(move || {
                lines.for_each(drop);
                let _ = child.wait();
            });
            return Ok(port);
        }
        said.push(line);
    }
    let _ = child.wait();
    Err(said)
}
