//! Who has no key learns nothing: not even whether there is a session.

use throughline::frame::{Encoding, Epoch, Frame, SessionKey};
use throughline::{Close, CloseCode};

use super::http::{Answer, Ask};
use super::me::{Me, encode, message};
use super::peer::{Peer, Way};
use super::stage::{Set, Stage, play};

/// All that a thief can try over HTTP, in the name of somebody.
fn attempts(me: &Me, encoding: Encoding) -> Vec<Ask> {
    let way = Way::Polling(encoding);
    let mut higher = me.clone();
    higher.attachment += 1;
    let poll = Frame::Poll(Box::new(me.poll(20_000)));
    let push = Frame::Push(Box::new(me.push()));
    let close = Frame::Close(Close::new(CloseCode::Normal, ""));
    let stream = if encoding == Encoding::Json { Way::Events } else { Way::Frames };
    vec![
        way.ask(encode(encoding, &[poll])),
        way.ask(encode(encoding, &[push.clone(), message(1, "stolen")])),
        way.ask(encode(encoding, &[push, close])),
        way.ask(encode(encoding, &[higher.hello_frame(way.kind()), message(1, "stolen")])),
        stream.ask(encode(encoding, &[higher.hello_frame(stream.kind())])),
    ]
}

/// The key with one bit the other way.
fn flipped(key: &SessionKey, bit: usize) -> SessionKey {
    let mut bytes = *key.expose_bytes();
    bytes[bit / 8] ^= 1 << (bit % 8);
    SessionKey::from_bytes(bytes)
}

/// What one is told who asks for a session that never was.
async fn unknown(stage: &Stage, ask: usize, encoding: Encoding) -> Answer {
    let mut nobody = Me::new();
    nobody.epoch = Some(Epoch::from_bytes([9; 8]));
    let answer = stage.ask(&attempts(&nobody, encoding)[ask]).await;
    assert_eq!((answer.status(), answer.close().unwrap().code.clone()), (404, CloseCode::UnknownSession));
    answer
}

#[test]
fn a_wrong_key_or_epoch_is_answered_as_an_unknown_session_is() {
    for encoding in [Encoding::Json, Encoding::Binary] {
        play(Set::default(), async move |stage| {
            let mut victim = Peer::enter(stage, Way::ALL[0]).await;
            let other = Peer::enter(stage, Way::ALL[1]).await;
            let bits = (0..256).step_by(17).chain([255]).map(|bit| flipped(&victim.me.key, bit));
            let keys: Vec<_> = bits.chain([other.me.key.clone(), SessionKey::from_bytes([0; 32])]).collect();
            let mut thieves: Vec<_> = keys.into_iter().map(|key| Me { key, ..victim.me.clone() }).collect();
            thieves.push(Me { epoch: Some(Epoch::from_bytes([1; 8])), ..victim.me.clone() });
            thieves.push(Me { epoch: other.me.epoch, ..victim.me.clone() });
            for ask in 0..5 {
                let expected = unknown(stage, ask, encoding).await.text();
                for thief in &thieves {
                    let answer = stage.ask(&attempts(thief, encoding)[ask]).await;
                    assert_eq!(answer.text(), expected, "attempt {ask}");
                }
            }
            victim.check(stage).await;
            assert_eq!(stage.started(), 2);
        });
    }
}

#[test]
fn by_websocket_too() {
    for way in [Way::ALL[0], Way::ALL[1]] {
        play(Set::default(), async move |stage| {
            let mut victim = Peer::enter(stage, Way::Events).await;
            let mut nobody = Me::new();
            nobody.epoch = Some(Epoch::from_bytes([9; 8]));
            let thieves = [
                Me { key: flipped(&victim.me.key, 3), attachment: 2, ..victim.me.clone() },
                Me { epoch: nobody.epoch, attachment: 2, ..victim.me.clone() },
                // Without an epoch a session of this id would be made, if there were none.
                Me { key: flipped(&victim.me.key, 200), epoch: None, attachment: 2, ..victim.me.clone() },
            ];
            let hello = nobody.hello_frame(way.kind());
            let expected = Peer::knock(stage, way, nobody, &[hello]).await.err().expect("a close");
            assert_eq!((expected.code(), expected.status), ("unknown_session", 404));
            for thief in thieves {
                let hello = thief.hello_frame(way.kind());
                assert_eq!(Peer::knock(stage, way, thief, &[hello]).await.err(), Some(expected.clone()));
            }
            victim.check(stage).await;
        });
    }
}

#[test]
fn how_a_session_ended_is_told_only_to_who_has_its_key() {
    for encoding in [Encoding::Json, Encoding::Binary] {
        play(Set::default(), async move |stage| {
            let mut victim = Peer::enter(stage, Way::Polling(encoding)).await;
            let leave = victim.me.message("leave");
            victim.say(stage, &[leave]).await;
            assert_eq!(victim.end(stage).await.code(), "normal");
            victim.say(stage, &[Frame::Close(Close::new(CloseCode::Normal, ""))]).await;
            let thief = Me { key: flipped(&victim.me.key, 0), ..victim.me.clone() };
            for ask in 0..5 {
                let expected = unknown(stage, ask, encoding).await.text();
                let answer = stage.ask(&attempts(&thief, encoding)[ask]).await;
                assert_eq!(answer.text(), expected, "attempt {ask}");
                let answer = stage.ask(&attempts(&victim.me, encoding)[ask]).await;
                let close = answer.close().unwrap_or_else(|| panic!("attempt {ask}: {}", answer.text()));
                assert_eq!((answer.status(), close.code.clone()), (410, CloseCode::Normal), "attempt {ask}");
            }
            assert_eq!(stage.started(), 1);
        });
    }
}

#[test]
fn what_is_no_key_at_all_is_refused_without_a_look() {
    play(Set::default(), async |stage| {
        let mut victim = Peer::enter(stage, Way::Events).await;
        let mut nobody = Me::new();
        nobody.epoch = victim.me.epoch;
        for ask in 0..5 {
            let spoilt = |me: &Me, to: &str| {
                let ask = attempts(me, Encoding::Json).swap_remove(ask);
                let key = data_encoding_of(&me.key);
                let body = String::from_utf8(ask.body.to_vec()).unwrap();
                assert!(body.contains(&key));
                Ask { body: body.replace(&key, to).into(), ..ask }
            };
            let key = data_encoding_of(&victim.me.key);
            for wrong in
                ["", &key[1..], &format!("{key}A"), &format!("{key}="), &key.replace('A', "+"), "null"]
            {
                let answer = stage.ask(&spoilt(&victim.me, wrong)).await;
                let same = stage.ask(&spoilt(&nobody, wrong)).await;
                assert_eq!(answer.text(), same.text());
                assert_eq!(answer.status(), 400, "{}", answer.text());
                assert!(wrong.is_empty() || wrong == "null" || !answer.text().contains(wrong));
            }
        }
        victim.check(stage).await;
    });
}

/// The key as it stands on the wire.
fn data_encoding_of(key: &SessionKey) -> String {
    let quoted = serde_json::to_string(key).unwrap();
    quoted.trim_matches('"').to_owned()
}

#[test]
fn a_key_is_in_no_answer() {
    play(Set::default(), async |stage| {
        for way in Way::ALL {
            let mut peer = Peer::enter(stage, way).await;
            let key = data_encoding_of(&peer.me.key);
            let welcome = encode(Encoding::Json, &[Frame::Welcome(Box::new(peer.welcome.clone()))]);
            assert!(!String::from_utf8_lossy(&welcome).contains(&key));
            let end = peer.offend(stage, format!("[\"{key}\"]").as_bytes()).await;
            assert!(!end.close.reason.contains(&key));
        }
    });
}
