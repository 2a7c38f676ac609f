//! The decoder of an open file of any kind.

use std::io;

use crate::source::SourceError;

use super::avro::AvroDecoder;
use super::csv::CsvDecoder;
use super::envelope::{EnvelopeDecoder, MARKED_WITHIN, is_envelope};
use super::kind::{Compression, InputFile, Kind};
use super::lines::{LastLine, Lines};
use super::mapping::ColumnMapping;
use super::ndjson::NdjsonDecoder;
use super::parquet::ParquetDecoder;
use super::pattern::DeviceFrom;
use super::sink::{RowSink, Step};
use super::stream::Stream;
use super::time_format::Noticed;

/// The position of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::source) struct RowPosition {
    /// The offset of the row. An offset before the first row stands for the first row.
    pub(in crate::source) offset: u64,
    /// The line of the row, if it is known.
    pub(in crate::source) line: Option<u64>,
}

/// Where a file ends, and how its last line is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source) struct End {
    /// The size on disk at which the file is taken to end; `None` for the end it has at the moment.
    pub(in crate::source) size: Option<u64>,
    /// How to treat a last line without a newline.
    pub(in crate::source) last_line: LastLine,
}

/// A decoder for the rows of an open file.
pub(in crate::source) enum Decoder {
    Csv(Box<CsvDecoder>),
    Ndjson(Box<NdjsonDecoder>),
    Envelope(Box<EnvelopeDecoder>),
    Parquet(Box<ParquetDecoder>),
    Avro(Box<AvroDecoder>),
}

/// A decoder of rows that are found by their number.
enum Numbered<'a> {
    Parquet(&'a ParquetDecoder),
    Avro(&'a AvroDecoder),
}

impl Numbered<'_> {
    fn next(&self) -> u64 {
        match self {
            Self::Parquet(decoder) => decoder.next_row(),
            Self::Avro(decoder) => decoder.next_record(),
        }
    }
}

impl Decoder {
    /// Opens `file` at `from`; returns `None` if the file has no complete header (yet).
    pub(in crate::source) fn open(
        file: &InputFile,
        from: RowPosition,
        end: End,
        mapping: &ColumnMapping,
    ) -> Result<Option<Self>, SourceError> {
        if file.kind != Kind::Avro && file.kind != Kind::Ndjson {
            refuse_places(file, mapping)?;
        }
        let text_decoder = match file.kind {
            Kind::Parquet => {
                return Ok(Some(Self::Parquet(Box::new(ParquetDecoder::open(
                    file,
                    from.offset,
                    mapping,
                )?))));
            }
            Kind::Avro => {
                let decoder = AvroDecoder::open(file, from.offset, mapping)?;
                return Ok(Some(Self::Avro(Box::new(decoder))));
            }
            Kind::Csv { delimiter } => {
                let lines = open_lines(file, end)?;
                CsvDecoder::open(lines, file, delimiter, end.last_line, mapping)?
                    .map(|decoder| Self::Csv(Box::new(decoder)))
            }
            Kind::Ndjson => {
                let mut lines = open_lines(file, end)?;
                if starts_as_envelope(&mut lines).map_err(|source| read_error(file, 0, source))? {
                    let mut decoder = EnvelopeDecoder::new(lines, end.last_line, mapping);
                    seek(decoder.lines_mut(), file, from)?;
                    return Ok(Some(Self::Envelope(Box::new(decoder))));
                }
                refuse_places(file, mapping)?;
                let mut decoder = NdjsonDecoder::open(lines, file, end.last_line, mapping)?;
                if from.offset == 0
                    && let Some(decoder) = &mut decoder
                {
                    decoder.check_fields(&file.path)?;
                }
                decoder.map(|decoder| Self::Ndjson(Box::new(decoder)))
            }
        };
        let Some(mut decoder) = text_decoder else {
            return if from.offset == 0 {
                Ok(None)
            } else {
                Err(shrunk(file, from.offset, 0))
            };
        };
        if let Some(lines) = decoder.lines_mut() {
            seek(lines, file, from)?;
        }
        Ok(Some(decoder))
    }

    /// Reads rows into `out` until it is full or the file ends.
    pub(in crate::source) fn decode(&mut self, out: &mut RowSink<'_>) -> io::Result<Step> {
        match self {
            Self::Csv(decoder) => decoder.decode(out),
            Self::Ndjson(decoder) => decoder.decode(out),
            Self::Envelope(decoder) => decoder.decode(out),
            Self::Parquet(decoder) => decoder.decode(out),
            Self::Avro(decoder) => decoder.decode(out),
        }
    }

    /// Returns how the file is understood, for a person.
    pub(in crate::source) fn summary(&self) -> &str {
        match self {
            Self::Csv(decoder) => decoder.summary(),
            Self::Ndjson(decoder) => decoder.summary(),
            Self::Parquet(decoder) => decoder.summary(),
            Self::Envelope(_) | Self::Avro(_) => "events",
        }
    }

    /// Returns whether what the summary says was guessed from the first lines.
    pub(in crate::source) fn is_guessed(&self) -> bool {
        match self {
            Self::Csv(decoder) => decoder.is_guessed(),
            Self::Ndjson(_) | Self::Parquet(_) | Self::Envelope(_) | Self::Avro(_) => false,
        }
    }

    /// Returns what was noticed about the times read so far.
    pub(in crate::source) fn noticed(&self) -> Noticed {
        match self {
            Self::Csv(decoder) => decoder.noticed(),
            Self::Ndjson(decoder) => decoder.noticed(),
            Self::Parquet(decoder) => decoder.noticed(),
            Self::Envelope(_) | Self::Avro(_) => Noticed::default(),
        }
    }

    /// Returns the position of the next row.
    pub(in crate::source) fn position(&self) -> RowPosition {
        match self.lines() {
            Ok(lines) => RowPosition {
                offset: lines.offset(),
                line: lines.line(),
            },
            Err(numbered) => RowPosition {
                offset: numbered.next(),
                line: None,
            },
        }
    }

    /// Returns how far the file has been read, which is where an error occurred.
    pub(in crate::source) fn read_to(&self) -> u64 {
        self.lines()
            .map_or_else(|numbered| numbered.next(), Lines::read_to)
    }

    /// Returns how many bytes of the `size` on disk are done.
    pub(in crate::source) fn disk_position(&self, compression: Compression, size: u64) -> u64 {
        match self.lines() {
            Ok(lines) if compression == Compression::None => lines.offset(),
            Ok(lines) => lines.disk_position(),
            Err(Numbered::Avro(avro)) => avro.disk_position().min(size),
            Err(Numbered::Parquet(parquet)) => {
                let rows = u128::from(parquet.rows().max(1));
                (u128::from(size) * u128::from(parquet.next_row()) / rows) as u64
            }
        }
    }

    /// Returns the size on disk of a file that was read to its end; `size` if the decoder does not know it.
    pub(in crate::source) fn disk_size(&self, size: u64) -> u64 {
        self.lines().map_or(size, Lines::disk_position)
    }

    /// Returns the lines of a text file, or else the decoder of a file that has none.
    fn lines(&self) -> Result<&Lines, Numbered<'_>> {
        match self {
            Self::Csv(decoder) => Ok(decoder.lines()),
            Self::Ndjson(decoder) => Ok(decoder.lines()),
            Self::Envelope(decoder) => Ok(decoder.lines()),
            Self::Parquet(decoder) => Err(Numbered::Parquet(decoder)),
            Self::Avro(decoder) => Err(Numbered::Avro(decoder)),
        }
    }

    fn lines_mut(&mut self) -> Option<&mut Lines> {
        match self {
            Self::Csv(decoder) => Some(decoder.lines_mut()),
            Self::Ndjson(decoder) => Some(decoder.lines_mut()),
            Self::Envelope(decoder) => Some(decoder.lines_mut()),
            Self::Parquet(_) | Self::Avro(_) => None,
        }
    }
}

/// Returns up to `most` bytes from the start of a text file, as far as they can be read.
pub(in crate::source) fn first_bytes(file: &InputFile, most: usize) -> io::Result<Vec<u8>> {
    let end = End {
        size: None,
        last_line: LastLine::Counts,
    };
    let mut lines = match open_lines(file, end) {
        Ok(lines) => lines,
        Err(SourceError::Read { source, .. }) => return Err(source),
        Err(error) => return Err(io::Error::other(error)),
    };
    while lines.data().len() < most && lines.more().unwrap_or(false) {}
    Ok(lines.data()[..lines.data().len().min(most)].to_vec())
}

fn open_lines(file: &InputFile, end: End) -> Result<Lines, SourceError> {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    let open = || {
        let mut lines = Lines::new(Stream::of(file.open()?, file.compression, end.size)?);
        while lines.data().len() < BYTE_ORDER_MARK.len() && lines.more()? {}
        if lines.data().starts_with(BYTE_ORDER_MARK) {
            lines.consume(BYTE_ORDER_MARK.len(), 0);
        }
        Ok(lines)
    };
    open().map_err(|source| read_error(file, 0, source))
}

/// Refuses options that take a field from an event, for a file that holds no events.
fn refuse_places(file: &InputFile, mapping: &ColumnMapping) -> Result<(), SourceError> {
    let device = mapping.device_from.as_ref().and_then(DeviceFrom::of_event);
    let from = [("time", mapping.time_from.as_ref()), ("device", device)];
    match from.into_iter().find_map(|(role, from)| Some((role, from?))) {
        None => Ok(()),
        Some((role, from)) => Err(SourceError::Format {
            path: file.path.clone(),
            why: format!(
                "it holds no events, so there is no {from}: leave out --{role}-from, and name the column with --column-{role}"
            ),
        }),
    }
}

/// Loads the start of the file, and returns whether it is one of events.
fn starts_as_envelope(lines: &mut Lines) -> io::Result<bool> {
    while lines.data().len() < MARKED_WITHIN && lines.more()? {}
    Ok(is_envelope(lines.data()))
}

/// Moves to the row at `from`.
fn seek(lines: &mut Lines, file: &InputFile, from: RowPosition) -> Result<(), SourceError> {
    if from.offset <= lines.offset() {
        return Ok(());
    }
    match lines.seek(from.offset, from.line) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(end)) => Err(shrunk(file, from.offset, end)),
        Err(source) => Err(read_error(file, lines.read_to(), source)),
    }
}

fn read_error(file: &InputFile, offset: u64, source: io::Error) -> SourceError {
    SourceError::Read {
        path: file.path.clone(),
        offset,
        source,
    }
}

fn shrunk(file: &InputFile, offset: u64, end: u64) -> SourceError {
    SourceError::Shrunk {
        path: file.path.clone(),
        offset,
        end,
    }
}
