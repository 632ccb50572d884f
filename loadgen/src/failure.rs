//! What can go wrong with a request or a frame, by kind.

use std::fmt;

use cloudpose_wire::ws::ErrorCode;

/// Why a request or a frame does not count as served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Failure {
    /// No connection came about.
    Connect,
    /// No answer within the time allowed.
    Timeout,
    /// The connection ended before the answer was there.
    Closed,
    /// An HTTP status other than 200.
    Status(u16),
    /// An answer to something else than what was asked.
    WrongId,
    /// A result after one of a later frame.
    OutOfOrder,
    /// Two answers to one frame.
    Duplicate,
    /// A frame that was sent, and no word of it came back.
    Unanswered,
    /// An answer that does not read as one.
    BadAnswer,
    /// The service ended the stream with this code.
    Refused(ErrorCode),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "no connection",
            Self::Timeout => "timeout",
            Self::Closed => "connection closed",
            Self::Status(status) => return write!(f, "status {status}"),
            Self::WrongId => "wrong id",
            Self::OutOfOrder => "out of order",
            Self::Duplicate => "answered twice",
            Self::Unanswered => "never answered",
            Self::BadAnswer => "bad answer",
            Self::Refused(code) => {
                let code = serde_json::to_value(code).unwrap_or_default();
                return write!(f, "refused: {}", code.as_str().unwrap_or("?"));
            }
        })
    }
}
