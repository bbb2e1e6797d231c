//! The object store that storage is tested with: it does not overwrite when asked not to, and a
//! client that others wrote can use it.

use crate::rig::child::{client, run};
use crate::rig::fault_proxy::FaultProxy;
use crate::rig::s3::{self, S3};

#[test]
fn the_store_refuses_the_second_who_creates_an_object() {
    let store = S3::start();
    store.create_bucket("cold");
    let key = "day=1/a&b c.parquet";
    for (body, status) in [("first", 200), ("second", 412)] {
        let answer = store.put_if_absent("cold", key, body.as_bytes());
        assert_eq!(answer.status, status, "{answer:?}");
    }
    assert_eq!(store.get("cold", key).as_deref(), Some(&b"first"[..]));
    assert_eq!(store.get("cold", "day=1/none"), None);
    assert_eq!(store.put_if_absent("cold", "day=2/a", b"").status, 200);
    assert_eq!(store.list("cold", ""), [key, "day=2/a"]);
    assert_eq!(store.list("cold", "day=2/"), ["day=2/a"]);
}

#[test]
fn a_client_that_others_wrote_reads_from_the_store_and_through_the_proxy() {
    let store = S3::start();
    store.create_bucket("cold");
    assert_eq!(store.put_if_absent("cold", "a/b.parquet", b"bytes").status, 200);
    let proxy = FaultProxy::start(store.address());
    for url in [store.url(), proxy.url()] {
        let mut read = client("s3_read.py");
        read.args([&url, s3::REGION, s3::ACCESS_KEY, s3::SECRET_KEY, "cold/a/b.parquet"]);
        assert_eq!(run(&mut read), "bytes");
    }
    assert!(proxy.seen().pass >= 2, "{:?}", proxy.seen());
}
