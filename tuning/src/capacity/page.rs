//! A plan as one HTML page that needs nothing else: style, charts and figures are in it, and it
//! loads nothing, so it can be sent by mail and opened in ten years.

use super::number::{bits, bytes, fixed, money, plain};
use super::plan::{Dimension, Plan, Stage};
use super::svg::{self, Bar, Point, escape};
use super::text;
use std::fmt::Write;

/// The page.
pub fn page(plan: &Plan) -> String {
    let sections = [
        dimensions(plan),
        message(plan),
        cost(plan),
        effects(plan),
        growth(plan),
        pod(plan),
        notes(plan),
        inputs(plan),
    ];
    html(&servers(plan.servers), &head(plan), &sections.concat())
}

/// Only what a pod holds: nothing was said of a load.
pub fn pod_page(plan: &Plan) -> String {
    let Some(it) = &plan.pod else { return page(plan) };
    // No more than the server takes there.
    let held = it.allowed.map_or(it.connections, |allowed| allowed.min(it.connections));
    let title = format!("{} connections", plain(held as f64));
    let mut facts = vec![
        ("pod", bytes(it.memory_bytes)),
        ("each of them", bytes(it.user_bytes + it.kernel_bytes + it.tls_bytes)),
        ("headroom", plain(it.headroom)),
    ];
    if held < it.connections {
        facts.push(("with lower limits, up to", plain(it.connections as f64)));
    }
    let kicker = format!("A pod, server {}", plan.inputs.server.name);
    html(&title, &header(&kicker, &title, &facts), &pod(plan))
}

fn html(title: &str, head: &str, sections: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{head}{sections}\
         </main>\n</body>\n</html>\n",
        title = escape(&format!("Capacity: {title}")),
    )
}

fn servers(count: u64) -> String {
    format!("{} {}", plain(count as f64), if count == 1 { "server" } else { "servers" })
}

fn amount(plan: &Plan, value: f64) -> String {
    money(&plan.inputs.prices.currency, value)
}

fn head(plan: &Plan) -> String {
    let (load, traffic) = (&plan.inputs.load, &plan.traffic);
    let mut facts = vec![
        ("limit", plan.limiting.clone()),
        ("users connected", plain(load.users)),
        ("messages out a second", fixed(traffic.out_per_s, 0)),
        ("out at the peak", bits(traffic.out_bits_per_s_peak)),
    ];
    if let Some(cost) = &plan.cost {
        facts.push(("in 30 days", amount(plan, cost.total)));
        facts.push(("a connection", amount(plan, cost.per_connection)));
        facts.push(("a million messages", amount(plan, cost.per_million_messages)));
    }
    let spare = if plan.spare > 0 { ", one of them spare" } else { "" };
    let kicker = format!("Capacity plan, server {}", plan.inputs.server.name);
    header(&kicker, &format!("{}{spare}", servers(plan.servers)), &facts)
}

fn header(kicker: &str, title: &str, facts: &[(&str, String)]) -> String {
    let facts: String = facts
        .iter()
        .map(|(name, value)| {
            format!("<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(value))
        })
        .collect();
    format!(
        "<header><p class=\"kicker\">{}</p><h1>{}</h1><dl class=\"facts\">{facts}</dl></header>\n",
        escape(kicker),
        escape(title),
    )
}

fn section(title: &str, about: &str, body: &str) -> String {
    let about = if about.is_empty() { String::new() } else { format!("<p>{}</p>", escape(about)) };
    format!("<section><h2>{}</h2>{about}{body}</section>\n", escape(title))
}

fn legend(entries: &[(&str, &str)]) -> String {
    let entry = |(class, name): &(&str, &str)| {
        format!("<li><i class=\"{class}\"></i>{}</li>", escape(name))
    };
    format!("<ul class=\"legend\">{}</ul>", entries.iter().map(entry).collect::<String>())
}

fn dimensions(plan: &Plan) -> String {
    let reserve = &plan.inputs.reserve;
    let bars: Vec<Bar> = plan
        .dimensions
        .iter()
        .map(|it| Bar {
            label: it.name.clone(),
            value: format!("{} \u{2192} {}", fixed(it.ratio, 2), it.servers),
            parts: vec![
                (it.average, "p1"),
                (it.peak - it.average, "p2"),
                (it.ratio - it.peak, "p3"),
            ],
            strong: it.name == plan.limiting,
        })
        .collect();
    let about = "What each thing that servers run out of needs, in servers. The longest bar, rounded \
                 up, is the plan. The peak is on rates only: users are counted at the busiest moment.";
    let body = legend(&[
        ("p1", "average"),
        ("p2", &format!("peak \u{00d7}{}", plain(reserve.peak))),
        ("p3", &format!("headroom +{} %", plain(reserve.headroom_percent))),
    ]) + &svg::bars("Servers needed in each dimension", &bars)
        + &products(plan);
    section("What decides", about, &body)
}

fn products(plan: &Plan) -> String {
    let mut rows = String::new();
    for dimension in &plan.dimensions {
        for term in &dimension.terms {
            let _ = write!(
                rows,
                "<dt>{}</dt><dd>{}</dd>",
                escape(&text::title(dimension, term)),
                escape(&text::product(term))
            );
        }
    }
    let full: String = plan.dimensions.iter().map(full_row).collect();
    format!(
        "<details><summary>Every factor</summary><dl class=\"products\">{rows}</dl></details>\
         <details><summary>The figures as a table</summary><div class=\"scroll\"><table><thead><tr>\
         <th>in servers</th><th>average</th><th>peak</th><th>with headroom</th><th>servers</th>\
         <th>full at peak</th></tr></thead><tbody>{full}</tbody></table></div></details>"
    )
}

fn full_row(it: &Dimension) -> String {
    let stage = |stage| it.terms.iter().map(|term| term.up_to(stage)).sum::<f64>();
    format!(
        "<tr><th>{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{} %</td></tr>",
        escape(&it.name),
        fixed(stage(Stage::Average), 3),
        fixed(stage(Stage::Peak), 3),
        fixed(it.ratio, 3),
        it.servers,
        fixed(it.used_at_peak * 100.0, 0)
    )
}

fn message(plan: &Plan) -> String {
    let classes = ["p1", "p2", "p4", "p5", "p3"];
    let parts = &plan.traffic.message;
    let bar = Bar {
        label: "one delivery".to_owned(),
        value: format!("{} B", plain(plan.traffic.message_bytes_on_link)),
        parts: parts
            .iter()
            .zip(classes.iter().cycle())
            .map(|(it, class)| (it.bytes, *class))
            .collect(),
        strong: false,
    };
    let names: Vec<(String, &str)> = parts
        .iter()
        .zip(classes.iter().cycle())
        .map(|(part, class)| (format!("{} {} B", part.name, plain(part.bytes)), *class))
        .collect();
    let entries: Vec<(&str, &str)> =
        names.iter().map(|(name, class)| (*class, name.as_str())).collect();
    let traffic = &plan.traffic;
    let about = format!(
        "{} a second out on average, of which {} payload; {} come back. {} heartbeats a second are in \
         it; the handshakes of {} connects a second are not.",
        bits(traffic.out_bits_per_s).trim_end_matches("/s"),
        bits(traffic.payload_bits_per_s).trim_end_matches("/s"),
        bits(traffic.in_bits_per_s).trim_end_matches("/s"),
        fixed(traffic.heartbeats_per_s, 0),
        fixed(traffic.connects_per_s, 0)
    );
    let body = legend(&entries) + &svg::bars("Bytes of a delivered message", &[bar]);
    section("A message on the wire", &about, &body)
}

fn cost(plan: &Plan) -> String {
    let Some(cost) = &plan.cost else { return String::new() };
    let bar = |label: &str, parts: Vec<(f64, &'static str)>, total: f64, strong| Bar {
        label: label.to_owned(),
        value: amount(plan, total),
        parts,
        strong,
    };
    let ours = vec![(cost.servers, "p1"), (cost.transfer, "p2")];
    let mut bars = vec![bar("own servers", ours, cost.total, true)];
    if let Some(elastic) = &cost.elastic {
        let parts = vec![(elastic.servers, "p1"), (cost.transfer, "p2")];
        bars.push(bar("... that follow the peak", parts, elastic.servers + cost.transfer, false));
    }
    for it in &plan.managed {
        let parts =
            vec![(it.base, "p3"), (it.connections, "p1"), (it.transfer, "p2"), (it.messages, "p4")];
        bars.push(bar(&it.name, parts, it.total, false));
    }
    let mut entries = vec![("p1", "servers, connections"), ("p2", "transfer")];
    if !plan.managed.is_empty() {
        entries.extend([("p4", "messages"), ("p3", "base price")]);
    }
    let mut body = legend(&entries) + &svg::bars("Cost in 30 days", &bars);
    if !plan.discounts.is_empty() {
        let rows: String = plan
            .discounts
            .iter()
            .map(|it| {
                format!(
                    "<tr><th>{}</th><td>{} to {} % of {}</td><td>{} to {}</td></tr>",
                    escape(&it.name),
                    plain(it.percent_low),
                    plain(it.percent_high),
                    escape(&it.of),
                    escape(&amount(plan, it.saves_low)),
                    escape(&amount(plan, it.saves_high))
                )
            })
            .collect();
        let _ = write!(
            body,
            "<details><summary>What others report to save, not computed here</summary>\
             <div class=\"scroll\"><table><tbody>{rows}</tbody></table></div></details>"
        );
    }
    let about = format!(
        "30 days of {} and {} to clients.",
        servers(plan.servers),
        bytes(plan.traffic.billed_bytes_month)
    );
    section("Cost", &about, &body)
}

fn effects(plan: &Plan) -> String {
    let priced = plan.cost.is_some();
    let bars: Vec<Bar> = plan
        .effects
        .iter()
        .enumerate()
        .map(|(index, it)| {
            let (length, value) = match it.cost.filter(|_| priced) {
                Some(cost) => (cost, format!("{}, {}", amount(plan, cost), servers(it.servers))),
                None => (it.servers as f64, servers(it.servers)),
            };
            Bar {
                label: it.name.clone(),
                value,
                parts: vec![(length, if index == 0 { "p3" } else { "p1" })],
                strong: index == 0,
            }
        })
        .collect();
    let rows: String = plan
        .effects
        .iter()
        .map(|it| {
            format!(
                "<tr><th>{}{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                escape(&it.name),
                match it.about.as_str() {
                    "" => String::new(),
                    about => format!("<small>{}</small>", escape(about)),
                },
                it.servers,
                escape(&it.limiting),
                bits(it.out_bits_per_s_peak),
                bytes(it.memory_bytes)
            )
        })
        .collect();
    let body = svg::bars("The plan after one change", &bars)
        + &format!(
            "<details><summary>What each rests on, with bandwidth and memory</summary>\
             <div class=\"scroll\"><table><thead><tr><th>change</th><th>servers</th><th>limit</th>\
             <th>out at peak</th><th>memory</th></tr></thead><tbody>{rows}</tbody></table></div>\
             </details>"
        );
    let what = if priced { "Cost in 30 days" } else { "Servers" };
    let about = format!("{what} if one thing alone is changed.");
    section("What a change would do", &about, &body)
}

fn growth(plan: &Plan) -> String {
    let users = plan.inputs.load.users;
    let points: Vec<Point> = plan
        .growth
        .iter()
        .map(|it| Point {
            x: it.users,
            y: it.servers as f64,
            below: short(it.users),
            at: plain(it.servers as f64),
            strong: it.users == users,
        })
        .collect();
    let rows: String = plan
        .growth
        .iter()
        .map(|it| {
            let cost = it.cost.map_or_else(|| "-".to_owned(), |cost| amount(plan, cost));
            format!(
                "<tr><th>{}</th><td>{}</td><td>{}</td><td>{}</td></tr>",
                plain(it.users),
                it.servers,
                escape(&it.limiting),
                escape(&cost)
            )
        })
        .collect();
    let body = svg::line("Servers by users", &points)
        + &format!(
            "<div class=\"scroll\"><table><thead><tr><th>users</th><th>servers</th><th>limit</th>\
             <th>30 days</th></tr></thead><tbody>{rows}</tbody></table></div>"
        );
    section("Fewer and more users", "Servers, both scales logarithmic.", &body)
}

/// 10k, 3M.
fn short(value: f64) -> String {
    match value {
        it if it >= 1e9 => format!("{}G", plain(it / 1e9)),
        it if it >= 1e6 => format!("{}M", plain(it / 1e6)),
        it if it >= 1e3 => format!("{}k", plain(it / 1e3)),
        it => plain(it),
    }
}

fn pod(plan: &Plan) -> String {
    let Some(pod) = &plan.pod else { return String::new() };
    let about = format!(
        "{} connections fit into a pod of {}: after {} for the server, {} of the process, {} of the \
         kernel and {} of TLS for each, and a headroom of {}.",
        plain(pod.connections as f64),
        bytes(pod.memory_bytes),
        bytes(pod.base_bytes),
        bytes(pod.user_bytes),
        bytes(pod.kernel_bytes),
        bytes(pod.tls_bytes),
        plain(pod.headroom)
    );
    let allowed = pod.allowed.map(|it| format!(" {}", text::allowed_text(it)));
    section("A pod", &(about + &allowed.unwrap_or_default()), "")
}

fn notes(plan: &Plan) -> String {
    let notes: String =
        plan.notes.iter().map(|note| format!("<li>{}</li>", escape(note))).collect();
    section("Notes", "", &format!("<ul>{notes}</ul>"))
}

/// Everything it was made from, so that the page alone is enough to make it again.
fn inputs(plan: &Plan) -> String {
    let json = serde_json::to_string_pretty(&plan.inputs).unwrap_or_default();
    let body = format!(
        "<details><summary>As JSON, for <code>shardcast capacity --from</code></summary><pre>{}</pre>\
         </details>",
        escape(&json)
    );
    section("Inputs", "", &body)
}

const STYLE: &str = include_str!("page.css");
