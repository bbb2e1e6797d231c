//! Lets the page be embedded whether it was built or not: the folder is made if it is missing, and
//! a page that was built anew makes a new program.

use std::path::Path;

fn main() {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dashboard/dist");
    std::fs::create_dir_all(&dist).expect("dashboard/ can be written to");
    println!("cargo::rerun-if-changed={}", dist.display());
    println!("cargo::rerun-if-changed=build.rs");
}
