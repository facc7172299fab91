//! Payloads of the layer, read and written.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn json(text: &str) -> Json {
    Json::parse(text.to_owned()).unwrap()
}

fn seq(number: u64) -> Seq {
    Seq::new(number).unwrap()
}

fn text(body: &Body) -> String {
    String::from_utf8_lossy(body.as_bytes()).into_owned()
}

#[test]
fn payloads_are_written_as_the_protocol_shows_them() {
    let position = Position { epoch: Epoch::from_bytes([0; 8]), offset: seq(7) };
    let join = Join { room: "lobby".into(), since: Some(position), presence: true, ..Join::default() };
    assert_eq!(
        text(&Operation::Join(join).write().unwrap()),
        r#"{"$":"join","room":"lobby","since":{"epoch":"AAAAAAAAAAA","offset":7},"presence":true}"#
    );
    let said = Said {
        room: "lobby".into(),
        at: seq(8),
        key: None,
        by: Some(Who::Principal("ada".into())),
        body: Body::from("hi"),
    };
    assert_eq!(
        text(&Notice::Said(said.clone()).write().unwrap()),
        r#"{"$":"msg","room":"lobby","at":8,"by":{"principal":"ada"},"body":"hi"}"#
    );
    let binary = Notice::Said(Said { by: None, body: Body::from(vec![1, 2, 255]), ..said });
    let Body::Binary(bytes) = binary.write().unwrap() else { panic!("binary stays binary") };
    assert_eq!(bytes[..], *b"$\x00\x21{\"$\":\"msg\",\"room\":\"lobby\",\"at\":8}\x01\x02\xff");
}

#[test]
fn a_body_of_the_application_goes_as_it_is_unless_it_looks_like_the_layers() {
    for plain in [Body::from(json(r#"{"a":1}"#)), Body::from("$"), Body::from(vec![0, 1]), Body::from(vec![])]
    {
        assert_eq!(escape(plain.clone()).unwrap(), plain);
    }
    let looks = Body::from(json(r#"{"$":"join","room":"x"}"#));
    let wrapped = escape(looks.clone()).unwrap();
    assert_eq!(text(&wrapped), r#"{"$":"app","body":{"$":"join","room":"x"}}"#);
    assert!(matches!(Operation::read(wrapped), Read::App(body) if body == looks));
    let looks = Body::from(b"$ 5".to_vec());
    assert!(matches!(Notice::read(escape(looks.clone()).unwrap()), Read::App(body) if body == looks));
}

#[test]
fn only_the_exact_mark_makes_it_the_layers() {
    for near in [r#"{ "$":"join","room":"x"}"#, r#"{"$" :"join"}"#, r#"{"a":1,"$":"join"}"#, r#"["$"]"#] {
        assert!(matches!(Operation::read(Body::from(json(near))), Read::App(_)), "{near}");
    }
}

#[test]
fn what_is_not_well_made_is_said_to_be_and_by_which_tag() {
    let long = format!(r#"{{"$":"leave","room":"{}"}}"#, "x".repeat(257));
    for (payload, expected) in [
        (r#"{"$":"leave"}"#, "leave"),
        (r#"{"$":"leave","room":""}"#, "leave"),
        (&long, "leave"),
        (r#"{"$":"publish","room":"x"}"#, "publish"),
        (r#"{"$":"join","room":"x","last":-1}"#, "join"),
        (r#"{"$":"join","room":"x","since":{"epoch":"AAAAAAAAAAA","offset":9007199254740992}}"#, "join"),
        (r#"{"$":7}"#, ""),
        (r#"{"$":"app"}"#, "app"),
    ] {
        let read = Operation::read(Body::from(json(payload)));
        assert!(matches!(&read, Read::Malformed { tag, .. } if tag == expected), "{payload}: {read:?}");
    }
    assert!(
        matches!(Operation::read(Body::from(json(r#"{"$":"dance"}"#))), Read::Unknown { tag } if tag == "dance")
    );
    for bytes in [&b"$"[..], b"$\x00", b"$\x00\x05{\"$\":", b"$\xff\xff{\"$\":1}", b"$\x00\x02{}"] {
        let read = Operation::read(Body::from(Bytes::copy_from_slice(bytes)));
        assert!(matches!(read, Read::Malformed { .. }), "{bytes:?}: {read:?}");
    }
}

#[test]
fn a_binary_head_may_not_bring_a_body_of_its_own() {
    let head = br#"{"$":"publish","room":"x","body":1}"#;
    let bytes = [&[b'$', 0, head.len() as u8], &head[..], b"bytes"].concat();
    assert!(matches!(Operation::read(Body::from(bytes)), Read::Malformed { tag, .. } if tag == "publish"));
}

#[test]
fn null_is_a_body_and_what_a_member_tells() {
    let publish = Operation::Publish { room: "x".into(), key: None, body: json("null").into() };
    let Read::Layer(read) = Operation::read(publish.write().unwrap()) else { panic!() };
    assert_eq!(read, publish);
    let meta = Operation::Meta { room: "x".into(), meta: Some(json("null")) };
    assert!(matches!(Operation::read(meta.write().unwrap()), Read::Layer(read) if read == meta));
}

#[test]
fn what_nests_too_deep_to_be_wrapped_is_refused_before_it_is_sent() {
    let deep = json(&format!("{}{}", "[".repeat(128), "]".repeat(128)));
    let publish = Operation::Publish { room: "x".into(), key: None, body: deep.into() };
    assert!(matches!(publish.write(), Err(PayloadError::Body(JsonError::TooDeep))));
}

fn bodies() -> impl Strategy<Value = Body> + Clone {
    let marks = prop_oneof![Just("{\"$\":".to_owned()), Just("$".to_owned()), "[a-z\\\\\"]{0,6}"];
    prop_oneof![
        marks.clone().prop_map(Body::from),
        (marks, any::<i32>())
            .prop_map(|(key, value)| Body::json(&serde_json::json!({ key: value })).unwrap()),
        any::<i32>().prop_map(|value| Body::json(&serde_json::json!({ "$": value })).unwrap()),
        proptest::collection::vec(prop_oneof![Just(b'$'), any::<u8>()], 0..40).prop_map(Body::from),
    ]
}

fn names() -> impl Strategy<Value = String> + Clone {
    "[a-z\"\\\\é]{1,8}"
}

fn seqs() -> impl Strategy<Value = Seq> + Clone {
    (0..=crate::frame::MAX_NUMBER).prop_map(seq)
}

fn metas() -> impl Strategy<Value = Option<Json>> + Clone {
    proptest::option::of(any::<bool>().prop_map(|value| Json::of(&value).unwrap()))
}

fn whos() -> impl Strategy<Value = Who> + Clone {
    prop_oneof![
        names().prop_map(Who::Principal),
        any::<[u8; 16]>().prop_map(|bytes| Who::Session(SessionId::from_bytes(bytes))),
    ]
}

fn operations() -> impl Strategy<Value = Operation> {
    let positions = (any::<[u8; 8]>(), seqs())
        .prop_map(|(epoch, offset)| Position { epoch: Epoch::from_bytes(epoch), offset });
    let since = proptest::option::of(positions);
    prop_oneof![
        (names(), proptest::option::of(names()), since.clone(), any::<Option<u32>>(), any::<bool>(), metas())
            .prop_map(|(room, reference, since, last, presence, meta)| {
                Operation::Join(Join { room, reference, since, last, presence, meta })
            }),
        names().prop_map(|room| Operation::Leave { room }),
        (names(), proptest::option::of(names()), bodies()).prop_map(|(room, key, body)| Operation::Publish {
            room,
            key,
            body
        }),
        (names(), metas()).prop_map(|(room, meta)| Operation::Meta { room, meta }),
        names().prop_map(|room| Operation::Presence { room }),
        (names(), since, any::<u32>()).prop_map(|(room, since, limit)| Operation::History(History {
            room,
            since,
            limit
        })),
    ]
}

fn notices() -> impl Strategy<Value = Notice> {
    let member = (whos(), metas()).prop_map(|(who, meta)| Member { who, meta });
    let refusal =
        (names(), names(), names()).prop_map(|(room, code, message)| Refusal { room, code, message });
    prop_oneof![
        (names(), any::<[u8; 8]>(), seqs(), any::<bool>(), proptest::option::of(names())).prop_map(
            |(room, epoch, at, recovered, reference)| {
                Notice::Begin(Begin { room, epoch: Epoch::from_bytes(epoch), at, recovered, reference })
            }
        ),
        (names(), seqs(), proptest::option::of(names()), proptest::option::of(whos()), bodies())
            .prop_map(|(room, at, key, by, body)| Notice::Said(Said { room, at, key, by, body })),
        (names(), any::<u64>(), seqs()).prop_map(|(room, count, to)| Notice::Missed(Missed {
            room,
            count,
            to
        })),
        (names(), proptest::collection::vec(member.clone(), 0..4), any::<bool>(), any::<bool>())
            .prop_map(|(room, members, first, last)| Notice::Present(Present { room, members, first, last })),
        (names(), member.clone()).prop_map(|(room, member)| Notice::Change(Change::Joined { room, member })),
        (names(), member).prop_map(|(room, member)| Notice::Change(Change::Updated { room, member })),
        (names(), whos()).prop_map(|(room, who)| Notice::Change(Change::Gone { room, who })),
        refusal.clone().prop_map(Notice::Left),
        refusal.prop_map(Notice::Failed),
        (any::<[u8; 8]>(), seqs(), bodies()).prop_map(|(epoch, offset, body)| Notice::Kept {
            at: Position { epoch: Epoch::from_bytes(epoch), offset },
            body
        }),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_itself(operation in operations(), notice in notices(), body in bodies()) {
        prop_assert!(matches!(Operation::read(operation.write().unwrap()), Read::Layer(read) if read == operation));
        prop_assert!(matches!(Notice::read(notice.write().unwrap()), Read::Layer(read) if read == notice));
        let escaped = escape(body.clone()).unwrap();
        prop_assert!(matches!(Operation::read(escaped.clone()), Read::App(read) if read == body));
        prop_assert!(matches!(Notice::read(escaped), Read::App(read) if read == body));
    }
}
