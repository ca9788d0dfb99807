//! The console: pages for browsers, and JSON over HTTP.

use super::{Role, compile::Compiler, problem::Fault, raw};
use std::net::{Ipv4Addr, SocketAddr};

const PORT: u16 = 8090;

/// The longest name of a host, by RFC 1035, section 2.3.4.
const LONGEST_NAME: usize = 253;

/// The console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Console {
    /// The address to listen on; `None` if it is off.
    pub listen: Option<SocketAddr>,
    /// The names by which clients call it, besides the loopback names and its address. In lower case.
    pub names: Vec<String>,
}

/// Without a written address, the console is on where ingress and relay are one process.
pub(super) fn compile(c: &mut Compiler<'_>, raw: &raw::Console) -> Console {
    let default = (c.role == Role::Both).then(|| SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)));
    let listen = c.problems.or(raw.listen.as_ref(), default, |text| listen(text));
    let names = raw.names.iter().map(|name| c.problems.or(Some(name), String::new(), |text| host(text)));
    Console { listen, names: names.collect() }
}

fn listen(text: &str) -> Result<Option<SocketAddr>, Fault> {
    if text == "off" {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        let help = format!("write an IP address and a port, such as 127.0.0.1:{PORT}, or off");
        ("console.listen is not an address".into(), help)
    })
}

fn host(text: &str) -> Result<String, Fault> {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if text.len() <= LONGEST_NAME && text.split('.').all(is_label) {
        return Ok(text.to_ascii_lowercase());
    }
    let help = "write the name alone, such as talaria.example.com, without https:// and without a port";
    Err(("not a host's name".into(), help.into()))
}
