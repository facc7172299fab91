//! HTTP/1.1 by hand: what is sent is what a scene says, byte for byte.

use bytes::{Buf as _, Bytes, BytesMut};
use throughline::frame::{Batch, Close, Encoding, Frame, Limits, Role};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};

pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// One connection to the server.
pub(crate) struct Wire {
    read: ReadHalf<Box<dyn Io>>,
    write: WriteHalf<Box<dyn Io>>,
    pub(crate) came: BytesMut,
}

/// A request as it goes out.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: &'static str,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

impl Ask {
    pub(crate) fn new(method: &'static str) -> Self {
        let headers = vec![("host".to_owned(), "live.example".to_owned())];
        Self { method, target: "/live".to_owned(), headers, body: Bytes::new() }
    }

    pub(crate) fn post(encoding: Encoding, body: Bytes) -> Self {
        let media = match encoding {
            Encoding::Json => "text/plain",
            Encoding::Binary => "application/vnd.throughline",
        };
        Self { body, ..Self::new("POST") }.header("content-type", media)
    }

    pub(crate) fn frames(encoding: Encoding, frames: &[Frame]) -> Self {
        Self::post(encoding, super::me::encode(encoding, frames))
    }

    /// With a header, in place of those of the same name.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    pub(crate) fn target(mut self, target: impl Into<String>) -> Self {
        self.target = target.into();
        self
    }

    /// The head, with a length of the body if there is one.
    pub(crate) fn head(&self) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let framed =
            self.headers.iter().any(|(name, _)| name == "transfer-encoding" || name == "content-length");
        if (!self.body.is_empty() || self.method == "POST") && !framed {
            head.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        head
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        [self.head().as_bytes(), &self.body].concat()
    }
}

/// The head of an answer.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) head: Head,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head.status
    }

    pub(crate) fn encoding(&self) -> Option<Encoding> {
        match self.head.get("content-type")? {
            "application/x-ndjson" => Some(Encoding::Json),
            "application/vnd.throughline" => Some(Encoding::Binary),
            _ => None,
        }
    }

    /// The frames in its body; none if it is not ours.
    pub(crate) fn frames(&self) -> Vec<Frame> {
        let Some(encoding) = self.encoding() else { return Vec::new() };
        let batch = Batch::new(self.body.clone(), encoding, Role::Server, Limits::default()).unwrap();
        batch.map(Result::unwrap).collect()
    }

    /// The close in its body.
    pub(crate) fn close(&self) -> Option<Close> {
        self.frames().into_iter().find_map(|frame| match frame {
            Frame::Close(close) => Some(close),
            _ => None,
        })
    }

    /// Without what differs from one answer to the next.
    pub(crate) fn text(&self) -> String {
        let mut headers: Vec<_> = self.head.headers.iter().filter(|(name, _)| name != "date").collect();
        headers.sort();
        format!("{} {headers:?} {}", self.head.status, String::from_utf8_lossy(&self.body))
    }
}

impl Wire {
    pub(crate) fn new(io: Box<dyn Io>) -> Self {
        let (read, write) = tokio::io::split(io);
        Self { read, write, came: BytesMut::new() }
    }

    /// Writes as much as the server takes. False: it takes no more.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> bool {
        self.write.write_all(bytes).await.is_ok() && self.write.flush().await.is_ok()
    }

    /// Reads more. False: there is no more.
    pub(crate) async fn fill(&mut self) -> bool {
        matches!(self.read.read_buf(&mut self.came).await, Ok(count) if count > 0)
    }

    /// Writes while it reads: for bytes that the server may answer before it has taken them all.
    pub(crate) async fn write_and_fill(&mut self, bytes: &[u8]) -> bool {
        let Self { read, write, came } = self;
        let writing = async {
            let _ = write.write_all(bytes).await;
            std::future::pending().await
        };
        tokio::select! {
            read = read.read_buf(came) => matches!(read, Ok(count) if count > 0),
            () = writing => false,
        }
    }

    /// Whether the server has ended the connection; what came before is thrown away.
    pub(crate) async fn ends(&mut self) {
        while self.fill().await {}
    }

    /// The next line, without its end.
    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.came.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.came.split_to(at);
                self.came.advance(2);
                return Some(String::from_utf8(line.to_vec()).unwrap());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// The head of the next answer; none if the connection ends first.
    pub(crate) async fn head(&mut self) -> Option<Head> {
        let first = self.line().await?;
        let status = first.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap();
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Some(Head { status, headers })
    }

    async fn exactly(&mut self, count: usize) -> Option<Bytes> {
        while self.came.len() < count {
            if !self.fill().await {
                return None;
            }
        }
        Some(self.came.split_to(count).freeze())
    }

    /// The next chunk of a chunked body; none at its end, or when it is cut short.
    pub(crate) async fn chunk(&mut self) -> Option<Bytes> {
        let size = usize::from_str_radix(&self.line().await?, 16).unwrap();
        let chunk = self.exactly(size).await?;
        self.line().await?;
        (size > 0).then_some(chunk)
    }

    /// The rest of an answer whose head has come.
    pub(crate) async fn body(&mut self, head: &Head) -> Bytes {
        if let Some(length) = head.get("content-length") {
            return self.exactly(length.parse().unwrap()).await.unwrap_or_default();
        }
        let mut body = BytesMut::new();
        if head.get("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk().await {
                body.extend_from_slice(&chunk);
            }
        } else if !matches!(head.status, 101 | 204 | 304) {
            while self.fill().await {}
            body = self.came.split();
        }
        body.freeze()
    }

    /// The next answer; none if the connection ends first.
    pub(crate) async fn answer(&mut self) -> Option<Answer> {
        let head = self.head().await?;
        let body = self.body(&head).await;
        Some(Answer { head, body })
    }

    /// Asks, and waits for the whole answer.
    pub(crate) async fn ask(&mut self, ask: &Ask) -> Option<Answer> {
        let bytes = ask.bytes();
        if !self.write_and_fill(&bytes).await {
            return None;
        }
        self.answer().await
    }
}
