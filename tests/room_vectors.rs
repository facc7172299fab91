//! Replays `tests/vectors/rooms.json`: payloads of rooms, as any client or server of the layer reads and writes them.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use throughline::frame::{Body, Json};
use throughline::room::payload::{History, Join, Notice, Operation, Page, Read, escape};

type Fault = Box<dyn std::error::Error>;

#[derive(Deserialize)]
struct Vectors {
    operations: Vec<Said>,
    notices: Vec<Meant>,
    app: Vec<Wrapped>,
    refused: Vec<Refused>,
    unknown: Vec<Unknown>,
    pages: Vec<PageVector>,
}

#[derive(Deserialize)]
struct Said {
    name: String,
    says: Value,
    #[serde(flatten)]
    input: Input,
}

#[derive(Deserialize)]
struct Meant {
    name: String,
    means: Value,
    only: Option<String>,
    #[serde(flatten)]
    input: Input,
}

#[derive(Deserialize)]
struct Wrapped {
    #[serde(flatten)]
    input: Input,
    sent: Input,
}

#[derive(Deserialize)]
struct Refused {
    from: String,
    tag: String,
    #[serde(flatten)]
    input: Input,
}

#[derive(Deserialize)]
struct Unknown {
    tag: String,
    #[serde(flatten)]
    input: Input,
}

#[derive(Deserialize)]
struct PageVector {
    text: String,
    means: Vec<Value>,
}

#[derive(Deserialize)]
struct Input {
    text: Option<String>,
    hex: Option<String>,
}

impl Input {
    fn body(&self) -> Result<Body, Fault> {
        match (&self.text, &self.hex) {
            (Some(text), None) => Ok(Json::parse(text.clone())?.into()),
            (None, Some(hex)) => unhex(hex).map(Body::from),
            _ => Err("either text or hex".into()),
        }
    }
}

fn unhex(hex: &str) -> Result<Bytes, Fault> {
    Ok(data_encoding::HEXLOWER.decode(hex.as_bytes())?.into())
}

fn load() -> Result<Vectors, Fault> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/rooms.json");
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

/// By its text: a `Json` inside reads no `Value`.
fn of<T: DeserializeOwned>(value: &Value) -> Result<T, Fault> {
    Ok(serde_json::from_str(&value.to_string())?)
}

/// The body that a vector describes: bytes, or JSON.
fn body_of(vector: &Value) -> Result<Body, Fault> {
    match vector["hex"].as_str() {
        Some(hex) => unhex(hex).map(Body::from),
        None => Ok(Json::parse(vector["body"].to_string())?.into()),
    }
}

fn operation_of(says: &Value) -> Result<Operation, Fault> {
    let room = of(&says["room"])?;
    Ok(match says["$"].as_str() {
        Some("join") => Operation::Join(of::<Join>(says)?),
        Some("leave") => Operation::Leave { room },
        Some("publish") => {
            Operation::Publish { room, key: says.get("key").map(of).transpose()?, body: body_of(says)? }
        }
        Some("meta") => Operation::Meta { room, meta: says.get("meta").map(of).transpose()? },
        Some("presence") => Operation::Presence { room },
        Some("history") => Operation::History(of::<History>(says)?),
        other => return Err(format!("tag {other:?}").into()),
    })
}

/// A payload in the words of a vector.
fn words(payload: &Body) -> Result<Value, Fault> {
    let Body::Binary(bytes) = payload else { return Ok(serde_json::from_slice(payload.as_bytes())?) };
    let length = usize::from(bytes[1]) << 8 | usize::from(bytes[2]);
    let (head, blob) = bytes[3..].split_at(length);
    let mut words: Value = serde_json::from_slice(head)?;
    words["hex"] = json!(data_encoding::HEXLOWER.encode(blob));
    Ok(words)
}

#[test]
fn operations_are_written_byte_by_byte_and_read_as_themselves() -> Result<(), Fault> {
    for Said { name, says, input } in load()?.operations {
        let operation = operation_of(&says)?;
        assert_eq!(operation.write()?, input.body()?, "{name}");
        let read = Operation::read(input.body()?);
        assert!(matches!(&read, Read::Layer(read) if *read == operation), "{name}: {read:?}");
    }
    Ok(())
}

#[test]
fn notices_are_read_as_what_they_mean_and_written_byte_by_byte() -> Result<(), Fault> {
    for Meant { name, means, only, input } in load()?.notices {
        let body = input.body()?;
        let Read::Layer(notice) = Notice::read(body.clone()) else { return Err(name.into()) };
        let written = notice.write()?;
        assert_eq!(words(&written)?, means, "{name}");
        if only.is_none() {
            assert_eq!(written, body, "{name}");
        }
    }
    Ok(())
}

#[test]
fn bodies_of_the_application_are_wrapped_where_they_look_like_the_layers() -> Result<(), Fault> {
    for Wrapped { input, sent } in load()?.app {
        let (body, sent) = (input.body()?, sent.body()?);
        assert_eq!(escape(body.clone())?, sent);
        assert!(matches!(Operation::read(sent.clone()), Read::App(read) if read == body), "{body:?}");
        assert!(matches!(Notice::read(sent), Read::App(read) if read == body), "{body:?}");
    }
    Ok(())
}

#[test]
fn what_is_not_well_made_is_refused_by_its_tag() -> Result<(), Fault> {
    fn tag<T>(read: &Read<T>) -> Option<&str> {
        if let Read::Malformed { tag, .. } = read { Some(tag) } else { None }
    }
    for Refused { from, tag: expected, input } in load()?.refused {
        let body = input.body()?;
        let (client, server) = (Operation::read(body.clone()), Notice::read(body.clone()));
        let found = if from == "client" { tag(&client) } else { tag(&server) };
        assert_eq!(found, Some(expected.as_str()), "{from}: {body:?}");
    }
    Ok(())
}

#[test]
fn unknown_tags_are_passed_over() -> Result<(), Fault> {
    for Unknown { tag: expected, input } in load()?.unknown {
        assert!(matches!(Operation::read(input.body()?), Read::Unknown { tag } if tag == expected));
        assert!(matches!(Notice::read(input.body()?), Read::Unknown { tag } if tag == expected));
    }
    Ok(())
}

#[test]
fn pages_of_history_hold_the_messages() -> Result<(), Fault> {
    for PageVector { text, means } in load()?.pages {
        let said = serde_json::from_str::<Page>(&text)?.said()?;
        let said = said
            .into_iter()
            .map(|said| words(&Notice::Said(said).write()?))
            .collect::<Result<Vec<_>, Fault>>()?;
        assert_eq!(said, means);
    }
    Ok(())
}
