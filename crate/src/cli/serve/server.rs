//! Connections: a bounded number of threads, each sending files to one client in bounded time.

use std::fmt::Write as _;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::answer::{self, Answer};
use super::files::{Content, Files};
use super::request::{Incoming, NoRequest};

/// What one client may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections, and threads, at once; further ones wait.
    pub connections: usize,
    /// For a whole request head to arrive, from the answer before it.
    pub request: Duration,
    /// For a client to take the next [`PIECE`] bytes.
    pub piece: Duration,
}

impl Default for Limits {
    /// Six connections are a browser's most.
    fn default() -> Self {
        Self { connections: 64, request: Duration::from_secs(10), piece: Duration::from_secs(30) }
    }
}

/// Written at once, bytes.
pub const PIECE: usize = 64 << 10;
/// For a refused client to end what it is still sending, so that it reads the answer.
const FAREWELL: Duration = Duration::from_millis(500);

/// Serves until the program ends.
pub fn serve(listener: &TcpListener, files: &dyn Files, limits: Limits) {
    let places = Places { taken: Mutex::new(0), freed: Condvar::new() };
    thread::scope(|scope| {
        loop {
            let place = places.take(limits.connections);
            let Ok((stream, _)) = listener.accept() else {
                // Too many open files, or a client that left at once: the next one may fare better.
                drop(place);
                thread::sleep(Duration::from_millis(20));
                continue;
            };
            // Without a thread for it the connection is closed, and the browser asks again.
            let _ = thread::Builder::new().spawn_scoped(scope, move || {
                let _place = place;
                connection(&stream, files, limits);
            });
        }
    });
}

/// Counts the connections.
struct Places {
    taken: Mutex<usize>,
    freed: Condvar,
}

struct Place<'a>(&'a Places);

impl Places {
    /// Waits for one.
    fn take(&self, most: usize) -> Place<'_> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = self.freed.wait_while(taken, |taken| *taken >= most).unwrap_or_else(PoisonError::into_inner);
        *taken += 1;
        Place(self)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.0.taken.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.freed.notify_one();
    }
}

fn connection(stream: &TcpStream, files: &dyn Files, limits: Limits) {
    let _ = stream.set_nodelay(true);
    let mut incoming = Incoming::new(stream);
    loop {
        let (answer, keep, bodiless) = match incoming.next(limits.request) {
            Ok(request) => (answer::to(&request, files), request.keep, request.method == "HEAD"),
            Err(NoRequest::Gone) => return,
            Err(NoRequest::Bad(status, words)) => (Answer::words(status, &words), false, false),
        };
        if send(stream, answer, keep, bodiless, limits.piece).is_err() {
            return;
        }
        if !keep {
            return farewell(stream);
        }
    }
}

/// Reads on for a moment: closing a socket with unread bytes would take the answer back.
fn farewell(mut stream: &TcpStream) {
    let end = Instant::now() + FAREWELL;
    let _ = stream.shutdown(Shutdown::Write);
    let mut rest = [0; 4096];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() || !matches!(stream.read(&mut rest), Ok(1..))
        {
            return;
        }
    }
}

fn send(stream: &TcpStream, answer: Answer, keep: bool, bodiless: bool, within: Duration) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {} {}\r\n", answer.status, reason(answer.status));
    for (name, value) in &answer.headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    // A 304 tells of a body that it does not have; its length is left out.
    if answer.status != 304 {
        let _ = write!(head, "content-length: {}\r\n", answer.length);
    }
    head += if keep { "connection: keep-alive\r\n\r\n" } else { "connection: close\r\n\r\n" };
    write(stream, head.as_bytes(), within)?;
    if bodiless {
        return Ok(());
    }
    let part = |bytes: &[u8]| -> io::Result<()> {
        let bytes = bytes.get(answer.start as usize..(answer.start + answer.length) as usize).unwrap_or_default();
        bytes.chunks(PIECE).try_for_each(|piece| write(stream, piece, within))
    };
    match answer.content {
        Content::Memory(bytes) => part(bytes),
        Content::Words(words) => part(words.as_bytes()),
        Content::Disk(mut file) => {
            file.seek(SeekFrom::Start(answer.start))?;
            let mut left = answer.length;
            let mut piece = vec![0; PIECE];
            while left > 0 {
                let most = left.min(PIECE as u64) as usize;
                let count = file.read(&mut piece[..most])?;
                if count == 0 {
                    // It was cut while it was sent: only an early end of the connection says so.
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                write(stream, &piece[..count], within)?;
                left -= count as u64;
            }
            Ok(())
        }
    }
}

/// Writes all of it, in this time.
fn write(mut stream: &TcpStream, mut bytes: &[u8], within: Duration) -> io::Result<()> {
    let deadline = Instant::now() + within;
    while !bytes.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_write_timeout(Some(left))?;
        match stream.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        304 => "Not Modified",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        413 => "Content Too Large",
        416 => "Range Not Satisfiable",
        431 => "Request Header Fields Too Large",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}
