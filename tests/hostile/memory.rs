//! What a peer can make the server hold: measured, in a process that does nothing else.

use throughline::frame::{Encoding, Frame, Window};

use super::ALLOCATED;
use super::http::{Ask, Wire};
use super::me::{Me, ack, encode, message};
use super::peer::{Peer, Way};
use super::stage::{Set, Stage, play_alone, within};
use super::ws::{BINARY, CONTINUATION, TEXT, Ws, fragment};

const KIB: usize = 1024;
const SECOND: std::time::Duration = std::time::Duration::from_secs(1);

/// The most that was allocated meanwhile, beyond what is allocated at the beginning.
async fn peak(what: impl AsyncFnOnce()) -> usize {
    let before = ALLOCATED.current_usage();
    ALLOCATED.reset_peak_usage();
    what().await;
    ALLOCATED.peak_usage().saturating_sub(before)
}

/// How much more is allocated afterwards than before.
async fn growth(what: impl AsyncFnOnce()) -> usize {
    let before = ALLOCATED.current_usage();
    what().await;
    ALLOCATED.current_usage().saturating_sub(before)
}

#[track_caller]
fn assert_at_most(most: usize, measured: usize, what: &str) {
    eprintln!("{what}: {} KiB of at most {}", measured / KIB, most / KIB);
    assert!(measured <= most, "{what}: {} KiB, allowed are {}", measured / KIB, most / KIB);
}

fn small_buffers() -> Set {
    Set::with(|builder| {
        builder
            .send_buffer(Window { messages: 100, bytes: 600 << 10 })
            .window(Window { messages: 100, bytes: 600 << 10 })
            .limits(throughline::frame::Limits { max_message_bytes: 64 << 10, ..Default::default() })
            .send_patience(std::time::Duration::from_secs(30))
    })
}

/// Besides what is held for a session: its pipes, its batches on their way, and hyper's buffers of up to 400 KiB.
const AROUND: usize = 1100 * KIB;

#[test]
fn a_peer_that_never_reads_is_held_within_the_send_buffer_and_ended_for_slowness() {
    for way in Way::ALL {
        play_alone(small_buffers(), async move |stage| {
            let mut peer = Peer::enter(stage, way).await;
            let most = peak(async || {
                // Twenty times of what is kept.
                let flood = peer.me.message("flood 1000 12000");
                peer.say(stage, &[flood]).await;
                stage.until("the session has ended", |stage| stage.sessions() == 0).await;
            })
            .await;
            assert_at_most(600 * KIB + AROUND, most, &format!("{way:?} never reads"));
        });
    }
}

#[test]
fn a_peer_that_reads_and_never_acknowledges_is_held_within_the_send_buffer_and_ended_for_slowness() {
    for way in Way::ALL {
        play_alone(small_buffers(), async move |stage| {
            let mut peer = Peer::enter(stage, way).await;
            let most = peak(async || {
                let flood = peer.me.message("flood 1000 12000");
                peer.say(stage, &[flood]).await;
                let close = within("the end", async {
                    loop {
                        match peer.try_frame(stage).await {
                            Ok(Frame::Close(close)) => return close,
                            Ok(Frame::Ping(number)) => drop(peer.say(stage, &[Frame::Pong(number)]).await),
                            // Polled without a receipt, all comes again at once.
                            Ok(Frame::Message(message)) if message.seq.value() == 1 => {
                                tokio::time::sleep(SECOND).await
                            }
                            Ok(_) => {}
                            Err(code) => panic!("{way:?} ended with {code:?}"),
                        }
                    }
                })
                .await;
                assert_eq!(close.code.as_str(), "slow_consumer", "{way:?}");
            })
            .await;
            // Each poll is answered by all of it.
            assert_at_most(4 * 600 * KIB + AROUND, most, &format!("{way:?} never acknowledges"));
        });
    }
}

#[test]
fn a_peer_that_acknowledges_and_never_takes_is_sent_its_window_and_no_more() {
    for way in Way::ALL {
        play_alone(small_buffers(), async move |stage| {
            let me = Me::new();
            let mut hello = me.hello(way.kind());
            hello.window = Window { messages: 10, bytes: 1 << 20 };
            let mut peer =
                Peer::knock(stage, way, me, &[Frame::Hello(Box::new(hello))]).await.expect("let in");
            let flood = peer.me.message("flood 1000 12000");
            peer.say(stage, &[flood]).await;
            let mut count = 0;
            peer.me.taken = Some(0);
            let most = peak(async || {
                let close = within("the end", async {
                    loop {
                        match peer.try_frame(stage).await {
                            Ok(Frame::Message(message)) if message.seq.value() == count + 1 => {
                                count += 1;
                                peer.me.received = count;
                                peer.say(stage, &[ack(count, 0)]).await;
                            }
                            Ok(Frame::Close(close)) => return close,
                            Ok(Frame::Ping(number)) => drop(peer.say(stage, &[Frame::Pong(number)]).await),
                            Ok(_) => {}
                            Err(code) => panic!("{way:?} ended with {code:?}"),
                        }
                    }
                })
                .await;
                assert_eq!(close.code.as_str(), "slow_consumer");
            })
            .await;
            assert_eq!(count, 10, "{way:?}");
            assert_at_most(600 * KIB + AROUND, most, &format!("{way:?} never takes"));
        });
    }
}

#[test]
fn a_handler_that_takes_nothing_is_sent_a_window_and_no_more() {
    for way in Way::ALL {
        play_alone(small_buffers(), async move |stage| {
            let mut peer = Peer::enter(stage, way).await;
            let sleep = peer.me.message("sleep");
            peer.say(stage, &[sleep]).await;
            let most = peak(async || {
                for round in 0..10 {
                    // The same again and again: beyond the window it is not taken.
                    let messages: Vec<_> =
                        (0..9).map(|index| message(2 + round * 9 + index, vec![7; 60 << 10])).collect();
                    peer.say(stage, &messages).await;
                    if round >= 1 {
                        break;
                    }
                }
            })
            .await;
            // The window, one batch on its way in each of its forms, and the batch of the peer's own making.
            assert_at_most(600 * KIB + 5 * 960 * KIB + AROUND, most, &format!("{way:?} fills a window"));
        });
    }
}

#[test]
fn small_messages_do_not_pin_large_bodies() {
    for way in Way::ALL {
        play_alone(Set::default(), async move |stage| {
            let mut peer = Peer::enter(stage, way).await;
            let sleep = peer.me.message("sleep");
            peer.say(stage, &[sleep]).await;
            let grown = growth(async || {
                for _ in 0..200 {
                    // One small message behind much that is nothing.
                    let mut batch = encode(way.encoding(), &[peer.me.message("x")]).to_vec();
                    match way.encoding() {
                        Encoding::Json => {
                            batch.extend(format!("\n[\"x-\",\"{}\"]", "a".repeat(50_000)).into_bytes())
                        }
                        Encoding::Binary => {
                            batch.extend([0x80 | 0x51, 0x80 | 0x06, 0x03, 0x80]);
                            batch.resize(batch.len() + 0xc350, 0);
                        }
                    }
                    peer.say_raw(stage, &batch).await;
                }
            })
            .await;
            assert_at_most(600 * KIB, grown, &format!("{way:?} 200 small messages in 10 MB"));
        });
    }
}

#[test]
fn websockets_that_come_and_go_without_a_word_leave_nothing() {
    play_alone(Set::default(), async |stage| {
        let visit = async |count: usize| {
            for _ in 0..count {
                let ws = Ws::open(stage.wire().await, Encoding::Json).await;
                drop(ws);
                settle(stage).await;
            }
        };
        visit(50).await;
        let grown = growth(async || visit(2000).await).await;
        assert_at_most(64 * KIB, grown, "2000 WebSockets without hello");
    });
}

/// Until what was dropped is noticed.
async fn settle(_: &Stage) {
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
}

#[test]
fn hellos_that_are_refused_leave_nothing() {
    for way in Way::ALL {
        play_alone(Set::default(), async move |stage| {
            let visit = async |count: usize| {
                for _ in 0..count {
                    let me = Me { epoch: Some(throughline::frame::Epoch::from_bytes([1; 8])), ..Me::new() };
                    let hello = me.hello_frame(way.kind());
                    assert!(Peer::knock(stage, way, me, &[hello]).await.is_err());
                    settle(stage).await;
                }
            };
            visit(50).await;
            let grown = growth(async || visit(1000).await).await;
            assert_at_most(64 * KIB, grown, &format!("{way:?} 1000 refused"));
        });
    }
}

#[test]
fn a_websocket_is_allocated_what_came_and_not_what_was_announced() {
    play_alone(Set::default(), async |stage| {
        let mut sockets = Vec::new();
        for _ in 0..8 {
            sockets.push(Ws::open(stage.wire().await, Encoding::Json).await);
        }
        let grown = growth(async || {
            for ws in &mut sockets {
                // The largest that is taken is announced; four bytes of it come.
                let mut frame = vec![0x81, 0x80 | 127];
                frame.extend_from_slice(&(960_u64 << 10).to_be_bytes());
                frame.extend_from_slice(&[1, 2, 3, 4, b'[', 2, 3, 4]);
                ws.wire.write(&frame).await;
            }
            settle(stage).await;
        })
        .await;
        eprintln!("8 announced messages: {} KiB", grown / KIB);
        assert_at_most(8 * 16 * KIB, grown, "8 announced messages");
    });
}

#[test]
fn a_message_in_endless_fragments_is_held_within_a_batch() {
    play_alone(Set::default(), async |stage| {
        for opcode in [TEXT, BINARY] {
            let mut ws = Ws::open(stage.wire().await, Encoding::Json).await;
            let most = peak(async || {
                ws.wire.write(&fragment(opcode, false, b"")).await;
                let many = fragment(CONTINUATION, false, b" ").repeat(1000);
                while ws.wire.write(&many).await {}
            })
            .await;
            assert_at_most(3 * 960 * KIB, most, "endless fragments");
        }
    });
}

#[test]
fn bodies_in_the_smallest_chunks_are_held_within_a_batch() {
    play_alone(Set::default(), async |stage| {
        let ask = Ask::post(Encoding::Json, Default::default()).header("transfer-encoding", "chunked");
        let mut wire: Wire = stage.wire().await;
        let most = peak(async || {
            wire.write(ask.head().as_bytes()).await;
            let chunks = "1\r\n \r\n".repeat(1000);
            while wire.write(chunks.as_bytes()).await {}
        })
        .await;
        assert_at_most(4 * 960 * KIB, most, "smallest chunks");
        let answer = within("an answer", wire.answer()).await;
        assert!(answer.is_none_or(|answer| answer.status() == 413));
    });
}

#[test]
fn mailboxes_that_are_full_hold_no_more() {
    play_alone(Set { places: 1000, ..Set::default() }, async |stage| {
        let way = Way::ALL[5];
        let peer = Peer::enter(stage, way).await;
        let push = Frame::Push(Box::new(peer.me.push()));
        // All messages are from the future: nothing of them is taken.
        let body = Ask::frames(Encoding::Json, &[push, message(9, vec![7; 100_000])]).bytes();
        let mut wires = Vec::new();
        let most = peak(async || {
            for _ in 0..40 {
                let mut wire = stage.wire().await;
                wire.write(&body).await;
                wires.push(wire);
            }
            for wire in &mut wires {
                within("an answer", wire.answer()).await.expect("an answer");
            }
        })
        .await;
        // Forty bodies in their pipes, both buffers of each, and the answers.
        assert_at_most(40 * 500 * KIB, most, "40 pushes of 133 KB");
        drop(wires);
    });
}
