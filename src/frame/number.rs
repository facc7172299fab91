//! How numbers are written: digits in JSON, varints in binary.

use bytes::{BufMut, BytesMut};

use super::{Ack, DecodeError, Seq};

/// The numbers at the front of a frame that is being read, in either encoding.
pub(super) trait Numbers {
    /// Whether nothing is left.
    fn is_empty(&self) -> bool;

    /// Reads a number of the protocol.
    fn number(&mut self) -> Result<u64, DecodeError>;

    /// Reads a number that may be left out.
    fn optional_number(&mut self) -> Result<Option<u64>, DecodeError> {
        if self.is_empty() { Ok(None) } else { self.number().map(Some) }
    }

    /// Reads a receipt's number, which may be 0.
    fn seq(&mut self) -> Result<Seq, DecodeError> {
        Seq::new(self.number()?).ok_or(DecodeError::Number)
    }

    /// Reads a message's number.
    fn id(&mut self) -> Result<Seq, DecodeError> {
        self.seq().and_then(|seq| if seq == Seq::ZERO { Err(DecodeError::Number) } else { Ok(seq) })
    }

    /// Reads a receipt: what was taken is left out when it is all that was received.
    fn ack(&mut self) -> Result<Ack, DecodeError> {
        let received = self.seq()?;
        let taken = if self.is_empty() { received } else { self.seq()? };
        if taken > received { Err(DecodeError::Number) } else { Ok(Ack { received, taken }) }
    }
}

/// Appends a number as decimal digits.
pub(super) fn push_digits(number: u64, buffer: &mut impl BufMut) {
    let mut digits = [b'0'; 20];
    let mut rest = number;
    let mut used = 0_usize;
    for slot in digits.iter_mut().rev() {
        *slot = b'0'.wrapping_add(low_byte(rest % 10));
        used = used.wrapping_add(1);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    buffer.put_slice(digits.get(digits.len().saturating_sub(used)..).unwrap_or_default());
}

/// Appends a number as an unsigned LEB128 varint in its shortest form.
pub(super) fn push_varint(number: u64, buffer: &mut BytesMut) {
    let mut short = Short::default();
    short.push_varint(number);
    buffer.extend_from_slice(short.as_bytes());
}

/// What stands before a body: a few numbers and a type byte, put together so that a buffer grows once for all of them.
#[derive(Default)]
pub(super) struct Short {
    bytes: [u8; Self::MOST],
    used: usize,
}

impl Short {
    /// Three varints of 64 bits and a type byte. What is pushed beyond that is left out.
    pub(super) const MOST: usize = 31;

    #[inline]
    pub(super) fn push(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.used) {
            *slot = byte;
            self.used = self.used.saturating_add(1);
        }
    }

    #[inline]
    pub(super) fn push_varint(&mut self, number: u64) {
        let mut rest = number;
        while rest > 0x7f {
            self.push(low_byte(rest & 0x7f) | 0x80);
            rest >>= 7;
        }
        self.push(low_byte(rest));
    }

    #[inline]
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.used).unwrap_or_default()
    }
}

/// How many bytes a number has as a varint.
pub(super) fn varint_len(number: u64) -> usize {
    let bits = u64::BITS.saturating_sub(number.leading_zeros()).max(1);
    usize::try_from(bits.div_ceil(7)).unwrap_or_default()
}

/// Reads a varint off the front of `bytes`.
///
/// # Errors
/// [`DecodeError::Truncated`] when `bytes` end before it does; [`DecodeError::Varint`] when it is not in
/// its shortest form or beyond 64 bits.
#[inline]
pub(super) fn take_varint(bytes: &mut &[u8]) -> Result<u64, DecodeError> {
    // Most lengths and many numbers are one byte.
    match bytes.split_first() {
        Some((&byte, behind)) if byte < 0x80 => {
            *bytes = behind;
            Ok(u64::from(byte))
        }
        _ => take_long_varint(bytes),
    }
}

fn take_long_varint(bytes: &mut &[u8]) -> Result<u64, DecodeError> {
    let mut number = 0_u64;
    let mut rest = *bytes;
    for shift in (0..64_u32).step_by(7) {
        let (&byte, behind) = rest.split_first().ok_or(DecodeError::Truncated)?;
        rest = behind;
        let part = u64::from(byte & 0x7f);
        // The tenth byte holds one bit.
        if shift == 63 && byte > 1 {
            return Err(DecodeError::Varint);
        }
        number |= part.wrapping_shl(shift);
        if byte & 0x80 == 0 {
            // A last byte of nothing lengthens the number without changing it.
            if byte == 0 && shift != 0 {
                return Err(DecodeError::Varint);
            }
            *bytes = rest;
            return Ok(number);
        }
    }
    Err(DecodeError::Varint)
}

fn low_byte(number: u64) -> u8 {
    let [low, ..] = number.to_le_bytes();
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDGES: [u64; 12] =
        [0, 1, 9, 10, 127, 128, 16_383, 16_384, (1 << 53) - 1, 1 << 53, u64::MAX - 1, u64::MAX];

    #[test]
    fn digits_are_what_display_writes() {
        for number in EDGES {
            let mut buffer = BytesMut::new();
            push_digits(number, &mut buffer);
            assert_eq!(buffer, number.to_string().as_bytes());
        }
    }

    #[test]
    fn varint_and_back_is_the_identity_and_its_length_is_known() {
        for number in EDGES {
            let mut buffer = BytesMut::new();
            push_varint(number, &mut buffer);
            assert_eq!(buffer.len(), varint_len(number));
            let mut bytes = &buffer[..];
            assert_eq!(take_varint(&mut bytes).unwrap(), number);
            assert!(bytes.is_empty());
        }
    }

    #[test]
    fn longer_forms_and_more_than_64_bits_are_refused() {
        for bytes in
            [&[0x80, 0][..], &[0xff, 0x80, 0], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]]
        {
            assert!(matches!(take_varint(&mut &*bytes), Err(DecodeError::Varint)), "{bytes:x?}");
        }
        assert!(matches!(take_varint(&mut &[0xff; 11][..]), Err(DecodeError::Varint)));
    }

    #[test]
    fn a_varint_without_its_end_is_truncated() {
        for bytes in [&[][..], &[0x80], &[0xff; 9]] {
            assert!(matches!(take_varint(&mut &*bytes), Err(DecodeError::Truncated)));
        }
    }
}
