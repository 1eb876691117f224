//! `tabreel serve`: the page, its engine and the default model out of this one program.

mod answer;
mod files;
mod page;
mod request;
mod server;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::Args;

use self::files::{Files, Folder, Layers};
use self::page::{PAGE, Page};
use self::server::Limits;
use crate::error::{Error, Result};

/// Options of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Open the page in the browser.
    #[arg(long)]
    open: bool,
    /// A folder of model folders to serve under /models/, before what is inside the program.
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// Port to listen on; 0 takes any free one. [default: 8080, or the next that is free]
    #[arg(long, value_name = "N")]
    port: Option<u16>,
    /// Address to listen on; 0.0.0.0 lets other machines in.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
}

/// Tried without `--port`.
const PORTS: std::ops::Range<u16> = 8080..8100;

/// Runs `serve`, until the program is stopped.
///
/// # Errors
/// [`Error::Fetch`] when the page is not in this binary or `--models` is no folder; [`Error::InvalidOptions`] when the
/// address cannot be listened on.
pub fn run(args: &ServeArgs, json: bool) -> Result<()> {
    let Page([_, ..]) = PAGE else {
        return Err(Error::Fetch(
            "this binary was built without the page: npm run build:serve makes one with it".into(),
        ));
    };
    let models = args.models.as_ref().map(|path| Folder::open("models/", path)).transpose()?;
    let folder = models.as_ref().map(|folder| folder as &dyn Files);
    let files = Layers(folder.into_iter().chain([&PAGE as &dyn Files]).collect());
    let listener = listen(&args.host, args.port)?;
    let failed = |e: io::Error| Error::Internal(format!("the address listened on: {e}"));
    let address = listener.local_addr().map_err(failed)?;
    let url = format!("http://{}/", seen_from_here(address));
    // Whoever started it may have closed the pipe; it is served all the same.
    let mut out = io::stdout();
    let _ = match json {
        true => writeln!(out, "{}", serde_json::json!({ "type": "serving", "url": url })),
        false => writeln!(out, "tabreel is at {url}   (Ctrl+C stops it)"),
    };
    let _ = out.flush();
    if !address.ip().is_loopback() {
        let _ = writeln!(
            io::stderr(),
            "note: other machines get the page over plain http, where browsers withhold WebGPU, storage and offline use"
        );
    }
    if args.open
        && let Err(why) = open(&url)
    {
        let _ = writeln!(io::stderr(), "warning: no browser could be opened ({why}): open {url} yourself");
    }
    server::serve(&listener, &files, Limits::default());
    Ok(())
}

/// The port wanted, or the first free one of [`PORTS`].
fn listen(host: &str, port: Option<u16>) -> Result<TcpListener> {
    let bind = |port: u16| {
        let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
        TcpListener::bind(&addresses[..])
    };
    if let Some(port) = port {
        return bind(port).map_err(|e| match e.kind() {
            io::ErrorKind::AddrInUse => {
                Error::options(format!("port {port} of {host} is in use: another --port, or none for a free one"))
            }
            _ => Error::options(format!("cannot listen on {host}, port {port}: {e}")),
        });
    }
    for port in PORTS {
        match bind(port) {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {}
            Err(e) => return Err(Error::options(format!("cannot listen on {host}, port {port}: {e}"))),
            Ok(listener) => return Ok(listener),
        }
    }
    Err(Error::options(format!(
        "ports {} to {} of {host} are in use: name a free one with --port",
        PORTS.start,
        PORTS.end - 1
    )))
}

/// An address that listens everywhere is no address to go to.
fn seen_from_here(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Opens the system's browser; does not wait for it.
fn open(url: &str) -> io::Result<()> {
    let (program, args): (&str, &[&str]) = match std::env::consts::OS {
        "macos" => ("open", &[]),
        // `start` takes its first quoted word for a window's title.
        "windows" => ("cmd", &["/C", "start", ""]),
        _ => ("xdg-open", &[]),
    };
    let mut command = Command::new(program);
    command.args(args).arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map(drop)
}
