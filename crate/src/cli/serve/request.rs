//! Reading a request's head: RFC 9112, as much of it as a server of files needs.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Longest head, bytes.
const LONGEST_HEAD: usize = 16 << 10;

/// A request without a body.
#[derive(Debug)]
pub struct Request {
    /// As it came.
    pub method: String,
    /// Decoded, without the leading slash and the query, and safe to look up; `None` for one that is not.
    pub path: Option<String>,
    /// Whether the client wants the connection to stay.
    pub keep: bool,
    headers: BTreeMap<String, String>,
}

impl Request {
    /// A header's value; several of one name are joined by commas.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// Why no request was read.
#[derive(Debug)]
pub enum NoRequest {
    /// The client left, or sent nothing in time: nobody waits for an answer.
    Gone,
    /// It is answered with this status and words, and the connection ends.
    Bad(u16, String),
}

/// The bytes of a connection; what came after a head stays for the next.
#[derive(Debug)]
pub struct Incoming<'a> {
    stream: &'a TcpStream,
    buffer: Vec<u8>,
}

impl<'a> Incoming<'a> {
    /// Of a fresh connection.
    pub fn new(stream: &'a TcpStream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// The next request; the whole head must arrive `within` this time, however small its pieces are.
    ///
    /// # Errors
    /// [`NoRequest`].
    pub fn next(&mut self, within: Duration) -> Result<Request, NoRequest> {
        let deadline = Instant::now() + within;
        loop {
            // RFC 9112, 2.2: empty lines before a request are passed over.
            while self.buffer.starts_with(b"\r\n") {
                self.buffer.drain(..2);
            }
            if let Some(end) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return parse(&head[..end]);
            }
            if self.buffer.len() > LONGEST_HEAD {
                return Err(NoRequest::Bad(431, format!("the request's head is longer than {LONGEST_HEAD} bytes")));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let late = || match self.buffer.is_empty() {
                true => NoRequest::Gone,
                false => NoRequest::Bad(408, format!("the request did not end within {} s", within.as_secs_f32())),
            };
            if left.is_zero() || self.stream.set_read_timeout(Some(left)).is_err() {
                return Err(late());
            }
            let mut piece = [0; 4096];
            match self.stream.read(&mut piece) {
                Ok(0) if self.buffer.is_empty() => return Err(NoRequest::Gone),
                Ok(0) => return Err(NoRequest::Bad(400, "the request ends before its empty line".into())),
                Ok(count) => self.buffer.extend_from_slice(&piece[..count]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => return Err(late()),
                Err(_) => return Err(NoRequest::Gone),
            }
        }
    }
}

/// A head without its empty line.
fn parse(head: &[u8]) -> Result<Request, NoRequest> {
    let bad = |why: &str| NoRequest::Bad(400, why.into());
    let head = std::str::from_utf8(head).map_err(|_| bad("the request's head is not UTF-8"))?;
    let mut lines = head.split("\r\n");
    let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, version] = words[..] else { return Err(bad("expected \"GET /path HTTP/1.1\"")) };
    if !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
        return Err(NoRequest::Bad(505, format!("expected HTTP/1.1 or HTTP/1.0, found {version:?}")));
    }
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(|| bad("expected \"name: value\" in every header"))?;
        // Space before the colon, and lines folded into several, make servers disagree about what was said.
        if name.is_empty() || name.contains([' ', '\t']) {
            return Err(bad("expected a header's name without spaces"));
        }
        let value = value.trim_matches([' ', '\t']);
        let known = headers.entry(name.to_ascii_lowercase()).or_default();
        *known = if known.is_empty() { value.into() } else { format!("{known}, {value}") };
    }
    if version == "HTTP/1.1" && !headers.contains_key("host") {
        return Err(bad("expected a Host header, which HTTP/1.1 demands"));
    }
    // A body would be taken for the next request.
    if headers.contains_key("transfer-encoding") || headers.get("content-length").is_some_and(|length| length != "0") {
        return Err(NoRequest::Bad(413, "expected a request without a body: files are only read here".into()));
    }
    let asked = headers.get("connection").map(|value| value.to_ascii_lowercase()).unwrap_or_default();
    let keep = match version {
        "HTTP/1.1" => !asked.contains("close"),
        _ => asked.contains("keep-alive"),
    };
    Ok(Request { method: method.into(), path: clean(target), keep, headers })
}

/// The path of a request's target: decoded, and only of parts that name something below the root.
fn clean(target: &str) -> Option<String> {
    // A proxy's form has scheme and host before the path.
    let path = match target.strip_prefix("http://") {
        Some(rest) => &rest[rest.find('/')?..],
        None => target,
    };
    let path = decode(path.split(['?', '#']).next()?.strip_prefix('/')?)?;
    // On Windows a part may also name a drive, a stream or a folder above.
    let safe = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', ':', '\0']);
    // A slash at the end asks for a folder's page.
    let parts = path.strip_suffix('/').unwrap_or(&path);
    (parts.is_empty() || parts.split('/').all(safe)).then_some(path)
}

/// `%20` and the like as bytes; `None` when they are no UTF-8 then, or a `%` stands alone.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, after @ ..] = rest else { return None };
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push((digit(*high)? << 4 | digit(*low)?) as u8);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_below_the_root_are_looked_up() {
        assert_eq!(clean("/").as_deref(), Some(""));
        assert_eq!(clean("/a/b.js?v=1#x").as_deref(), Some("a/b.js"));
        assert_eq!(clean("/a%20b/%C3%A9").as_deref(), Some("a b/é"));
        assert_eq!(clean("http://host:80/a/").as_deref(), Some("a/"));
        for path in [
            "",
            "a",
            "*",
            "//a",
            "/a//b",
            "/..",
            "/../a",
            "/a/../../b",
            "/%2e%2e/a",
            "/a%2f..%2f..%2fb",
            "/./a",
            "/a/.",
            "/..%5cb",
            "/C:/b",
            "/a%00",
            "/%",
            "/%f",
            "/%gg",
            "/%ff",
            "http://host",
        ] {
            assert_eq!(clean(path), None, "{path}");
        }
    }
}
