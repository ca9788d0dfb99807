//! Messages of a Connect stream: a byte of flags, four of the length, and the message.

use crate::fault::Fault;
use bytes::{BufMut as _, Bytes, BytesMut};
use tonic::Code;

/// The bytes before a message.
pub(crate) const HEAD: usize = 5;

/// The flag of a compressed message.
const COMPRESSED: u8 = 1;
/// The flag of the last message, which has the error, if there is one.
const END: u8 = 2;

pub(crate) fn message(json: &[u8]) -> Bytes {
    enveloped(0, json)
}

/// The end of a stream.
pub(crate) fn end(json: &[u8]) -> Bytes {
    enveloped(END, json)
}

fn enveloped(flags: u8, json: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(HEAD + json.len());
    bytes.put_u8(flags);
    // A message of 4 GiB is refused before, where it is decoded.
    bytes.put_u32(u32::try_from(json.len()).unwrap_or(u32::MAX));
    bytes.put_slice(json);
    bytes.freeze()
}

/// The message of a request, which has exactly one.
pub(crate) fn only(body: &Bytes) -> Result<Bytes, Fault> {
    let invalid = |what: &str| Err(Fault::invalid(format!("the body is no enveloped message: {what}")));
    let Some((&[flags, ref length @ ..], rest)) = body.split_first_chunk::<HEAD>() else {
        return invalid("it has less than 5 bytes");
    };
    if flags & COMPRESSED != 0 {
        return Err(Fault::new(
            Code::Internal,
            "the message is compressed, and no Connect-Content-Encoding says how",
        ));
    }
    if flags != 0 {
        return invalid("its flags are unknown");
    }
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if rest.len() < length {
        return invalid("it is shorter than its length says");
    }
    if rest.len() > length {
        return Err(Fault::new(Code::Unimplemented, "the method takes one message, and more follow"));
    }
    Ok(body.slice(HEAD..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_exactly_one_message() {
        assert_eq!(only(&message(b"{}")).unwrap(), "{}");
        assert_eq!(only(&message(b"")).unwrap(), "");
        assert_eq!(end(b"{}")[..], [2, 0, 0, 0, 2, b'{', b'}']);
        let codes = |bytes: &[u8]| only(&Bytes::copy_from_slice(bytes)).unwrap_err().code;
        for (bytes, code) in [
            (&b""[..], Code::InvalidArgument),
            (b"{}", Code::InvalidArgument),
            (b"\0\0\0\0\x03{}", Code::InvalidArgument),
            (b"\0\xff\xff\xff\xff", Code::InvalidArgument),
            (b"\x02\0\0\0\x02{}", Code::InvalidArgument),
            (b"\x01\0\0\0\x02{}", Code::Internal),
            (b"\0\0\0\0\x02{}\0\0\0\0\x02{}", Code::Unimplemented),
        ] {
            assert_eq!(codes(bytes), code, "{bytes:?}");
        }
    }
}
