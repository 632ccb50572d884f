//! What gateways are told of frames that the bus itself ends.

use cloudpose_wire::{DropReason, FrameHeader, FrameResult, Stage};

use crate::MAX_DELIVERIES;

/// What the gateway is told of a frame that is not worth beginning.
pub(crate) fn expired(header: &FrameHeader) -> FrameResult {
    header.dropped(DropReason::Expired, "waited too long to be worked on")
}

/// What the gateway is told of a still whose workers all died.
pub(crate) fn given_up(stage: Stage, header: &FrameHeader) -> FrameResult {
    let reason = match stage {
        Stage::Infer => DropReason::InferFailed,
        Stage::Annotate => DropReason::AnnotateFailed,
    };
    header.dropped(reason, format!("given up: {MAX_DELIVERIES} workers took it and none finished it"))
}
