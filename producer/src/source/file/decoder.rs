//! An open file, of whatever kind.

use std::io;

use crate::source::SourceError;

use super::cells::Output;
use super::csv::CsvDecoder;
use super::kind::{Compression, InputFile, Kind};
use super::lines::{LastLine, Lines, MAX_ROW_BYTES};
use super::mapping::ColumnMapping;
use super::ndjson::NdjsonDecoder;
use super::parquet::ParquetDecoder;
use super::stream::Stream;

/// What reading rows led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There may be more rows.
    More,
    /// There are none, at least for now.
    End,
}

/// Where to start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// The offset of the next row; before the first row it means the first row.
    pub(super) offset: u64,
    /// Its line, where that is known.
    pub(super) line: Option<u64>,
}

/// How far to read, and what is there then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// Size on disk from which the file is taken to end; as it is at the moment without.
    pub(super) size: Option<u64>,
    /// What a last line without newline is.
    pub(super) last_line: LastLine,
}

/// Reads the rows of an open file.
pub(super) enum Decoder {
    Csv(Box<CsvDecoder>),
    Ndjson(Box<NdjsonDecoder>),
    Parquet(Box<ParquetDecoder>),
}

impl Decoder {
    /// Opens `file` at `from`; `None` if it has no complete header yet, or never will.
    pub(super) fn open(
        file: &InputFile,
        from: Position,
        end: End,
        mapping: &ColumnMapping,
    ) -> Result<Option<Self>, SourceError> {
        let text_decoder = match file.kind {
            Kind::Parquet => {
                return Ok(Some(Self::Parquet(Box::new(ParquetDecoder::open(
                    file,
                    from.offset,
                    mapping,
                )?))));
            }
            Kind::Csv { delimiter } => {
                let lines = open_lines(file, end)?;
                CsvDecoder::open(lines, &file.path, delimiter, end.last_line, mapping)?
                    .map(|decoder| Self::Csv(Box::new(decoder)))
            }
            Kind::Ndjson => {
                let mut decoder = NdjsonDecoder::new(open_lines(file, end)?, end.last_line, mapping);
                if from.offset == 0 {
                    decoder.check_fields(&file.path)?;
                }
                Some(Self::Ndjson(Box::new(decoder)))
            }
        };
        let Some(mut decoder) = text_decoder else {
            return if from.offset == 0 {
                Ok(None)
            } else {
                Err(shrunk(file, from.offset, 0))
            };
        };
        if let Some(lines) = decoder.lines_mut()
            && from.offset > lines.offset()
            && let Err(end) = lines
                .seek(from.offset, from.line)
                .map_err(|source| read_error(file, lines.read_to(), source))?
        {
            return Err(shrunk(file, from.offset, end));
        }
        Ok(Some(decoder))
    }

    /// Reads rows into `out` until it is full or the file ends.
    pub(super) fn decode(&mut self, out: &mut Output<'_>) -> io::Result<Step> {
        match self {
            Self::Csv(decoder) => decoder.decode(out),
            Self::Ndjson(decoder) => decoder.decode(out),
            Self::Parquet(decoder) => decoder.decode(out),
        }
    }

    /// Where the next row is.
    pub(super) fn position(&self) -> Position {
        match self.lines() {
            Ok(lines) => Position {
                offset: lines.offset(),
                line: lines.line(),
            },
            Err(parquet) => Position {
                offset: parquet.next_row(),
                line: None,
            },
        }
    }

    /// How far the file has been looked at, which is where an error happened.
    pub(super) fn read_to(&self) -> u64 {
        self.lines().map_or_else(ParquetDecoder::next_row, Lines::read_to)
    }

    /// How many bytes of the `size` on disk are done.
    pub(super) fn disk_position(&self, compression: Compression, size: u64) -> u64 {
        match self.lines() {
            Ok(lines) if compression == Compression::None => lines.offset(),
            Ok(lines) => lines.disk_position(),
            Err(parquet) => {
                let rows = u128::from(parquet.rows().max(1));
                (u128::from(size) * u128::from(parquet.next_row()) / rows) as u64
            }
        }
    }

    /// The size on disk of a file that was read to its end; `size` if that is not known here.
    pub(super) fn disk_size(&self, size: u64) -> u64 {
        self.lines().map_or(size, Lines::disk_position)
    }

    /// The lines of a text, or else the decoder that has none.
    fn lines(&self) -> Result<&Lines, &ParquetDecoder> {
        match self {
            Self::Csv(decoder) => Ok(decoder.lines()),
            Self::Ndjson(decoder) => Ok(decoder.lines()),
            Self::Parquet(decoder) => Err(decoder),
        }
    }

    fn lines_mut(&mut self) -> Option<&mut Lines> {
        match self {
            Self::Csv(decoder) => Some(decoder.lines_mut()),
            Self::Ndjson(decoder) => Some(decoder.lines_mut()),
            Self::Parquet(_) => None,
        }
    }
}

fn open_lines(file: &InputFile, end: End) -> Result<Lines, SourceError> {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    let open = || {
        let mut lines = Lines::new(Stream::open(&file.path, file.compression, end.size)?);
        while lines.data().len() < BYTE_ORDER_MARK.len() && lines.more()? {}
        if lines.data().starts_with(BYTE_ORDER_MARK) {
            lines.consume(BYTE_ORDER_MARK.len(), 0);
        }
        Ok(lines)
    };
    open().map_err(|source| read_error(file, 0, source))
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

/// Puts the current row aside, of which no end was found within the limit.
#[cold]
pub(super) fn skip_too_long(
    lines: &mut Lines,
    last_line: LastLine,
    out: &mut Output<'_>,
) -> io::Result<Step> {
    let (offset, line) = (lines.offset(), lines.line());
    let head = lines.data()[..crate::source::MAX_RAW_BYTES].to_vec();
    if !lines.skip_long_line(last_line)? {
        return Ok(Step::End);
    }
    let detail = format!("the row is longer than {MAX_ROW_BYTES} bytes");
    out.unreadable(offset, line, detail, &head);
    Ok(Step::More)
}
