//! What a client says in a session. The input is a query, a new line, and WebSocket frames: for each a byte that says what it is, one that
//! says how long it is, and what it says.
#![no_main]

use libfuzzer_sys::fuzz_target;

/// RFC 6455, section 5.2.
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
/// After its close the gateway gives its client a second to answer.
const CLOSE: u8 = FINAL | 8;

fuzz_target!(|bytes: &[u8]| {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (query, said) = bytes.split_at(end);
    let is_query = |byte: &u8| byte.is_ascii_alphanumeric() || b"=&._-%+,:".contains(byte);
    let mut sent = b"GET /v1/stream?".to_vec();
    sent.extend(query.iter().filter(|byte| is_query(byte)));
    sent.extend(
        b" HTTP/1.1\r\nhost: h\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n\
          sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    let mut rest = said.get(1..).unwrap_or_default();
    while let [what, length, more @ ..] = rest {
        let (text, after) = more.split_at(usize::from(*length).min(more.len()));
        let opcode = match what % 8 {
            0..=3 => 1,
            4 => 2,
            5 => 9,
            6 => 0,
            _ => 8,
        };
        sent.push(opcode | if what & 0x40 == 0 { FINAL } else { 0 });
        // A mask of zeros leaves the bytes as they are.
        match u8::try_from(text.len()) {
            Ok(short @ ..126) => sent.push(MASKED | short),
            _ => sent.extend([MASKED | 126, 0, text.len() as u8]),
        }
        sent.extend([0; 4]);
        sent.extend(text);
        rest = after;
    }
    cloudpose_fuzz::say(&sent, Some(CLOSE));
});
