//! `shardcast storage export`: events of the spool as NDJSON envelopes, in the order of the spool.

use super::{Failed, broken, exit, range, spool};
use crate::cli::args::ExportArgs;
use crate::config::Config;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;

pub(super) fn run(args: &ExportArgs, config: &Config) -> Result<u8, Failed> {
    let window = range::parse(args.range.from.as_deref(), args.range.to.as_deref(), i64::MIN)?;
    let files = spool(config)?;
    let mut out = BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
    let (mut line, mut written, mut failed) = (Vec::new(), 0_u64, None);
    storage::inspect::events(&files, window, &mut |_, event| {
        if args.channel.as_deref().is_some_and(|channel| channel != event.channel()) {
            return ControlFlow::Continue(());
        }
        line.clear();
        proto::envelope::write_envelope(&mut line, &event);
        line.push(b'\n');
        written += 1;
        match out.write_all(&line) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })
    .map_err(|error| broken(&error))?;
    let done = failed.map_or_else(|| out.flush(), Err);
    match done {
        // A reader that closed the pipe has what it wanted.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(exit::OK),
        Err(error) => Err((exit::INTERNAL, format!("cannot write: {error}"))),
        Ok(()) => {
            eprintln!("{} events", super::grouped(written));
            Ok(exit::OK)
        }
    }
}
