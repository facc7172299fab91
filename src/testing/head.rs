//! As much of HTTP/1.1 as a box in the middle must see: heads, and where bodies end (RFC 9112, section 6).

use std::io;

/// The longest head that is taken.
pub(super) const MAX_HEAD: usize = 64 << 10;

/// The most headers of a head.
const MAX_HEADERS: usize = 128;

/// The head of a request or a response: its bytes, and what they say.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) bytes: Vec<u8>,
    /// Of a request.
    pub(super) method: Option<String>,
    /// Of a response.
    pub(super) status: Option<u16>,
    headers: Vec<(String, String)>,
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// Where its chunks say so.
    Chunked(Chunk),
    /// With the connection.
    Close,
}

/// Where in a chunked body the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    /// In the size of a chunk.
    Size(u64),
    /// Behind its size, before the end of that line.
    Extension(u64),
    /// So many bytes before its end.
    Data(u64),
    /// In the line end behind its data.
    Behind,
    /// In a line of the trailer that has so many bytes so far.
    Trailer(u64),
    /// Behind the body.
    End,
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "this is no HTTP/1.1")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_ascii_lowercase()
}

impl Head {
    /// Reads the head of a request at the beginning of bytes, and how long it is; `None` when more must come.
    pub(super) fn request(bytes: &[u8]) -> io::Result<Option<(Self, usize)>> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        let httparse::Status::Complete(length) = request.parse(bytes).map_err(|_| malformed())? else {
            return Ok(None);
        };
        let (method, headers) = (request.method.map(str::to_owned), lowered(request.headers));
        let bytes = bytes.get(..length).unwrap_or_default().to_vec();
        Ok(Some((Self { bytes, method, status: None, headers }, length)))
    }

    /// Reads the head of a response.
    pub(super) fn response(bytes: &[u8]) -> io::Result<Option<(Self, usize)>> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(length) = response.parse(bytes).map_err(|_| malformed())? else {
            return Ok(None);
        };
        let (status, headers) = (response.code, lowered(response.headers));
        let bytes = bytes.get(..length).unwrap_or_default().to_vec();
        Ok(Some((Self { bytes, method: None, status, headers }, length)))
    }

    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |header| header.0 == name).map(|header| header.1.as_str())
    }

    /// Whether a header lists a word.
    fn lists(&self, name: &str, word: &str) -> bool {
        self.values(name).flat_map(|value| value.split(',')).any(|part| part.trim() == word)
    }

    pub(super) fn is_upgrade(&self) -> bool {
        self.lists("connection", "upgrade") && self.values("upgrade").next().is_some()
    }

    pub(super) fn is_post(&self) -> bool {
        self.method.as_deref() == Some("POST")
    }

    /// Whether the connection ends behind this exchange.
    pub(super) fn is_last(&self) -> bool {
        self.lists("connection", "close")
    }

    /// How the body of this request, or of this response to a request, ends.
    pub(super) fn framing(&self, request: Option<&Self>) -> io::Result<Framing> {
        let of_head = request.is_some_and(|request| request.method.as_deref() == Some("HEAD"));
        if of_head || matches!(self.status, Some(100..=199 | 204 | 304)) {
            return Ok(Framing::Length(0));
        }
        if self.lists("transfer-encoding", "chunked") {
            return Ok(Framing::Chunked(Chunk::Size(0)));
        }
        match self.values("content-length").next() {
            Some(length) => length.parse().map(Framing::Length).map_err(|_| malformed()),
            None if self.status.is_some() => Ok(Framing::Close),
            None => Ok(Framing::Length(0)),
        }
    }

    /// The same head without what asks for an upgrade.
    pub(super) fn without_upgrade(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.bytes.len());
        for line in self.bytes.split_inclusive(|byte| *byte == b'\n') {
            let name = text(line.split(|byte| *byte == b':').next().unwrap_or_default());
            if name != "upgrade" && name != "connection" {
                bytes.extend_from_slice(line);
            }
        }
        bytes
    }
}

fn lowered(headers: &[httparse::Header<'_>]) -> Vec<(String, String)> {
    headers.iter().map(|header| (header.name.to_ascii_lowercase(), text(header.value))).collect()
}

impl Framing {
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunk::End))
    }

    /// How many of these bytes, the next of the connection, are of the body.
    pub(super) fn take(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Close => Ok(bytes.len()),
            Self::Length(left) => {
                let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left = left.saturating_sub(taken as u64);
                Ok(taken)
            }
            Self::Chunked(chunk) => {
                let mut at = 0;
                while let (Some(byte), false) = (bytes.get(at), *chunk == Chunk::End) {
                    at += chunk.pass(*byte, bytes.len() - at)?;
                }
                Ok(at)
            }
        }
    }
}

impl Chunk {
    /// Goes on behind the next byte, or as many of those there are as are of the same data; says how many.
    fn pass(&mut self, byte: u8, there: usize) -> io::Result<usize> {
        *self = match (*self, byte) {
            (Self::Size(0) | Self::Extension(0), b'\n') => Self::Trailer(0),
            (Self::Size(size) | Self::Extension(size), b'\n') => Self::Data(size),
            (Self::Size(size), b';' | b'\r' | b' ' | b'\t') | (Self::Extension(size), _) => {
                Self::Extension(size)
            }
            (Self::Size(size), digit) => {
                let value = char::from(digit).to_digit(16).ok_or_else(malformed)?;
                let size = size.checked_mul(16).and_then(|size| size.checked_add(value.into()));
                Self::Size(size.ok_or_else(malformed)?)
            }
            (Self::Data(left), _) => {
                let taken = left.min(there as u64);
                let left = left - taken;
                *self = if left == 0 { Self::Behind } else { Self::Data(left) };
                return Ok(usize::try_from(taken).unwrap_or(there));
            }
            (Self::Behind, b'\n') => Self::Size(0),
            (Self::Behind, _) => Self::Behind,
            (Self::Trailer(0), b'\n') | (Self::End, _) => Self::End,
            (Self::Trailer(length), b'\r') => Self::Trailer(length),
            (Self::Trailer(_), b'\n') => Self::Trailer(0),
            (Self::Trailer(length), _) => Self::Trailer(length.saturating_add(1)),
        };
        Ok(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_body_ends_at_its_end_however_it_is_cut() {
        let body =
            b"5;a=b\r\nhello\r\n1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nTrailer: x\r\n\r\nHTTP/1.1 200 OK";
        let end = body.len() - "HTTP/1.1 200 OK".len();
        for piece in 1..body.len() {
            let (mut framing, mut taken) = (Framing::Chunked(Chunk::Size(0)), 0);
            for bytes in body.chunks(piece) {
                taken += framing.take(bytes).unwrap();
            }
            assert_eq!((taken, framing.is_over()), (end, true), "in pieces of {piece}");
        }
        assert!(Framing::Chunked(Chunk::Size(0)).take(b"no size\r\n").is_err());
        assert!(Framing::Chunked(Chunk::Size(0)).take(b"fffffffffffffffff\r\n").is_err());
    }

    #[test]
    fn a_stripped_upgrade_is_the_same_request_without_it() {
        let head =
            "GET /live HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUPGRADE: websocket\r\n\r\n";
        let (head, length) = Head::request(head.as_bytes()).unwrap().unwrap();
        assert!(head.is_upgrade());
        assert_eq!(head.without_upgrade(), b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(length, head.bytes.len());
    }

    #[test]
    fn bodies_are_framed_as_the_heads_say() {
        let response = |head: &str| Head::response(head.as_bytes()).unwrap().unwrap().0;
        let framing = |head: &str| response(head).framing(None).unwrap();
        assert_eq!(framing("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"), Framing::Length(7));
        assert_eq!(framing("HTTP/1.1 204 No\r\n\r\n"), Framing::Length(0));
        assert_eq!(framing("HTTP/1.0 200 OK\r\n\r\n"), Framing::Close);
        assert_eq!(
            framing("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n"),
            Framing::Chunked(Chunk::Size(0))
        );
        let get = Head::request(b"GET / HTTP/1.1\r\n\r\n").unwrap().unwrap().0;
        assert_eq!(get.framing(None).unwrap(), Framing::Length(0));
    }
}
