//! The few words of HTTP that the launcher speaks to its own engine.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);

/// Sends one statement as the launcher's user; the body of a good answer.
pub(crate) fn execute(port: u16, password: &str, statement: &str) -> anyhow::Result<String> {
    let head = format!(
        "POST / HTTP/1.0\r\nX-ClickHouse-User: annals_launcher\r\nX-ClickHouse-Key: {password}\r\n\
         Content-Length: {}\r\n\r\n",
        statement.len()
    );
    exchange(port, &format!("{head}{statement}"))
}

/// Whether the engine answers at all.
pub(crate) fn ping(port: u16) -> bool {
    exchange(port, "GET /ping HTTP/1.0\r\n\r\n").is_ok()
}

fn exchange(port: u16, request: &str) -> anyhow::Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let good = head.split_whitespace().nth(1) == Some("200");
    anyhow::ensure!(good, "the engine answered: {body}");
    Ok(body.to_owned())
}
