//! What a start refuses because only a person can put it right; and what nobody may ever read.

use super::{Place, health, plan, publish, s3_plan, settled};
use crate::rig::child::{output, run};
use crate::rig::fault_proxy::{FaultProxy, Mode};
use crate::rig::process::{PROGRAM, Plan};
use crate::rig::s3::S3;
use std::fs;
use std::process::Command;

/// What a server says that does not start.
fn refusal(plan: &Plan) -> String {
    let output = output(&mut plan.command());
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_bucket_that_is_missing_or_forbidden_is_refused_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = S3::start();
    let said = refusal(&s3_plan(folder.path(), &store.url()));
    assert!(said.contains("the bucket") && said.contains("correct `location`"), "{said}");
    assert!(said.contains("[storage.parquet]"), "{said}");
    let proxy = FaultProxy::start(store.address());
    proxy.set(Mode::status(403, "<Error><Code>AccessDenied</Code></Error>"));
    let said = refusal(&s3_plan(folder.path(), &proxy.url()));
    assert!(said.contains("check the access key"), "{said}");
    // Put right, it starts.
    store.create_bucket("cold");
    drop(s3_plan(folder.path(), &store.url()).start());
}

#[test]
fn a_folder_that_is_a_file_is_refused_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("cold");
    fs::write(&file, "").expect("a file");
    let said = refusal(&plan(folder.path(), file.to_str().expect("UTF-8")));
    assert!(said.contains("name a folder"), "{said}");
}

#[test]
fn a_damaged_cursor_is_refused_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = Place::Folder(folder.path().join("cold"));
    let plan = place.plan(folder.path());
    let server = plan.start();
    publish(&server, "a", 0..10);
    settled(&server);
    server.kill();
    let cursor = folder.path().join("data/parquet.cursor");
    let whole = fs::read(&cursor).expect("a cursor");
    fs::write(&cursor, &whole[..whole.len() - 1]).expect("a cursor");
    let said = refusal(&plan);
    assert!(said.contains("parquet.cursor is damaged"), "{said}");
    fs::write(&cursor, whole).expect("a cursor");
    settled(&plan.start());
    assert_eq!(place.rows("pyarrow").len(), 10);
}

#[test]
fn the_secret_key_is_nowhere_to_be_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = S3::start();
    store.create_bucket("cold");
    let proxy = FaultProxy::start(store.address());
    let plan = s3_plan(folder.path(), &proxy.url()).set("log.level=debug");
    let canary = "canary7f3a9d0e";
    fs::write(folder.path().join("secret"), canary).expect("a file");
    let server = plan.start();
    publish(&server, "a", 0..1);
    settled(&server);
    proxy.set(Mode::status(403, "<Error><Code>SignatureDoesNotMatch</Code></Error>"));
    publish(&server, "a", 1..2);
    health(&server, "stuck");
    let mut config = Command::new(PROGRAM);
    let secret = folder.path().join("secret");
    config.args(["config", "--set", "storage.parquet.location=s3://cold"]);
    config.args(["--set", &format!("storage.parquet.endpoint={}", store.url())]);
    config.args(["--set", "storage.parquet.allow_http=true"]);
    config.args(["--set", "storage.parquet.access_key=test"]);
    config.args(["--set", &format!("storage.parquet.secret_key_file={}", secret.display())]);
    let config = run(&mut config);
    assert!(config.contains("secret_key_file"), "{config}");
    let mut said = vec![config, server.log()];
    for path in ["/", "/metrics", "/admin/storage", "/health/storage", "/debug/memory"] {
        said.push(server.get_admin(path).text());
    }
    for said in said {
        assert!(!said.contains(canary), "{said}");
    }
    for key in store.list("cold", "") {
        let file = store.get("cold", &key).expect("a file");
        assert!(!file.windows(canary.len()).any(|window| window == canary.as_bytes()), "{key}");
    }
}
