//! Events as rows: a frame each, with its persons inside, so that one file has all of a frame or nothing.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BooleanArray, Float32Array, Int64Array, ListArray, RecordBatch, StringArray,
    StructArray, TimestampMillisecondArray,
    cast::AsArray as _,
    types::{Float32Type, Int64Type, TimestampMillisecondType},
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{ArrowError, Field};
use cloudpose_bus::nats::Recorded;
use cloudpose_wire::{Class, Event, Keypoint, Output, Person, SessionId};

use super::Key;

/// The columns that tell a frame from all others of its stream.
pub(super) const KEY: [&str; 3] = ["captured_at", "session", "seq"];

/// The rows of some events.
pub(super) fn batch<'a>(
    events: impl Iterator<Item = (&'a Recorded, &'a Event)>,
) -> Result<RecordBatch, ArrowError> {
    let events: Vec<(&Recorded, &Event)> = events.collect();
    let all = || events.iter().map(|(_, event)| *event);
    let poses: Vec<Option<&[Person]>> = all().map(|event| Some(event.output.poses()?.1)).collect();
    let classes: Vec<Option<&[Class]>> = all()
        .map(|event| match &event.output {
            Output::Classes(classes) => Some(&classes[..]),
            Output::Poses { .. } => None,
        })
        .collect();
    let joints = poses.iter().map(|persons| {
        let first = persons.and_then(|persons| persons.first());
        first.map(|person| person.keypoints.iter().map(|joint| joint.name.as_str()).collect())
    });
    let labels = classes
        .iter()
        .map(|classes| classes.map(|all| all.iter().map(|class| class.label.as_str()).collect()));
    let scores = classes.iter().map(|classes| Some(classes.as_ref()?.iter().map(|class| Some(class.score))));
    let session = |recorded: &Recorded| recorded.session.as_ref().map_or("", SessionId::as_str).to_owned();
    let whole =
        |of: fn(&Event) -> u64| Int64Array::from_iter_values(all().map(|event| of(event).cast_signed()));
    let columns: [(&str, ArrayRef, bool); 12] = [
        (KEY[0], Arc::new(time(all())), false),
        (
            KEY[1],
            Arc::new(StringArray::from_iter_values(events.iter().map(|(recorded, _)| session(recorded)))),
            false,
        ),
        (KEY[2], Arc::new(whole(|event| event.seq)), false),
        ("width", Arc::new(whole(|event| event.width.into())), false),
        ("height", Arc::new(whole(|event| event.height.into())), false),
        ("model", Arc::new(StringArray::from_iter_values(all().map(|event| event.model.as_str()))), false),
        ("device", Arc::new(StringArray::from_iter_values(all().map(|event| &*event.device))), false),
        (
            "skeleton",
            Arc::new(all().map(|event| Some(event.output.poses()?.0.as_str())).collect::<StringArray>()),
            true,
        ),
        ("joints", Arc::new(strings(joints)?), true),
        ("persons", Arc::new(persons(&poses)?), true),
        ("classes", Arc::new(strings(labels)?), true),
        ("class_scores", Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(scores)), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns)
}

fn time<'a>(events: impl Iterator<Item = &'a Event>) -> TimestampMillisecondArray {
    TimestampMillisecondArray::from_iter_values(events.map(|event| event.captured_at.cast_signed()))
        .with_timezone("UTC")
}

/// A list of texts in each row.
fn strings<'a>(rows: impl Iterator<Item = Option<Vec<&'a str>>>) -> Result<ListArray, ArrowError> {
    let rows: Vec<Option<Vec<&str>>> = rows.collect();
    let values: StringArray = StringArray::from_iter_values(rows.iter().flatten().flatten());
    list(rows.iter().map(|row| row.as_ref().map(Vec::len)), Arc::new(values))
}

/// The persons in each row, those with the highest scores first.
fn persons(rows: &[Option<&[Person]>]) -> Result<ListArray, ArrowError> {
    let all = || rows.iter().flatten().copied().flatten();
    let number =
        |of: fn(&Person) -> f32| -> ArrayRef { Arc::new(Float32Array::from_iter_values(all().map(of))) };
    let joints = |of: fn(&Keypoint) -> f32| -> ArrayRef {
        let lists = all().map(|person| Some(person.keypoints.iter().map(move |joint| Some(of(joint)))));
        Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(lists))
    };
    let ids: Int64Array = all().map(|person| person.track_id.map(i64::from)).collect();
    let coarse: BooleanArray = all().map(|person| Some(person.coarse)).collect();
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("track_id", Arc::new(ids), true),
        ("score", number(|person| person.score), false),
        ("x", number(|person| person.bounding_box.x), false),
        ("y", number(|person| person.bounding_box.y), false),
        ("width", number(|person| person.bounding_box.width), false),
        ("height", number(|person| person.bounding_box.height), false),
        ("coarse", Arc::new(coarse), false),
        ("joint_x", joints(|joint| joint.x), false),
        ("joint_y", joints(|joint| joint.y), false),
        ("joint_score", joints(|joint| joint.score), false),
    ];
    let columns = columns.into_iter().map(|(name, column, nullable)| {
        (Arc::new(Field::new(name, column.data_type().clone(), nullable)), column)
    });
    let columns: Vec<_> = columns.collect();
    list(rows.iter().map(|row| row.map(<[Person]>::len)), Arc::new(StructArray::from(columns)))
}

/// Lists of those lengths, of one value after the other.
fn list(
    lengths: impl Iterator<Item = Option<usize>> + Clone,
    values: ArrayRef,
) -> Result<ListArray, ArrowError> {
    let offsets = OffsetBuffer::from_lengths(lengths.clone().map(Option::unwrap_or_default));
    let nulls: NullBuffer = lengths.map(|length| length.is_some()).collect::<Vec<bool>>().into();
    let item = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    ListArray::try_new(item, offsets, values, Some(nulls))
}

/// The keys of rows that have only those columns. Nothing if they are others.
pub(super) fn keys(rows: &RecordBatch) -> Option<Vec<Key>> {
    let [at, session, seq] = KEY.map(|name| rows.column_by_name(name));
    let at = at?.as_primitive_opt::<TimestampMillisecondType>()?.values();
    let session = session?.as_string_opt::<i32>()?;
    let seq = seq?.as_primitive_opt::<Int64Type>()?.values();
    let key = |row: usize| (at[row].cast_unsigned(), session.value(row).into(), seq[row].cast_unsigned());
    Some((0..rows.num_rows()).map(key).collect())
}
