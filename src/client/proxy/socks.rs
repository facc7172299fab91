//! The client's end of SOCKS 5 (RFC 1928), with user and password (RFC 1929).

use std::io;
use std::net::IpAddr;

use http::Uri;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::connect::{LinkError, Setup, host_and_port};
use crate::client::link::Link;

use super::{Names, User};

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;
const NONE_ACCEPTABLE: u8 = 0xff;
const CONNECT: u8 = 1;

/// What a proxy is asked to connect to.
enum Destination {
    Address(IpAddr),
    Name(String),
}

/// Asks a proxy for a connection to the host of a URL.
pub(super) async fn ask(
    mut link: Link,
    proxy: &Uri,
    names: Names,
    user: Option<&User>,
    target: &Uri,
) -> Result<Link, LinkError> {
    let (host, port) = host_and_port(target);
    let destination = Destination::find(host, port, names).await?;
    introduce(&mut link, proxy, user).await?;
    let mut request = vec![VERSION, CONNECT, 0];
    destination.write(&mut request)?;
    request.extend(port.to_be_bytes());
    link.write_all(&request).await.map_err(broken)?;
    let [version, reply, _, address] = read::<4>(&mut link).await?;
    if version != VERSION {
        return Err(not_socks());
    }
    // The address that the proxy connected from is of no use, but it has to be read.
    let length = match address {
        1 => 4,
        4 => 16,
        3 => usize::from(read::<1>(&mut link).await?[0]),
        _ => return Err(not_socks()),
    };
    link.read_exact(&mut vec![0; length + 2]).await.map_err(broken)?;
    match reply {
        0 => Ok(link),
        reply => {
            let text = format!("the SOCKS proxy does not connect to {host}:{port}: {}", meaning(reply));
            Err(LinkError::Unreached(text.into()))
        }
    }
}

/// Settles how the client is known to the proxy.
async fn introduce(link: &mut Link, proxy: &Uri, user: Option<&User>) -> Result<(), LinkError> {
    let offer: &[u8] = match user {
        Some(_) => &[VERSION, 2, NO_AUTHENTICATION, USER_AND_PASSWORD],
        None => &[VERSION, 1, NO_AUTHENTICATION],
    };
    link.write_all(offer).await.map_err(broken)?;
    let refused = || {
        let (proxy, offered) = (super::shown(proxy).into(), "user and password".into());
        LinkError::Setup(Setup::ProxyAuth { proxy, offered, presented: user.is_some() })
    };
    match (read::<2>(link).await?, user) {
        ([VERSION, NO_AUTHENTICATION], _) => Ok(()),
        ([VERSION, USER_AND_PASSWORD], Some(user)) => {
            let mut request = vec![1];
            for part in [&user.name, &user.password] {
                // What is longer was refused when the URL was read.
                request.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
                request.extend(part.bytes().take(usize::from(u8::MAX)));
            }
            link.write_all(&request).await.map_err(broken)?;
            if read::<2>(link).await?[1] == 0 { Ok(()) } else { Err(refused()) }
        }
        ([VERSION, NONE_ACCEPTABLE], _) => Err(refused()),
        _ => Err(not_socks()),
    }
}

impl Destination {
    async fn find(host: &str, port: u16, names: Names) -> Result<Self, LinkError> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse() {
            return Ok(Self::Address(address));
        }
        if names == Names::AtTheProxy {
            return Ok(Self::Name(bare.to_owned()));
        }
        // More proxies reach the old addresses than the new ones.
        let found = tokio::net::lookup_host((bare, port)).await.map_err(broken)?;
        let found = found.min_by_key(|address| address.is_ipv6());
        let found = found.ok_or_else(|| LinkError::Unreached("the name has no address".into()))?;
        Ok(Self::Address(found.ip()))
    }

    fn write(&self, request: &mut Vec<u8>) -> Result<(), LinkError> {
        match self {
            Self::Address(IpAddr::V4(address)) => {
                request.push(1);
                request.extend(address.octets());
            }
            Self::Address(IpAddr::V6(address)) => {
                request.push(4);
                request.extend(address.octets());
            }
            Self::Name(name) => {
                let length = u8::try_from(name.len());
                request.push(3);
                request.push(length.map_err(|_| LinkError::Unreached("the name is too long".into()))?);
                request.extend(name.bytes());
            }
        }
        Ok(())
    }
}

async fn read<const N: usize>(link: &mut Link) -> Result<[u8; N], LinkError> {
    let mut bytes = [0; N];
    link.read_exact(&mut bytes).await.map_err(broken)?;
    Ok(bytes)
}

fn broken(error: io::Error) -> LinkError {
    LinkError::Unreached(error.into())
}

fn not_socks() -> LinkError {
    LinkError::Unreached("the proxy does not speak SOCKS 5".into())
}

/// What a reply means (RFC 1928, section 6).
fn meaning(reply: u8) -> &'static str {
    match reply {
        2 => "its rules forbid it",
        3 => "the network is unreachable",
        4 => "the host is unreachable",
        5 => "the connection was refused",
        6 => "the time to live has run out",
        7 | 8 => "it cannot do that",
        _ => "it failed",
    }
}
