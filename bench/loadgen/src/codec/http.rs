//! HTTP/1.1 responses and requests, as little as is needed.

use super::{Cfg, Res};

pub(super) struct Head {
    pub(super) status: u16,
    pub(super) len: Option<usize>,
    pub(super) chunked: bool,
    pub(super) last_modified: Option<String>,
    pub(super) etag: Option<String>,
}

pub(super) fn http_head(d: &[u8]) -> Res<Option<(Head, usize)>> {
    let Some(p) = find(d, b"\r\n\r\n") else { return Ok(None) };
    let s = std::str::from_utf8(&d[..p]).map_err(|e| e.to_string())?;
    let mut it = s.split("\r\n");
    let st = it.next().unwrap_or("");
    let status =
        st.get(9..12).and_then(|x| x.parse().ok()).ok_or_else(|| format!("bad status line {st:?}"))?;
    let mut h = Head { status, len: None, chunked: false, last_modified: None, etag: None };
    for l in it {
        let Some((k, v)) = l.split_once(':') else { continue };
        let v = v.trim();
        if k.eq_ignore_ascii_case("content-length") {
            h.len = v.parse().ok();
        } else if k.eq_ignore_ascii_case("transfer-encoding") {
            h.chunked = v.eq_ignore_ascii_case("chunked");
        } else if k.eq_ignore_ascii_case("last-modified") {
            h.last_modified = Some(v.into());
        } else if k.eq_ignore_ascii_case("etag") {
            h.etag = Some(v.into());
        }
    }
    if status == 204 || status == 304 {
        h.len = Some(0);
    }
    Ok(Some((h, p + 4)))
}

/// One chunk: Some((payload range, consumed)); an empty payload is the end.
pub(super) fn chunk(d: &[u8]) -> Res<Option<(std::ops::Range<usize>, usize)>> {
    let Some(e) = find(&d[..d.len().min(20)], b"\r\n") else { return Ok(None) };
    let hex = std::str::from_utf8(&d[..e]).map_err(|e| e.to_string())?;
    let n = usize::from_str_radix(hex.split(';').next().unwrap().trim(), 16)
        .map_err(|e| format!("chunk {hex:?}: {e}"))?;
    if d.len() < e + 2 + n + 2 {
        return Ok(None);
    }
    Ok(Some((e + 2..e + 2 + n, e + 2 + n + 2)))
}

/// One whole response: Some((head, body, consumed)).
pub(super) fn http_full(d: &[u8]) -> Res<Option<(Head, std::borrow::Cow<'_, [u8]>, usize)>> {
    let Some((h, mut i)) = http_head(d)? else { return Ok(None) };
    if h.chunked {
        let mut b = vec![];
        loop {
            match chunk(&d[i..])? {
                None => return Ok(None),
                Some((r, n)) => {
                    b.extend_from_slice(&d[i + r.start..i + r.end]);
                    i += n;
                    if r.is_empty() {
                        return Ok(Some((h, b.into(), i)));
                    }
                }
            }
        }
    }
    let n = h.len.ok_or("response with neither length nor chunks")?;
    if d.len() < i + n {
        return Ok(None);
    }
    Ok(Some((h, d[i..i + n].into(), i + n)))
}

pub(super) fn get(c: &Cfg, path: &str, extra: &str, out: &mut Vec<u8>) {
    let _ = std::io::Write::write_fmt(
        out,
        format_args!("GET {} HTTP/1.1\r\nHost: {}\r\n{}\r\n", path, c.host, extra),
    );
}
pub(super) fn post(c: &Cfg, path: &str, body: &[u8], out: &mut Vec<u8>) {
    let _ = std::io::Write::write_fmt(
        out,
        format_args!("POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: text/plain;charset=UTF-8\r\nContent-Length: {}\r\n\r\n", path, c.host, body.len()),
    );
    out.extend_from_slice(body);
}

pub(super) fn find(h: &[u8], n: &[u8]) -> Option<usize> {
    h.windows(n.len()).position(|w| w == n)
}
