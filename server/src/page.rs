//! The page at `/`, as it was built into the program: `dashboard/dist`.
//!
//! A program built without it serves one line that says how to get it.

use crate::shard::{Page, PageFile};
use bytes::Bytes;
use include_dir::{Dir, include_dir};

/// `build.rs` makes sure that the folder exists, and that a new page makes a new program.
static DIST: Dir = include_dir!("$CARGO_MANIFEST_DIR/../dashboard/dist");

/// The files of the page.
pub fn page() -> Page {
    let mut page = Page::new();
    add(&mut page, &DIST);
    page.entry("index.html".to_owned()).or_insert_with(|| PageFile {
        content_type: "text/plain; charset=utf-8",
        body: Bytes::from_static(UNBUILT.as_bytes()),
        immutable: false,
    });
    page
}

fn add(page: &mut Page, folder: &'static Dir) {
    for file in folder.files() {
        let Some(path) = file.path().to_str() else { continue };
        let built = PageFile {
            content_type: content_type(path),
            body: Bytes::from_static(file.contents()),
            // The bundler names these by their content.
            immutable: path.starts_with("assets/"),
        };
        page.insert(path.to_owned(), built);
    }
    for folder in folder.dirs() {
        add(page, folder);
    }
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json" | "map") => "application/json",
        Some("png") => "image/png",
        Some("woff2") => "font/woff2",
        _ => "application/octet-stream",
    }
}

const UNBUILT: &str = "This program was built without its page. `cargo xtask demo` builds both; or run \
`npm ci && npm run build` in dashboard/ and build the program again.\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_always_something_at_the_root_and_types_are_what_browsers_insist_on() {
        let page = page();
        assert!(page.contains_key("index.html"));
        for (path, file) in &page {
            assert!(!file.body.is_empty(), "{path}");
            assert_eq!(file.immutable, path.starts_with("assets/"), "{path}");
            assert_ne!(file.content_type, "application/octet-stream", "{path}");
        }
        assert_eq!(content_type("assets/a.b.js"), "text/javascript; charset=utf-8");
        assert_eq!(content_type("none"), "application/octet-stream");
    }
}
