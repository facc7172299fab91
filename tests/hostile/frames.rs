//! What is not a frame, or not a frame of a client's: each ends the session that said it, and nothing else.

use throughline::frame::Encoding;

use super::me::{encode, seq};
use super::peer::{Peer, Way};
use super::stage::{Set, play};

/// JSON that no client may say.
const JSON: [(&str, &str); 24] = [
    ("not JSON", "hello"),
    ("cut short", "[\"ack\",1"),
    ("an empty line between", "[\"ping\"]\n\n[\"ping\"]"),
    ("a newline at the end", "[\"ping\"]\n"),
    ("an object", "{\"ack\":1}"),
    ("an empty array", "[]"),
    ("a number for a tag", "[1]"),
    ("an unknown tag", "[\"pizza\"]"),
    ("welcome", "[\"welcome\",{}]"),
    ("auth_ok", "[\"auth_ok\",5]"),
    ("move", "[\"move\",{\"within_ms\":5}]"),
    ("message 0", "[\"msg\",0,{}]"),
    ("message 2^53", "[\"msg\",9007199254740992,{}]"),
    ("message -1", "[\"msg\",-1,{}]"),
    ("message 1.0", "[\"msg\",1.0,{}]"),
    ("message 1e0", "[\"msg\",1e0,{}]"),
    ("message 01", "[\"msg\",01,{}]"),
    ("ack 2^53", "[\"ack\",9007199254740992]"),
    ("taken above received", "[\"ack\",0,1]"),
    ("ping 2^53", "[\"ping\",9007199254740992]"),
    ("not base64", "[\"msg\",1,\"a\",\"base64\"]"),
    ("an element too many", "[\"ack\",0,0,0]"),
    ("a close code out of its alphabet", "[\"close\",\"No Way\",\"\"]"),
    ("an answer to message 0", "[\"res\",1,0,{}]"),
];

/// Binary that no client may say.
const BINARY: [(&str, &[u8]); 14] = [
    ("a length of 0", &[0]),
    ("cut short", &[5, 8]),
    ("an unknown type", &[1, 99]),
    ("welcome", &[3, 17, b'{', b'}']),
    ("auth_ok", &[2, 20, 5]),
    ("move", &[3, 21, b'{', b'}']),
    ("message 0", &[4, 1, 0, b'{', b'}']),
    ("message 2^53", &[11, 1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10, b'1', b'1']),
    ("a varint not in its shortest form", &[3, 8, 0x80, 0]),
    ("a varint beyond 64 bits", &[12, 8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
    ("a length beyond 64 bits", &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
    ("bytes behind the end", &[4, 8, 0, 0, 0]),
    ("taken above received", &[3, 8, 0, 1]),
    ("a message whose JSON is none", &[4, 1, 1, b'{', b'{']),
];

fn malformed(encoding: Encoding) -> Vec<(&'static str, Vec<u8>)> {
    match encoding {
        Encoding::Json => {
            let deep = format!("[\"msg\",1,{}{}]", "[".repeat(200), "]".repeat(200));
            let mut all: Vec<_> = JSON.iter().map(|(name, text)| (*name, text.as_bytes().to_vec())).collect();
            all.push(("too deep", deep.into_bytes()));
            all
        }
        Encoding::Binary => BINARY.iter().map(|(name, bytes)| (*name, bytes.to_vec())).collect(),
    }
}

#[test]
fn what_is_no_frame_of_a_clients_ends_its_session_with_protocol_error() {
    for way in Way::ALL {
        play(Set::default(), async move |stage| {
            for (name, bytes) in malformed(way.encoding()) {
                let mut peer = Peer::enter(stage, way).await;
                let end = peer.offend(stage, &bytes).await;
                let code = if name.contains("length beyond") {
                    "too_large protocol_error"
                } else {
                    "protocol_error"
                };
                assert!(code.contains(end.code()), "{way:?} {name}: {end:?}");
                stage.check_bystander().await;
            }
        });
    }
}

#[test]
fn frames_before_what_is_malformed_count() {
    for way in Way::ALL {
        play(Set::default(), async move |stage| {
            let mut peer = Peer::enter(stage, way).await;
            let mut batch = encode(way.encoding(), &[peer.me.message("one")]).to_vec();
            batch.extend_from_slice(match way.encoding() {
                Encoding::Json => b"\n[]",
                Encoding::Binary => &[5, 8],
            });
            let end = peer.offend(stage, &batch).await;
            assert_eq!((end.code(), end.close.detail.received), ("protocol_error", Some(seq(1))), "{way:?}");
        });
    }
}

#[test]
fn frames_of_extensions_are_passed_over() {
    for way in Way::ALL {
        play(Set::default(), async move |stage| {
            let mut peer = Peer::enter(stage, way).await;
            let extension: &[u8] = match way.encoding() {
                Encoding::Json => b"[\"x-pizza\",{\"slices\":8}]",
                Encoding::Binary => &[3, 0x80, 1, 2],
            };
            peer.say_raw(stage, extension).await;
            peer.check(stage).await;
        });
    }
}
