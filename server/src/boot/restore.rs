//! Rebuilding the home shards from what the spool kept: offsets, epochs, histories and ids.

use crate::config::Config;
use crate::config::budget::Budget;
use crate::log;
use crate::mesh::home_of;
use crate::shard::Now;
use crate::shard::Settings;
use crate::shard::home::{Home, HomeConfig, Moment};
use storage::files::Files;
use storage::{Recovered, Spool};

/// Builds every shard's home. The channels of the last run may have had other homes: they are
/// dealt out anew, whatever the number of shards was.
pub fn homes<F: Files>(
    config: &Config,
    budget: &Budget,
    settings: &Settings,
    spool: &Spool<F>,
    recovered: &Recovered,
    seed: u64,
    now: Now,
) -> Result<Vec<Home>, String> {
    let shards = budget.facts.shards as usize;
    let current = recovered.current_lineage;
    let old: Vec<u32> = recovered.lineages.iter().copied().filter(|l| *l != current).collect();
    let mut homes: Vec<Home> = (0..shards)
        .map(|shard| {
            Home::new(HomeConfig {
                lineage: current,
                lineages_old: old.clone(),
                incarnation_first: recovered.incarnation_max.saturating_add(1 + shard as u32),
                incarnation_stride: shards as u32,
                channels_max: budget.shard.channels_max,
                history_bytes_max: budget.shard.history_bytes,
                dedupe_bytes_max: budget.shard.dedupe_bytes,
                ..HomeConfig::fresh(&config.limits, seed)
            })
        })
        .collect();
    let mut refused = 0_u64;
    for channel in &recovered.channels {
        let name = channel.name.as_str();
        let namespace = settings.namespace(name);
        let home = &mut homes[home_of(name, shards).index()];
        let restored = home.restore_channel(
            now.ms,
            name,
            channel.incarnation,
            channel.last_offset,
            &channel.tops,
            namespace,
        );
        // A channel that finds no room starts anew when it is used again, under a new epoch: its
        // old positions answer with a gap, never with a wrong event.
        refused += u64::from(restored.is_err());
    }
    let at = Moment { now_ms: now.ms, wall_us: now.wall_us };
    let mut events = 0_u64;
    let replayed = spool.replay_tail(config.spool.recover_bytes_max, &mut |event| {
        events += 1;
        let namespace = settings.namespace(event.channel());
        let home = &mut homes[home_of(event.channel(), shards).index()];
        home.restore_event(at, event, namespace);
    });
    replayed.map_err(|error| format!("the spool cannot be read: {error}"))?;
    for home in &mut homes {
        home.finish_restore();
    }
    log::info(
        "histories rebuilt",
        &[
            ("channels", &recovered.channels.len()),
            ("events", &events),
            ("channels_refused", &refused),
            ("clean_stop", &recovered.clean),
        ],
    );
    Ok(homes)
}
