//! Writing `text/event-stream`: frames and payloads in, one run of bytes out.

use bytes::{Bytes, BytesMut};

use crate::frame::batch::{BatchWriter, Encoding, hand_out};
use crate::frame::number::push_digits;
use crate::frame::{Body, Frame, Limits, json};

/// Writes a stream of events.
///
/// Frames that are pushed one after the other are one event, which ends with [`Writer::end_event`] or with
/// whatever else is written. All that was written leaves with [`Writer::take`].
///
/// # Examples
///
/// ```
/// use throughline::frame::{Frame, event_stream::Writer};
///
/// let mut writer = Writer::new();
/// writer.push(&Frame::Ping(None));
/// writer.push(&Frame::Pong(Some(5)));
/// assert_eq!(writer.take(), "data: [\"ping\"]\ndata: [\"pong\",5]\n\n");
/// ```
#[derive(Debug, Default)]
pub struct Writer {
    buffer: BytesMut,
    /// Of the event under way.
    frames: usize,
    /// The bytes that its data will have, and a newline.
    data: usize,
}

impl Writer {
    /// A writer that has written nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a frame to the event under way, or begins one.
    pub fn push(&mut self, frame: &Frame) {
        self.buffer.extend_from_slice(b"data: ");
        let begin = self.buffer.len();
        json::encode(frame, &mut self.buffer);
        self.buffer.extend_from_slice(b"\n");
        self.data = self.data.saturating_add(self.buffer.len().saturating_sub(begin));
        self.frames = self.frames.saturating_add(1);
    }

    /// Whether a message with this body fits the event under way within the peer's `limits`.
    pub fn has_room_for(&self, body: &Body, limits: &Limits) -> bool {
        BatchWriter::fits(Encoding::Json, self.frames, self.data, body, limits)
    }

    /// Ends the event of the frames that were pushed, if there is one.
    pub fn end_event(&mut self) {
        if self.frames > 0 {
            self.buffer.extend_from_slice(b"\n");
            self.frames = 0;
            self.data = 0;
        }
    }

    /// Adds an event. Without data it only says the id; a client's own code does not see it.
    ///
    /// Line ends in `data` arrive as LF, whichever they were. NUL, CR and LF in `id` and `name` are left out:
    /// nothing can follow them there.
    pub fn event(&mut self, id: Option<&str>, name: Option<&str>, data: Option<&str>) {
        self.end_event();
        // Room for all three at once.
        let room =
            |field: Option<&str>| field.map_or(0, |text| text.len().saturating_add(b"event: \n".len()));
        let fields = room(id).saturating_add(room(name)).saturating_add(room(data));
        self.buffer.reserve(fields.saturating_add(1));
        self.field(b"id: ", id);
        self.field(b"event: ", name);
        match data {
            // JSON that was checked is one line, and so are nearly all texts.
            Some(line) if memchr::memchr2(b'\n', b'\r', line.as_bytes()).is_none() => self.data(line),
            Some(text) => lines(text).for_each(|line| self.data(line)),
            None => {}
        }
        self.buffer.extend_from_slice(b"\n");
    }

    /// Adds an event whose id is a number behind what stays the same: no NUL, CR or LF may be in that.
    #[cfg(feature = "socket")]
    pub(crate) fn numbered(&mut self, before: &str, number: u64, data: &str) {
        if memchr::memchr2(b'\n', b'\r', data.as_bytes()).is_some() {
            return self.event(Some(&format!("{before}{number}")), None, Some(data));
        }
        self.end_event();
        /// What stands around the three, and the most digits.
        const AROUND: usize = b"id: \ndata: \n\n".len() + 20;
        self.buffer.reserve(before.len().saturating_add(data.len()).saturating_add(AROUND));
        self.buffer.extend_from_slice(b"id: ");
        self.buffer.extend_from_slice(before.as_bytes());
        push_digits(number, &mut self.buffer);
        self.buffer.extend_from_slice(b"\ndata: ");
        self.buffer.extend_from_slice(data.as_bytes());
        self.buffer.extend_from_slice(b"\n\n");
    }

    /// Adds a comment, which every client passes over.
    pub fn comment(&mut self, text: &str) {
        self.end_event();
        for line in lines(text) {
            self.buffer.extend_from_slice(b": ");
            self.buffer.extend_from_slice(line.as_bytes());
            self.buffer.extend_from_slice(b"\n");
        }
        self.buffer.extend_from_slice(b"\n");
    }

    /// Says how long a client waits before it comes back by itself, in milliseconds.
    pub fn retry(&mut self, milliseconds: u64) {
        self.end_event();
        self.buffer.extend_from_slice(b"retry: ");
        push_digits(milliseconds, &mut self.buffer);
        self.buffer.extend_from_slice(b"\n\n");
    }

    /// How many bytes were written and not taken.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether nothing was written that was not taken.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Ends the event under way and takes all that was written.
    pub fn take(&mut self) -> Bytes {
        self.end_event();
        hand_out(&mut self.buffer)
    }

    /// Gives spare memory back.
    pub fn shrink(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    fn field(&mut self, name: &[u8], value: Option<&str>) {
        let Some(value) = value else { return };
        self.buffer.extend_from_slice(name);
        if memchr::memchr3(b'\0', b'\r', b'\n', value.as_bytes()).is_none() {
            self.buffer.extend_from_slice(value.as_bytes());
        } else {
            for part in value.split(['\0', '\r', '\n']) {
                self.buffer.extend_from_slice(part.as_bytes());
            }
        }
        self.buffer.extend_from_slice(b"\n");
    }

    fn data(&mut self, line: &str) {
        self.buffer.extend_from_slice(b"data: ");
        self.buffer.extend_from_slice(line.as_bytes());
        self.buffer.extend_from_slice(b"\n");
    }
}

/// Splits at CRLF, LF and CR, as every reader of the stream would.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let last = text.split('\n').count().saturating_sub(1);
    text.split('\n').enumerate().flat_map(move |(number, line)| {
        let line = if number < last { line.strip_suffix('\r').unwrap_or(line) } else { line };
        line.split('\r')
    })
}
