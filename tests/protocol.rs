//! Holds the tables of `docs/PROTOCOL.md` against the code: close codes, binary examples, defaults.

use bytes::Bytes;
use throughline::frame::{
    Batch, BatchWriter, CloseCode, DecodeError, Encoding, Frame, Limits, Retry, Role, Scope,
};
use throughline::session::Config;

const DOCUMENT: &str = include_str!("../docs/PROTOCOL.md");

/// The rows of all tables, as their cells.
fn rows() -> impl Iterator<Item = Vec<&'static str>> {
    let rows = DOCUMENT.lines().filter(|line| line.starts_with("| "));
    rows.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
}

fn code(cell: &str) -> Option<&str> {
    cell.strip_prefix('`')?.strip_suffix('`')
}

/// The section under a heading that ends so.
fn section(heading: &str) -> &'static str {
    let begin =
        DOCUMENT.lines().find(|line| line.starts_with('#') && line.ends_with(heading)).expect("a heading");
    let behind = DOCUMENT.split_once(begin).expect("it was found").1;
    behind.split("\n#").next().unwrap_or(behind)
}

#[test]
fn the_table_of_close_codes_is_that_of_the_code() {
    let rows: Vec<_> = rows().filter(|row| row.len() == 5 && row[3].parse::<u16>().is_ok()).collect();
    for close in CloseCode::all() {
        let of_code = |row: &&Vec<&str>| code(row[0]) == Some(close.as_str());
        let row = rows.iter().find(of_code).unwrap_or_else(|| panic!("no row for {close}"));
        let ends = if close.scope() == Scope::Transport { "transport" } else { "session" };
        assert!(row[1].starts_with(ends), "{close} ends {}", row[1]);
        let then = match close.retry() {
            Retry::AtOnce => "at once",
            Retry::Backoff => "with backoff",
            Retry::Afresh => "with a new session",
            Retry::FreshToken => "once, with a fresh token",
            Retry::Never => "not by itself",
        };
        assert!(row[2].contains(then), "{close}: {}", row[2]);
        assert_eq!(row[3], close.http_status().to_string(), "{close}");
    }
    assert_eq!(rows.len(), CloseCode::all().count() + 1, "and one for all others");
}

fn decode(bytes: Bytes, encoding: Encoding) -> Result<Frame, DecodeError> {
    let first = |from| Batch::new(bytes.clone(), encoding, from, Limits::default())?.next().expect("a frame");
    first(Role::Client).or_else(|_| first(Role::Server))
}

#[test]
fn the_examples_of_the_binary_encoding_are_byte_exact() {
    let mut count = 0;
    for row in rows().filter(|row| row.len() == 2) {
        let (Some(json), Some(hex)) = (code(row[0]), code(row[1])) else { continue };
        let bytes: Result<Vec<u8>, _> = hex.split(' ').map(|byte| u8::from_str_radix(byte, 16)).collect();
        let (true, Ok(bytes)) = (json.starts_with('['), bytes) else { continue };
        let frame = decode(Bytes::from(json), Encoding::Json).unwrap();
        assert_eq!(decode(Bytes::from(bytes.clone()), Encoding::Binary).unwrap(), frame, "{json}");
        let mut writer = BatchWriter::new(Encoding::Binary);
        writer.push(&frame);
        assert_eq!(writer.take(), bytes, "{json}");
        count += 1;
    }
    assert!(count >= 9, "{count} examples");
}

#[test]
fn the_defaults_are_those_of_the_code() {
    let (config, text) = (Config::default(), section("Limits and defaults"));
    let limits = config.limits;
    let (window, buffer, early) = (config.window, config.send_buffer, config.early_window);
    for expected in [
        format!("| body of a message | {} KiB |", limits.max_message_bytes >> 10),
        format!("| batch, and any HTTP body | {} KiB |", limits.max_batch_bytes >> 10),
        format!("| frames in a batch | {} |", limits.max_batch_frames),
        format!("| window, each way | {} messages, {} MiB |", window.messages, window.bytes >> 20),
        format!("(client) | {} messages, {} KiB |", early.messages, early.bytes >> 10),
        format!("| send buffer | {} messages, {} MiB |", buffer.messages, buffer.bytes >> 20),
        format!("| requests that wait for answers | {} |", config.max_requests),
        format!("| heartbeat; patience | {} s;", config.heartbeat.as_secs()),
        format!(
            "| receipt by itself; while it is about little | {} ms; {} s |",
            config.ack_delay.as_millis(),
            config.light_ack_delay.as_secs()
        ),
        format!("| `hello` to `welcome` (client) | {} s |", config.welcome_within.as_secs()),
        format!("| answer time (client) | four round trips, 1 s to {} s;", config.prove_within.as_secs()),
        format!("| candidate | {} s |", config.candidate_lifetime.as_secs()),
        format!("| never attached | {} s |", config.first_attach_within.as_secs()),
        format!("| resume window | {} s |", config.resume_window.as_secs()),
        format!(
            "| hold: asked at first; cap | {} s; {} s |",
            config.hold.as_secs(),
            config.max_hold.as_secs()
        ),
        format!("(client) | {} s |", config.unanswered_within.as_secs()),
        format!("| close timeout | {} s |", config.close_timeout.as_secs()),
    ] {
        assert!(text.contains(&expected), "not in the document: {expected}");
    }
}
