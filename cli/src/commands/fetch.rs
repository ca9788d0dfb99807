//! `talaria fetch`: fetches the file of a completed job by its media link.

use crate::{
    Failure,
    args::Fetch,
    client::{self, ids},
    print::{self, DIM},
};
use anyhow::{Context as _, anyhow};
use jiff::Timestamp;
use reqwest::{Response, StatusCode, header, redirect::Policy};
use std::{
    env, io,
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use talaria_core::time::for_people;
use talaria_proto::{
    time::from_proto,
    v1::{GetMediaRequest, GetMediaResponse, MediaFile},
};
use tempfile::NamedTempFile;
use url::Url;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Between two pieces. An ingress gives up after 30 s without one of OpenRouter.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// The largest `media.max_bytes`.
const MOST_BYTES: u64 = 16 << 30;

/// How often the progress is shown.
const PROGRESS: Duration = Duration::from_millis(200);

/// In the working directory, if the answer has no name that can be used.
const NAME: &str = "video.mp4";

pub(crate) async fn run(config: &Path, args: &Fetch) -> Result<(), Failure> {
    let job_id = ids::submitted_job_at(&args.ask, config, &args.id, args.tenant.as_deref()).await?;
    let mut relay = client::jobs(&args.ask, config).await?;
    let request = GetMediaRequest { job_id, tenant: args.tenant.clone().unwrap_or_default() };
    let answer = client::ask(relay.get_media(request)).await?;
    if args.ask.json {
        return Ok(print::json_document(&answer)?);
    }
    let file = chosen(&answer, args.index)?;
    let expires_at = from_proto(file.expires_at.as_ref());
    if expires_at <= Timestamp::now() {
        return Err(anyhow!(
            "the link expired at {}; media.link_life of the tenant says how long links give a file",
            for_people(expires_at)
        )
        .into());
    }
    let url = link(&file.url, args.ingress.as_ref())?;
    let response = open(&url).await?;
    let path = args.out.clone().unwrap_or_else(|| PathBuf::from(name(&response)));
    let bytes = save(response, &path, args.force).await?;
    Ok(writeln!(anstream::stdout(), "{} ({})", path.display(), size(bytes))?)
}

fn chosen(answer: &GetMediaResponse, index: u32) -> Result<&MediaFile, Failure> {
    answer.files.iter().find(|file| file.index == index).ok_or_else(|| match answer.files.len() {
        0 => Failure::from(anyhow!("the relay gives no link")),
        count => {
            Failure::Usage(format!("--index {index}: the job has {count} files, from 0 to {}", count - 1))
        }
    })
}

/// The link, at another ingress if one is named.
fn link(written: &str, ingress: Option<&Url>) -> Result<Url, Failure> {
    let link = Url::parse(written).map_err(|error| anyhow!("the link is no URL: {error}"))?;
    let Some(ingress) = ingress else { return Ok(link) };
    let token = link.path_segments().and_then(|mut segments| segments.next_back()).unwrap_or_default();
    let mut url = ingress.clone();
    url.set_path(&format!("{}/media/{token}", ingress.path().trim_end_matches('/')));
    Ok(url)
}

async fn open(url: &Url) -> Result<Response, Failure> {
    let client = reqwest::Client::builder()
        .redirect(Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .build()
        .context("cannot set up the HTTP client")?;
    let host = url.host_str().unwrap_or_default();
    let response = client.get(url.clone()).send().await.map_err(|error| {
        let error = anyhow::Error::from(error.without_url());
        Failure::Unreachable(format!(
            "cannot reach the ingress at {host}: {}\n  help: --ingress names one that can be reached from here, such as \
             http://127.0.0.1:8080",
            error.root_cause()
        ))
    })?;
    match response.status() {
        StatusCode::OK => Ok(response),
        StatusCode::NOT_FOUND => Err(anyhow!(
            "{host} has no such file: OpenRouter keeps it no longer, or links that are as old give nothing any more, because the \
             tenant has another API key since, or media.mode is off"
        )
        .into()),
        StatusCode::BAD_GATEWAY => Err(Failure::Unreachable(format!(
            "the ingress at {host} cannot fetch the file from OpenRouter; its log says why"
        ))),
        StatusCode::TOO_MANY_REQUESTS => Err(Failure::Unreachable(format!(
            "the ingress at {host} has too many requests at the moment; ask again later"
        ))),
        other => Err(Failure::Unreachable(format!("{host} answers {other}, and not as an ingress does"))),
    }
}

/// The name that the ingress gives the file.
fn name(response: &Response) -> String {
    let disposition = response.headers().get(header::CONTENT_DISPOSITION);
    let name = disposition.and_then(|value| value.to_str().ok()).and_then(file_name);
    name.unwrap_or(NAME).to_owned()
}

/// The name in `attachment; filename="…"`, if it is harmless.
fn file_name(disposition: &str) -> Option<&str> {
    let (_, rest) = disposition.split_once("filename=\"")?;
    let (name, _) = rest.split_once('"')?;
    let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (!name.is_empty() && !name.starts_with(['.', '-']) && name.bytes().all(is_safe)).then_some(name)
}

/// Writes the file beside its path, and moves it there when it is whole. Returns its length.
async fn save(mut response: Response, path: &Path, force: bool) -> Result<u64, Failure> {
    // Before the file is fetched in vain.
    if !force && path.try_exists()? {
        return Err(exists(path));
    }
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => env::current_dir()?,
    };
    let mut file = NamedTempFile::new_in(&directory)
        .with_context(|| format!("cannot write into {}", directory.display()))?;
    let mut progress = Progress::new(response.content_length());
    while let Some(chunk) = response.chunk().await.map_err(|error| {
        let error = anyhow::Error::from(error.without_url());
        Failure::Unreachable(format!(
            "the file broke off after {}, and nothing was written: {}; ask again",
            size(progress.bytes),
            error.root_cause()
        ))
    })? {
        if progress.bytes + chunk.len() as u64 > MOST_BYTES {
            return Err(
                anyhow!("the file is longer than {}, and nothing was written", size(MOST_BYTES)).into()
            );
        }
        file.write_all(&chunk).with_context(|| format!("cannot write into {}", directory.display()))?;
        progress.add(chunk.len())?;
    }
    let bytes = progress.end()?;
    file.as_file().sync_all()?;
    let moved = if force { file.persist(path) } else { file.persist_noclobber(path) };
    match moved {
        Ok(_) => Ok(bytes),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Err(exists(path)),
        Err(error) => Err(anyhow!("cannot write {}: {}", path.display(), error.error).into()),
    }
}

fn exists(path: &Path) -> Failure {
    anyhow!("{} exists; --force replaces it, and --out names another file", path.display()).into()
}

/// A line that grows, on a terminal.
struct Progress {
    bytes: u64,
    length: Option<u64>,
    shown: Option<Instant>,
    is_terminal: bool,
}

impl Progress {
    fn new(length: Option<u64>) -> Self {
        Self { bytes: 0, length, shown: None, is_terminal: io::stderr().is_terminal() }
    }

    fn add(&mut self, bytes: usize) -> io::Result<()> {
        self.bytes += bytes as u64;
        if !self.is_terminal || self.shown.is_some_and(|shown| shown.elapsed() < PROGRESS) {
            return Ok(());
        }
        self.shown = Some(Instant::now());
        let of = self.length.map_or_else(String::new, |length| format!(" of {}", size(length)));
        let mut out = anstream::stderr();
        write!(out, "\r{DIM}{}{of}{DIM:#}\u{1b}[K", size(self.bytes))?;
        out.flush()
    }

    /// Removes the line. Returns how many bytes there were.
    fn end(self) -> io::Result<u64> {
        if self.shown.is_some() {
            write!(anstream::stderr(), "\r\u{1b}[K")?;
        }
        Ok(self.bytes)
    }
}

/// A number of bytes for people.
fn size(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..MIB => format!("{} KiB", bytes >> 10),
        _ => format!("{}.{} MiB", bytes / MIB, bytes % MIB * 10 / MIB),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1_023, "1023 bytes"),
            (1_024, "1 KiB"),
            (1_500_000, "1.4 MiB"),
            (3 << 30, "3072.0 MiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn only_a_harmless_name_is_taken() {
        let named = |name: &str| file_name(&format!("attachment; filename=\"{name}\"")).map(str::to_owned);
        assert_eq!(named("gen-vid-1-0.mp4").as_deref(), Some("gen-vid-1-0.mp4"));
        for name in ["", ".bashrc", "-rf", "../x", "a/b", "a b", "é.mp4", "a\\b"] {
            assert_eq!(named(name), None, "{name}");
        }
        assert_eq!(file_name("inline"), None);
    }

    #[test]
    fn a_link_leads_to_the_named_ingress() {
        let written = "https://hooks.example.com/t/media/AQHD_x-9";
        assert_eq!(link(written, None).unwrap().as_str(), written);
        for (ingress, expected) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/media/AQHD_x-9"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080/media/AQHD_x-9"),
            ("http://proxy/a/", "http://proxy/a/media/AQHD_x-9"),
        ] {
            let ingress = Url::parse(ingress).unwrap();
            assert_eq!(link(written, Some(&ingress)).unwrap().as_str(), expected);
        }
    }

    #[test]
    fn a_number_that_is_not_there_names_those_that_are() {
        let file = |index| MediaFile { index, ..MediaFile::default() };
        let answer = GetMediaResponse { files: vec![file(0), file(1)] };
        assert_eq!(chosen(&answer, 1).unwrap().index, 1);
        let failure = chosen(&answer, 2).unwrap_err();
        assert_eq!(
            (failure.code(), failure.to_string().as_str()),
            (2, "--index 2: the job has 2 files, from 0 to 1")
        );
    }
}
