//! Frames made of arbitrary bytes, such as an encoder may be given.

use arbitrary::{Result, Unstructured};
use throughline::frame::{
    Ack, Attach, Attachment, Body, Close, CloseCode, CloseDetail, Epoch, Frame, Hello, Json, MAX_NUMBER,
    Message, MessageKind, Move, Poll, Push, Role, Seq, SessionId, SessionKey, TransportKind, Welcome, Window,
};

/// A frame that this end may send.
pub(crate) fn frame(data: &mut Unstructured<'_>, from: Role) -> Result<Frame> {
    Ok(match (data.int_in_range(0..=10)?, from) {
        (0, _) => Frame::Ack(ack(data)?),
        (1, _) => Frame::Ping(option(data, number)?),
        (2, _) => Frame::Pong(option(data, number)?),
        (3, _) => Frame::Close(close(data)?),
        (10, _) => Frame::Closing,
        (4, Role::Client) => Frame::Hello(Box::new(hello(data)?)),
        (4, Role::Server) => Frame::Welcome(Box::new(welcome(data)?)),
        (5, Role::Client) => {
            let (received, taken) = receipt(data)?;
            Frame::Attach(Attach { received, taken })
        }
        (5, Role::Server) => {
            Frame::Move(Move { transport: option(data, transport)?, within_ms: number(data)? })
        }
        (6, Role::Client) => Frame::Auth(json(data)?),
        (6, Role::Server) => Frame::AuthOk(number(data)?),
        (7, Role::Client) => Frame::Poll(Box::new(poll(data)?)),
        (8, Role::Client) => Frame::Push(Box::new(push(data)?)),
        _ => Frame::Message(message(data)?),
    })
}

fn message(data: &mut Unstructured<'_>) -> Result<Message> {
    let seq = id(data)?;
    let kind = match data.int_in_range(0..=3)? {
        0 => MessageKind::Plain,
        1 => MessageKind::Request,
        2 => MessageKind::Reply(id(data)?),
        _ => MessageKind::Failure(id(data)?),
    };
    let bytes = !matches!(kind, MessageKind::Failure(_)) && data.arbitrary()?;
    let body = if bytes { Body::from(data.arbitrary::<Vec<u8>>()?) } else { Body::from(json(data)?) };
    Ok(Message { seq, kind, body })
}

fn ack(data: &mut Unstructured<'_>) -> Result<Ack> {
    let (received, taken) = receipt(data)?;
    Ok(Ack { received, taken: taken.unwrap_or(received) })
}

fn close(data: &mut Unstructured<'_>) -> Result<Close> {
    let code = if data.arbitrary()? {
        let codes: Vec<_> = CloseCode::all().collect();
        data.choose(&codes)?.clone()
    } else {
        let word: String = data.arbitrary::<&str>()?.chars().take(64).collect();
        CloseCode::from_word(&word).unwrap_or(CloseCode::Normal)
    };
    let detail = CloseDetail {
        received: option(data, seq)?,
        attachment: option(data, attachment)?,
        retry_after_ms: option(data, number)?,
    };
    Ok(Close::new(code, data.arbitrary::<String>()?).with_detail(detail))
}

fn hello(data: &mut Unstructured<'_>) -> Result<Hello> {
    let (received, taken) = receipt(data)?;
    Ok(Hello {
        version: data.arbitrary()?,
        session: SessionId::from_bytes(data.arbitrary()?),
        key: SessionKey::from_bytes(data.arbitrary()?),
        epoch: option(data, epoch)?,
        attachment: attachment(data)?,
        transport: transport(data)?,
        received,
        taken,
        window: window(data)?,
        candidate: data.arbitrary()?,
        auth: option(data, json)?,
        client: option(data, json)?,
    })
}

fn welcome(data: &mut Unstructured<'_>) -> Result<Welcome> {
    let (received, taken) = receipt(data)?;
    Ok(Welcome {
        session: SessionId::from_bytes(data.arbitrary()?),
        epoch: epoch(data)?,
        attachment: attachment(data)?,
        received,
        taken,
        resumed: data.arbitrary()?,
        window: window(data)?,
        heartbeat_ms: number(data)?,
        resume_window_ms: number(data)?,
        max_message_bytes: number(data)?,
        max_batch_bytes: number(data)?,
        transports: (0..data.int_in_range(0..=3)?).map(|_| transport(data)).collect::<Result<_>>()?,
        auth_expires_ms: option(data, number)?,
    })
}

fn poll(data: &mut Unstructured<'_>) -> Result<Poll> {
    let (received, taken) = receipt(data)?;
    let Push { session, key, epoch, attachment } = push(data)?;
    Ok(Poll { session, key, epoch, attachment, received, taken, hold_ms: number(data)? })
}

fn push(data: &mut Unstructured<'_>) -> Result<Push> {
    Ok(Push {
        session: SessionId::from_bytes(data.arbitrary()?),
        key: SessionKey::from_bytes(data.arbitrary()?),
        epoch: epoch(data)?,
        attachment: attachment(data)?,
    })
}

fn window(data: &mut Unstructured<'_>) -> Result<Window> {
    Ok(Window { messages: data.arbitrary()?, bytes: number(data)? })
}

fn epoch(data: &mut Unstructured<'_>) -> Result<Epoch> {
    data.arbitrary().map(Epoch::from_bytes)
}

fn transport(data: &mut Unstructured<'_>) -> Result<TransportKind> {
    data.choose(&TransportKind::ALL).copied()
}

fn option<T>(
    data: &mut Unstructured<'_>,
    of: impl FnOnce(&mut Unstructured<'_>) -> Result<T>,
) -> Result<Option<T>> {
    if data.arbitrary()? { of(data).map(Some) } else { Ok(None) }
}

fn receipt(data: &mut Unstructured<'_>) -> Result<(Seq, Option<Seq>)> {
    let received = seq(data)?;
    Ok((received, option(data, seq)?.map(|taken| taken.min(received))))
}

/// A number of any length, in bytes, digits and varints.
fn number(data: &mut Unstructured<'_>) -> Result<u64> {
    let shift = data.int_in_range(11..=64_u32)?;
    Ok(data.arbitrary::<u64>()?.checked_shr(shift).unwrap_or(0).min(MAX_NUMBER))
}

fn seq(data: &mut Unstructured<'_>) -> Result<Seq> {
    Ok(Seq::new(number(data)?).unwrap_or(Seq::ZERO))
}

fn id(data: &mut Unstructured<'_>) -> Result<Seq> {
    Ok(Seq::new(number(data)?.max(1)).unwrap_or(Seq::MAX))
}

fn attachment(data: &mut Unstructured<'_>) -> Result<Attachment> {
    Ok(Attachment::new(number(data)?).unwrap_or(Attachment::FIRST))
}

/// Well-formed JSON: text as it came if it is that, else built of what came.
fn json(data: &mut Unstructured<'_>) -> Result<Json> {
    if data.arbitrary()? {
        let text = data.arbitrary::<String>()?;
        return Ok(Json::parse(text.clone()).unwrap_or_else(|_| string(&text)));
    }
    let mut text = String::new();
    build(data, 0, &mut text)?;
    Json::parse(text).map_err(|_| arbitrary::Error::IncorrectFormat)
}

fn string(text: &str) -> Json {
    Json::of(text).unwrap_or_else(|_| unreachable!("every string has a JSON form"))
}

fn build(data: &mut Unstructured<'_>, depth: usize, text: &mut String) -> Result<()> {
    let most = if depth < 128 { 6 } else { 4 };
    match data.int_in_range(0..=most)? {
        0 => text.push_str("null"),
        1 => text.push_str(data.choose(&["true", " false ", "-0.0", "1e400", "0.1E-7"])?),
        2 => text.push_str(&number(data)?.to_string()),
        3 => text.push_str("\"\\u0000\\/\\\"[{\""),
        4 => text.push_str(string(data.arbitrary::<&str>()?).as_str()),
        5 => {
            text.push('[');
            for index in 0..data.int_in_range(0..=2)? {
                text.push_str(if index == 0 { " " } else { ",\r\n" });
                build(data, depth + 1, text)?;
            }
            text.push(']');
        }
        _ => {
            text.push('{');
            for index in 0..data.int_in_range(0..=2)? {
                text.push_str(if index == 0 { "\"a\":" } else { ",\"b\\\"{\" :\t" });
                build(data, depth + 1, text)?;
            }
            text.push('}');
        }
    }
    Ok(())
}
