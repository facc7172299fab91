//! The exchanges of one connection, one after the other, and the tunnel that an upgrade makes of it.

use std::future::pending;
use std::io;

use tokio::io::AsyncWriteExt as _;
use tokio::sync::OwnedSemaphorePermit;

use super::head::{Framing, Head};
use super::link::{Link, Reader, Side, Writer, fill, gone};
use super::script::Script;
use super::{Direction, Rule, Upstream};

/// What becomes of a request.
enum Fate {
    Pass,
    /// Answered by the network.
    Answer(u16),
    Strip,
    Swallow,
    Replay,
}

fn fate(rule: Rule, script: &Script, request: &Head, body: Framing) -> Option<Fate> {
    match rule {
        Rule::OneEach { every, status } if script.is_too_soon(every) => Some(Fate::Answer(status)),
        Rule::CaptivePortal => Some(Fate::Answer(200)),
        Rule::Refuse { status } => Some(Fate::Answer(status)),
        Rule::RefuseUpgrade { status } if request.is_upgrade() => Some(Fate::Answer(status)),
        Rule::StripUpgrade if request.is_upgrade() => Some(Fate::Strip),
        Rule::SwallowUpgrade if request.is_upgrade() => Some(Fate::Swallow),
        Rule::LimitBody { bytes } if matches!(body, Framing::Length(length) if length > bytes) => {
            Some(Fate::Answer(413))
        }
        Rule::SwallowPost if request.is_post() => Some(Fate::Swallow),
        Rule::ReplayRequest if request.is_post() => Some(Fate::Replay),
        _ => None,
    }
}

/// Serves a connection until either end, or a rule, ends it.
pub(super) async fn converse(link: &Link, mut client: Side, upstream: &Upstream) -> io::Result<()> {
    let mut server: Option<Side> = None;
    loop {
        let request = {
            let server_gone = async {
                match &mut server {
                    Some(server) => gone(&mut server.read, &mut server.buffer).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                request = client.head(Head::request) => request?,
                () = server_gone => None,
            }
        };
        let Some(request) = request else { return Ok(()) };
        link.busy.send_replace(true);
        let mut body = request.framing(None)?;
        let fate = link.script.act(|rule| fate(rule, &link.script, &request, body)).unwrap_or(Fate::Pass);
        let stripped;
        let head = match fate {
            Fate::Answer(status) => {
                drain(&mut client, &mut body).await?;
                return answer(link, &mut client, status).await;
            }
            Fate::Swallow => {
                drain(&mut client, &mut body).await?;
                gone(&mut client.read, &mut client.buffer).await;
                return Ok(());
            }
            Fate::Replay => {
                let mut whole = request.bytes.clone();
                whole.extend(drain(&mut client, &mut body).await?);
                try_once(link, &mut client, &whole, &request, upstream).await?;
                whole_again(link, &mut client, &mut server, &whole, upstream).await?;
                &[]
            }
            Fate::Strip => {
                stripped = request.without_upgrade();
                stripped.as_slice()
            }
            Fate::Pass => request.bytes.as_slice(),
        };
        let Some(_place) = place(link, &mut client).await else { return Ok(()) };
        if server.is_none() {
            match upstream.connect().await {
                Ok(side) => server = Some(side),
                Err(_) => {
                    drain(&mut client, &mut body).await?;
                    return answer(link, &mut client, 502).await;
                }
            }
        }
        let Some(side) = &mut server else { return Ok(()) };
        link.pass(Direction::Up, head, &mut side.write).await?;
        while !body.is_over() {
            let piece = next_piece(&mut client, &mut body).await?;
            link.pass(Direction::Up, &piece, &mut side.write).await?;
        }
        if !respond(link, &mut client, side, &request).await? {
            return Ok(());
        }
        if link.is_old() {
            return Ok(());
        }
        link.busy.send_replace(false);
    }
}

/// Whether it is known when the client goes: if not, what it asked for is done all the same.
fn notices(rule: Rule) -> Option<bool> {
    if let Rule::OneAtATime { notices } = rule { Some(notices) } else { None }
}

/// Returns when the client is gone, where that is noticed.
async fn left(link: &Link, client: (&mut Reader, &mut Vec<u8>)) {
    if link.script.all(notices).contains(&false) {
        return pending().await;
    }
    gone(client.0, client.1).await;
}

/// Waits until a request may be made: what it is given ends with it. `None` when the client goes first.
async fn place(link: &Link, client: &mut Side) -> Option<Option<OwnedSemaphorePermit>> {
    if link.script.act(notices).is_none() {
        return Some(None);
    }
    tokio::select! {
        place = link.script.place() => Some(place),
        () = left(link, (&mut client.read, &mut client.buffer)) => None,
    }
}

/// The next bytes of a body.
async fn next_piece(side: &mut Side, body: &mut Framing) -> io::Result<Vec<u8>> {
    if side.buffer.is_empty() && fill(&mut side.read, &mut side.buffer).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let taken = body.take(&side.buffer)?;
    Ok(side.buffer.drain(..taken).collect())
}

/// Takes a body to its end.
async fn drain(side: &mut Side, body: &mut Framing) -> io::Result<Vec<u8>> {
    let mut whole = Vec::new();
    while !body.is_over() {
        whole.extend(next_piece(side, body).await?);
    }
    Ok(whole)
}

/// Answers for the server, and ends the connection.
async fn answer(link: &Link, client: &mut Side, status: u16) -> io::Result<()> {
    let asks = if status == 407 { "proxy-authenticate: Basic realm=\"rough\"\r\n" } else { "" };
    let page = "<!doctype html><title>rough</title><p>This is not the page you asked for.";
    let length = page.len();
    let answer = format!(
        "HTTP/1.1 {status} Rough\r\ncontent-type: text/html\r\n{asks}content-length: {length}\r\nconnection: close\r\n\r\n{page}"
    );
    link.pass(Direction::Down, answer.as_bytes(), &mut client.write).await?;
    client.write.shutdown().await
}

/// Makes a request, and throws its response away. It is over early when the client goes.
async fn try_once(
    link: &Link,
    client: &mut Side,
    request: &[u8],
    head: &Head,
    upstream: &Upstream,
) -> io::Result<()> {
    let mut server = upstream.connect().await?;
    link.pass(Direction::Up, request, &mut server.write).await?;
    tokio::select! {
        committed = commit(&mut server, head) => committed,
        () = gone(&mut client.read, &mut client.buffer) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Makes the same request on a connection of its own, which stays.
async fn whole_again(
    link: &Link,
    client: &mut Side,
    server: &mut Option<Side>,
    request: &[u8],
    upstream: &Upstream,
) -> io::Result<()> {
    let side = server.insert(upstream.connect().await?);
    tokio::select! {
        passed = link.pass(Direction::Up, request, &mut side.write) => passed,
        () = gone(&mut client.read, &mut client.buffer) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Waits until the server has done what was asked: for the whole response, or the head of one without a length.
async fn commit(server: &mut Side, request: &Head) -> io::Result<()> {
    let Some(response) = server.head(Head::response).await? else { return Ok(()) };
    let mut body = response.framing(Some(request))?;
    if let Framing::Length(_) = body {
        drain(server, &mut body).await?;
    }
    Ok(())
}

/// Waits for the head of the response; `None` when either end goes first.
async fn response_to(link: &Link, client: &mut Side, server: &mut Side) -> io::Result<Option<Head>> {
    loop {
        let response = tokio::select! {
            response = server.head(Head::response) => response?,
            () = left(link, (&mut client.read, &mut client.buffer)) => None,
        };
        match response {
            // An interim response is none yet.
            Some(interim) if matches!(interim.status, Some(100 | 102..=199)) => {
                link.pass(Direction::Down, &interim.bytes, &mut client.write).await?;
            }
            response => return Ok(response),
        }
    }
}

/// Passes the response on; says whether another exchange may follow.
async fn respond(link: &Link, client: &mut Side, server: &mut Side, request: &Head) -> io::Result<bool> {
    let Some(response) = response_to(link, client, server).await? else { return Ok(false) };
    let mut body = response.framing(Some(request))?;
    if link.script.acts(Rule::DropResponse) {
        if matches!(body, Framing::Length(_)) {
            drain(server, &mut body).await?;
        }
        return Ok(false);
    }
    if response.status == Some(101) {
        link.pass(Direction::Down, &response.bytes, &mut client.write).await?;
        return tunnel(link, client, server).await.map(|()| false);
    }
    let Side { read, write, buffer } = client;
    tokio::select! {
        passed = pass_response(link, &response, &mut body, server, write) => passed?,
        () = left(link, (read, buffer)) => return Ok(false),
    }
    Ok(body != Framing::Close && !response.is_last() && !request.is_last())
}

/// Passes a response on, in blocks if a rule says so.
async fn pass_response(
    link: &Link,
    response: &Head,
    body: &mut Framing,
    server: &mut Side,
    write: &mut Writer,
) -> io::Result<()> {
    let hold = |rule| if let Rule::HoldBody { bytes, head } = rule { Some((bytes, head)) } else { None };
    let (block, with_head) = match link.script.act(hold) {
        Some((bytes, head)) => (bytes.unwrap_or(u64::MAX), head),
        None => (0, false),
    };
    let mut held = Vec::new();
    if with_head {
        held.extend_from_slice(&response.bytes);
    } else {
        link.pass(Direction::Down, &response.bytes, write).await?;
    }
    while !body.is_over() {
        match next_piece(server, body).await {
            Err(end) if end.kind() == io::ErrorKind::UnexpectedEof && *body == Framing::Close => break,
            piece => held.extend(piece?),
        }
        if held.len() as u64 >= block {
            link.pass(Direction::Down, &std::mem::take(&mut held), write).await?;
        }
    }
    link.pass(Direction::Down, &held, write).await
}

/// What passes through an upgraded connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Passes {
    Both,
    Only(Direction),
    Nothing,
}

/// Passes bytes until either end is done.
async fn tunnel(link: &Link, client: &mut Side, server: &mut Side) -> io::Result<()> {
    link.busy.send_replace(false);
    let limited = link.script.act(|rule| match rule {
        Rule::CarryNothing => Some(Passes::Nothing),
        Rule::OneWay(direction) => Some(Passes::Only(direction)),
        _ => None,
    });
    let passes = limited.unwrap_or(Passes::Both);
    let open = |direction| passes == Passes::Both || passes == Passes::Only(direction);
    let up = pump(
        link,
        Direction::Up,
        open(Direction::Up),
        (&mut client.read, &mut client.buffer),
        &mut server.write,
    );
    let down = pump(
        link,
        Direction::Down,
        open(Direction::Down),
        (&mut server.read, &mut server.buffer),
        &mut client.write,
    );
    tokio::select! {
        ended = up => ended,
        ended = down => ended,
    }
}

async fn pump(
    link: &Link,
    direction: Direction,
    open: bool,
    (read, buffer): (&mut Reader, &mut Vec<u8>),
    write: &mut Writer,
) -> io::Result<()> {
    loop {
        if open {
            link.pass(direction, buffer, write).await?;
        }
        buffer.clear();
        if fill(read, buffer).await? == 0 {
            return Ok(());
        }
    }
}
