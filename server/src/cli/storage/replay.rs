//! `shardcast storage replay` and `reconcile`: sending again what ClickHouse lacks, and putting the
//! minutes of late events right.

use super::{ClickHouse, Failed, broken, cursor, exit, grouped, range, spool};
use crate::cli::args::{ReconcileArgs, ReplayArgs};
use crate::config::Config;
use proto::event::Event;
use std::ops::ControlFlow;
use storage::clickhouse::corrections::Scope;
use storage::clickhouse::replay::{self, Replayed};
use storage::clickhouse::{self, corrections};

/// Events looked up and sent at once.
const BATCH: usize = 20_000;

pub(super) fn run(args: &ReplayArgs, config: &Config) -> Result<u8, Failed> {
    let click_house = ClickHouse::needed(config)?;
    if args.dead_letters {
        let reason = args.reason.as_deref().unwrap_or_default();
        let done = replay::dead_letters(&click_house.store, &click_house.config, reason);
        let done = click_house.wait(done)?;
        println!(
            "{} dead letters looked at, {} moved into events, {} still rejected",
            grouped(done.looked),
            grouped(done.sent),
            grouped(done.rejected)
        );
        return Ok(if done.rejected > 0 { exit::SOME_REFUSED } else { exit::OK });
    }
    let (from, to) = (args.range.from.as_deref(), args.range.to.as_deref());
    if from.is_none() {
        let message = "say what to send again: --dead-letters, or --from (such as --from 24h) for \
                       events of the spool that ClickHouse lacks";
        return Err((exit::USAGE, message.to_owned()));
    }
    let window = range::parse(from, to, i64::MIN)?;
    let done = from_spool(&click_house, config, window)?;
    println!(
        "{} events looked at, {} were missing and have been sent, {} are rejected",
        grouped(done.looked),
        grouped(done.sent),
        grouped(done.rejected)
    );
    if done.sent > 0 {
        println!(
            "the minutes count them again: `shardcast storage reconcile --from` with the same span \
             puts that right"
        );
    }
    Ok(if done.rejected > 0 { exit::SOME_REFUSED } else { exit::OK })
}

fn from_spool(
    click_house: &ClickHouse,
    config: &Config,
    window: (i64, i64),
) -> Result<Replayed, Failed> {
    let files = spool(config)?;
    // What comes after the cursor is on its way by itself.
    let confirmed = cursor(&files, clickhouse::NAME)?.map_or(u64::MAX, |cursor| cursor.confirmed);
    let mut batch: Vec<Event> = Vec::with_capacity(BATCH);
    let (mut total, mut failed) = (Replayed::default(), None);
    let mut send = |batch: &mut Vec<Event>| {
        let sent = replay::events(&click_house.store, &click_house.config, batch);
        match click_house.wait(sent) {
            Ok(done) => {
                total.looked += done.looked;
                total.sent += done.sent;
                total.rejected += done.rejected;
                eprint!(
                    "\r{} events looked at, {} sent",
                    grouped(total.looked),
                    grouped(total.sent)
                );
                batch.clear();
                ControlFlow::Continue(())
            }
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    };
    storage::inspect::events(&files, window, &mut |seq, event| {
        if seq >= confirmed {
            return ControlFlow::Break(());
        }
        batch.push(event);
        if batch.len() < BATCH {
            return ControlFlow::Continue(());
        }
        send(&mut batch)
    })
    .map_err(|error| broken(&error))?;
    let _ = send(&mut batch);
    eprintln!();
    failed.map_or(Ok(total), Err)
}

pub(super) fn reconcile(args: &ReconcileArgs, config: &Config) -> Result<u8, Failed> {
    let click_house = ClickHouse::needed(config)?;
    let now = range::now_us();
    let look_back = corrections::LOOK_BACK.as_micros() as i64;
    let (from, to) = (args.range.from.as_deref(), args.range.to.as_deref());
    let window = range::parse(from, to, now - look_back)?;
    let (store, settings) = (&click_house.store, &click_house.config);
    let scope = if from.is_some() { Scope::All } else { Scope::Late };
    let run = corrections::reconcile(store, settings, scope, window, now as u64);
    let found = click_house.wait(run)?;
    let which = if scope == Scope::All { "looked at" } else { "with late events" };
    println!(
        "{} minutes {which}; {} were wrong, by {} of {} events, and are right now",
        grouped(found.minutes),
        grouped(found.corrected),
        grouped(found.difference),
        grouped(found.events)
    );
    Ok(exit::OK)
}
