//! What a request gets: RFC 9110's conditions, ranges and codings for files.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::files::{Coding, Content, Files, Found, Version};
use super::request::Request;

/// What tools/serve.mjs reads too: both servers send the same headers and types.
#[derive(Debug, Default, Deserialize)]
struct Served {
    headers: BTreeMap<String, String>,
    types: BTreeMap<String, String>,
}

// A file of this crate, which the tests read: it does not fail to parse.
static SERVED: LazyLock<Served> =
    LazyLock::new(|| serde_json::from_str(include_str!("served.json")).unwrap_or_default());

/// An answer, to be sent.
#[derive(Debug)]
pub struct Answer {
    /// 200 and so on.
    pub status: u16,
    /// Without those that belong to the connection.
    pub headers: Vec<(String, String)>,
    /// Where the body comes from.
    pub content: Content,
    /// The body's first byte in there.
    pub start: u64,
    /// The body's bytes.
    pub length: u64,
}

impl Answer {
    /// A refusal, told in words.
    pub fn words(status: u16, words: &str) -> Self {
        let text = format!("{words}\n");
        let headers = vec![("content-type".into(), "text/plain; charset=utf-8".into())];
        Self { status, headers: common(headers), length: text.len() as u64, content: Content::Words(text), start: 0 }
    }

    fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

fn common(mut headers: Vec<(String, String)>) -> Vec<(String, String)> {
    headers.extend(SERVED.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
    headers
}

/// Answers a request. A HEAD's answer has the body that it then must not send.
pub fn to(request: &Request, files: &dyn Files) -> Answer {
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        let words = format!("expected GET or HEAD, found {:?}: files are only read here", request.method);
        return Answer::words(405, &words).with("allow", "GET, HEAD");
    }
    let Some(asked) = &request.path else { return Answer::words(400, "expected the path of a file below /") };
    let path = if asked.is_empty() || asked.ends_with('/') { format!("{asked}index.html") } else { asked.clone() };
    let Some(found) = files.find(&path) else { return Answer::words(404, "there is no such file") };
    file(request, &path, found)
}

fn file(request: &Request, path: &str, found: Found) -> Answer {
    let varies = found.versions.iter().any(|version| version.coding != Coding::Identity);
    // A range is of the file as it is; where only packed forms are, the whole is sent, as RFC 9110 allows.
    let range = request.header("range").filter(|_| request.method == "GET");
    let tag = found.tag;
    let Some(version) = choose(found.versions, request.header("accept-encoding"), range.is_some()) else {
        let words = "this file is here in brotli and gzip only: send \"accept-encoding: gzip\" (curl --compressed)";
        return Answer::words(406, words).with("vary", "accept-encoding");
    };
    let tag = match version.coding {
        Coding::Identity => format!("\"{tag}\""),
        packed => format!("\"{tag}-{}\"", packed.name()),
    };
    let ending = path.rsplit_once('.').map_or("", |(_, ending)| ending);
    let kind = SERVED.types.get(ending).map_or("application/octet-stream", String::as_str);
    let cached = if is_hashed(path) { "public, max-age=31536000, immutable" } else { "no-cache" };
    let mut headers = vec![("content-type", kind), ("cache-control", cached), ("etag", &tag)];
    if varies {
        headers.push(("vary", "accept-encoding"));
    }
    match version.coding {
        Coding::Identity => headers.push(("accept-ranges", "bytes")),
        packed => headers.push(("content-encoding", packed.name())),
    }
    let headers = common(headers.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect());
    let answer = Answer { status: 200, headers, content: version.content, start: 0, length: version.length };

    if request.header("if-none-match").is_some_and(|tags| names(tags, &tag)) {
        return Answer { status: 304, content: Content::Memory(&[]), length: 0, ..answer };
    }
    let fits = request.header("if-range").is_none_or(|wanted| wanted == tag);
    match range.filter(|_| fits && version.coding == Coding::Identity).map(|text| part_of(text, version.length)) {
        None | Some(Part::Whole) => answer,
        Some(Part::Outside) => {
            let words = format!("expected a range within the file's {} bytes", version.length);
            Answer::words(416, &words).with("content-range", format!("bytes */{}", version.length))
        }
        Some(Part::Bytes(start, end)) => Answer { status: 206, start, length: end - start, ..answer }
            .with("content-range", format!("bytes {start}-{}/{}", end - 1, version.length)),
    }
}

/// The best version that the client takes.
fn choose(mut versions: Vec<Version>, accepted: Option<&str>, ranged: bool) -> Option<Version> {
    versions.sort_by_key(|version| version.coding);
    if ranged && let Some(plain) = versions.iter().position(|version| version.coding == Coding::Identity) {
        return Some(versions.swap_remove(plain));
    }
    let best = versions.iter().position(|version| takes(accepted.unwrap_or_default(), version.coding))?;
    Some(versions.swap_remove(best))
}

/// Whether `accept-encoding` lets a coding in: `q=0` refuses one, `*` speaks for those not named.
fn takes(accepted: &str, coding: Coding) -> bool {
    let weight = |wanted: &str| {
        accepted.split(',').find_map(|part| {
            let mut words = part.split(';').map(str::trim);
            let named = words.next().is_some_and(|name| name.eq_ignore_ascii_case(wanted));
            let weight =
                words.find_map(|word| word.strip_prefix("q=").or(word.strip_prefix("Q="))?.parse::<f32>().ok());
            named.then(|| weight.unwrap_or(1.0))
        })
    };
    weight(coding.name()).or_else(|| weight("*")).map_or(coding == Coding::Identity, |weight| weight > 0.0)
}

/// Whether a list of entity tags names this one; weakly, as `if-none-match` compares.
fn names(tags: &str, tag: &str) -> bool {
    tags.trim() == "*" || tags.split(',').any(|each| each.trim().trim_start_matches("W/") == tag)
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// Several ranges, or none that can be read: they may be passed over.
    Whole,
    Outside,
    /// First, and one after the last.
    Bytes(u64, u64),
}

fn part_of(range: &str, length: u64) -> Part {
    // A number that 64 bits do not hold is behind every file's end.
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|text| text.trim().split_once('-')) else {
        return Part::Whole;
    };
    match (number(first), number(last)) {
        (None, Some(count)) if first.is_empty() => match count.min(length) {
            0 => Part::Outside,
            count => Part::Bytes(length - count, length),
        },
        (Some(start), None) if last.is_empty() && start < length => Part::Bytes(start, length),
        (Some(_), None) if last.is_empty() => Part::Outside,
        (Some(start), Some(end)) if start > end => Part::Whole,
        (Some(start), Some(_)) if start >= length => Part::Outside,
        (Some(start), Some(end)) => Part::Bytes(start, end.saturating_add(1).min(length)),
        _ => Part::Whole,
    }
}

/// Vite puts the hash of the contents into these names: what has the name never changes.
fn is_hashed(path: &str) -> bool {
    let name = path.strip_prefix("assets/").and_then(|name| name.rsplit_once('.')).map_or("", |(name, _)| name);
    let hash = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let at = name.len().wrapping_sub(9);
    name.get(at..).is_some_and(|end| at > 0 && end.starts_with('-') && end[1..].chars().all(hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shared_table_is_read() {
        assert_eq!(SERVED.types["wasm"], "application/wasm");
        assert_eq!(SERVED.headers["x-content-type-options"], "nosniff");
    }

    #[test]
    fn ranges_are_read_as_rfc_9110_has_them() {
        for (range, part) in [
            ("bytes=0-0", Part::Bytes(0, 1)),
            ("bytes=2-4", Part::Bytes(2, 5)),
            ("bytes=8-99999999999999999999", Part::Bytes(8, 10)),
            ("bytes=9-", Part::Bytes(9, 10)),
            ("bytes=-3", Part::Bytes(7, 10)),
            ("bytes=-30", Part::Bytes(0, 10)),
            ("bytes=10-", Part::Outside),
            ("bytes=10-12", Part::Outside),
            ("bytes=-0", Part::Outside),
            ("bytes=99999999999999999999-", Part::Outside),
            ("bytes=4-2", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("lines=1-2", Part::Whole),
        ] {
            assert_eq!(part_of(range, 10), part, "{range}");
        }
        assert_eq!(part_of("bytes=0-", 0), Part::Outside);
    }

    #[test]
    fn codings_are_taken_by_name_weight_and_star() {
        let taken = |accepted: &str| [Coding::Brotli, Coding::Gzip, Coding::Identity].map(|c| takes(accepted, c));
        assert_eq!(taken(""), [false, false, true]);
        assert_eq!(taken("gzip, deflate, br, zstd"), [true, true, true]);
        assert_eq!(taken("gzip, br;q=0"), [false, true, true]);
        assert_eq!(taken("*"), [true, true, true]);
        assert_eq!(taken("*;q=0, gzip; q=0.5"), [false, true, false]);
        assert_eq!(taken("identity;q=0, BR"), [true, false, false]);
    }

    #[test]
    fn only_names_with_a_hash_are_kept_for_ever() {
        assert!(is_hashed("assets/index-DPhDRsDM.js"));
        assert!(is_hashed("assets/tabreel_bg-D1H-dJ_r.wasm"));
        for path in ["assets/index.js", "assets/-DPhDRsDM.js", "assets/é-123.js", "sw.js", "index-DPhDRsDM.js"] {
            assert!(!is_hashed(path), "{path}");
        }
    }
}
