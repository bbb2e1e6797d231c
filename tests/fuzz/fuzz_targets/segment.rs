//! The data directory: any bytes in place of any file, or any bytes changed in a directory that a
//! run left, are opened or refused, never a panic; and what was opened once opens again with the
//! same events and takes new ones.
#![cfg_attr(fuzzing, no_main)]

#[cfg(not(fuzzing))]
fn main() {}

#[cfg(fuzzing)]
mod target {
    use proto::event::{Draft, Event};
    use proto::position::{Epoch, Position};
    use std::sync::OnceLock;
    use storage::checkpoint::Checkpoint;
    use storage::files::{Files, write_full};
    use storage::format::{Header, segment_name};
    use storage::index::{Index, Summary};
    use storage::meta::{Clean, decode_meta, encode_meta};
    use storage::sim_files::SimFiles;
    use storage::{Opened, Options, StoreBatch, open};

    fn options() -> Options {
        Options { segment_bytes: 1_024, round_bytes_max: 500, ..Options::default() }
    }

    fn event(lineage: u32, offset: u64) -> Event {
        let draft = Draft { channel: "a", id: "i", data: br#"{"n":1}"#, ..Draft::default() };
        let position = Position { epoch: Epoch::new(lineage, 1), offset };
        draft.build().unwrap().place(position, offset as i64)
    }

    /// A directory after a clean stop and a killed run: a few segments, indexes, a checkpoint.
    fn left_behind() -> &'static SimFiles {
        static FILES: OnceLock<SimFiles> = OnceLock::new();
        FILES.get_or_init(|| {
            let files = SimFiles::new(1);
            for run in 0..2 {
                let mut opened = open(files.clone(), options(), 0, &mut |_| {}).unwrap();
                let lineage = opened.recovered.current_lineage;
                let events = (1..=12).map(|i| event(lineage, run * 12 + i)).collect();
                opened.spool.append(0, StoreBatch { seq: 1, events });
                while opened.spool.has_work() {
                    opened.spool.sync(0, &mut Vec::new());
                    opened.spool.maintain(0);
                }
                if run == 0 {
                    opened.spool.close(3).unwrap();
                }
            }
            files
        })
    }

    /// Opens; what opened is read, goes on, and opens again with the same events and one more.
    fn start(files: &SimFiles) {
        let Ok(opened) = open(files.clone(), options(), 0, &mut |_| {}) else {
            // A refusal changes nothing, so it is repeated.
            assert!(open(files.clone(), options(), 0, &mut |_| {}).is_err());
            return;
        };
        let Opened { mut spool, recovered } = opened;
        let mut events = Vec::new();
        if spool.replay_tail(u64::MAX, &mut |event| events.push(event)).is_err() {
            return;
        }
        let next = event(recovered.current_lineage, events.len() as u64 + 1_000);
        spool.append(0, StoreBatch { seq: 1, events: vec![next.clone()] });
        let mut acked = Vec::new();
        spool.sync(0, &mut acked);
        assert_eq!(acked.len(), 1);
        drop(spool);
        events.push(next);
        let again = open(files.clone(), options(), 0, &mut |_| {}).unwrap();
        let mut found = Vec::new();
        again.spool.replay_tail(u64::MAX, &mut |event| found.push(event)).unwrap();
        assert_eq!(found, events);
    }

    fn put(files: &SimFiles, name: &str, bytes: &[u8]) {
        write_full(&files.create(name, 0).unwrap(), bytes, 0).unwrap();
    }

    fn parse(data: &[u8]) {
        let _ = Checkpoint::decode(data);
        let _ = Header::decode(data);
        let _ = Summary::decode(data, 1);
        if let Some(index) = Index::decode(data, 1) {
            assert_eq!(index.encode(), data[..index.encode().len()]);
        }
        if let Ok(lineages) = decode_meta(data) {
            assert_eq!(decode_meta(&encode_meta(&lineages)), Ok(lineages));
        }
        if let Some(clean) = Clean::decode(data) {
            assert_eq!(Clean::decode(&clean.encode()), Some(clean));
        }
    }

    pub fn run(data: &[u8]) {
        let Some((kind, data)) = data.split_first() else { return };
        let files = left_behind().fork(1);
        let names: Vec<String> = files.list().unwrap().into_iter().map(|(name, _)| name).collect();
        match kind % 4 {
            0 => return parse(data),
            // Bytes changed here and there.
            1 => {
                for edit in data.chunks_exact(4) {
                    let name = &names[usize::from(edit[0]) % names.len()];
                    let at = usize::from(u16::from_le_bytes([edit[1], edit[2]]));
                    files.edit(name, |bytes| match bytes.len() {
                        0 => bytes.push(edit[3]),
                        len if edit[3] == 0 => bytes.truncate(at % len),
                        len => bytes[at % len] ^= edit[3],
                    });
                }
            }
            // A file that is anything, or not there.
            2 => {
                let Some((which, content)) = data.split_first() else { return };
                let name = &names[usize::from(*which) % names.len()];
                files.remove(name).unwrap();
                if !content.is_empty() {
                    put(&files, name, content);
                }
            }
            // Records that are anything in the last segment of a directory of its own.
            _ => {
                let files = SimFiles::new(1);
                let header = Header { lineage: 1, first_seq: 1, created_us: 0, salt: 0x5a17 };
                put(&files, &segment_name(1), &[&header.encode(), data].concat());
                return start(&files);
            }
        }
        start(&files);
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
