//! Rewrites frames as bytes, to add what official clients need and the AMQP library leaves out.

use bytes::{BufMut, BytesMut};

/// Length of a protocol header, and of the fixed part of a frame.
const HEADER: usize = 8;
/// Length of a frame up to and including the code of its performative, in bytes. No client writes an extended header.
const UP_TO_CODE: usize = HEADER + 3;
/// How a protocol header begins. As the size of a frame it would be more than a gigabyte.
const PROTOCOL: &[u8] = b"AMQP";
/// Frame type of everything but the SASL exchange.
const AMQP: u8 = 0;
/// Codes of performatives: the first of a connection, and those that end a link and a session.
const OPEN: u8 = 0x10;
const DETACH: u8 = 0x16;
const END: u8 = 0x17;
/// How Node's client names itself in `open`.
const NODE_CLIENT: &[u8] = b"MSJSClient";
/// How much a frame may grow: ten nulls, and a long list instead of an empty one, rounded up.
const ROOM: u32 = 32;
/// Largest frame before and including `open`, by which a client tells how long frames may be.
const MAX_FIRST_FRAMES: usize = 64 << 10;

const NULL: u8 = 0x40;
const LIST_0: u8 = 0x45;
const LIST_8: u8 = 0xc0;
const LIST_32: u8 = 0xd0;
const UINT: u8 = 0x70;

/// Writes the frames of a stream with all their fields.
///
/// AMQP lets a sender leave out the nulls at the end of a list, and the library does. The Python client reads fields by
/// their place and fails on a short list. The service writes them all.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    partial: BytesMut,
    /// How many links were detached, or answered to be.
    detaches: u64,
}

impl Outgoing {
    /// Takes bytes of the stream, and appends every frame that is complete to `out`.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut BytesMut) {
        self.partial.extend_from_slice(bytes);
        while let Some(length) = next_length(&self.partial)
            && length <= self.partial.len()
        {
            let frame = self.partial.split_to(length);
            self.detaches += u64::from(code_of(&frame) == Some(DETACH));
            if complete(&frame, out).is_none() {
                out.extend_from_slice(&frame);
            }
        }
    }
}

/// Lets a client's frames pass, with two changes.
///
/// The library is told of smaller frames than the client accepts, which leaves room for what [`Outgoing`] adds. A session of
/// Node's client ends only after its links: that client sends `end` right after `detach`, the library then leaves the
/// `detach` unanswered, and the client waits a minute for the answer.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    partial: BytesMut,
    /// Number of bytes left of a frame whose beginning has passed.
    rest: usize,
    /// Whether the client's `open` has passed.
    opened: bool,
    /// Whether the client waits for the answers to its `detach` frames: Node's does, and Rust's has forgotten the links.
    waits_for_detach: bool,
    detaches: u64,
}

/// How far [`Incoming::pass`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    /// Everything that there is.
    All,
    /// Up to the end of a session, which has to wait for the answer to a `detach`.
    UpToEnd,
}

impl Incoming {
    /// Takes bytes of the stream.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
    }

    /// Appends to `out` what may pass, now that `outgoing` is what was written so far.
    pub(crate) fn pass(&mut self, outgoing: &Outgoing, out: &mut BytesMut) -> Passed {
        loop {
            let bytes = self.rest.min(self.partial.len());
            out.extend_from_slice(&self.partial.split_to(bytes));
            self.rest -= bytes;
            let Some(length) = next_length(&self.partial).filter(|_| self.rest == 0) else {
                return Passed::All;
            };
            if !self.opened && length <= MAX_FIRST_FRAMES {
                if self.partial.len() < length {
                    return Passed::All;
                }
                // An `open` without this field sets no limit.
                let _ = lower_frame_limit(&mut self.partial[..length]);
                self.opened = is_amqp_frame(&self.partial);
                self.waits_for_detach |= self.opened && contains(&self.partial[..length], NODE_CLIENT);
            } else if self.partial.len() < length.min(UP_TO_CODE) {
                return Passed::All;
            }
            match code_of(&self.partial) {
                Some(DETACH) => self.detaches += 1,
                Some(END) if self.waits_for_detach && self.detaches > outgoing.detaches => {
                    return Passed::UpToEnd;
                }
                _ => {}
            }
            self.rest = length;
        }
    }

    /// Lets sessions end, whatever is not answered.
    pub(crate) fn give_up(&mut self) {
        self.detaches = 0;
    }
}

/// Returns the length of the protocol header or frame that `bytes` begin with, once enough of it is there.
fn next_length(bytes: &[u8]) -> Option<usize> {
    let start = bytes.get(..HEADER)?;
    if start.starts_with(PROTOCOL) {
        return Some(HEADER);
    }
    let length = usize::try_from(u32_at(start, 0)?).ok()?;
    Some(length.max(HEADER))
}

/// Returns whether `bytes` contain `wanted`.
fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

fn is_amqp_frame(frame: &[u8]) -> bool {
    !frame.starts_with(PROTOCOL) && frame.get(5) == Some(&AMQP)
}

/// Returns the code of the performative in a frame that begins here.
fn code_of(frame: &[u8]) -> Option<u8> {
    match frame.get(HEADER..UP_TO_CODE)? {
        // A described type whose descriptor is a small ulong; the codes of all performatives fit.
        [0x00, 0x53, code] if is_amqp_frame(frame) => Some(*code),
        _ => None,
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(four.try_into().ok()?))
}

/// A performative in a frame, and the list of its fields.
struct Performative {
    code: u8,
    count: usize,
    /// Where the fields begin and end in the frame.
    fields: (usize, usize),
}

impl Performative {
    fn of(frame: &[u8]) -> Option<Self> {
        let (code, list) = (code_of(frame)?, UP_TO_CODE);
        let (count, start, end) = match *frame.get(list)? {
            LIST_0 => (0, list + 1, list + 1),
            LIST_8 => {
                let size = usize::from(*frame.get(list + 1)?);
                (usize::from(*frame.get(list + 2)?), list + 3, list + 2 + size)
            }
            LIST_32 => {
                let size = usize::try_from(u32_at(frame, list + 1)?).ok()?;
                let count = usize::try_from(u32_at(frame, list + 5)?).ok()?;
                (count, list + 9, (list + 5).checked_add(size)?)
            }
            _ => return None,
        };
        let fields = (start <= end && end <= frame.len()).then_some((start, end))?;
        Some(Self { code, count, fields })
    }

    /// Returns how many fields the performative has (AMQP 1.0, part 2.7).
    fn all_fields(&self) -> usize {
        match self.code {
            OPEN => 10,
            0x11 => 8,         // begin
            0x12 => 14,        // attach
            0x13 | 0x14 => 11, // flow, transfer
            0x15 => 6,         // disposition
            DETACH => 3,
            END | 0x18 => 1, // close
            _ => 0,
        }
    }
}

/// Appends the frame with nulls for the fields that it leaves out, or returns `None` if it leaves out none.
fn complete(frame: &[u8], out: &mut BytesMut) -> Option<()> {
    let performative = Performative::of(frame)?;
    let (start, end) = performative.fields;
    let all = performative.all_fields();
    let missing = all
        .checked_sub(performative.count)
        .filter(|&missing| missing > 0)?;
    let (fields, payload) = (&frame[start..end], &frame[end..]);
    let before = out.len();
    out.extend_from_slice(&frame[..UP_TO_CODE]);
    // The size counts the bytes after itself: the count, which is as wide, and the fields.
    let bytes = fields.len() + missing;
    match (u8::try_from(bytes + 1), u8::try_from(all)) {
        (Ok(size), Ok(count)) => out.extend_from_slice(&[LIST_8, size, count]),
        _ => {
            out.put_u8(LIST_32);
            out.put_u32(u32::try_from(bytes + 4).ok()?);
            out.put_u32(u32::try_from(all).ok()?);
        }
    }
    out.extend_from_slice(fields);
    out.put_bytes(NULL, missing);
    out.extend_from_slice(payload);
    let length = u32::try_from(out.len() - before).ok()?;
    out[before..before + 4].copy_from_slice(&length.to_be_bytes());
    Some(())
}

/// Lowers the largest frame size in an `open`; returns `None` if the frame is another, or leaves the size out.
fn lower_frame_limit(frame: &mut [u8]) -> Option<()> {
    let performative = Performative::of(frame).filter(|performative| performative.code == OPEN)?;
    let mut at = performative.fields.0;
    // The container's id and the host's name come first.
    for _ in 0..2 {
        at = match *frame.get(at)? {
            NULL => at + 1,
            0xa1 => at + 2 + usize::from(*frame.get(at + 1)?),
            0xb1 => at + 5 + usize::try_from(u32_at(frame, at + 1)?).ok()?,
            _ => return None,
        };
    }
    if *frame.get(at)? == UINT {
        let size = u32_at(frame, at + 1)?;
        // The protocol's smallest limit, 512, has no room to give.
        let lower = if size >= 512 + ROOM { size - ROOM } else { size };
        frame
            .get_mut(at + 1..at + 5)?
            .copy_from_slice(&lower.to_be_bytes());
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER + body.len()).unwrap();
        [&length.to_be_bytes(), &[2, kind, 0, 7][..], body].concat()
    }

    fn through_outgoing(bytes: &[u8], chunk: usize) -> Vec<u8> {
        let (mut outgoing, mut out) = (Outgoing::default(), BytesMut::new());
        bytes
            .chunks(chunk)
            .for_each(|chunk| outgoing.push(chunk, &mut out));
        out.to_vec()
    }

    #[test]
    fn every_field_of_a_performative_is_written_and_the_payload_follows() {
        // A transfer of handle 0, delivery 1 and tag 0x09; then its payload.
        let short = frame(
            AMQP,
            &[0, 0x53, 0x14, LIST_8, 7, 3, 0x43, 0x52, 1, 0xa0, 1, 9, b'p', b'q'],
        );
        let mut list = vec![0, 0x53, 0x14, LIST_8, 15, 11, 0x43, 0x52, 1, 0xa0, 1, 9];
        list.extend([NULL; 8]);
        list.extend(b"pq");
        let full = frame(AMQP, &list);
        let header = b"AMQP\x00\x01\x00\x00";
        let sasl = frame(1, &[0, 0x53, 0x44, LIST_8, 3, 1, 0x50, 0]);
        let sent = [header, &sasl[..], &short, &full].concat();
        let expected = [header, &sasl[..], &full, &full].concat();
        for chunk in [1, 7, 1_000] {
            assert_eq!(through_outgoing(&sent, chunk), expected, "in chunks of {chunk}");
        }
    }

    #[test]
    fn a_list_that_outgrows_its_form_and_an_empty_one_are_completed() {
        let mut long = vec![0, 0x53, 0x14, LIST_8, 252, 3, 0x43, 0x52, 1, 0xa0, 246];
        long.extend([5; 246]);
        let grown = through_outgoing(&frame(AMQP, &long), 1_000);
        assert_eq!(
            grown[8..20],
            [0, 0x53, 0x14, LIST_32, 0, 0, 1, 7, 0, 0, 0, 11],
            "{grown:?}"
        );
        assert_eq!(usize::try_from(u32_at(&grown, 0).unwrap()), Ok(grown.len()));
        let end = through_outgoing(&frame(AMQP, &[0, 0x53, 0x17, LIST_0]), 1_000);
        assert_eq!(end, frame(AMQP, &[0, 0x53, 0x17, LIST_8, 2, 1, NULL]));
        assert_eq!(
            through_outgoing(&frame(AMQP, &[]), 1_000),
            frame(AMQP, &[]),
            "a heartbeat"
        );
    }

    #[test]
    fn the_library_is_told_of_smaller_frames_than_the_client_takes() {
        let open = |size: u32| {
            let mut body = vec![0, 0x53, OPEN, LIST_8, 15, 3, 0xa1, 1, b'c', 0xa1, 4];
            body.extend(b"host");
            body.push(UINT);
            body.extend(size.to_be_bytes());
            frame(AMQP, &body)
        };
        let header = b"AMQP\x03\x01\x00\x00";
        let sasl = frame(1, &[0, 0x53, 0x41, LIST_0]);
        let after = frame(AMQP, &[0, 0x53, OPEN, LIST_0]);
        for (size, told) in [(65_536, 65_504), (512, 512), (u32::MAX, u32::MAX - 32)] {
            let sent = [header, &sasl[..], &open(size), &after].concat();
            let expected = [header, &sasl[..], &open(told), &after].concat();
            for chunk in [1, 5, 1_000] {
                let (mut incoming, mut out) = (Incoming::default(), BytesMut::new());
                for chunk in sent.chunks(chunk) {
                    incoming.push(chunk);
                    assert_eq!(incoming.pass(&Outgoing::default(), &mut out), Passed::All);
                }
                assert_eq!(out.to_vec(), expected, "{size} in chunks of {chunk}");
            }
        }
    }

    #[test]
    fn a_session_ends_after_its_links() {
        let named = [&[0, 0x53, OPEN, LIST_8, 13, 1, 0xa1, 10][..], NODE_CLIENT].concat();
        let open = frame(AMQP, &named);
        let detach = frame(AMQP, &[0, 0x53, DETACH, LIST_8, 2, 1, 0x43]);
        let end = frame(AMQP, &[0, 0x53, END, LIST_0]);
        let (mut incoming, mut outgoing) = (Incoming::default(), Outgoing::default());
        let (mut passed, mut written) = (BytesMut::new(), BytesMut::new());
        // A client that does not wait for answers.
        let other = frame(AMQP, &[0, 0x53, OPEN, LIST_0]);
        let mut hasty = Incoming::default();
        hasty.push(&[&other[..], &detach, &end].concat());
        assert_eq!(hasty.pass(&outgoing, &mut BytesMut::new()), Passed::All);

        incoming.push(&[&open[..], &detach, &detach, &end, &open].concat());
        for _ in 0..2 {
            assert_eq!(incoming.pass(&outgoing, &mut passed), Passed::UpToEnd);
            assert_eq!(passed.to_vec(), [&open[..], &detach, &detach].concat());
            outgoing.push(&detach, &mut written);
        }
        assert_eq!(incoming.pass(&outgoing, &mut passed), Passed::All);
        assert_eq!(
            passed.to_vec(),
            [&open[..], &detach, &detach, &end, &open].concat()
        );
    }

    #[test]
    fn bytes_that_are_not_amqp_pass_as_they_are() {
        let (mut incoming, mut out) = (Incoming::default(), BytesMut::new());
        let sent = b"GET / HTTP/1.1\r\n\r\n";
        incoming.push(sent);
        assert_eq!(incoming.pass(&Outgoing::default(), &mut out), Passed::All);
        assert_eq!(out.to_vec(), sent);
    }
}
