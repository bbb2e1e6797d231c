//! The examples of the guides, as they stand there, against a server. A fenced block says by its
//! language how it is run; each has to show an event that is published once it has subscribed.

use crate::rig::child::{Watch, client, clients, target};
use crate::rig::{Cell, Site};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The fenced blocks of a guide: language and text.
fn examples(guide: &str) -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guides").join(guide);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(language) = line.strip_prefix("```") else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        blocks.push((language.to_owned(), block.join("\n")));
    }
    blocks
}

/// Starts an example. What it is written into lies beside the clients, so that it finds their
/// packages.
fn start(site: &Site, language: &str, text: &str) -> (Watch, tempfile::TempDir) {
    let folder = tempfile::Builder::new().prefix("example-").tempdir_in(clients());
    let folder = folder.expect("a folder beside the clients");
    let ending = if language == "js" { "mjs" } else { language };
    let file = folder.path().join(format!("example.{ending}"));
    let address = site.address().to_string();
    fs::write(&file, text.replace("localhost:8000", &address)).expect("written");
    let watch = match language {
        "python" => {
            let mut python = Command::new("python3");
            Watch::start(python.env("PYTHONPATH", target().join("python")).arg(&file))
        }
        "sh" => Watch::start(Command::new("sh").arg(&file)),
        _ => Watch::start(client("guide.mjs").arg(language).arg(&file).arg(&address)),
    };
    (watch, folder)
}

fn every_example_of_the_subscribe_guide_shows_an_event(cell: Cell) {
    let examples = examples("subscribe.md");
    let languages: Vec<&str> = examples.iter().map(|(language, _)| language.as_str()).collect();
    assert_eq!(languages, ["js", "python", "jsx", "html", "sh"], "the guide has other examples");
    for (language, text) in &examples {
        let site = Site::start(cell);
        let (mut watch, _folder) = start(&site, language, text);
        site.wait_for_subscriptions(1);
        let body = r#"{"data":{"total":12.5}}"#;
        let answer = site.post("/v1/channels/orders/events", "application/json", body);
        assert_eq!(answer.status, 202, "{}", answer.text());
        // What it shows before (a first id, an empty page) is its own business.
        while !watch.line().contains("12.5") {}
    }
}

#[test]
fn examples_run_on_io_uring() {
    every_example_of_the_subscribe_guide_shows_an_event(Cell::URING_2);
}
