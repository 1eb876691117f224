//! The server over sockets, on files that these tests make.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::files::{Files, Folder, Layers};
use super::page::{Embedded, Page};
use super::server::{self, Limits, PIECE};

const TEXT: &[u8] = b"0123456789";
static PACKED: [u8; 3 * PIECE + 7] = [b'x'; 3 * PIECE + 7];
static PAGE: Page = Page(&[
    Embedded { path: "index.html", hash: "1a", plain: Some(b"<p>page"), br: Some(b"BR"), gzip: Some(b"GZIP") },
    Embedded { path: "assets/engine-DPhDRsDM.wasm", hash: "2b", plain: None, br: Some(&PACKED), gzip: Some(b"GZ") },
    Embedded { path: "clip.mp4", hash: "3c", plain: Some(TEXT), br: None, gzip: None },
    Embedded { path: "models/a/tabreel.json", hash: "4d", plain: Some(b"{}"), br: None, gzip: None },
]);

const QUICK: Limits = Limits { connections: 8, request: Duration::from_millis(600), piece: Duration::from_millis(600) };

/// A folder of this test's own, gone when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tabreel-serve-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(path.join("models/b")).unwrap();
        Self(path)
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        std::fs::write(self.0.join(path), bytes).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Serves for as long as the tests run; returns the port.
fn start(models: Option<&Path>, limits: Limits) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let folder = models.map(|path| Folder::open("models/", path).unwrap());
    std::thread::spawn(move || {
        let folder = folder.as_ref().map(|folder| folder as &dyn Files);
        let files = Layers(folder.into_iter().chain([&PAGE as &dyn Files]).collect());
        server::serve(&listener, &files, limits);
    });
    port
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// The next answer of a connection; `body` is false for one to a HEAD.
fn read(stream: &mut TcpStream, body: bool) -> Reply {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap_or_else(|e| panic!("{e} after {:?}", String::from_utf8_lossy(&head)));
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut reply = Reply { status, head, body: Vec::new() };
    let length = reply.header("content-length").map_or(0, |length| length.parse().unwrap());
    reply.body = vec![0; if body { length } else { 0 }];
    stream.read_exact(&mut reply.body).unwrap();
    reply
}

fn ask(port: u16, path: &str, headers: &str) -> Reply {
    let mut stream = connect(port);
    write!(stream, "GET {path} HTTP/1.1\r\nhost: here\r\n{headers}\r\n").unwrap();
    read(&mut stream, true)
}

/// What a connection that sends this gets until it is closed.
fn raw(port: u16, bytes: &[u8]) -> String {
    let mut stream = connect(port);
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_file_comes_with_type_tag_and_the_headers_of_every_answer() {
    let port = start(None, QUICK);
    let page = ask(port, "/?a=b", "");
    assert_eq!((page.status, &page.body[..]), (200, &b"<p>page"[..]));
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(page.header("cache-control"), Some("no-cache"));
    assert_eq!(page.header("vary"), Some("accept-encoding"));
    assert_eq!(page.header("etag"), Some("\"1a\""));
    let missing = ask(port, "/nothing", "");
    assert_eq!(missing.status, 404);
    for answer in [page, missing] {
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
    }
}

#[test]
fn the_best_coding_is_sent_and_a_client_that_takes_none_is_told() {
    let port = start(None, QUICK);
    let engine = "/assets/engine-DPhDRsDM.wasm";
    let br = ask(port, engine, "accept-encoding: gzip, deflate, br\r\n");
    assert_eq!((br.header("content-encoding"), br.body.len()), (Some("br"), PACKED.len()));
    assert_eq!(br.header("content-type"), Some("application/wasm"));
    assert!(br.header("cache-control").unwrap().contains("immutable"));
    let gzip = ask(port, engine, "accept-encoding: gzip\r\n");
    assert_eq!((gzip.header("content-encoding"), &gzip.body[..]), (Some("gzip"), &b"GZ"[..]));
    assert_ne!(br.header("etag"), gzip.header("etag"));
    let refused = ask(port, engine, "");
    assert_eq!(refused.status, 406);
    assert!(String::from_utf8_lossy(&refused.body).contains("accept-encoding: gzip"));
    // Its range would be one of bytes that are not here.
    let whole = ask(port, engine, "accept-encoding: br\r\nrange: bytes=0-9\r\n");
    assert_eq!((whole.status, whole.body.len()), (200, PACKED.len()));
    let part = ask(port, "/", "accept-encoding: br\r\nrange: bytes=1-2\r\n");
    assert_eq!((part.status, part.header("content-encoding"), &part.body[..]), (206, None, &b"p>"[..]));
}

#[test]
fn ranges_and_conditions_are_kept() {
    let port = start(None, QUICK);
    let part = ask(port, "/clip.mp4", "range: bytes=2-4\r\n");
    assert_eq!((part.status, &part.body[..]), (206, &b"234"[..]));
    assert_eq!(part.header("content-range"), Some("bytes 2-4/10"));
    let outside = ask(port, "/clip.mp4", "range: bytes=10-\r\n");
    assert_eq!((outside.status, outside.header("content-range")), (416, Some("bytes */10")));
    let current = ask(port, "/clip.mp4", "range: bytes=-2\r\nif-range: \"3c\"\r\n");
    assert_eq!((current.status, &current.body[..]), (206, &b"89"[..]));
    let older = ask(port, "/clip.mp4", "range: bytes=-2\r\nif-range: \"3b\"\r\n");
    assert_eq!((older.status, &older.body[..]), (200, TEXT));
    for tags in ["\"3c\"", "\"x\", W/\"3c\"", "*"] {
        let known = ask(port, "/clip.mp4", &format!("if-none-match: {tags}\r\n"));
        assert_eq!((known.status, known.body.len(), known.header("etag")), (304, 0, Some("\"3c\"")), "{tags}");
    }
    assert_eq!(ask(port, "/clip.mp4", "if-none-match: \"3d\"\r\n").status, 200);
}

#[test]
fn a_connection_stays_and_a_head_has_no_body() {
    let port = start(None, QUICK);
    let mut stream = connect(port);
    // Sent at once: the second request waits in the first one's bytes.
    stream
        .write_all(
            b"HEAD /clip.mp4 HTTP/1.1\r\nHost: a\r\n\r\nGET /clip.mp4 HTTP/1.1\r\nHost: a\r\nRange: bytes=1-1\r\n\r\n",
        )
        .unwrap();
    let head = read(&mut stream, false);
    assert_eq!((head.status, head.header("content-length")), (200, Some("10")));
    assert_eq!(head.header("connection"), Some("keep-alive"));
    assert_eq!(read(&mut stream, true).body, b"1");
    for bytes in [&b"GET /clip"[..], b".mp4 HT", b"TP/1.1\r\nHost:", b" a\r\n", b"\r\n"] {
        stream.write_all(bytes).unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(read(&mut stream, true).body, TEXT);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let last = read(&mut stream, true);
    assert_eq!(last.header("connection"), Some("close"));
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    assert!(raw(port, b"GET / HTTP/1.0\r\n\r\n").ends_with("<p>page"));
}

#[test]
fn bad_requests_are_answered_in_words_and_end_the_connection() {
    let port = start(None, QUICK);
    let long = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(40_000));
    for (request, status) in [
        ("\r\n\r\nnonsense\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET /  HTTP/1.1\r\nhost: a\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost : a\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: a\r\n folded\r\n\r\n", "400"),
        ("GET / HTTP/2.0\r\nhost: a\r\n\r\n", "505"),
        ("GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello", "413"),
        ("GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "413"),
        (&long, "431"),
        // Half of one, and no more.
        ("GET / HTTP/1.1\r\nhost: a\r\n", "408"),
    ] {
        let answer = raw(port, request.as_bytes());
        let start: String = request.chars().take(60).collect();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{start:?}: {answer}");
        assert!(answer.contains("connection: close"), "{start:?}: {answer}");
    }
    assert!(raw(port, b"\xff\xfe\r\n\r\n").starts_with("HTTP/1.1 400 "));
    let mut half = connect(port);
    half.write_all(b"GET /cl").unwrap();
    half.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(read(&mut half, true).status, 400);
    let mut post = connect(port);
    post.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").unwrap();
    let refused = read(&mut post, true);
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")));
}

#[test]
fn a_folder_of_models_comes_first_and_shows_nothing_outside_of_it() {
    let scratch = Scratch::new("models");
    scratch.write("secret", b"secret");
    scratch.write("models/b/tabreel.json", b"{\"b\": 1}");
    scratch.write("models/b/weights.gguf", &[7; 100_000]);
    let port = start(Some(&scratch.0.join("models")), QUICK);
    assert_eq!(ask(port, "/models/b/tabreel.json", "").body, b"{\"b\": 1}");
    assert_eq!(ask(port, "/models/a/tabreel.json", "").body, b"{}", "the program's own stay");
    let part = ask(port, "/models/b/weights.gguf", "range: bytes=99990-\r\n");
    assert_eq!((part.status, &part.body[..]), (206, &[7; 10][..]));
    assert_eq!(part.header("content-type"), Some("application/octet-stream"));
    let whole = ask(port, "/models/b/weights.gguf", "");
    assert_eq!((whole.status, whole.body.len()), (200, 100_000));
    let tag = whole.header("etag").unwrap().to_owned();
    assert_eq!(ask(port, "/models/b/weights.gguf", &format!("if-none-match: {tag}\r\n")).status, 304);
    scratch.write("models/b/weights.gguf", &[8; 99_999]);
    assert_eq!(ask(port, "/models/b/weights.gguf", &format!("if-none-match: {tag}\r\n")).status, 200);
    for path in
        ["/models/../secret", "/models/b/../../secret", "/models/%2e%2e/secret", "/models/..%2fsecret", "/models//etc"]
    {
        assert_eq!(ask(port, path, "").status, 400, "{path}");
    }
    for path in ["/models/b", "/models/", "/models", "/secret", "/models/b/weights.gguf/x"] {
        assert_eq!(ask(port, path, "").status, 404, "{path}");
    }
    assert!(Folder::open("models/", &scratch.0.join("secret")).is_err());
    assert!(Folder::open("models/", &scratch.0.join("nowhere")).is_err());
}

#[cfg(unix)]
#[test]
fn links_are_followed_within_the_folder_only() {
    use std::os::unix::fs::symlink;
    let scratch = Scratch::new("links");
    scratch.write("secret", b"secret");
    scratch.write("models/b/real", b"real");
    let models = scratch.0.join("models");
    symlink(scratch.0.join("secret"), models.join("b/out")).unwrap();
    symlink(&scratch.0, models.join("up")).unwrap();
    symlink("real", models.join("b/in")).unwrap();
    // The folder itself may be a link.
    symlink(&models, scratch.0.join("link")).unwrap();
    let port = start(Some(&scratch.0.join("link")), QUICK);
    assert_eq!(ask(port, "/models/b/in", "").body, b"real");
    for path in ["/models/b/out", "/models/up/secret", "/models/up/models/../secret"] {
        assert_ne!(ask(port, path, "").status, 200, "{path}");
    }
}

#[test]
fn slow_clients_give_their_place_back() {
    let port = start(None, Limits { connections: 2, ..QUICK });
    // One that says nothing, and one that trickles: each holds a place for the time of a request at most.
    let _silent = connect(port);
    let mut trickling = connect(port);
    let begun = Instant::now();
    std::thread::spawn(move || {
        while trickling.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    assert_eq!(ask(port, "/", "").status, 200);
    let waited = begun.elapsed();
    assert!(waited >= QUICK.request / 2, "a third connection was served beside two: {waited:?}");
    assert!(waited < Duration::from_secs(10), "{waited:?}");
}

#[test]
fn a_client_that_takes_nothing_is_left() {
    let scratch = Scratch::new("slow");
    scratch.write("models/b/large", &vec![1; 64 << 20]);
    let port = start(Some(&scratch.0.join("models")), Limits { connections: 1, ..QUICK });
    let mut deaf = connect(port);
    deaf.write_all(b"GET /models/b/large HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    // With a single place this one is served only when the other has lost it.
    assert_eq!(ask(port, "/clip.mp4", "").body, TEXT);
}

#[test]
fn a_busy_port_is_an_error_when_asked_for_and_passed_over_otherwise() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = super::listen("127.0.0.1", Some(port)).unwrap_err().to_string();
    assert!(error.contains(&format!("port {port} of 127.0.0.1 is in use")), "{error}");
    let (first, second) = (super::listen("127.0.0.1", None).unwrap(), super::listen("127.0.0.1", None).unwrap());
    assert_ne!(first.local_addr().unwrap().port(), second.local_addr().unwrap().port());
    let unknown = super::listen("no such host", Some(0)).unwrap_err().to_string();
    assert!(unknown.contains("no such host"), "{unknown}");
    let everywhere = "0.0.0.0:80".parse().unwrap();
    assert_eq!(super::seen_from_here(everywhere).to_string(), "127.0.0.1:80");
}
