//! Where in a stream of WebSocket frames the reader stands.
//!
//! tungstenite keeps a buffer as large as the largest message that came, and cannot be told to let go of it. It can be
//! made anew, though, when nothing is in it: between two messages. It does not say when that is, so the headers of
//! what passes are read here (RFC 6455, section 5.2).

/// The longest header.
const HEADER: usize = 14;

/// Follows the frames of one direction. It checks nothing: tungstenite does.
#[derive(Debug, Default)]
pub(super) struct Boundary {
    /// The header under way.
    header: [u8; HEADER],
    known: u8,
    /// What is still to come of the payload.
    payload: u64,
    /// Whether a message in fragments is under way.
    fragments: bool,
}

impl Boundary {
    /// Whether what was read so far ends with the end of a message.
    pub(super) fn is_reached(&self) -> bool {
        self.known == 0 && self.payload == 0 && !self.fragments
    }

    /// Goes on over what was read.
    #[inline]
    pub(super) fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skipped = usize::try_from(self.payload).unwrap_or(usize::MAX).min(bytes.len());
            self.payload = self.payload.saturating_sub(skipped as u64);
            bytes = bytes.get(skipped..).unwrap_or_default();
            while self.payload == 0 {
                let Some((&byte, rest)) = bytes.split_first() else { return };
                bytes = rest;
                self.take(byte);
            }
        }
    }

    /// Takes a byte of a header.
    fn take(&mut self, byte: u8) {
        let Some(slot) = self.header.get_mut(usize::from(self.known)) else { return };
        *slot = byte;
        self.known = self.known.saturating_add(1);
        let [first, second, extended @ ..] = self.header;
        let (length, mask) = (second & 0x7f, if second & 0x80 == 0 { 0 } else { 4 });
        let [a, b, c, d, e, f, g, h, ..] = extended;
        let (extra, payload) = match length {
            126 => (2, u64::from(u16::from_be_bytes([a, b]))),
            127 => (8, u64::from_be_bytes([a, b, c, d, e, f, g, h])),
            short => (0, u64::from(short)),
        };
        if self.known < 2 || self.known < 2 + extra + mask {
            return;
        }
        // Control frames may stand between fragments.
        if first & 0x08 == 0 {
            self.fragments = first & 0x80 == 0;
        }
        (self.known, self.payload) = (0, payload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(fin: bool, opcode: u8, masked: bool, payload: usize) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut frame = vec![opcode | if fin { 0x80 } else { 0 }];
        match payload {
            0..126 => frame.push(mask | u8::try_from(payload).unwrap()),
            126..65_536 => {
                frame.push(mask | 126);
                frame.extend_from_slice(&u16::try_from(payload).unwrap().to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend_from_slice(&(payload as u64).to_be_bytes());
            }
        }
        frame.resize(frame.len() + payload + if masked { 4 } else { 0 }, 0xff);
        frame
    }

    #[test]
    fn it_is_reached_after_each_message_and_nowhere_else_however_the_stream_is_cut() {
        let messages = [
            frame(true, 1, true, 0),
            frame(true, 2, false, 125),
            frame(true, 1, true, 126),
            [frame(false, 2, true, 300), frame(true, 9, true, 3), frame(true, 0, true, 70_000)].concat(),
            frame(true, 10, false, 2),
        ];
        let stream = messages.concat();
        let mut ends = Vec::new();
        for message in &messages {
            ends.push(ends.last().unwrap_or(&0) + message.len());
        }
        for size in [1, 2, 3, 7, 100, 2048, stream.len()] {
            let (mut boundary, mut at) = (Boundary::default(), 0);
            for piece in stream.chunks(size) {
                boundary.pass(piece);
                at += piece.len();
                assert_eq!(boundary.is_reached(), ends.contains(&at), "after {at} bytes in pieces of {size}");
            }
        }
    }
}
