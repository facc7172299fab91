//! The server's end of a WebSocket, of its own making: many of them are idle, and all of them are on the hot path.
//!
//! It reads into room that all of a thread share, so that one that is idle keeps none, and as much at once as there
//! is; and it writes a message from where it was put together. It owns the closing handshake and what may pile up in
//! either direction. What a frame may look like is the reader's.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::protocol::frame::coding::Data;

use super::carrier::{
    FRAGMENT, Farewell, IDLE_MESSAGES, Incoming, Phase, WRITE, not_utf8, pieces_bound, too_large,
};
use super::reader::{Piece, Reader, Refusal};
use super::tidings::Tidings;
use crate::transport::TransportError;

/// How much is read at once, of all that came.
const SCRATCH: usize = 32 << 10;

/// So much room for what waits to be written is kept for the next.
const KEPT: usize = 1 << 10;

/// The header of a frame of a server's: at most so much before a payload of one write.
pub(super) const HEADER: usize = 4;

const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

thread_local! {
    /// Where all of a thread read to. Taken while it is used: a stream may itself read from a WebSocket.
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What is touched where nothing came and a message goes out stands first.
#[repr(C)]
pub(in crate::transport) struct Accepted<S> {
    phase: Phase,
    /// Whether the peer sent what is not taken: nothing more is read then, but a close can still be said.
    refused: bool,
    /// Whether anything was fed since the last flush.
    fed: bool,
    /// Whether it is worth to read.
    tidings: Tidings,
    io: S,
    /// Frames that the stream has had no room for, and how much of them it has taken.
    out: Vec<u8>,
    written: usize,
    /// What of the current message is no frame yet.
    rest: Option<(Bytes, Data)>,
    reader: Reader,
    /// What was read behind a message that came, and how much of that has been looked at.
    ahead: Vec<u8>,
    seen: usize,
    /// How much was read since the last message, and how much it may be.
    read: usize,
    most: usize,
    max_message: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Accepted<S> {
    /// Takes over a stream on which the opening handshake is done.
    pub(super) fn new(io: S, max_message: usize) -> Self {
        Self {
            io,
            tidings: Tidings::default(),
            phase: Phase::Open,
            refused: false,
            fed: false,
            reader: Reader::new(max_message),
            ahead: Vec::new(),
            seen: 0,
            read: 0,
            most: pieces_bound(max_message),
            max_message,
            out: Vec::new(),
            written: 0,
            rest: None,
        }
    }

    #[cfg(test)]
    pub(super) fn get_ref(&self) -> &S {
        &self.io
    }

    /// How many bytes have come of a message that is not whole.
    pub(super) fn unfinished(&self) -> usize {
        self.read
    }

    /// Gives spare memory back.
    pub(super) fn shrink(&mut self) {
        if self.out.is_empty() {
            self.out = Vec::new();
        }
    }

    /// Receives a message. Pings are answered within, and a close by the peer is the end.
    #[inline]
    pub(super) fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, TransportError>> {
        if self.phase != Phase::Open || self.refused {
            return Poll::Ready(Err(TransportError::Ended));
        }
        if !self.tidings.has_any(cx) {
            return Poll::Pending;
        }
        for _ in 0..IDLE_MESSAGES {
            let Some(piece) = ready!(self.poll_piece())? else { continue };
            if !matches!(piece, Piece::Ping(_) | Piece::Pong(_)) {
                self.read = self.ahead.len().saturating_sub(self.seen);
            }
            match piece {
                Piece::Binary(message) => return Poll::Ready(Ok(Incoming::Binary(message.into()))),
                Piece::Text(message) => {
                    if std::str::from_utf8(&message).is_err() {
                        self.refused = true;
                        return Poll::Ready(Err(not_utf8()));
                    }
                    return Poll::Ready(Ok(Incoming::Text(message.into())));
                }
                Piece::Pong(payload) => {
                    self.pass_control(&payload);
                    return Poll::Ready(Ok(Incoming::Pong(payload.into())));
                }
                Piece::Ping(payload) => {
                    self.pass_control(&payload);
                    // Who does not read what it asked for is answered no more for now.
                    if self.out.len() <= WRITE {
                        self.put(PONG, &payload);
                    }
                    // It waits for room, if it must, with what is flushed next; errors show there.
                    if let Poll::Ready(Err(error)) = self.poll_write_out(cx) {
                        return Poll::Ready(Err(error));
                    }
                }
                Piece::Close(payload) => {
                    self.put(CLOSE, close_answer(&payload));
                    // As far as it goes: the peer has closed either way.
                    if let Poll::Ready(Ok(())) = self.poll_write_out(cx) {
                        let _ = Pin::new(&mut self.io).poll_flush(cx);
                    }
                    return Poll::Ready(Err(self.fail(TransportError::Ended)));
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// A control frame, with its head and mask, does not count among the pieces of a message.
    fn pass_control(&mut self, payload: &[u8]) {
        self.read = self.read.saturating_sub(payload.len().saturating_add(6));
    }

    /// Goes on reading: from what was read ahead, or else what has come. `None`: nothing is whole yet.
    #[inline]
    fn poll_piece(&mut self) -> Poll<Result<Option<Piece>, TransportError>> {
        let taken = if self.seen < self.ahead.len() {
            let mut input = self.ahead.get(self.seen..).unwrap_or_default();
            let taken = self.reader.take(&mut input);
            self.seen = self.ahead.len().saturating_sub(input.len());
            if input.is_empty() {
                (self.ahead, self.seen) = (Vec::new(), 0);
            }
            taken
        } else {
            if self.read > self.most {
                let error = io::Error::other("a WebSocket message in too many pieces");
                return Poll::Ready(Err(self.fail(TransportError::Network(error.into()))));
            }
            let mut room = ROOM.take();
            room.resize(SCRATCH, 0);
            let polled = self.poll_read(&mut room);
            ROOM.set(room);
            match ready!(polled) {
                Ok(taken) => taken,
                Err(error) => return Poll::Ready(Err(self.fail(error))),
            }
        };
        Poll::Ready(taken.map_err(|refusal| match refusal {
            Refusal::Broken(what) => self.fail(TransportError::Network(io::Error::other(what).into())),
            Refusal::TooLarge => {
                self.refused = true;
                too_large(self.max_message)
            }
        }))
    }

    /// Reads once. What stands behind a message is kept.
    fn poll_read(&mut self, room: &mut [u8]) -> Poll<Result<Result<Option<Piece>, Refusal>, TransportError>> {
        self.tidings.heed();
        let mut buf = ReadBuf::new(room);
        let mut reading = Context::from_waker(&self.tidings.waker);
        let polled = ready!(Pin::new(&mut self.io).poll_read(&mut reading, &mut buf));
        self.tidings.expect_more();
        if let Err(error) = polled {
            return Poll::Ready(Err(TransportError::Network(error.into())));
        }
        let mut input = buf.filled();
        if input.is_empty() {
            return Poll::Ready(Err(TransportError::Ended));
        }
        self.read = self.read.saturating_add(input.len());
        let taken = self.reader.take(&mut input);
        if !input.is_empty() {
            (self.ahead, self.seen) = (input.to_vec(), 0);
        }
        Poll::Ready(Ok(taken))
    }

    /// Reads no more: what came is not what it should be.
    pub(super) fn refuse(&mut self) {
        self.refused = true;
    }

    /// Whether a message of so many bytes may go by [`Accepted::write_whole`] now: nothing waits before it, and it needs
    /// no fragments.
    #[inline]
    pub(super) fn takes_whole(&self, bytes: usize) -> bool {
        bytes <= FRAGMENT && self.out.is_empty() && self.rest.is_none() && self.phase == Phase::Open
    }

    /// Writes a message from where it stands, behind room for its header. What the stream has no room for is kept, and
    /// leaves with the flush.
    #[inline]
    pub(super) fn write_whole(
        &mut self,
        cx: &mut Context<'_>,
        kind: Data,
        framed: &mut [u8],
    ) -> Result<(), TransportError> {
        let payload = framed.len().saturating_sub(HEADER);
        let (header, length) = header(0x80 | opcode(kind), payload);
        let begin = HEADER.saturating_sub(length);
        if let (Some(slot), Some(header)) = (framed.get_mut(begin..HEADER), header.get(..length)) {
            slot.copy_from_slice(header);
        }
        let mut frame = framed.get(begin..).unwrap_or_default();
        while !frame.is_empty() {
            match Pin::new(&mut self.io).poll_write(cx, frame) {
                Poll::Ready(Ok(written)) if written > 0 => frame = frame.get(written..).unwrap_or_default(),
                Poll::Ready(Ok(_)) => return Err(self.fail_with(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Err(error)) => return Err(self.fail_with(error)),
                Poll::Pending => {
                    self.out.extend_from_slice(frame);
                    break;
                }
            }
        }
        // Some streams, TLS say, keep what was written until then.
        self.fed = true;
        Ok(())
    }

    /// Waits until [`Accepted::feed`] may be called: until all of the message before is frames.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        self.check_open()?;
        while let Some((mut payload, kind)) = self.rest.take() {
            let full = self.out.len().saturating_add(payload.len().min(FRAGMENT)) > WRITE;
            if full && self.poll_write_out(cx)?.is_pending() {
                self.rest = Some((payload, kind));
                return Poll::Pending;
            }
            let piece = payload.split_to(payload.len().min(FRAGMENT));
            let last = if payload.is_empty() { 0x80 } else { 0 };
            self.put(last | opcode(kind), &piece);
            if !payload.is_empty() {
                self.rest = Some((payload, Data::Continue));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Begins a message. After [`Accepted::poll_room`] only.
    pub(super) fn feed(&mut self, kind: Data, payload: Bytes) {
        self.rest = Some((payload, kind));
        self.fed = true;
    }

    /// Feeds a ping. After [`Accepted::poll_room`] only.
    pub(super) fn feed_ping(&mut self, payload: &[u8]) {
        self.put(PING, payload);
    }

    /// Writes all that was fed.
    #[inline]
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        self.check_open()?;
        if !self.fed {
            return Poll::Ready(Ok(()));
        }
        if self.rest.is_some() {
            ready!(self.poll_room(cx))?;
        }
        ready!(self.poll_write_out(cx))?;
        if let Err(error) = ready!(Pin::new(&mut self.io).poll_flush(cx)) {
            return Poll::Ready(Err(self.fail_with(error)));
        }
        self.fed = false;
        Poll::Ready(Ok(()))
    }

    /// Puts a frame behind what waits to be written.
    fn put(&mut self, first: u8, payload: &[u8]) {
        let (header, length) = header(first, payload.len());
        self.out.extend_from_slice(header.get(..length).unwrap_or_default());
        self.out.extend_from_slice(payload);
        self.fed = true;
    }

    #[inline]
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        while let Some(waiting) = self.out.get(self.written..).filter(|waiting| !waiting.is_empty()) {
            match ready!(Pin::new(&mut self.io).poll_write(cx, waiting)) {
                Ok(0) => return Poll::Ready(Err(self.fail_with(io::ErrorKind::WriteZero.into()))),
                Ok(written) => self.written = self.written.saturating_add(written),
                Err(error) => return Poll::Ready(Err(self.fail_with(error))),
            }
        }
        self.out.clear();
        self.written = 0;
        if self.out.capacity() > KEPT {
            self.out = Vec::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Writes all that was fed, says close, and waits until the peer has said it too or is gone.
    ///
    /// Without that wait a server that closes the stream first would reset it, and the peer could lose what was
    /// written last. Whoever calls this bounds the wait.
    pub(super) fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        close: Farewell<'_>,
    ) -> Poll<Result<(), TransportError>> {
        loop {
            match self.phase {
                Phase::Open => {
                    ready!(self.poll_flush(cx))?;
                    self.put(CLOSE, &[&close.number.to_be_bytes(), close.reason.as_bytes()].concat());
                    self.phase = Phase::Closing;
                }
                Phase::Closing => {
                    ready!(self.poll_write_out(cx))?;
                    if let Err(error) = ready!(Pin::new(&mut self.io).poll_flush(cx)) {
                        return Poll::Ready(Err(self.fail_with(error)));
                    }
                    self.phase = Phase::Lingering;
                }
                Phase::Lingering => {
                    ready!(self.poll_answer(cx));
                    self.phase = Phase::Closed;
                }
                Phase::Closed => return Poll::Ready(Ok(())),
                Phase::Failed => return Poll::Ready(Err(TransportError::Ended)),
            }
        }
    }

    /// Reads on until the peer's close or the end, and drops what comes before.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Whether anything was announced does not matter: it may have been before.
        let _ = self.tidings.has_any(cx);
        if self.refused {
            // Ends this direction, and drops what comes, message or not, until the peer ends the other. What matters is
            // that the peer sees an end; it sees one either way.
            let _ = Pin::new(&mut self.io).poll_shutdown(cx);
        }
        for _ in 0..IDLE_MESSAGES {
            self.read = 0;
            if self.refused {
                let mut space = [0; 1024];
                let mut buf = ReadBuf::new(&mut space);
                let read = ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf));
                if read.is_err() || buf.filled().is_empty() {
                    return Poll::Ready(());
                }
            } else if let Ok(
                None | Some(Piece::Text(_) | Piece::Binary(_) | Piece::Ping(_) | Piece::Pong(_)),
            ) = ready!(self.poll_piece())
            {
                // It comes too late.
            } else {
                return Poll::Ready(());
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    #[inline]
    pub(super) fn check_open(&self) -> Result<(), TransportError> {
        if self.phase == Phase::Open { Ok(()) } else { Err(TransportError::Ended) }
    }

    fn fail(&mut self, error: TransportError) -> TransportError {
        self.phase = Phase::Failed;
        self.rest = None;
        (self.out, self.written) = (Vec::new(), 0);
        (self.ahead, self.seen) = (Vec::new(), 0);
        error
    }

    fn fail_with(&mut self, error: io::Error) -> TransportError {
        self.fail(TransportError::Network(error.into()))
    }
}

fn opcode(kind: Data) -> u8 {
    match kind {
        Data::Text => 1,
        Data::Binary => 2,
        _ => 0,
    }
}

/// The header of a frame, and its length. Payloads here are at most a fragment.
#[inline]
fn header(first: u8, payload: usize) -> ([u8; HEADER], usize) {
    match u8::try_from(payload) {
        Ok(short) if short < 126 => ([first, short, 0, 0], 2),
        _ => {
            let [high, low] = u16::try_from(payload).unwrap_or(u16::MAX).to_be_bytes();
            ([first, 126, high, low], 4)
        }
    }
}

/// What answers the peer's close: its code, unless it is none that may be said (RFC 6455, section 7.4).
fn close_answer(payload: &[u8]) -> &[u8] {
    const PROTOCOL_ERROR: &[u8] = &1002_u16.to_be_bytes();
    match payload {
        [] => &[],
        [high, low, ..] => match u16::from_be_bytes([*high, *low]) {
            1000..=1003 | 1007..=1014 | 3000..=4999 => payload.get(..2).unwrap_or_default(),
            _ => PROTOCOL_ERROR,
        },
        _ => PROTOCOL_ERROR,
    }
}

/// What is in its buffers may be secret, so it is not shown.
impl<S> fmt::Debug for Accepted<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accepted")
            .field("phase", &self.phase)
            .field("refused", &self.refused)
            .finish_non_exhaustive()
    }
}
