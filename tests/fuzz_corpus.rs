//! Runs what the fuzz targets do, on stable: over the committed corpora, and over what proptest makes up.

// The same functions as in the targets: what they assert is said there.
#[expect(unreachable_pub, reason = "they are public in the crate of the targets")]
#[path = "../fuzz/src/lib.rs"]
mod targets;

use proptest::prelude::*;

fn replay(target: &str, run: fn(&[u8])) -> std::io::Result<()> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files = std::fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    assert!(files.len() >= 6, "the corpus of {target} is missing");
    for file in files {
        println!("{}", file.path().display());
        run(&std::fs::read(file.path())?);
    }
    Ok(())
}

#[test]
fn decode_frame_holds_over_its_corpus() -> std::io::Result<()> {
    replay("decode_frame", targets::decode_frame)
}

#[test]
fn roundtrip_frame_holds_over_its_corpus() -> std::io::Result<()> {
    replay("roundtrip_frame", targets::roundtrip_frame)
}

#[test]
fn batch_holds_over_its_corpus() -> std::io::Result<()> {
    replay("batch", targets::batch)
}

#[test]
fn event_stream_holds_over_its_corpus() -> std::io::Result<()> {
    replay("event_stream", targets::event_stream)
}

#[test]
#[cfg(feature = "server")]
fn http_request_holds_over_its_corpus() -> std::io::Result<()> {
    replay("http_request", targets::http_request)
}

#[test]
fn payload_holds_over_its_corpus() -> std::io::Result<()> {
    replay("payload", targets::payload)
}

#[test]
fn session_ops_holds_over_its_corpus() -> std::io::Result<()> {
    replay("session_ops", targets::session_ops)
}

#[test]
#[cfg(feature = "server")]
fn websocket_holds_over_its_corpus() -> std::io::Result<()> {
    replay("websocket", targets::websocket)
}

/// Text of the pieces that the parsers look for, which random bytes would never hit.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: [&[u8]; 28] = [
        b"[",
        b"]",
        b"{",
        b"}",
        b"\"",
        b",",
        b":",
        b"\n",
        b"\r",
        b" ",
        b"0",
        b"1",
        b"9007199254740991",
        b"\"msg\"",
        b"\"ack\"",
        b"\"close\"",
        b"\"base64\"",
        b"\"AAEC\"",
        b"[\"ping\"]",
        b"[\"x-a\",1]",
        b"[\"msg\",1,{}]",
        b"data",
        b"data: ",
        b"id: ",
        b"event: ",
        b"retry: 5",
        b"\xef\xbb\xbf",
        b"\x80",
    ];
    proptest::collection::vec(0..PIECES.len(), 0..60)
        .prop_map(|indices| indices.into_iter().flat_map(|index| PIECES[index]).copied().collect())
}

fn any_input() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..600),
        (any::<u8>(), pieces()).prop_map(|(first, rest)| [vec![first], rest].concat()),
        pieces(),
    ]
}

proptest! {
    #[test]
    fn any_frames_survive_both_encodings(input in proptest::collection::vec(any::<u8>(), 0..2000)) {
        targets::roundtrip_frame(&input);
    }

    #[test]
    fn any_calls_keep_a_session_s_invariants(input in proptest::collection::vec(any::<u8>(), 0..2000)) {
        targets::session_ops(&input);
    }

    #[test]
    fn whatever_decodes_is_encoded_to_itself(input in any_input()) {
        targets::decode_frame(&input);
    }

    #[test]
    fn batches_keep_to_their_limits(input in any_input()) {
        targets::batch(&input);
    }

    #[test]
    #[cfg(feature = "server")]
    fn requests_of_any_kind_leave_nothing(input in proptest::collection::vec(any::<u8>(), 0..3000)) {
        targets::http_request(&input);
    }

    #[test]
    #[cfg(feature = "server")]
    fn a_server_reads_and_writes_websockets_as_tungstenite_does(
        input in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        targets::websocket(&input);
    }

    #[test]
    fn streams_are_the_same_wherever_cut(input in any_input()) {
        targets::event_stream(&input);
    }
}
