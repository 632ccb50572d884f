//! A file of rows, whole, in memory.

use cloudpose_bus::nats::Recorded;
use cloudpose_wire::Event;
use parquet::{
    arrow::{ArrowWriter, ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder},
    basic::Compression,
    errors::ParquetError,
    file::{properties::WriterProperties, reader::ChunkReader},
};

use super::{Key, rows};

/// The bytes of a file that has these events. The same events make the same bytes.
pub(super) fn of<'a>(
    events: impl Iterator<Item = (&'a Recorded, &'a Event)>,
) -> Result<Vec<u8>, ParquetError> {
    let rows = rows::batch(events)?;
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), Some(properties))?;
    writer.write(&rows)?;
    writer.into_inner()
}

/// The keys of the events that a file has.
pub(super) fn keys(file: impl ChunkReader + 'static) -> Result<Vec<Key>, ParquetError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), rows::KEY);
    let mut keys = Vec::new();
    for rows in builder.with_projection(mask).build()? {
        let found = rows::keys(&rows?);
        keys.extend(found.ok_or_else(|| ParquetError::General("it is none of ours".into()))?);
    }
    Ok(keys)
}
