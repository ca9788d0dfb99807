//! Files of jobs.

use super::*;

const MP4: &str = "\0\0\0\x18ftypisom a video";

async fn content(api: &Api, most: u64) -> Result<Content, ContentError> {
    Client::new().content(api, "gen-vid-1/x", 3, most).await
}

/// The bytes until the end or an error.
async fn all(content: &mut Content) -> (Vec<u8>, Option<ContentError>) {
    let mut bytes = Vec::new();
    while let Some(chunk) = std::future::poll_fn(|cx| content.poll_chunk(cx)).await {
        match chunk {
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(error) => return (bytes, Some(error)),
        }
    }
    (bytes, None)
}

fn file(headers: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{headers}\r\n{body}")
}

fn chunked(content_type: &str, chunks: &[&str], end: &str) -> String {
    let chunks: String = chunks.iter().map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len())).collect();
    file(
        &format!("Content-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n"),
        &format!("{chunks}{end}"),
    )
}

const END: &str = "0\r\n\r\n";

#[tokio::test]
async fn a_file_comes_whole_with_its_type_and_length() {
    let with_length = file(&format!("Content-Type: video/mp4\r\nContent-Length: {}\r\n", MP4.len()), MP4);
    // Even the first bytes may come in pieces.
    let in_pieces = chunked("application/octet-stream", &["\0\0\0", "\x18fty", "pisom", " a video"], END);
    let (api, requests) = serve(vec![with_length, in_pieces]).await;
    let mut first = content(&api, 100).await.unwrap();
    assert_eq!((first.media_type.as_str(), first.length), ("video/mp4", Some(MP4.len() as u64)));
    assert_eq!(all(&mut first).await, (MP4.as_bytes().to_vec(), None));
    let mut second = content(&api, MP4.len() as u64).await.unwrap();
    assert_eq!((second.media_type.as_str(), second.length), ("application/octet-stream", None));
    assert_eq!(all(&mut second).await, (MP4.as_bytes().to_vec(), None));

    let request = requests.lock().unwrap()[0].clone();
    assert!(
        request.starts_with("GET /proxy/api/v1/videos/gen-vid-1%2Fx/content?index=3 HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(request.lines().any(|line| line == format!("Authorization: Bearer {KEY}")), "{request}");
    assert!(!request.to_lowercase().contains("range"), "{request}");
}

#[tokio::test]
async fn a_file_that_is_too_long_or_breaks_off_ends_with_an_error() {
    let declared = file("Content-Type: video/mp4\r\nContent-Length: 1000\r\n", "x");
    let endless = chunked("video/mp4", &[MP4, MP4, MP4], "");
    let cut = chunked("video/mp4", &[MP4], "");
    let short = file("Content-Type: video/mp4\r\nContent-Length: 60\r\n", MP4);
    let (api, _) = serve(vec![declared, endless, cut, short]).await;
    assert_eq!(content(&api, 50).await.unwrap_err(), ContentError::TooLong(50));
    let (bytes, error) = all(&mut content(&api, 50).await.unwrap()).await;
    assert!(bytes.len() <= 50, "{}", bytes.len());
    assert_eq!(error, Some(ContentError::TooLong(50)));
    for _ in 0..2 {
        let (bytes, error) = all(&mut content(&api, 100).await.unwrap()).await;
        assert_eq!(bytes, MP4.as_bytes());
        assert!(error.unwrap().to_string().starts_with("OpenRouter's answer broke off: "));
    }
}

#[tokio::test]
async fn what_is_no_file_is_refused_and_no_redirect_is_followed() {
    let (elsewhere, seen) = serve(vec![http("200 OK", MP4)]).await;
    let redirect = format!(
        "HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n",
        elsewhere.base_url
    );
    let (api, _) = serve(vec![
        redirect,
        http("404 Not Found", "{}"),
        http("410 Gone", "{}"),
        http("401 Unauthorized", &format!(r#"{{"error":"{KEY}"}}"#)),
        file("Content-Type: text/html\r\nContent-Length: 6\r\n", "<html>"),
        file("Content-Type: video/mp4\r\nContent-Length: 0\r\n", ""),
        String::new(),
    ])
    .await;
    for expected in [
        "OpenRouter answers 302, a redirect, which is not followed with the key",
        "OpenRouter does not have the file: it answers 404",
        "OpenRouter does not have the file: it answers 410",
        "OpenRouter answers 401",
        "OpenRouter's answer is no file of media",
        "OpenRouter's answer is empty",
        "OpenRouter's answer was lost: ",
    ] {
        let error = content(&api, 100).await.unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
        assert!(!format!("{error:?}").contains(KEY));
    }
    assert!(seen.lock().unwrap().is_empty());
    let strict = Api { networks: std::iter::empty().collect(), ..api };
    let error = content(&strict, 100).await.unwrap_err().to_string();
    assert!(error.contains("the tenant does not allow that"), "{error}");
    assert!(Client::new().content(&strict, "..", 0, 1).await.is_err());
}

/// A server that stalls.
#[tokio::test]
async fn a_file_that_does_not_go_on_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api = api(&format!("http://{}/v1", listener.local_addr().unwrap()));
    let (release, held) = tokio::sync::oneshot::channel::<()>();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        // An answer before its request would end the connection.
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        let answer = file("Content-Type: video/mp4\r\nContent-Length: 99\r\n", MP4);
        stream.write_all(answer.as_bytes()).await.unwrap();
        let _ = held.await;
    });
    let mut content = content(&api, 100).await.unwrap();
    tokio::time::pause();
    let (bytes, error) = all(&mut content).await;
    assert_eq!(bytes, MP4.as_bytes());
    assert!(error.unwrap().to_string().ends_with("nothing came for 30s"));
    drop(release);
}
