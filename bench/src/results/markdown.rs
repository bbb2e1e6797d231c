//! An outcome as Markdown: for the documentation, made again from the JSON by `bench report`.

use super::text::{rows, verdict};
use super::{OURS, Outcome};
use std::fmt::Write;

/// One outcome; plots are linked by the names that [`super::svg`] gives them.
pub fn render(outcome: &Outcome) -> String {
    let mut out = format!("## {}\n\n{}\n", outcome.title, outcome.about);
    for measure in &outcome.measures {
        let compared = measure.compared && outcome.side(OURS).is_some();
        let ratio = if compared { " | shardcast / it" } else { "" };
        let _ = write!(out, "\n| server | {}, {}{ratio} |\n|---|---:|", measure.name, measure.unit);
        out.push_str(if compared { "---:|\n" } else { "\n" });
        for [side, value, ratio] in rows(outcome, measure) {
            let ratio = if compared { format!(" {ratio} |") } else { String::new() };
            let _ = writeln!(out, "| {side} | {value} |{ratio}");
        }
        if compared {
            let file = super::svg::file_name(outcome, measure);
            let _ = writeln!(out, "\n![{}]({file})", measure.name);
        }
    }
    let rounds = outcome.measures.iter().flat_map(|measure| &measure.samples).map(Vec::len).max();
    let _ = writeln!(
        out,
        "\nMedian and quartiles of {} rounds; ratios are taken within a round.\n",
        rounds.unwrap_or(0)
    );
    for side in &outcome.sides {
        let _ = writeln!(
            out,
            "- **{}**: {}. {}; {}.",
            side.name, side.version, side.integrity, side.saturation
        );
    }
    for (name, reason) in &outcome.skipped {
        let _ = writeln!(out, "- **{name}** did not take part: {reason}.");
    }
    for note in &outcome.notes {
        let _ = writeln!(out, "- {note}.");
    }
    if !outcome.goals.is_empty() {
        out.push_str("\nGoals:\n\n");
    }
    for goal in &outcome.goals {
        let _ = writeln!(out, "- {}", verdict(&goal.judge(outcome)));
    }
    out
}

/// The machine, once for a page.
pub fn machine(outcome: &Outcome) -> String {
    let it = &outcome.machine;
    format!(
        "Machine: Linux {}, {}, {} cores, {} MiB; server on core {}, clients on core {}; {}, engine {}; \
         TCP {}, loopback's receive mask {}; load average at start {}. Mitigations: {}.\n",
        it.kernel,
        it.model,
        it.cores,
        it.memory_mib,
        it.server_core,
        it.client_core,
        it.version,
        it.engine,
        it.congestion_control,
        it.loopback_receive,
        it.load_average,
        if it.mitigations.is_empty() {
            "none needed".to_owned()
        } else {
            it.mitigations.join("; ")
        }
    )
}

#[cfg(test)]
mod tests {
    use crate::results::tests::outcome;

    #[test]
    fn a_table_has_every_side_and_says_who_is_missing() {
        let text = super::render(&outcome());
        assert!(text.contains("| shardcast | 4.00 (3.00 to 5.00) |  |"), "{text}");
        assert!(text.contains("| a | 4.00 (4.00 to 4.00) | 1.000 (0.750 to 1.250) |"), "{text}");
        assert!(text.contains("**gone** did not take part: no reason"), "{text}");
        assert!(text.contains("MISSED"), "{text}");
    }
}
