//! Batches as a whole; what single frames look like is in `tests/vectors`.

use super::*;
use crate::frame::{Ack, Body, Message, MessageKind, Seq};

fn batch(text: &[u8], encoding: Encoding, limits: Limits) -> Result<Vec<Frame>, DecodeError> {
    Batch::new(Bytes::copy_from_slice(text), encoding, Role::Client, limits)?.collect()
}

fn json(text: &str) -> Result<Vec<Frame>, DecodeError> {
    batch(text.as_bytes(), Encoding::Json, Limits::default())
}

fn message(seq: u64, body: impl Into<Body>) -> Frame {
    Frame::Message(Message { seq: Seq::new(seq).unwrap(), kind: MessageKind::Plain, body: body.into() })
}

#[test]
fn frames_come_back_in_order_in_both_encodings() {
    let frames =
        vec![message(1, "a"), message(2, vec![0, 1, 2]), Frame::Ping(None), Frame::Ack(Ack::default())];
    for encoding in [Encoding::Json, Encoding::Binary] {
        let mut writer = BatchWriter::new(encoding);
        frames.iter().for_each(|frame| writer.push(frame));
        assert_eq!(writer.frames(), 4);
        let bytes = writer.take();
        assert!(writer.is_empty());
        assert_eq!(batch(&bytes, encoding, Limits::default()).unwrap(), frames);
    }
}

#[test]
fn json_is_what_the_protocol_shows() {
    let mut writer = BatchWriter::new(Encoding::Json);
    writer.push(&message(17, "x"));
    writer.push(&message(18, vec![0, 1, 2]));
    assert_eq!(writer.take(), "[\"msg\",17,\"x\"]\n[\"msg\",18,\"AAEC\",\"base64\"]");
}

#[test]
fn an_empty_batch_has_no_frames_but_an_empty_line_is_malformed() {
    assert_eq!(json("").unwrap(), []);
    for text in ["\n", "[\"ping\"]\n", "\n[\"ping\"]", "[\"ping\"]\n\n[\"ping\"]", " "] {
        assert!(matches!(json(text), Err(DecodeError::Json(_))), "{text:?}");
    }
}

#[test]
fn white_space_within_a_line_is_accepted() {
    assert_eq!(json(" [ \"ping\" ,\t5 ]\r\n[\"ping\"]").unwrap(), [Frame::Ping(Some(5)), Frame::Ping(None)]);
}

#[test]
fn frames_of_extensions_are_passed_over_but_count() {
    let text = "[\"x-a\",{\"b\":[1]},2,3,4,5,6]\n[\"ping\"]";
    assert_eq!(json(text).unwrap(), [Frame::Ping(None)]);
    let limits = Limits { max_batch_frames: 1, ..Limits::default() };
    assert!(matches!(batch(text.as_bytes(), Encoding::Json, limits), Err(DecodeError::TooMany { .. })));
    let binary = [3, 0x80, 0xff, 0xff, 1, 9];
    assert_eq!(batch(&binary, Encoding::Binary, Limits::default()).unwrap(), [Frame::Ping(None)]);
    assert!(matches!(batch(&binary, Encoding::Binary, limits), Err(DecodeError::TooMany { .. })));
}

#[test]
fn bytes_frames_and_bodies_are_bounded() {
    let text = b"[\"msg\",1,\"1234\"]";
    let exact = Limits { max_message_bytes: 6, max_batch_bytes: text.len(), max_batch_frames: 1 };
    assert!(batch(text, Encoding::Json, exact).is_ok());
    for limits in
        [Limits { max_message_bytes: 5, ..exact }, Limits { max_batch_bytes: text.len() - 1, ..exact }]
    {
        assert!(matches!(batch(text, Encoding::Json, limits), Err(DecodeError::TooLarge { .. })));
    }
    assert!(matches!(
        batch(text, Encoding::Json, Limits { max_batch_frames: 0, ..exact }),
        Err(DecodeError::TooMany { .. })
    ));
}

#[test]
fn a_base64_body_counts_decoded() {
    for (text, length) in [("AAEC", 3), ("AAE=", 2), ("AA==", 1), ("", 0)] {
        let text = format!("[\"msg\",1,\"{text}\",\"base64\"]");
        let limits = |max_message_bytes| Limits { max_message_bytes, ..Limits::default() };
        assert!(batch(text.as_bytes(), Encoding::Json, limits(length)).is_ok());
        if length > 0 {
            let refused = batch(text.as_bytes(), Encoding::Json, limits(length - 1));
            assert!(matches!(refused, Err(DecodeError::TooLarge { .. })));
        }
    }
}

#[test]
fn after_an_error_the_batch_ends() {
    let bytes = Bytes::from_static(b"[\"ping\"]\n[\"nope\"]\n[\"ping\"]");
    let frames: Vec<_> = Batch::new(bytes, Encoding::Json, Role::Client, Limits::default())
        .unwrap()
        .map(|frame| frame.is_ok())
        .collect();
    assert_eq!(frames, [true, false]);
}

#[test]
fn frames_of_the_other_direction_are_refused() {
    assert!(matches!(json("[\"auth_ok\",0]"), Err(DecodeError::WrongDirection { frame: "auth_ok" })));
    let server =
        Batch::new(Bytes::from_static(b"[\"auth\",0]"), Encoding::Json, Role::Server, Limits::default());
    let frames: Result<Vec<_>, _> = server.unwrap().collect();
    assert!(matches!(frames, Err(DecodeError::WrongDirection { frame: "auth" })));
}

#[test]
fn deep_nesting_is_refused_without_recursion() {
    let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for shell in ["[\"msg\",1,_]", "[\"auth\",_]", "[\"attach\",{\"received\":1,\"unknown\":_}]"] {
        assert!(json(&shell.replace('_', &nested(128))).is_ok(), "{shell}");
        for depth in [129, 200_000] {
            let refused = json(&shell.replace('_', &nested(depth)));
            assert!(matches!(refused, Err(DecodeError::Json(_))), "{shell}");
        }
        assert!(json(&shell.replace('_', &"[".repeat(900_000))).is_err());
    }
    assert!(json(&"[".repeat(900_000)).is_err());
    assert_eq!(json(&"[\"x-deep\",_]".replace('_', &nested(400_000))).unwrap(), []);
}

#[test]
fn a_batch_is_written_only_as_large_as_the_peer_takes_it() {
    let limits = Limits { max_message_bytes: 512, max_batch_bytes: 2048, max_batch_frames: 1000 };
    for encoding in [Encoding::Json, Encoding::Binary] {
        for size in [0, 1, 300, 512] {
            let body = Body::from(vec![7; size]);
            let mut writer = BatchWriter::new(encoding);
            while writer.has_room_for(&body, &limits) {
                writer.push(&message((1 << 53) - 1, body.clone()));
            }
            assert!(!writer.is_empty());
            assert!(batch(&writer.take(), encoding, limits).is_ok());
        }
    }
}

#[test]
fn a_large_batch_goes_with_its_room_and_a_small_one_leaves_it() {
    for encoding in [Encoding::Json, Encoding::Binary] {
        let mut writer = BatchWriter::new(encoding);
        writer.push(&message(1, Body::from(vec![b'a'; KEPT])));
        drop(writer.take());
        assert_eq!(writer.buffer.capacity(), 0, "{encoding:?}");
        writer.push(&message(2, Body::from("a")));
        drop(writer.take());
        assert_ne!(writer.buffer.capacity(), 0, "{encoding:?}");
    }
}
