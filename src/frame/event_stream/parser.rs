//! Reading `text/event-stream`: bytes in, events out, wherever the bytes were cut.

use bytes::{Buf as _, Bytes, BytesMut};
use memchr::{memchr, memchr2};

use crate::frame::DecodeError;

/// One event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The last id that the stream has said up to here; empty when none.
    pub id: String,
    /// Its name; empty when it has none (browsers then say `message`).
    pub name: String,
    /// Its `data` lines, joined by LF. Not checked to be UTF-8: what is not is not JSON either.
    pub data: Bytes,
    /// How long the stream last asked to wait before coming back, in milliseconds.
    pub retry: Option<u64>,
}

/// Parses a stream of events that may be cut anywhere.
///
/// Feed it what arrives and ask for events until there is none. Where the stream was cut makes no
/// difference. Besides what was fed it holds at most one event, one line and one id, each within its bounds.
/// After an error it is at its end.
#[derive(Debug)]
pub struct Parser {
    max_event_bytes: usize,
    max_event_lines: usize,
    pending: Bytes,
    /// The beginning of a line whose end was not fed yet.
    line: BytesMut,
    /// A CR ended the last line: an LF that follows belongs to it.
    after_cr: bool,
    begun: bool,
    ended: bool,
    event: Building,
    id: String,
    retry: Option<u64>,
}

/// The event under way.
#[derive(Debug, Default)]
struct Building {
    data: Option<BytesMut>,
    name: String,
    id: Option<String>,
    lines: usize,
}

/// More than any field's name, colon, space and a byte order mark.
const AROUND_VALUE: usize = 16;

impl Parser {
    /// A parser of events with data of at most `max_event_bytes` on at most `max_event_lines`.
    ///
    /// For events that are batches these are `max_batch_bytes` and a little more than `max_batch_frames`.
    pub fn new(max_event_bytes: usize, max_event_lines: usize) -> Self {
        Self {
            max_event_bytes,
            max_event_lines,
            pending: Bytes::new(),
            line: BytesMut::new(),
            after_cr: false,
            begun: false,
            ended: false,
            event: Building::default(),
            id: String::new(),
            retry: None,
        }
    }

    /// Adds what came. It is not copied when all that was fed before has been parsed.
    pub fn feed(&mut self, chunk: Bytes) {
        if self.ended {
            return;
        }
        if self.pending.is_empty() {
            self.pending = chunk;
        } else {
            let mut joined = BytesMut::from(std::mem::take(&mut self.pending));
            joined.extend_from_slice(&chunk);
            self.pending = joined.freeze();
        }
    }

    /// The next event, or `None` until more is fed.
    ///
    /// # Errors
    /// When an event is beyond its bounds, in bytes or in lines.
    #[expect(clippy::should_implement_trait, reason = "an iterator's `None` is its end; here more may come")]
    pub fn next(&mut self) -> Option<Result<Event, DecodeError>> {
        if self.ended {
            return None;
        }
        let next = self.step().transpose();
        if matches!(next, Some(Err(_))) {
            *self = Self { ended: true, ..Self::new(self.max_event_bytes, self.max_event_lines) };
        }
        next
    }

    /// The last id of an event that was complete, for `Last-Event-ID`; empty when none. Events without data
    /// say it too.
    pub fn last_event_id(&self) -> &str {
        &self.id
    }

    /// How long the stream last asked to wait before coming back, in milliseconds.
    pub fn retry(&self) -> Option<u64> {
        self.retry
    }

    /// How much memory it holds for what is not parsed yet.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        let data = self.event.data.as_ref().map_or(0, BytesMut::capacity);
        self.pending.len() + self.line.capacity() + data + self.event.name.capacity()
    }

    fn step(&mut self) -> Result<Option<Event>, DecodeError> {
        while let Some(line) = self.next_line()? {
            if line.is_empty() {
                if let Some(event) = self.end_event() {
                    return Ok(Some(event));
                }
            } else {
                self.handle_line(&line)?;
            }
        }
        Ok(None)
    }

    fn next_line(&mut self) -> Result<Option<Bytes>, DecodeError> {
        if self.after_cr && !self.pending.is_empty() {
            self.after_cr = false;
            if self.pending.starts_with(b"\n") {
                self.pending.advance(1);
            }
        }
        let end = memchr2(b'\r', b'\n', &self.pending);
        let length = end.unwrap_or(self.pending.len());
        if self.line.len().saturating_add(length) > self.max_event_bytes.saturating_add(AROUND_VALUE) {
            return Err(self.too_large());
        }
        let part = self.pending.split_to(length);
        if end.is_none() {
            self.line.extend_from_slice(&part);
            // What is empty still pins what it was cut from.
            self.pending = Bytes::new();
            return Ok(None);
        }
        self.after_cr = self.pending.starts_with(b"\r");
        self.pending.advance(1);
        let mut line = if self.line.is_empty() {
            part
        } else {
            self.line.extend_from_slice(&part);
            std::mem::take(&mut self.line).freeze()
        };
        if !self.begun {
            self.begun = true;
            if line.starts_with(b"\xef\xbb\xbf") {
                line.advance(3);
            }
        }
        Ok(Some(line))
    }

    fn handle_line(&mut self, line: &[u8]) -> Result<(), DecodeError> {
        let (name, value) = match memchr(b':', line) {
            // A comment.
            Some(0) => return Ok(()),
            Some(colon) => {
                let (name, value) = line.split_at_checked(colon).unwrap_or((line, b""));
                let value = value.strip_prefix(b":").unwrap_or(value);
                (name, value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line, &b""[..]),
        };
        self.event.lines = self.event.lines.saturating_add(1);
        if self.event.lines > self.max_event_lines {
            return Err(DecodeError::TooMany { what: "lines of an event", limit: self.max_event_lines });
        }
        match name {
            b"data" => return self.handle_data(value),
            b"event" => self.event.name = String::from_utf8_lossy(value).into_owned(),
            b"id" if !value.contains(&0) => {
                self.event.id = Some(String::from_utf8_lossy(value).into_owned());
            }
            b"retry" if value.iter().all(u8::is_ascii_digit) => {
                // Beyond 64 bits it asks for nothing.
                let number = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
                self.retry = number.or(self.retry);
            }
            // The standard: any other field is ignored.
            _ => {}
        }
        Ok(())
    }

    fn handle_data(&mut self, value: &[u8]) -> Result<(), DecodeError> {
        let before = self.event.data.as_ref().map_or(0, |data| data.len().saturating_add(1));
        if before.saturating_add(value.len()) > self.max_event_bytes {
            return Err(self.too_large());
        }
        match &mut self.event.data {
            Some(data) => {
                data.extend_from_slice(b"\n");
                data.extend_from_slice(value);
            }
            None => self.event.data = Some(BytesMut::from(value)),
        }
        Ok(())
    }

    /// What a blank line does.
    fn end_event(&mut self) -> Option<Event> {
        let event = std::mem::take(&mut self.event);
        if let Some(id) = event.id {
            self.id = id;
        }
        let data = event.data?.freeze();
        Some(Event { id: self.id.clone(), name: event.name, data, retry: self.retry })
    }

    fn too_large(&self) -> DecodeError {
        DecodeError::TooLarge { what: "event", limit: self.max_event_bytes }
    }
}
