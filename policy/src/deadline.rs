//! How long a frame has, and whether it is still worth beginning.

use std::time::Duration;

use cloudpose_wire::{FrameHeader, Kind, Mode};

/// How much longer than a frame's time its gateway waits for a worker's word.
pub const GRACE: Duration = Duration::from_millis(250);
/// What a frame of a complete session has. Long, because it may wait behind a full lane.
pub const COMPLETE: Duration = Duration::from_secs(60);

/// What a frame has when it goes on its lane, after it `waited` at the gateway. `max_age` is that of its session.
pub fn budget(mode: Mode, max_age: Duration, waited: Duration) -> Duration {
    match mode {
        Mode::Live => max_age.saturating_sub(waited),
        Mode::Complete => COMPLETE,
    }
}

/// What `header` gives the frame, counted from when the bus took it.
pub fn of(header: &FrameHeader) -> Duration {
    Duration::from_millis(header.deadline_ms.into())
}

/// Whether a frame that has `waited` so long of its `budget` on a lane is still worth beginning.
///
/// A live one only while half of its time is left: it has to be done and drawn in the other half. Under overload
/// the oldest go first; begun at the last moment, all of them would come too late. A still is begun as long as it
/// has time at all.
pub fn worth_beginning(kind: Kind, budget: Duration, waited: Duration) -> bool {
    match kind {
        Kind::Live => waited <= budget / 2,
        Kind::Still => waited <= budget,
    }
}

#[cfg(test)]
mod tests {
    use cloudpose_wire::{GatewayId, ModelId, SessionId, StreamName, Want, frame::Reply};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn live_time_runs_at_the_gateway_too() {
        assert_eq!(budget(Mode::Live, SECOND, ms(300)), ms(700));
        assert_eq!(budget(Mode::Live, SECOND, ms(1300)), Duration::ZERO);
        assert_eq!(budget(Mode::Complete, SECOND, ms(1300)), COMPLETE);
    }

    #[test]
    fn header_says_it_in_milliseconds() {
        let (gateway, session) = (GatewayId::new("g").unwrap(), SessionId::new("s").unwrap());
        let reply = Reply::Session { gateway, session };
        let header = FrameHeader {
            stream: StreamName::new("cam").unwrap(),
            seq: 1,
            kind: Kind::Live,
            reply,
            received_at: 0,
            deadline_ms: 700,
            want: Want::Pose,
            model: ModelId::new("lightning").unwrap(),
            quality: 85,
            min_score: 0.2,
            top: cloudpose_wire::frame::USUAL_TOP,
            smooth: false,
            prior: None,
            retries: 0,
            caller: Default::default(),
            trace: None,
        };
        assert_eq!(of(&header), ms(700));
    }

    #[test]
    fn live_is_begun_in_its_first_half_and_a_still_as_long_as_it_has_time() {
        for (kind, last) in [(Kind::Live, ms(500)), (Kind::Still, SECOND)] {
            assert!(worth_beginning(kind, SECOND, last), "{kind:?}");
            assert!(!worth_beginning(kind, SECOND, last + ms(1)), "{kind:?}");
        }
    }
}
