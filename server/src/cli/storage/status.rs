//! `shardcast storage status`: the running server's word on its stores, and the dead letters.

use super::{ClickHouse, Failed, cursor, exit, grouped, spool};
use crate::auth::Secret;
use crate::cli::args::StatusArgs;
use crate::cli::client::{Server, bearer};
use crate::config::Config;
use serde_json::{Value, json};
use std::io::Write;
use storage::clickhouse;
use storage::clickhouse::dead::{self, DeadLetters};

pub(super) fn run(args: &StatusArgs, config: &Config) -> Result<u8, Failed> {
    let asked = ask(config);
    let code = if asked.is_ok() { exit::OK } else { exit::UNAVAILABLE };
    if args.json {
        let dead = dead_letters(config);
        let cursor = cursor_value(config).unwrap_or(Value::Null);
        let (status, error) = match asked {
            Ok(status) => (status, Value::Null),
            Err(error) => (Value::Null, json!(error)),
        };
        let (dead, dead_error) = match &dead {
            Ok(dead) => (dead.as_deref().map(dead_value).unwrap_or(Value::Null), Value::Null),
            Err((_, error)) => (Value::Null, json!(error)),
        };
        let all = json!({
            "server": status, "server_error": error, "clickhouse_cursor": cursor,
            "dead_letters": dead, "dead_letters_error": dead_error,
        });
        print(&format!("{all:#}\n"));
        return Ok(code);
    }
    match asked {
        Ok(status) => print(&table(&status)),
        Err(error) => {
            print(&format!("the server does not answer: {error}\n"));
            if let Some(cursor) = cursor_value(config) {
                let confirmed = &cursor["confirmed"];
                print(&format!("its ClickHouse cursor file: everything before {confirmed}\n"));
            }
        }
    }
    // Last, because the store may not answer.
    match dead_letters(config) {
        Ok(None) => {}
        Ok(Some(letters)) if letters.is_empty() => print("no dead letters now\n"),
        Ok(Some(letters)) => {
            print("\ndead letters (shardcast storage replay --dead-letters sends them again)\n");
            for group in letters {
                let (events, example) = (grouped(group.events), group.example);
                print(&format!("  {events:>9}  {}\n", group.reason));
                print(&format!("  {:>9}  such as {example} in {}\n", "", group.channel));
            }
        }
        Err((_, error)) => {
            print(&format!("dead letters: {error}\n"));
            return Ok(exit::UNAVAILABLE);
        }
    }
    Ok(code)
}

/// A reader that closed the pipe has what it wanted.
fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// How long ClickHouse may take to say what its dead letters are.
const ANSWER_WAIT_S: u32 = 3;

fn ask(config: &Config) -> Result<Value, String> {
    let server = Server { authority: config.admin_listen.to_string() };
    let mut connection = server.connect()?;
    let token = admin_token(config)?;
    let request = format!(
        "GET /admin/storage HTTP/1.1\r\nHost: {}\r\n{}\r\n",
        server.authority,
        bearer(token.reveal().trim())
    );
    let mut run = || {
        connection.send(request.as_bytes())?;
        let head = connection.read_head()?;
        Ok((head.status, connection.read_text(1 << 20)?))
    };
    let answer: std::io::Result<(u16, String)> = run();
    let (status, text) = answer.map_err(|error| error.to_string())?;
    if status != 200 {
        return Err(format!("status {status}: {text}"));
    }
    serde_json::from_str(&text).map_err(|error| format!("not JSON: {error}"))
}

/// What the running server's admin listener wants to see.
fn admin_token(config: &Config) -> Result<Secret, String> {
    let path = &config.admin_token_file;
    if path.as_os_str().is_empty() {
        return Ok(config.admin_token.clone());
    }
    let token = std::fs::read_to_string(path);
    token.map(Secret::new).map_err(|error| format!("{}: {error}", path.display()))
}

fn dead_letters(config: &Config) -> Result<Option<Vec<DeadLetters>>, Failed> {
    let mut config = config.clone();
    config.storage.clickhouse.insert_timeout_s = ANSWER_WAIT_S;
    let Some(click_house) = ClickHouse::open(&config)? else { return Ok(None) };
    let found = click_house.wait(dead::summary(&click_house.store, &click_house.config))?;
    Ok(Some(found))
}

fn dead_value(groups: &[DeadLetters]) -> Value {
    let group = |group: &DeadLetters| {
        json!({ "events": group.events, "reason": group.reason, "example": group.example,
                "channel": group.channel })
    };
    groups.iter().map(group).collect()
}

fn cursor_value(config: &Config) -> Option<Value> {
    let files = spool(config).ok()?;
    let cursor = cursor(&files, clickhouse::NAME).ok()??;
    Some(json!({ "confirmed": cursor.confirmed, "planned": cursor.planned_end() }))
}

fn table(status: &Value) -> String {
    use std::fmt::Write;
    let mut out = String::new();
    let spool = &status["spool"];
    let number = |value: &Value| grouped(value.as_u64().unwrap_or(0));
    let _ = writeln!(
        out,
        "spool       {} bytes in {} segments, {} events since the start, {} bytes not yet synced{}",
        number(&spool["bytes_on_disk"]),
        number(&spool["segments"]),
        number(&spool["events"]),
        number(&spool["unsynced_bytes"]),
        if spool["refusing"] == json!(true) { "; TAKES NO EVENTS" } else { "" }
    );
    let sinks = status["sinks"].as_array().cloned().unwrap_or_default();
    if sinks.is_empty() {
        let _ = writeln!(out, "no other store is configured");
    }
    for sink in &sinks {
        let _ = writeln!(
            out,
            "{:<11} {}, {} events behind ({} ms), cursor at {}, {} stored and {} rejected since the start",
            sink["sink"].as_str().unwrap_or_default(),
            sink["health"].as_str().unwrap_or_default(),
            number(&sink["behind"]),
            number(&sink["lag_ms"]),
            sink["cursor_seq"],
            number(&sink["events"]),
            number(&sink["dead_letters"]),
        );
        if let Some(error) = sink["error"].as_str() {
            let _ = writeln!(out, "            {error}");
        }
    }
    if let Some(job) = status["reconcile"].as_object() {
        let _ = writeln!(
            out,
            "reconcile   {} runs, {} minutes corrected by {} events",
            job["runs"], job["corrected_minutes"], job["difference_events"]
        );
    }
    out
}
