use std::future::{Future, poll_fn};
use std::pin::Pin;

use http_body::Body;
use http_body_util::BodyExt;

use super::*;
use crate::frame::{Attachment, Batch, FrameStream, Role, Seq};
use crate::transport::testing::{
    feed, flush, has_received, is_ready, message, recv, recv_frame, watchdog, welcome,
};

fn make(form: Form, extent: Extent) -> (ResponseTransport, ResponseHead) {
    response(TransportKind::Sse, form, extent, Limits::default())
}

/// What the body has now.
async fn chunk(body: &mut ResponseBody) -> Option<Bytes> {
    watchdog(body.frame()).await.map(|frame| frame.unwrap().into_data().unwrap())
}

async fn text(body: &mut ResponseBody) -> String {
    String::from_utf8(chunk(body).await.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn the_head_waits_for_the_first_flush_and_brings_it_along() {
    let (mut transport, mut head) = make(Form::EventStream, Extent::Stream);
    flush(&mut transport).await.unwrap();
    assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut head).poll(cx).is_pending())).await);
    transport.start_send(&Frame::Ping(None));
    transport.start_send(&Frame::Pong(Some(1)));
    flush(&mut transport).await.unwrap();
    let mut start = head.await;
    assert!(start.close.is_none());
    let now = poll_fn(|cx| Poll::Ready(Pin::new(&mut start.body).poll_frame(cx))).await;
    let Poll::Ready(Some(Ok(first))) = now else { panic!("no bytes with the head") };
    assert_eq!(first.into_data().unwrap(), "data: [\"ping\"]\ndata: [\"pong\",1]\n\n");
    feed(&mut transport, &[Frame::Ping(Some(2))]).await;
    assert_eq!(text(&mut start.body).await, "data: [\"ping\",2]\n\n");
    drop(transport);
    assert!(start.body.is_end_stream());
    assert!(chunk(&mut start.body).await.is_none());
}

#[tokio::test]
async fn a_close_that_comes_first_is_known_with_the_head() {
    for extent in [Extent::Answer, Extent::Stream] {
        let (mut transport, head) = make(Form::Lines, extent);
        let close = Close::superseded(Attachment::FIRST);
        feed(&mut transport, &[Frame::Close(close.clone())]).await;
        drop(transport);
        let start = head.await;
        assert_eq!(start.close, Some(close));
        assert!(start.body.size_hint().exact().is_some_and(|bytes| bytes > 0));
    }
    let (mut transport, head) = make(Form::Lines, Extent::Stream);
    feed(&mut transport, &[welcome(), Frame::Close(Close::superseded(Attachment::FIRST))]).await;
    assert_eq!(head.await.close, None);
}

#[tokio::test]
async fn an_answer_is_over_with_its_first_flush_and_is_one_batch() {
    let (mut transport, head) = make(Form::Lines, Extent::Answer);
    feed(&mut transport, &[message(1, "a"), message(2, "b")]).await;
    assert!(matches!(recv(&mut transport).await, Err(TransportError::Ended)));
    assert!(poll_fn(|cx| transport.poll_ready(cx)).await.is_err());
    assert!(flush(&mut transport).await.is_err());
    let mut body = head.await.body;
    assert_eq!(text(&mut body).await, "[\"msg\",1,\"a\"]\n[\"msg\",2,\"b\"]");
    assert!(body.is_end_stream());
}

#[tokio::test]
async fn an_answer_takes_no_more_than_a_batch() {
    let limits = Limits { max_message_bytes: 1000, max_batch_bytes: 3000, ..Limits::default() };
    let (mut transport, head) = response(TransportKind::LongPolling, Form::Frames, Extent::Answer, limits);
    let mut seq = 0;
    while poll_fn(|cx| transport.poll_ready(cx)).await.is_ok() {
        seq += 1;
        transport.start_send(&message(seq, vec![0; 1000]));
    }
    let bytes = head.await.body.collect().await.unwrap().to_bytes();
    let batch = Batch::new(bytes, Encoding::Binary, Role::Server, limits).unwrap();
    assert_eq!(batch.map(Result::unwrap).count(), usize::try_from(seq).unwrap());
}

#[tokio::test]
async fn an_answer_with_nothing_to_say_is_empty() {
    let (mut transport, head) = make(Form::Lines, Extent::Answer);
    poll_fn(|cx| transport.poll_close(cx)).await.unwrap();
    let start = head.await;
    assert!(start.close.is_none() && start.body.is_end_stream());
    let (transport, head) = make(Form::EventStream, Extent::Stream);
    drop(transport);
    assert_eq!(head.await.body.size_hint().exact(), Some(0));
}

#[tokio::test]
async fn whoever_takes_nothing_holds_up_the_sender_until_he_does() {
    let (mut transport, head) = make(Form::Frames, Extent::Stream);
    let mut fed = 0;
    while is_ready(&mut transport).await {
        fed += 1;
        assert!(fed < 1000);
        feed(&mut transport, &[message(fed, vec![0; 1000])]).await;
    }
    let mut body = head.await.body;
    let waiting =
        tokio::spawn(async move { poll_fn(|cx| transport.poll_ready(cx)).await.map(|()| transport) });
    tokio::task::yield_now().await;
    let mut frames = FrameStream::new(Role::Server, Limits::default());
    frames.feed(&chunk(&mut body).await.unwrap());
    assert_eq!(frames.next().unwrap().unwrap(), message(1, vec![0; 1000]));
    let mut transport = watchdog(waiting).await.unwrap().unwrap();
    let closing = tokio::spawn(async move { poll_fn(|cx| transport.poll_close(cx)).await });
    tokio::task::yield_now().await;
    assert!(!closing.is_finished());
    let mut rest = 0;
    while chunk(&mut body).await.is_some() {
        rest += 1;
    }
    assert_eq!(rest, fed - 1);
    watchdog(closing).await.unwrap().unwrap();
}

#[tokio::test]
async fn who_is_gone_is_noticed_before_and_after_the_head() {
    let (mut transport, head) = make(Form::Frames, Extent::Stream);
    let task = tokio::spawn(async move { recv(&mut transport).await.map(|_| ()) });
    tokio::task::yield_now().await;
    drop(head);
    assert!(matches!(watchdog(task).await.unwrap(), Err(TransportError::Ended)));

    let (mut transport, head) = make(Form::Frames, Extent::Stream);
    feed(&mut transport, &[Frame::Ping(None)]).await;
    let body = head.await.body;
    assert!(!has_received(&mut transport).await);
    drop(body);
    assert!(matches!(recv(&mut transport).await, Err(TransportError::Ended)));
    assert!(flush(&mut transport).await.is_err());
    assert!(poll_fn(|cx| transport.poll_ready(cx)).await.is_err());
}

#[tokio::test]
async fn lines_of_two_flushes_are_lines() {
    let (mut transport, head) = make(Form::Lines, Extent::Stream);
    feed(&mut transport, &[Frame::Ping(None), Frame::Ping(None)]).await;
    feed(&mut transport, &[Frame::Pong(None)]).await;
    drop(transport);
    let whole = head.await.body.collect().await.unwrap().to_bytes();
    assert_eq!(whole, "[\"ping\"]\n[\"ping\"]\n[\"pong\"]\n");
}

#[tokio::test]
async fn a_plain_stream_begins_with_its_place_and_a_ping_taken_counts_as_answered() {
    let events = PlainEvents::new("token", Seq::ZERO);
    let (mut transport, head) = make(Form::PlainEvents(events), Extent::Stream);
    feed(&mut transport, &[welcome()]).await;
    let mut body = head.await.body;
    assert_eq!(text(&mut body).await, "id: token.0\n\n");
    feed(&mut transport, &[Frame::Ping(Some(3))]).await;
    assert!(!has_received(&mut transport).await);
    let task = tokio::spawn(async move { recv_frame(&mut transport).await });
    tokio::task::yield_now().await;
    assert_eq!(text(&mut body).await, ": \n\n");
    assert_eq!(watchdog(task).await.unwrap(), Frame::Pong(Some(3)));
}
