//! The bytes of an ONNX file: whether what they claim can be, before anything is read of them.
//!
//! Protocol Buffers (`onnx.proto`): a message is fields, each a key (its number and how its value is written) and a value. The
//! library's reader believes lengths: it takes memory for them, and goes back in the file for those beyond it.

/// Messages in messages: subgraphs of subgraphs.
const DEEPEST: usize = 32;

/// The kinds of messages that hold others.
#[derive(Clone, Copy)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Value,
    Type,
    TensorType,
    SequenceType,
    Shape,
    /// Holds none.
    Leaf,
}

impl Message {
    /// What the field of that number holds, if it is a message.
    fn field(self, number: u64) -> Option<Self> {
        match (self, number) {
            (Self::Model, 7) | (Self::Attribute, 6) => Some(Self::Graph),
            (Self::Model, 8 | 14) | (Self::Tensor, 13) | (Self::Shape, 1) => Some(Self::Leaf),
            (Self::Graph, 1) => Some(Self::Node),
            (Self::Graph, 5) | (Self::Attribute, 5) => Some(Self::Tensor),
            (Self::Graph, 11..=13) => Some(Self::Value),
            (Self::Node, 5) => Some(Self::Attribute),
            (Self::Value, 2) | (Self::SequenceType, 1) => Some(Self::Type),
            (Self::Type, 1) => Some(Self::TensorType),
            (Self::Type, 4) => Some(Self::SequenceType),
            (Self::TensorType, 2) => Some(Self::Shape),
            _ => None,
        }
    }
}

/// Checks that every length in `file` ends within what it is part of.
///
/// # Errors
/// In words, with the first byte that is wrong.
pub(super) fn check(file: &[u8]) -> Result<(), String> {
    let wrong = |rest: usize| format!("it is damaged at byte {} of {}", file.len() - rest, file.len());
    fields(file, Message::Model, 0, 0).map_err(wrong)
}

/// Checks a message that so many bytes follow in the file. What is wrong is told by how many bytes are left from there.
fn fields(message: &[u8], kind: Message, depth: usize, after: usize) -> Result<(), usize> {
    let mut rest = message;
    while !rest.is_empty() {
        let wrong = rest.len() + after;
        let key = number(&mut rest).ok_or(wrong)?;
        let length = match key & 7 {
            0 => {
                number(&mut rest).ok_or(wrong)?;
                continue;
            }
            1 => 8,
            2 => number(&mut rest).ok_or(wrong)?,
            5 => 4,
            _ => return Err(wrong),
        };
        let length = usize::try_from(length).ok().filter(|&length| length <= rest.len()).ok_or(wrong)?;
        let (value, behind) = rest.split_at(length);
        if let (2, Some(kind)) = (key & 7, kind.field(key >> 3)) {
            if depth == DEEPEST {
                return Err(wrong);
            }
            fields(value, kind, depth + 1, behind.len() + after)?;
        }
        rest = behind;
    }
    Ok(())
}

/// A number of seven bits a byte, the last of which has no eighth.
fn number(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = from.split_first()?;
        *from = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_end_where_their_messages_end() {
        // A graph (7) of a node (1) of a name (3) of two letters; a version (1).
        let good = [0x3a, 6, 0x0a, 4, 0x1a, 2, b'a', b'b', 0x08, 9];
        assert_eq!(check(&good), Ok(()));
        for (at, byte) in [(1, 60), (3, 5), (5, 3), (4, 0x1b)] {
            let mut bad = good;
            bad[at] = byte;
            assert!(check(&bad).unwrap_err().contains("of 10"), "byte {at}");
        }
        assert_eq!(check(&[0x08, 9, 0x3a, 0xff]).unwrap_err(), "it is damaged at byte 2 of 4");
        assert!(check(&[0xff; 64]).is_err());
        assert!(check(&[0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]).is_err());
    }

    #[test]
    fn messages_in_messages_end() {
        let mut nested = vec![];
        for _ in 0..DEEPEST {
            // A node's attribute that is a graph.
            for key in [0x32, 0x2a, 0x0a] {
                let mut outer = vec![key, 0];
                let mut length = nested.len();
                outer.pop();
                while length >= 0x80 {
                    outer.push(length as u8 | 0x80);
                    length >>= 7;
                }
                outer.push(length as u8);
                outer.extend(&nested);
                nested = outer;
            }
        }
        let mut file = vec![0x3a];
        let length = nested.len();
        file.extend([length as u8 | 0x80, (length >> 7) as u8]);
        file.extend(nested);
        assert!(check(&file).is_err());
    }
}
