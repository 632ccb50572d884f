//! Events as rows.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cloudpose_bus::nats::Recorded;
use cloudpose_wire::{Event, Keypoint, Output, Person, SessionId, SkeletonName};
use tokio_postgres::types::{ToSql, Type};

/// A day, in milliseconds.
const DAY: u64 = 24 * 3600 * 1000;
/// The end of the year 9999: what lies later is no time that a gateway has ever had, and no day to make tables for.
const LATEST: u64 = 253_402_300_799_999;

/// The temporary tables of a connection.
pub(super) const STAGES: &str = "
    CREATE TEMPORARY TABLE staged_frames (LIKE frames) ON COMMIT DELETE ROWS;
    CREATE TEMPORARY TABLE staged_persons (LIKE persons) ON COMMIT DELETE ROWS;";
pub(super) const STAGE_FRAMES: &str = "COPY staged_frames FROM STDIN (FORMAT binary)";
pub(super) const STAGE_PERSONS: &str = "COPY staged_persons FROM STDIN (FORMAT binary)";
/// Moves what is not there yet from the temporary tables to where it stays. Answers how many frames that were.
pub(super) const MOVE: &str = "
    WITH new AS (
        INSERT INTO frames SELECT * FROM staged_frames ON CONFLICT DO NOTHING
        RETURNING tenant, stream, captured_at, session, seq
    ), moved AS (
        INSERT INTO persons SELECT p.* FROM staged_persons p JOIN new USING (tenant, stream, captured_at, session, seq)
        RETURNING tenant, stream, captured_at, session, track_id
    ), seen AS (
        INSERT INTO presence AS p
        SELECT tenant, stream, date_trunc('minute', captured_at), session, track_id, count(*), min(captured_at), max(captured_at)
        FROM moved WHERE track_id IS NOT NULL GROUP BY 1, 2, 3, 4, 5
        ON CONFLICT (tenant, stream, captured_at, session, track_id) DO UPDATE SET
            frames = p.frames + EXCLUDED.frames,
            first_at = least(p.first_at, EXCLUDED.first_at),
            last_at = greatest(p.last_at, EXCLUDED.last_at)
    )
    SELECT count(*) FROM new";

pub(super) const FRAME_TYPES: [Type; 13] = [
    Type::TEXT,
    Type::TEXT,
    Type::TIMESTAMPTZ,
    Type::TEXT,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::INT4,
    Type::TEXT_ARRAY,
    Type::FLOAT4_ARRAY,
];
pub(super) const PERSON_TYPES: [Type; 16] = [
    Type::TEXT,
    Type::TEXT,
    Type::TIMESTAMPTZ,
    Type::TEXT,
    Type::INT8,
    Type::INT4,
    Type::INT8,
    Type::FLOAT4,
    Type::FLOAT4,
    Type::FLOAT4,
    Type::FLOAT4,
    Type::FLOAT4,
    Type::BOOL,
    Type::FLOAT4_ARRAY,
    Type::FLOAT4_ARRAY,
    Type::FLOAT4_ARRAY,
];

/// What tells a frame from all others: tenant, stream, time, session, number.
pub(super) type Key<'a> = (&'a str, &'a str, SystemTime, &'a str, i64);

/// A frame, in the order and with the types of its table's columns.
#[derive(Debug)]
pub(super) struct Row<'a> {
    event: &'a Event,
    pub(super) tenant: &'a str,
    pub(super) stream: &'a str,
    pub(super) captured_at: SystemTime,
    session: &'a str,
    pub(super) seq: i64,
    width: i64,
    height: i64,
    model: &'a str,
    device: &'a str,
    skeleton: Option<&'a str>,
    count: Option<i32>,
    classes: Option<Vec<&'a str>>,
    class_scores: Option<Vec<f32>>,
    pub(super) persons: Vec<PersonRow>,
}

/// A person, but for what it shares with its frame.
#[derive(Debug)]
pub(super) struct PersonRow {
    ordinal: i32,
    track_id: Option<i64>,
    score: f32,
    x: f32,
    y: f32,
    width: f32,
    height: f32,
    coarse: bool,
    joint_x: Vec<f32>,
    joint_y: Vec<f32>,
    joint_score: Vec<f32>,
}

impl<'a> Row<'a> {
    /// Nothing for what is no event, or of no time that there is.
    pub(super) fn of(recorded: &'a Recorded) -> Option<Self> {
        let event = recorded.event.event().ok()?;
        if event.captured_at > LATEST {
            return None;
        }
        let (skeleton, persons, classes) = match &event.output {
            Output::Poses { skeleton, persons } => (Some(skeleton.as_str()), Some(persons), None),
            Output::Classes(classes) => (None, None, Some(classes)),
        };
        Some(Self {
            event,
            tenant: recorded.tenant.as_str(),
            stream: event.stream.as_str(),
            captured_at: UNIX_EPOCH + Duration::from_millis(event.captured_at),
            session: recorded.session.as_ref().map_or("", SessionId::as_str),
            seq: event.seq.try_into().ok()?,
            width: event.width.into(),
            height: event.height.into(),
            model: event.model.as_str(),
            device: &event.device,
            skeleton,
            count: persons.map(|persons| i32::try_from(persons.len()).unwrap_or(i32::MAX)),
            classes: classes.map(|classes| classes.iter().map(|class| class.label.as_str()).collect()),
            class_scores: classes.map(|classes| classes.iter().map(|class| class.score).collect()),
            persons: persons
                .into_iter()
                .flatten()
                .zip(1..)
                .map(|(person, n)| PersonRow::of(n, person))
                .collect(),
        })
    }

    pub(super) fn key(&self) -> Key<'a> {
        (self.tenant, self.stream, self.captured_at, self.session, self.seq)
    }

    /// The day in UTC, since 1970.
    pub(super) fn day(&self) -> u64 {
        self.event.captured_at / DAY
    }

    /// The skeleton and its joints, if somebody is there to show them.
    pub(super) fn skeleton(&self) -> Option<(&'a SkeletonName, &'a [Keypoint])> {
        let (skeleton, persons) = self.event.output.poses()?;
        Some((skeleton, &persons.first()?.keypoints))
    }

    pub(super) fn frame(&self) -> [&(dyn ToSql + Sync); 13] {
        [
            &self.tenant,
            &self.stream,
            &self.captured_at,
            &self.session,
            &self.seq,
            &self.width,
            &self.height,
            &self.model,
            &self.device,
            &self.skeleton,
            &self.count,
            &self.classes,
            &self.class_scores,
        ]
    }

    pub(super) fn person<'b>(&'b self, person: &'b PersonRow) -> [&'b (dyn ToSql + Sync); 16] {
        [
            &self.tenant,
            &self.stream,
            &self.captured_at,
            &self.session,
            &self.seq,
            &person.ordinal,
            &person.track_id,
            &person.score,
            &person.x,
            &person.y,
            &person.width,
            &person.height,
            &person.coarse,
            &person.joint_x,
            &person.joint_y,
            &person.joint_score,
        ]
    }
}

impl PersonRow {
    fn of(ordinal: i32, person: &Person) -> Self {
        let joints = |of: fn(&Keypoint) -> f32| person.keypoints.iter().map(of).collect();
        Self {
            ordinal,
            track_id: person.track_id.map(i64::from),
            score: person.score,
            x: person.bounding_box.x,
            y: person.bounding_box.y,
            width: person.bounding_box.width,
            height: person.bounding_box.height,
            coarse: person.coarse,
            joint_x: joints(|joint| joint.x),
            joint_y: joints(|joint| joint.y),
            joint_score: joints(|joint| joint.score),
        }
    }
}
