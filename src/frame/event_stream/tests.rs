//! What the writer writes, what the parser reads, and that where a stream is cut makes no difference.

use bytes::Bytes;

use super::*;
use crate::frame::{Batch, Body, DecodeError, Encoding, Frame, Limits, Message, MessageKind, Role, Seq};

type Events = Vec<Result<Event, String>>;

/// All events of a stream that is fed in chunks of `size`, and the id and retry it ends with.
fn parse_in(size: usize, stream: &[u8], max_bytes: usize, max_lines: usize) -> (Events, String, Option<u64>) {
    let mut parser = Parser::new(max_bytes, max_lines);
    let mut events = Vec::new();
    for chunk in stream.chunks(size) {
        parser.feed(Bytes::copy_from_slice(chunk));
        while let Some(event) = parser.next() {
            events.push(event.map_err(|error| error.to_string()));
        }
    }
    (events, parser.last_event_id().to_owned(), parser.retry())
}

fn parse(stream: &str) -> Vec<(String, String, String)> {
    let whole = parse_in(usize::MAX, stream.as_bytes(), 100, 10);
    for size in 1..8 {
        assert_eq!(parse_in(size, stream.as_bytes(), 100, 10), whole, "in chunks of {size}");
    }
    let events = whole.0.into_iter().map(Result::unwrap);
    events.map(|event| (event.id, event.name, String::from_utf8(event.data.into()).unwrap())).collect()
}

fn data(stream: &str) -> Vec<String> {
    parse(stream).into_iter().map(|event| event.2).collect()
}

#[test]
fn a_batch_is_an_event_whose_data_is_the_batch() {
    let body = |body: &str| Body::from(body);
    let frames: Vec<_> = [(1, body("a\nb")), (2, Body::from(vec![1, 2])), (3, body(""))]
        .map(|(seq, body)| {
            Frame::Message(Message { seq: Seq::new(seq).unwrap(), kind: MessageKind::Plain, body })
        })
        .into();
    let mut writer = Writer::new();
    frames.iter().for_each(|frame| writer.push(frame));
    writer.end_event();
    writer.push(&Frame::Ping(None));
    let stream = writer.take();
    assert!(writer.is_empty());
    let (events, _, _) = parse_in(3, &stream, 1000, 10);
    let batches = events.into_iter().map(|event| {
        let batch = Batch::new(event.unwrap().data, Encoding::Json, Role::Server, Limits::default());
        batch.unwrap().map(Result::unwrap).collect::<Vec<_>>()
    });
    assert_eq!(batches.collect::<Vec<_>>(), [frames, vec![Frame::Ping(None)]]);
}

#[test]
fn lines_end_with_lf_cr_or_crlf() {
    assert_eq!(data("data: a\n\ndata: b\r\rdata: c\r\n\r\ndata: d\r\n\n"), ["a", "b", "c", "d"]);
    assert_eq!(data("data: a\ndata: b\r\ndata: c\rdata\n\n"), ["a\nb\nc\n"]);
}

#[test]
fn one_space_and_one_byte_order_mark_are_stripped() {
    assert_eq!(data("\u{feff}data:  a\n\ndata:b\n\n\u{feff}data: c\n\n"), [" a", "b"]);
    assert_eq!(data("\u{feff}\u{feff}data: a\n\n"), [""; 0]);
}

#[test]
fn comments_and_unknown_fields_are_ignored() {
    assert_eq!(data(": x\ndata: a\n:\nfoo: bar\nfoo\n data: b\nData: c\n\n"), ["a"]);
}

#[test]
fn an_event_without_data_is_none_but_an_empty_data_line_is_one() {
    assert_eq!(parse("event: a\n\ndata: x\n\n"), [("".into(), "".into(), "x".into())]);
    assert_eq!(data("data\n\ndata:\n\ndata\ndata\n\n\n\n"), ["", "", "\n"]);
}

#[test]
fn an_id_stays_until_the_next_and_nul_in_it_is_ignored() {
    let events = parse("id: 1\ndata: a\n\nid: 2\0\ndata: b\n\nid: 3\n\nevent: n\ndata: c\n\nid\ndata: d\n\n");
    let seen: Vec<_> =
        events.iter().map(|(id, name, data)| (id.as_str(), name.as_str(), data.as_str())).collect();
    assert_eq!(seen, [("1", "", "a"), ("1", "", "b"), ("3", "n", "c"), ("", "", "d")]);
}

#[test]
fn an_event_cut_short_counts_for_nothing() {
    let (events, id, _) = parse_in(2, b"id: 1\ndata: a\n\nid: 2\ndata: b\n", 100, 10);
    assert_eq!((events.len(), id.as_str()), (1, "1"));
}

#[test]
fn only_digits_are_a_retry() {
    let retry = |stream: &str| parse_in(1, stream.as_bytes(), 100, 10).2;
    assert_eq!(retry("retry: 250\n"), Some(250));
    assert_eq!(retry("retry: 250\nretry: 1.5\nretry: -1\nretry:\nretry: 99999999999999999999\n"), Some(250));
}

#[test]
fn data_and_lines_beyond_their_bounds_are_refused_wherever_cut() {
    let large = "data: ok\n\ndata: 12345\ndata: 67890\n\n";
    let endless = format!("data: ok\n\n:{}", "x".repeat(100));
    let many = format!("data: ok\n\n{}", "foo\n".repeat(5));
    for (stream, expected) in [
        (large, "event larger than 10 bytes"),
        (&endless, "event larger than 10 bytes"),
        (&many, "more than 4 lines of an event"),
    ] {
        for size in [1, 2, 7, usize::MAX] {
            let (events, _, _) = parse_in(size, stream.as_bytes(), 10, 4);
            assert_eq!(events.len(), 2);
            assert_eq!(events[1], Err(expected.to_owned()));
        }
    }
    assert_eq!(parse_in(usize::MAX, large.as_bytes(), 11, 2).0.len(), 2);
}

#[test]
fn floods_of_empty_pieces_hold_no_memory() {
    let mut parser = Parser::new(1000, 1000);
    for flood in ["\n".repeat(100_000), ":\n".repeat(100_000), "data\n\n".repeat(100_000), "id\n\n".repeat(9)]
    {
        parser.feed(Bytes::from(flood));
        while let Some(event) = parser.next() {
            assert!(event.unwrap().data.is_empty());
        }
        assert_eq!(parser.held(), 0);
    }
    parser.feed(Bytes::from("data\n".repeat(100_000)));
    assert!(matches!(parser.next(), Some(Err(DecodeError::TooMany { .. }))));
    assert!(parser.next().is_none());
}

#[test]
fn what_is_fed_before_all_was_parsed_is_not_lost() {
    let mut parser = Parser::new(100, 10);
    parser.feed(Bytes::from_static(b"data: a\n\ndata: b"));
    parser.feed(Bytes::from_static(b"c\n\n"));
    assert_eq!(parser.next().unwrap().unwrap().data, "a");
    parser.feed(Bytes::from_static(b"data: d\n\n"));
    assert_eq!(parser.next().unwrap().unwrap().data, "bc");
    assert_eq!(parser.next().unwrap().unwrap().data, "d");
    assert!(parser.next().is_none());
}

#[test]
fn events_come_back_as_written_but_with_lf() {
    let mut writer = Writer::new();
    writer.comment("two\nlines");
    writer.retry(3000);
    writer.event(Some("t.0"), None, None);
    writer.event(Some("t.\r\n1\0"), Some("lo\nst"), Some(" a\r\nb\rc\n\r\n"));
    writer.event(None, None, Some(""));
    writer.push(&Frame::Ping(None));
    writer.comment("");
    let (events, id, retry) = parse_in(1, &writer.take(), 100, 10);
    let events: Vec<_> = events
        .iter()
        .map(|event| event.as_ref().unwrap())
        .map(|event| (event.id.as_str(), event.name.as_str(), &event.data[..]))
        .collect();
    assert_eq!(
        events,
        [("t.1", "lost", &b" a\nb\nc\n\n"[..]), ("t.1", "", b""), ("t.1", "", b"[\"ping\"]"),]
    );
    assert_eq!((id.as_str(), retry), ("t.1", Some(3000)));
}

#[test]
fn an_event_of_frames_stays_within_the_limits_of_a_batch() {
    let limits = Limits { max_message_bytes: 512, max_batch_bytes: 2048, max_batch_frames: 1000 };
    for size in [0, 1, 300, 512] {
        let body = Body::from(vec![7; size]);
        let frame =
            Frame::Message(Message { seq: Seq::MAX, kind: MessageKind::Reply(Seq::MAX), body: body.clone() });
        let mut writer = Writer::new();
        while writer.has_room_for(&body, &limits) {
            writer.push(&frame);
        }
        let (events, _, _) = parse_in(100, &writer.take(), limits.max_batch_bytes, limits.max_batch_frames);
        let data = events[0].clone().unwrap().data;
        let batch = Batch::new(data, Encoding::Json, Role::Server, limits).unwrap();
        assert!(batch.map(Result::unwrap).count() >= 1);
    }
}
