//! Events to the bytes of a Parquet file, and back.
//!
//! Rows are sorted by channel, time and spool order: a query for one channel reads few row groups,
//! and neighbours compress well. Everything happens in memory, on what is already in memory: text
//! columns share the events' images, and the result is about a fifth of them.
//!
//! Invariants: the same events under the same name give the same bytes (no clock, no random, no
//! hash order); a row group has at most [`ROWS_MAX`] rows; [`read`] gives back what was encoded or
//! an error, whatever the bytes are. Pure. Deliberately absent: files, queries. Tests: `tests`.

use super::layout::{Hour, Range};
use super::schema::{COLUMNS, Column, FORMAT_VERSION, Row, SCHEMA, Source, Store, Tally};
use bytes::Bytes;
use crc32c::{crc32c, crc32c_append};
use hashbrown::HashMap;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::column::reader::ColumnReader;
use parquet::column::writer::{ColumnCloseResult, ColumnWriter, get_column_writer};
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::metadata::{FileMetaData, KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr};
use parquet::file::reader::{FileReader, RowGroupReader};
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::file::writer::{SerializedFileWriter, SerializedPageWriter, TrackedWrite};
use parquet::schema::types::{ColumnPath, SchemaDescriptor};
use proto::event::Event;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rows of a row group: what a reader holds at once, 38 MB of 300-byte events.
pub const ROWS_MAX: usize = 128 * 1024;

/// Level 3 costs 15 % more time and the files come out 7 % larger (JSON of 200 bytes, 1,000
/// channels: 63.6 B per event against 59.4). Not configurable: a retry must give the same bytes.
const ZSTD_LEVEL: i32 = 1;

/// Values handed to a column writer at once, and rows read back at once. The images of a batch
/// fit the second-level cache.
const BATCH_ROWS: usize = 256;

/// Why a file could not be made. Never because of what the events contain.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a Parquet file: {0}")]
pub struct EncodeError(String);

/// Why a file could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Not a file of ours, or not whole.
    #[error("the Parquet file is damaged or not ours: {0}")]
    Damaged(String),
    /// Of a later format.
    #[error("the Parquet file has format {0}; this version reads up to {FORMAT_VERSION}")]
    Newer(u32),
}

/// The file of these events, which are one hour's of `range` in spool order.
pub fn encode(range: &Range, events: &[Event]) -> Result<Vec<u8>, EncodeError> {
    let order = order(events);
    let image_bytes: usize = events.iter().map(Event::size).sum();
    let out = Vec::with_capacity(image_bytes / 4);
    let properties = properties(range)?;
    let mut file = SerializedFileWriter::new(out, SCHEMA.clone(), properties.clone())?;
    for rows in order.chunks(ROWS_MAX) {
        let columns = write_columns(file.schema_descr(), &properties, rows, events)?;
        let mut group = file.next_row_group()?;
        for (bytes, closed) in columns {
            group.append_column(&bytes, closed)?;
        }
        group.close()?;
    }
    let mut bytes = file.into_inner()?;
    let (at, crc) = seal(&bytes).ok_or_else(|| EncodeError("the footer has no seal".into()))?;
    bytes[at..at + SEAL.len()].copy_from_slice(format!("{crc:08x}").as_bytes());
    Ok(bytes)
}

/// The events' indexes in row order. Channels are compared once each, then by rank.
fn order(events: &[Event]) -> Vec<usize> {
    let mut ranks: HashMap<&str, usize> = HashMap::new();
    let mut names: Vec<&str> = Vec::new();
    let mut keys = Vec::with_capacity(events.len());
    for (index, event) in events.iter().enumerate() {
        let name = event.channel();
        let number = *ranks.entry(name).or_insert_with(|| {
            names.push(name);
            names.len() - 1
        });
        keys.push((number, event.time_us(), index));
    }
    let mut sorted: Vec<usize> = (0..names.len()).collect();
    sorted.sort_unstable_by_key(|number| names[*number]);
    let mut rank_of = vec![0; names.len()];
    for (rank, number) in sorted.into_iter().enumerate() {
        rank_of[number] = rank;
    }
    for key in &mut keys {
        key.0 = rank_of[key.0];
    }
    keys.sort_unstable();
    keys.into_iter().map(|(_, _, index)| index).collect()
}

/// The columns of one row group. All grow together, a few rows at a time: events of one channel
/// lie far apart in memory, and one pass per column would fetch each of them sixteen times (which
/// doubles the cost of an event).
fn write_columns(
    schema: &SchemaDescriptor,
    properties: &WriterPropertiesPtr,
    rows: &[usize],
    events: &[Event],
) -> Result<Vec<(Bytes, ColumnCloseResult)>, EncodeError> {
    let mut sinks: Vec<_> = COLUMNS.iter().map(|_| TrackedWrite::new(Vec::new())).collect();
    let writer = |(column, sink)| {
        let pages = Box::new(SerializedPageWriter::new(sink));
        get_column_writer(schema.column(column), properties.clone(), pages)
    };
    let mut writers: Vec<_> = sinks.iter_mut().enumerate().map(writer).collect();
    let mut values = Values::default();
    for batch in rows.chunks(BATCH_ROWS) {
        fetch(batch, events);
        for (writer, column) in writers.iter_mut().zip(&COLUMNS) {
            values.write(writer, column.source, batch.iter().map(|row| &events[*row]))?;
        }
    }
    let closed = writers.into_iter().map(ColumnWriter::close).collect::<Result<Vec<_>, _>>()?;
    let bytes = sinks.into_iter().map(|sink| sink.into_inner().map(Bytes::from));
    Ok(bytes.collect::<Result<Vec<_>, _>>()?.into_iter().zip(closed).collect())
}

/// Brings the events of a batch into the cache, many at once: decoding them is too much work per
/// event for the processor to look ahead to the next one (a fifth of the whole cost).
fn fetch(batch: &[usize], events: &[Event]) {
    const LINE_BYTES: usize = 64;
    let lines = batch.iter().flat_map(|row| events[*row].as_bytes().iter().step_by(LINE_BYTES));
    std::hint::black_box(lines.fold(0, |touched, byte| touched ^ byte));
}

/// Room for a batch of values, used again and again.
#[derive(Default)]
struct Values {
    texts: Vec<ByteArray>,
    numbers: Vec<i64>,
    flags: Vec<bool>,
}

impl Values {
    fn write<'a>(
        &mut self,
        writer: &mut ColumnWriter<'_>,
        source: Source,
        events: impl Iterator<Item = &'a Event>,
    ) -> Result<(), EncodeError> {
        match (source, writer) {
            (Source::Image(_) | Source::Name(_), ColumnWriter::ByteArrayColumnWriter(writer)) => {
                self.texts.clear();
                self.texts.extend(events.map(|event| ByteArray::from(source.bytes(event))));
                writer.write_batch(&self.texts, None, None)?;
            }
            (Source::Number(of), ColumnWriter::Int64ColumnWriter(writer)) => {
                self.numbers.clear();
                self.numbers.extend(events.map(of));
                writer.write_batch(&self.numbers, None, None)?;
            }
            (Source::Flag(of), ColumnWriter::BoolColumnWriter(writer)) => {
                self.flags.clear();
                self.flags.extend(events.map(of));
                writer.write_batch(&self.flags, None, None)?;
            }
            _ => return Err(EncodeError("a column and the schema do not agree".into())),
        }
        Ok(())
    }
}

fn properties(range: &Range) -> Result<WriterPropertiesPtr, EncodeError> {
    let value = |key: &str, value: String| KeyValue::new(key.to_owned(), value);
    let metadata = vec![
        value(FORMAT_KEY, FORMAT_VERSION.to_string()),
        value(NODE_KEY, range.node.clone()),
        value(FIRST_KEY, range.first_seq.to_string()),
        value(END_KEY, range.end_seq.to_string()),
        value(SEAL_KEY, SEAL.to_owned()),
    ];
    let place = |name| COLUMNS.iter().position(|column| column.name == name).unwrap_or_default();
    let ascending = |name| SortingColumn {
        column_idx: place(name) as i32,
        descending: false,
        nulls_first: false,
    };
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        .set_created_by("shardcast".to_owned())
        .set_key_value_metadata(Some(metadata))
        .set_sorting_columns(Some(vec![ascending("channel"), ascending("ts")]))
        .set_max_row_group_row_count(Some(ROWS_MAX));
    for Column { name, store, bounds, .. } in &COLUMNS {
        let path = ColumnPath::from(*name);
        let statistics = if *bounds { EnabledStatistics::Page } else { EnabledStatistics::None };
        builder = builder
            .set_column_statistics_enabled(path.clone(), statistics)
            .set_column_dictionary_enabled(path.clone(), *store == Store::Dictionary);
        if *store == Store::Delta {
            builder = builder.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
        }
    }
    Ok(Arc::new(builder.build()))
}

/// Gives every row of a file in order, and says which range it belongs to.
pub fn read(bytes: Bytes, each: &mut dyn FnMut(Row<'_>)) -> Result<Range, ReadError> {
    let sealed = seal(&bytes).is_some_and(|(at, crc)| {
        bytes.get(at..at + SEAL.len()) == Some(format!("{crc:08x}").as_bytes())
    });
    if !sealed {
        return Err(ReadError::Damaged("its checksum is wrong".into()));
    }
    let file = SerializedFileReader::new(bytes)?;
    let metadata = file.metadata().file_metadata();
    let range = range_of(metadata)?;
    if metadata.schema() != &**SCHEMA {
        return Err(ReadError::Damaged("it has other columns".into()));
    }
    for index in 0..file.num_row_groups() {
        read_group(&*file.get_row_group(index)?, each)?;
    }
    Ok(range)
}

/// What a file holds, by hour of acceptance: more than one hour would be a mistake of ours.
pub fn tally(bytes: Bytes) -> Result<(Range, BTreeMap<Hour, Tally>), ReadError> {
    let mut hours = BTreeMap::<Hour, Tally>::new();
    let range = read(bytes, &mut |row| hours.entry(Hour::of(row.received)).or_default().add(&row))?;
    Ok((range, hours))
}

const FORMAT_KEY: &str = "shardcast.format";
const NODE_KEY: &str = "shardcast.node";
const FIRST_KEY: &str = "shardcast.first_seq";
const END_KEY: &str = "shardcast.end_seq";
/// CRC32C of the whole file, as if [`SEAL`] stood in its place. The library panics on some damaged
/// files (60.1.0), pages and footers, so it sees none that is not as it was written.
const SEAL_KEY: &str = "shardcast.crc32c";
const SEAL: &str = "00000000";

/// Where the seal of a file stands, and what it should be.
fn seal(file: &[u8]) -> Option<(usize, u32)> {
    let key = SEAL_KEY.as_bytes();
    // Between key and value the footer (Thrift) has a byte for the field and one for the length.
    let at = file.windows(key.len()).rposition(|window| window == key)? + key.len() + 2;
    let after = file.get(at + SEAL.len()..)?;
    let before = crc32c(file.get(..at)?);
    Some((at, crc32c_append(crc32c_append(before, SEAL.as_bytes()), after)))
}

fn value_of<'a>(metadata: &'a FileMetaData, key: &str) -> Result<&'a str, ReadError> {
    let pairs = metadata.key_value_metadata().map(Vec::as_slice).unwrap_or_default();
    let pair = pairs.iter().find(|pair| pair.key == key);
    let missing = || ReadError::Damaged(format!("it has no {key}"));
    pair.and_then(|pair| pair.value.as_deref()).ok_or_else(missing)
}

fn range_of(metadata: &FileMetaData) -> Result<Range, ReadError> {
    let number = |key: &str| {
        value_of(metadata, key)?
            .parse::<u64>()
            .map_err(|_| ReadError::Damaged(format!("{key} is no number")))
    };
    match u32::try_from(number(FORMAT_KEY)?) {
        Ok(FORMAT_VERSION) => {}
        Ok(newer) => return Err(ReadError::Newer(newer)),
        Err(_) => return Err(ReadError::Damaged("its format number is too large".into())),
    }
    Ok(Range {
        node: value_of(metadata, NODE_KEY)?.to_owned(),
        first_seq: number(FIRST_KEY)?,
        end_seq: number(END_KEY)?,
    })
}

/// The values of some rows, each in the slot of its column.
#[derive(Default)]
struct Batch {
    texts: [Vec<ByteArray>; COLUMNS.len()],
    numbers: [Vec<i64>; COLUMNS.len()],
    flags: Vec<bool>,
}

fn read_group(group: &dyn RowGroupReader, each: &mut dyn FnMut(Row<'_>)) -> Result<(), ReadError> {
    let readers = (0..COLUMNS.len()).map(|column| group.get_column_reader(column));
    let mut readers = readers.collect::<Result<Vec<_>, _>>()?;
    let mut left = usize::try_from(group.metadata().num_rows())
        .map_err(|_| ReadError::Damaged("a row group has a negative length".into()))?;
    let mut batch = Batch::default();
    while left > 0 {
        let rows = left.min(BATCH_ROWS);
        for (column, reader) in readers.iter_mut().enumerate() {
            batch.fill(column, reader, rows)?;
        }
        for row in 0..rows {
            each(batch.row(row)?);
        }
        left -= rows;
    }
    Ok(())
}

impl Batch {
    fn fill(
        &mut self,
        column: usize,
        reader: &mut ColumnReader,
        rows: usize,
    ) -> Result<(), ReadError> {
        let read = match reader {
            ColumnReader::ByteArrayColumnReader(reader) => {
                self.texts[column].clear();
                reader.read_records(rows, None, None, &mut self.texts[column])?
            }
            ColumnReader::Int64ColumnReader(reader) => {
                self.numbers[column].clear();
                reader.read_records(rows, None, None, &mut self.numbers[column])?
            }
            ColumnReader::BoolColumnReader(reader) => {
                self.flags.clear();
                reader.read_records(rows, None, None, &mut self.flags)?
            }
            _ => return Err(ReadError::Damaged("a column has another type".into())),
        };
        let whole = read.0 == rows && read.1 == rows;
        whole.then_some(()).ok_or_else(|| ReadError::Damaged("a column is too short".into()))
    }

    /// The columns by their place in [`COLUMNS`].
    fn row(&self, row: usize) -> Result<Row<'_>, ReadError> {
        let short = || ReadError::Damaged("a column is too short".into());
        let bytes = |at: usize| self.texts[at].get(row).map(ByteArray::data).ok_or_else(short);
        let text = |at: usize| {
            let name = COLUMNS[at].name;
            std::str::from_utf8(bytes(at)?)
                .map_err(|_| ReadError::Damaged(format!("column {name} is not UTF-8")))
        };
        let number = |at: usize| self.numbers[at].get(row).copied().ok_or_else(short);
        Ok(Row {
            id: text(0)?,
            channel: text(1)?,
            epoch: number(2)? as u64,
            offset: number(3)? as u64,
            r#type: text(4)?,
            source: text(5)?,
            key: text(6)?,
            ts: number(7)?,
            received: number(8)?,
            content_type: text(9)?,
            kind: text(10)?,
            class: text(11)?,
            traceparent: text(12)?,
            attributes: text(13)?,
            late: self.flags.get(row).copied().ok_or_else(short)?,
            payload: bytes(15)?,
        })
    }
}

impl From<ParquetError> for EncodeError {
    fn from(error: ParquetError) -> Self {
        Self(error.to_string())
    }
}

impl From<ParquetError> for ReadError {
    fn from(error: ParquetError) -> Self {
        Self::Damaged(error.to_string())
    }
}
