//! Reads WebSocket frames of a client (RFC 6455, section 5.2), without I/O.
//!
//! Bytes in, however they are cut; whole messages and control frames out. It owns what a frame may look like. What came
//! of a message is the only thing that it keeps, unmasked where it is to stay.

use tokio_tungstenite::tungstenite::protocol::frame::coding::Data;

/// The longest header.
const HEADER: usize = 14;

/// The most that a control frame bears.
const MAX_CONTROL: u64 = 125;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Vec<u8>),
}

/// Why it is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is no frame that a client may send here.
    Broken(&'static str),
    /// The message is too large.
    TooLarge,
}

/// A frame of which the header is known.
#[derive(Debug)]
struct Frame {
    opcode: u8,
    last: bool,
    /// What is still to come of the payload.
    remaining: u64,
    /// As the next byte of the payload needs it.
    mask: [u8; 4],
}

#[derive(Debug)]
pub(super) struct Reader {
    /// The header under way.
    header: [u8; HEADER],
    known: u8,
    frame: Option<Frame>,
    /// Of the message whose fragments come.
    kind: Option<Data>,
    /// What came of the message, and of the control frame between its fragments.
    message: Vec<u8>,
    control: Vec<u8>,
    max_message: usize,
}

impl Reader {
    pub(super) fn new(max_message: usize) -> Self {
        Self {
            header: [0; HEADER],
            known: 0,
            frame: None,
            kind: None,
            message: Vec::new(),
            control: Vec::new(),
            max_message,
        }
    }

    /// Takes bytes from the front until something is whole; `None` when they end before.
    pub(super) fn take(&mut self, input: &mut &[u8]) -> Result<Option<Piece>, Refusal> {
        loop {
            if self.frame.is_none() {
                let Some(frame) = self.take_header(input)? else { return Ok(None) };
                self.frame = Some(frame);
            }
            let Some(frame) = &mut self.frame else { return Ok(None) };
            let length = usize::try_from(frame.remaining).unwrap_or(usize::MAX).min(input.len());
            let (piece, rest) = input.split_at(length);
            *input = rest;
            let into = if frame.opcode < CLOSE { &mut self.message } else { &mut self.control };
            append(into, piece, &mut frame.mask);
            frame.remaining = frame.remaining.saturating_sub(length as u64);
            if frame.remaining > 0 {
                return Ok(None);
            }
            let (opcode, last) = (frame.opcode, frame.last);
            self.frame = None;
            if let Some(piece) = self.finish(opcode, last) {
                return Ok(Some(piece));
            }
        }
    }

    fn finish(&mut self, opcode: u8, last: bool) -> Option<Piece> {
        match opcode {
            CLOSE => Some(Piece::Close(std::mem::take(&mut self.control))),
            PING => Some(Piece::Ping(std::mem::take(&mut self.control))),
            PONG => Some(Piece::Pong(std::mem::take(&mut self.control))),
            _ if !last => None,
            _ => {
                let message = std::mem::take(&mut self.message);
                match self.kind.take() {
                    Some(Data::Text) => Some(Piece::Text(message)),
                    _ => Some(Piece::Binary(message)),
                }
            }
        }
    }

    fn take_header(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, Refusal> {
        loop {
            let [_, second, ..] = self.header;
            // The mask is always there, or the frame is refused below.
            let needed = match (self.known, second & 0x7f) {
                (0 | 1, _) => 2,
                (_, 126) => 8,
                (_, 127) => 14,
                _ => 6,
            };
            let known = usize::from(self.known);
            let (piece, rest) = input.split_at(input.len().min(needed - known.min(needed)));
            if let Some(slot) = self.header.get_mut(known..known + piece.len()) {
                slot.copy_from_slice(piece);
            }
            *input = rest;
            self.known += u8::try_from(piece.len()).unwrap_or(0);
            if usize::from(self.known) < needed {
                return Ok(None);
            }
            if needed > 2 {
                self.known = 0;
                return self.judge().map(Some);
            }
            if self.header[1] & 0x80 == 0 {
                return Err(Refusal::Broken("a frame of a client without a mask"));
            }
        }
    }

    /// What a header says, once it is whole.
    fn judge(&mut self) -> Result<Frame, Refusal> {
        let [first, second, a, b, c, d, e, f, g, h, i, j, k, l] = self.header;
        let (length, mask) = match second & 0x7f {
            126 => (u64::from(u16::from_be_bytes([a, b])), [c, d, e, f]),
            127 => (u64::from_be_bytes([a, b, c, d, e, f, g, h]), [i, j, k, l]),
            short => (u64::from(short), [a, b, c, d]),
        };
        let (last, opcode) = (first & 0x80 != 0, first & 0x0f);
        if first & 0x70 != 0 {
            return Err(Refusal::Broken("a frame of an extension that was not agreed on"));
        }
        match (opcode, self.kind) {
            (CONTINUATION, None) => return Err(Refusal::Broken("a continuation of nothing")),
            (TEXT | BINARY, Some(_)) => {
                return Err(Refusal::Broken("a message within the fragments of another"));
            }
            (TEXT, None) => self.kind = Some(Data::Text),
            (BINARY, None) => self.kind = Some(Data::Binary),
            (CONTINUATION, Some(_)) => {}
            (CLOSE | PING | PONG, _) if last && length <= MAX_CONTROL => {}
            (CLOSE | PING | PONG, _) => {
                return Err(Refusal::Broken("a control frame too large or in fragments"));
            }
            _ => return Err(Refusal::Broken("a frame of no known kind")),
        }
        if opcode < CLOSE && length.saturating_add(self.message.len() as u64) > self.max_message as u64 {
            return Err(Refusal::TooLarge);
        }
        Ok(Frame { opcode, last, remaining: length, mask })
    }
}

/// Appends what is masked, and turns the mask to where the next byte stands.
fn append(into: &mut Vec<u8>, masked: &[u8], mask: &mut [u8; 4]) {
    let from = into.len();
    // What comes whole gets exactly the room that it takes.
    if from == 0 {
        into.reserve_exact(masked.len());
    }
    into.extend_from_slice(masked);
    let [a, b, c, d] = *mask;
    let wide = [a, b, c, d, a, b, c, d, a, b, c, d, a, b, c, d];
    let mut chunks = into.get_mut(from..).unwrap_or_default().chunks_exact_mut(wide.len());
    for chunk in &mut chunks {
        chunk.iter_mut().zip(&wide).for_each(|(byte, mask)| *byte ^= mask);
    }
    chunks.into_remainder().iter_mut().zip(&wide).for_each(|(byte, mask)| *byte ^= mask);
    mask.rotate_left(masked.len() % 4);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            short @ 0..126 => frame.push(0x80 | u8::try_from(short).unwrap()),
            medium @ 126..65_536 => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(medium).unwrap().to_be_bytes());
            }
            long => {
                frame.push(0x80 | 127);
                frame.extend((long as u64).to_be_bytes());
            }
        }
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    fn body(length: usize) -> Vec<u8> {
        (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
    }

    #[test]
    fn messages_and_what_stands_between_fragments_come_whole_however_they_are_cut() {
        let mask = [0x12, 0x34, 0x56, 0x78];
        let stream = [
            frame(0x81, mask, b""),
            frame(0x82, mask, &body(125)),
            frame(0x02, mask, &body(126)),
            frame(0x89, mask, &body(125)),
            frame(0x00, [0; 4], b""),
            frame(0x8a, mask, b"late"),
            frame(0x80, mask, &body(70_000)),
            frame(0x01, mask, b"{"),
            frame(0x80, [9, 8, 7, 6], b"}"),
            frame(0x88, mask, &[3, 232]),
        ]
        .concat();
        let expected = [
            Piece::Text(Vec::new()),
            Piece::Binary(body(125)),
            Piece::Ping(body(125)),
            Piece::Pong(b"late".to_vec()),
            Piece::Binary([body(126), body(70_000)].concat()),
            Piece::Text(b"{}".to_vec()),
            Piece::Close(vec![3, 232]),
        ];
        for size in [1, 2, 3, 5, 7, 13, 14, 100, 4096, stream.len()] {
            let (mut reader, mut pieces) = (Reader::new(80_000), Vec::new());
            for mut input in stream.chunks(size) {
                while let Some(piece) = reader.take(&mut input).unwrap() {
                    pieces.push(piece);
                }
                assert!(input.is_empty());
            }
            assert_eq!(pieces, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn what_no_client_may_send_is_refused() {
        let mask = [1; 4];
        let cases: [&[Vec<u8>]; 9] = [
            &[vec![0x81, 0x01, b'a']],
            &[frame(0xc1, mask, b"a")],
            &[frame(0x83, mask, b"a")],
            &[frame(0x8b, mask, b"a")],
            &[frame(0x80, mask, b"a")],
            &[frame(0x01, mask, b"a"), frame(0x81, mask, b"a")],
            &[frame(0x09, mask, b"a")],
            &[frame(0x89, mask, &body(126))],
            &[frame(0x88, mask, &body(126))],
        ];
        for case in cases {
            let (stream, mut reader) = (case.concat(), Reader::new(1000));
            assert!(matches!(reader.take(&mut &stream[..]), Err(Refusal::Broken(_))), "{case:?}");
        }
    }

    #[test]
    fn a_message_beyond_the_bound_is_refused_by_its_headers_alone() {
        let large = [0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        assert_eq!(Reader::new(1000).take(&mut &large[..]), Err(Refusal::TooLarge));
        let two = [frame(0x02, [0; 4], &body(600)), vec![0x80, 0xfe, 1, 145, 0, 0, 0, 0]].concat();
        assert_eq!(Reader::new(1000).take(&mut &two[..]), Err(Refusal::TooLarge));
        let two = [frame(0x02, [0; 4], &body(600)), frame(0x80, [0; 4], &body(400))].concat();
        assert_eq!(
            Reader::new(1000).take(&mut &two[..]),
            Ok(Some(Piece::Binary(body(600).into_iter().chain(body(400)).collect())))
        );
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_it_says_the_same_however_it_is_cut(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
            size in 1_usize..20,
        ) {
            let read = |pieces: &mut dyn Iterator<Item = &[u8]>| {
                let (mut reader, mut taken) = (Reader::new(100), Vec::new());
                for mut input in pieces {
                    loop {
                        match reader.take(&mut input) {
                            Ok(Some(piece)) => taken.push(Ok(piece)),
                            Ok(None) => break,
                            Err(refusal) => {
                                taken.push(Err(refusal));
                                return taken;
                            }
                        }
                    }
                }
                taken
            };
            // One that is whole goes before.
            let bytes: Vec<u8> = [&[0x82, 0x84, 0, 0, 0, 0, 1, 2, 3, 4][..], &bytes].concat();
            proptest::prop_assert_eq!(read(&mut bytes.chunks(size)), read(&mut std::iter::once(&bytes[..])));
        }
    }
}
