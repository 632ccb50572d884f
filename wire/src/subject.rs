//! NATS subjects, built here only.
//!
//! | subject | carries |
//! |---|---|
//! | `<prefix>.<stage>.<kind>.<stream>` | frames waiting for a stage |
//! | `<prefix>.poses.<stream>` | pose events |
//! | `<prefix>.results.<gateway>.<session>` | results to the gateway that holds the session |

use crate::{FrameHeader, Lane, StreamName, frame::Reply};

/// First token of every subject unless configured otherwise.
pub const DEFAULT_PREFIX: &str = "cloudpose";

/// Where a frame waits for `lane`'s workers.
pub fn frame(prefix: &str, lane: Lane, header: &FrameHeader) -> String {
    format!("{prefix}.{lane}.{}", header.stream)
}

/// Where a stream's pose events go.
pub fn poses(prefix: &str, stream: &StreamName) -> String {
    format!("{prefix}.poses.{stream}")
}

/// Where a session's results go.
pub fn results(prefix: &str, reply: &Reply) -> String {
    format!("{prefix}.results.{}.{}", reply.gateway, reply.session)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GatewayId, Kind, SessionId, Stage};

    #[test]
    fn subjects_are_the_documented_ones() {
        let reply = Reply { gateway: GatewayId::new("g1").unwrap(), session: SessionId::new("s1").unwrap() };
        assert_eq!(results("cloudpose", &reply), "cloudpose.results.g1.s1");
        assert_eq!(poses("x", &StreamName::new("cam").unwrap()), "x.poses.cam");
        let header = FrameHeader {
            stream: StreamName::new("cam").unwrap(),
            seq: 1,
            kind: Kind::Live,
            reply,
            received_at: 0,
            deadline_ms: 1000,
            want: crate::Want::Pose,
            model: crate::ModelName::Lightning,
            quality: 80,
            min_score: 0.2,
            smooth: true,
            prior: None,
        };
        let lane = Lane { stage: Stage::Infer, kind: Kind::Live };
        assert_eq!(frame("cloudpose", lane, &header), "cloudpose.infer.live.cam");
    }
}
