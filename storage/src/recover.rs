//! Opening a data directory: what the last run left, judged before anything is changed.
//!
//! Order: lock; read `META`, `CLEAN`, `CHECKPOINT`; read every segment's header; scan from the
//! segment the checkpoint names (every segment without one) to the end; compare. Up to here
//! nothing is written, so a refusal can be repeated. Then `CLEAN` is removed (synced), the tail is
//! cut and synced (after a kill it may be only in the page cache), a new lineage is recorded if
//! the stop was not clean, and the spool begins a new segment.
//!
//! What an end means: a sealed segment must hold exactly the events up to the next one's first;
//! what follows them is a round that was rewritten elsewhere and is ignored. The last segment ends
//! at its last whole record, unless a later mark proves that more had been synced.

use crate::catalog::SegmentInfo;
use crate::channels::Channels;
use crate::checkpoint::{self, Checkpoint};
use crate::error::{OpenError, remedy_last, remedy_sealed};
use crate::files::{self, FileIo, Files, read_full};
use crate::format::{HEADER_BYTES, Header, HeaderError, index_name, parse_name};
use crate::index::{Index, IndexBuilder, Summary};
use crate::meta::{
    CLEAN_NAME, Clean, LINEAGES_MAX, LOCK_NAME, META_BYTES_MAX, META_NAME, MetaError, decode_meta,
    encode_meta,
};
use crate::notice::Notice;
use crate::scan::{Found, Scanner, Step, Tail, judge_tail};
use crate::segment::write_index;
use crate::spool::{Options, Spool, Start};
use bytes::Bytes;
use proto::channel::ChannelName;
use proto::event::Event;
use std::io;
use std::sync::Arc;

/// An open data directory.
#[derive(Debug)]
pub struct Opened<F: Files> {
    /// Ready to append.
    pub spool: Spool<F>,
    /// What the last runs left.
    pub recovered: Recovered,
}

/// What positions are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The last run stopped cleanly, and its lineage goes on.
    pub clean: bool,
    /// Every known lineage, oldest first; the last is the current one.
    pub lineages: Vec<u32>,
    /// The lineage of this run.
    pub current_lineage: u32,
    /// The highest incarnation in use; new channels get higher ones.
    pub incarnation_max: u32,
    /// Every channel with events in the spool, by name.
    pub channels: Vec<RecoveredChannel>,
}

/// A channel's positions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredChannel {
    /// The name.
    pub name: ChannelName,
    /// The incarnation of its newest event.
    pub incarnation: u32,
    /// Its newest spooled offset; the next event gets the one after it.
    pub last_offset: u64,
    /// For each lineage this incarnation had events under, oldest first, the last spooled offset.
    pub tops: Vec<(u32, u64)>,
}

/// Opens (or creates) the spool in a directory. Every notice is said as it arises.
pub fn open<F: Files>(
    files: F,
    options: Options,
    now_us: i64,
    notice: &mut dyn FnMut(Notice),
) -> Result<Opened<F>, OpenError> {
    let lock = lock(&files)?;
    let mut opening = Opening::read(files, notice)?;
    let scanned = opening.scan(options.channels_max, notice)?;
    let clean = opening.is_clean(&scanned)?;
    opening.repair(&scanned, clean, notice)?;
    let Opening { files, lineages, channels, sealed, checkpoint_damaged, .. } = opening;
    // A damaged checkpoint is replaced at once.
    let unsaved_bytes = if checkpoint_damaged { u64::MAX / 2 } else { scanned.bytes };
    let current_lineage = lineages.last().copied().unwrap_or_default();
    let mut list: Vec<RecoveredChannel> = channels
        .iter()
        .map(|(name, state)| RecoveredChannel {
            name: name.clone(),
            incarnation: state.incarnation,
            last_offset: state.last_offset,
            tops: state.tops().collect(),
        })
        .collect();
    list.sort_by(|a, b| a.name.cmp(&b.name));
    let incarnation_max = channels.incarnation_max;
    let start = Start {
        files,
        lock,
        options,
        lineage: current_lineage,
        channels,
        sealed,
        end_seq: scanned.end_seq,
        unsaved_bytes,
    };
    let spool = Spool::start(start, now_us);
    let recovered = Recovered { clean, lineages, current_lineage, incarnation_max, channels: list };
    Ok(Opened { spool, recovered })
}

fn lock<F: Files>(files: &F) -> Result<F::Lock, OpenError> {
    files.lock(LOCK_NAME).map_err(|e| {
        if e.kind() != io::ErrorKind::WouldBlock {
            return io_error(files, "lock", LOCK_NAME)(e);
        }
        let holder = files::read_small(files, LOCK_NAME, 32).ok();
        let holder = holder.and_then(|bytes| String::from_utf8(bytes).ok());
        let holder = holder.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        OpenError::Locked {
            dir: files.describe(),
            holder: holder.map(|pid| format!(" (process {pid})")).unwrap_or_default(),
        }
    })
}

/// What was read and not yet judged.
struct Opening<F: Files> {
    files: F,
    dir: String,
    lineages: Vec<u32>,
    meta_ok: bool,
    clean: Option<Clean>,
    checkpoint: Option<(u32, u64, u32)>, // lineage, next_seq, crc
    checkpoint_damaged: bool,
    channels: Channels,
    segments: Vec<SegmentFile>,
    sealed: Vec<Arc<SegmentInfo>>,
    leftovers: Vec<String>,
}

struct SegmentFile {
    header: Header,
    name: String,
    bytes: u64,
    /// The first event of the segment after it; `None`: this is the last.
    next_seq: Option<u64>,
}

/// What the scan found.
struct Scanned {
    end_seq: u64,
    /// Bytes read.
    bytes: u64,
    indexes: Vec<Index>,
    /// Segments with bytes after their last event.
    cuts: Vec<Cut>,
}

struct Cut {
    name: String,
    end: u64,
    /// Where the last round begins: what stands before it was proved to be synced by its mark.
    round_at: u64,
    /// What was torn, in the last segment.
    torn: Option<&'static str>,
    last: bool,
}

impl<F: Files> Opening<F> {
    fn read(files: F, notice: &mut dyn FnMut(Notice)) -> Result<Self, OpenError> {
        let dir = files.describe();
        let names = files.list().map_err(io_error(&files, "list", "."))?;
        let mut opening = Self {
            files,
            dir,
            lineages: Vec::new(),
            meta_ok: true,
            clean: None,
            checkpoint: None,
            checkpoint_damaged: false,
            channels: Channels::default(),
            segments: Vec::new(),
            sealed: Vec::new(),
            leftovers: Vec::new(),
        };
        for (name, bytes) in names {
            if name.ends_with(".tmp") {
                opening.leftovers.push(name);
            } else if let Some(first_seq) = parse_name(&name, "seg") {
                opening.read_header(name, first_seq, bytes)?;
            }
        }
        opening.segments.sort_by_key(|segment| segment.header.first_seq);
        let firsts = opening.segments.iter().map(|segment| segment.header.first_seq);
        let firsts: Vec<u64> = firsts.skip(1).collect();
        for (segment, next_seq) in opening.segments.iter_mut().zip(firsts) {
            segment.next_seq = Some(next_seq);
        }
        opening.read_meta(notice)?;
        opening.read_checkpoint(notice)?;
        Ok(opening)
    }

    fn read_header(&mut self, name: String, first_seq: u64, bytes: u64) -> Result<(), OpenError> {
        let file = self.files.open(&name).map_err(io_error(&self.files, "open", &name))?;
        let mut header = [0; HEADER_BYTES as usize];
        let read = read_full(&file, &mut header, 0);
        let read = read.map_err(io_error(&self.files, "read", &name))?;
        let damaged = |what: String| OpenError::Damaged {
            dir: self.dir.clone(),
            file: name.clone(),
            at: 0,
            what,
            remedy: remedy_sealed(&name),
        };
        match Header::decode(&header[..read]) {
            Ok(header) if header.first_seq != first_seq => {
                Err(damaged(format!("it holds segment {}; was it renamed?", header.first_seq)))
            }
            Ok(header) => {
                self.segments.push(SegmentFile { header, name, bytes, next_seq: None });
                Ok(())
            }
            Err(HeaderError::Version(_)) => {
                Err(OpenError::Newer { dir: self.dir.clone(), file: name })
            }
            Err(e) => Err(damaged(e.to_string())),
        }
    }

    fn read_meta(&mut self, notice: &mut dyn FnMut(Notice)) -> Result<(), OpenError> {
        let found = self.read_optional(META_NAME, META_BYTES_MAX)?;
        match found.as_deref().map(decode_meta) {
            Some(Ok(lineages)) => self.lineages = lineages,
            Some(Err(MetaError::Newer)) => {
                let file = META_NAME.to_owned();
                return Err(OpenError::Newer { dir: self.dir.clone(), file });
            }
            Some(Err(MetaError::Damaged)) => self.meta_ok = false,
            None => self.meta_ok = self.segments.is_empty(),
        }
        if !self.meta_ok {
            notice(Notice::MetaDamaged);
        }
        for segment in &self.segments {
            if !self.lineages.contains(&segment.header.lineage) {
                self.lineages.push(segment.header.lineage);
            }
        }
        let clean = self.read_optional(CLEAN_NAME, 1024)?;
        self.clean = clean.as_deref().and_then(Clean::decode);
        Ok(())
    }

    fn read_checkpoint(&mut self, notice: &mut dyn FnMut(Notice)) -> Result<(), OpenError> {
        let Some(bytes) = self.read_optional(checkpoint::NAME, checkpoint::BYTES_MAX)? else {
            return Ok(());
        };
        match Checkpoint::decode(&bytes) {
            Some((read, crc)) => {
                self.checkpoint = Some((read.lineage, read.next_seq, crc));
                self.channels = read.channels;
            }
            None => {
                self.checkpoint_damaged = true;
                notice(Notice::CheckpointDamaged);
            }
        }
        Ok(())
    }

    fn read_optional(&self, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, OpenError> {
        match files::read_small(&self.files, name, bytes_max) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::InvalidData => Ok(Some(Vec::new())),
            Err(e) => Err(io_error(&self.files, "read", name)(e)),
        }
    }

    /// Scans what the checkpoint does not cover and notes the sealed segments.
    fn scan(
        &mut self,
        channels_max: usize,
        notice: &mut dyn FnMut(Notice),
    ) -> Result<Scanned, OpenError> {
        let saved_seq = self.checkpoint.map_or(0, |(_, next_seq, _)| next_seq);
        let count = self.segments.len();
        // At least the segment with the last saved event, even if it is saved to its end: what may
        // follow its end is cut off by the scan.
        let covered = |segment: &SegmentFile| segment.header.first_seq < saved_seq;
        let from = self.segments.iter().rposition(covered).unwrap_or(0);
        // Retention may have removed segments after the checkpoint was written, and then it does
        // not know the last offsets of channels that had their last events there.
        let oldest = self.segments.first().map(|segment| segment.header.first_seq);
        self.channels.forget_before(oldest.unwrap_or(saved_seq));
        let mut scanned =
            Scanned { end_seq: saved_seq.max(1), bytes: 0, indexes: Vec::new(), cuts: Vec::new() };
        for (i, segment) in std::mem::take(&mut self.segments).into_iter().enumerate() {
            let info = if i >= from {
                notice(Notice::Scanning { segment: i + 1, segments: count, bytes: segment.bytes });
                scanned.bytes += segment.bytes;
                self.scan_segment(&segment, saved_seq, channels_max, &mut scanned)?
            } else {
                let summary = self.read_summary(&segment);
                let first_seq = segment.header.first_seq;
                let count = segment.next_seq.unwrap_or(first_seq) - first_seq;
                segment.info(count, segment.bytes, summary)
            };
            scanned.end_seq = info.first_seq + info.count;
            if info.count > 0 {
                self.sealed.push(Arc::new(info));
            }
        }
        Ok(scanned)
    }

    fn scan_segment(
        &mut self,
        segment: &SegmentFile,
        saved_seq: u64,
        channels_max: usize,
        scanned: &mut Scanned,
    ) -> Result<SegmentInfo, OpenError> {
        let name = &segment.name;
        let first_seq = segment.header.first_seq;
        let file = self.files.open(name).map_err(io_error(&self.files, "open", name))?;
        let mut scanner = Scanner::new(&file, HEADER_BYTES, segment.bytes);
        let mut index = IndexBuilder::new(first_seq, HEADER_BYTES);
        let mut seq = first_seq;
        let (mut end, mut round_at) = (HEADER_BYTES, HEADER_BYTES);
        let found = loop {
            if segment.next_seq == Some(seq) {
                break None;
            }
            match scanner.step().map_err(io_error(&self.files, "read", name))? {
                Step::Event { at, end: record_end } => {
                    let event = Event::decode(Bytes::copy_from_slice(scanner.body()));
                    let event = event.map_err(|e| self.damaged(segment, at, e.to_string()))?;
                    if seq >= saved_seq {
                        let position = event.position();
                        self.channels.apply(event.channel(), position, seq, channels_max);
                    }
                    index.add(&event, record_end);
                    (seq, end) = (seq + 1, record_end);
                }
                Step::Mark(mark) if mark.salt != segment.header.salt || mark.seq != seq => {
                    let what =
                        format!("event {seq} is missing before it; a mark says {}", mark.seq);
                    return Err(self.damaged(segment, mark.at, what));
                }
                Step::Mark(mark) => round_at = mark.at,
                Step::End { at, found } => break Some((at, found)),
            }
        };
        let last = segment.next_seq.is_none();
        let torn = match found {
            Some(found) => self.judge_end(segment, &file, seq, found)?,
            None => None,
        };
        // A mark alone at the end belongs to a round of which nothing is left. What follows a
        // sealed segment's last event goes too, or it would count again should the later
        // segments be empty and go.
        if last || segment.bytes > end {
            scanned.cuts.push(Cut { name: name.clone(), end, round_at, torn, last });
        }
        let index = index.finish();
        let info = segment.info(index.summary.count, segment.bytes, Some(index.summary.clone()));
        if index.summary.count > 0 {
            scanned.indexes.push(index);
        }
        Ok(info)
    }

    /// The walk ended before the next segment's first event, or this is the last segment.
    fn judge_end(
        &self,
        segment: &SegmentFile,
        file: &F::File,
        seq: u64,
        (at, found): (u64, Found),
    ) -> Result<Option<&'static str>, OpenError> {
        let what = match found {
            Found::Limit | Found::Zero => "there is no record",
            Found::Bad(what) => what,
        };
        if let Some(next_seq) = segment.next_seq {
            let what = format!("{what}, and events {seq} to {} are not there", next_seq - 1);
            return Err(self.damaged(segment, at, what));
        }
        let tail = judge_tail(file, at, segment.bytes, segment.header.salt);
        match tail.map_err(io_error(&self.files, "read", &segment.name))? {
            Tail::Clean => Ok(None),
            Tail::Torn => Ok(Some(what)),
            Tail::Damaged(mark) => {
                let what =
                    format!("{what}, although everything up to byte {} had been synced", mark.at);
                Err(self.damaged(segment, at, what))
            }
        }
    }

    fn damaged(&self, segment: &SegmentFile, at: u64, what: String) -> OpenError {
        let remedy = match segment.next_seq {
            Some(_) => remedy_sealed(&segment.name),
            None => remedy_last(&self.dir, &segment.name, at),
        };
        OpenError::Damaged { dir: self.dir.clone(), file: segment.name.clone(), at, what, remedy }
    }

    /// The summary of a segment that is not scanned, if its index is readable and fits.
    fn read_summary(&self, segment: &SegmentFile) -> Option<Summary> {
        let first_seq = segment.header.first_seq;
        let file = self.files.open(&index_name(first_seq)).ok()?;
        let mut bytes = vec![0; Summary::FILE_BYTES_MAX];
        let read = read_full(&file, &mut bytes, 0).ok()?;
        let summary = Summary::decode(bytes.get(..read)?, first_seq)?;
        let fits = segment.next_seq == Some(first_seq + summary.count);
        (fits && summary.end <= segment.bytes).then_some(summary)
    }

    /// Clean only if marker, checkpoint, lineages and segments all agree; less data than any of
    /// them had confirmed is a refusal.
    fn is_clean(&self, scanned: &Scanned) -> Result<bool, OpenError> {
        let end_seq = scanned.end_seq;
        let confirmed = self.checkpoint.map(|(_, next_seq, _)| next_seq);
        let expected = confirmed.max(self.clean.map(|clean| clean.next_seq)).unwrap_or(0);
        // Without any segment the checkpoint alone says where numbers go on.
        if expected > end_seq {
            let dir = self.dir.clone();
            return Err(OpenError::Lost { dir, found: end_seq, expected });
        }
        let (Some(clean), Some((lineage, next_seq, crc))) = (self.clean, self.checkpoint) else {
            return Ok(false);
        };
        let torn = scanned.cuts.iter().any(|cut| cut.torn.is_some());
        Ok(self.meta_ok
            && !torn
            && self.lineages.last() == Some(&clean.lineage)
            && (lineage, next_seq, crc) == (clean.lineage, end_seq, clean.checkpoint_crc)
            && clean.next_seq == end_seq)
    }

    /// From here on the directory is changed.
    fn repair(
        &mut self,
        scanned: &Scanned,
        clean: bool,
        notice: &mut dyn FnMut(Notice),
    ) -> Result<(), OpenError> {
        match self.files.remove(CLEAN_NAME) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => other.map_err(io_error(&self.files, "remove", CLEAN_NAME))?,
        }
        self.files.sync_dir().map_err(io_error(&self.files, "sync", "."))?;
        for name in &self.leftovers {
            let _ = self.files.remove(name); // overwritten when the name is needed again
        }
        if !clean && !self.lineages.is_empty() {
            notice(Notice::Unclean);
        }
        for cut in &scanned.cuts {
            if let Some(what) = cut.torn {
                notice(Notice::TornTail { file: cut.name.clone(), at: cut.end, what });
            }
            self.cut(cut)?;
        }
        for index in &scanned.indexes {
            let _ = write_index(&self.files, index); // comfort only
        }
        if !clean {
            let lineage = std::iter::repeat_with(|| self.files.random() as u32)
                .find(|lineage| *lineage != 0 && !self.lineages.contains(lineage));
            self.lineages.extend(lineage);
            let excess = self.lineages.len().saturating_sub(LINEAGES_MAX);
            self.lineages.drain(..excess);
            let meta = encode_meta(&self.lineages);
            files::replace(&self.files, META_NAME, &meta).map_err(io_error(
                &self.files,
                "write",
                META_NAME,
            ))?;
        }
        Ok(())
    }

    /// Ends a segment at its last event and makes that durable; an empty last one goes.
    fn cut(&mut self, cut: &Cut) -> Result<(), OpenError> {
        let name = &cut.name;
        if cut.end == HEADER_BYTES && cut.last {
            self.files.remove(name).map_err(io_error(&self.files, "remove", name))?;
            return self.files.sync_dir().map_err(io_error(&self.files, "sync", "."));
        }
        let file = self.files.open(name).map_err(io_error(&self.files, "open", name))?;
        file.set_len(cut.end).map_err(io_error(&self.files, "truncate", name))?;
        rewrite(&file, cut.round_at.min(cut.end), cut.end).map_err(io_error(
            &self.files,
            "write",
            name,
        ))?;
        file.sync_data().map_err(io_error(&self.files, "sync", name))?;
        let first_seq = parse_name(name, "seg");
        let infos = self.sealed.iter_mut().filter_map(Arc::get_mut);
        for info in infos.filter(|info| Some(info.first_seq) == first_seq) {
            info.bytes = cut.end;
        }
        Ok(())
    }
}

/// Writes bytes again where they stand. After a failed sync the system may hold them as clean
/// although the disk never got them, and then another sync alone would succeed without them.
fn rewrite<T: FileIo>(file: &T, from: u64, to: u64) -> io::Result<()> {
    let mut bytes = vec![0; (to - from).min(1 << 20) as usize];
    let mut at = from;
    while at < to {
        let len = (to - at).min(bytes.len() as u64) as usize;
        let read = read_full(file, &mut bytes[..len], at)?;
        files::write_full(file, &bytes[..read], at)?;
        if read < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        at += len as u64;
    }
    Ok(())
}

impl SegmentFile {
    fn info(&self, count: u64, bytes: u64, summary: Option<Summary>) -> SegmentInfo {
        let Header { first_seq, created_us, .. } = self.header;
        SegmentInfo { first_seq, count, created_us, bytes, summary }
    }
}

fn io_error<F: Files>(
    files: &F,
    what: &'static str,
    file: &str,
) -> impl Fn(io::Error) -> OpenError + use<F> {
    let (dir, file) = (files.describe(), file.to_owned());
    move |source| OpenError::Io { what, file: file.clone(), dir: dir.clone(), source }
}
