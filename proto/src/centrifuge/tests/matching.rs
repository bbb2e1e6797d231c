//! Which publications pass a tags filter.

use super::api::{FilterNode, Request};
use super::json;

fn filter(tf: &str) -> FilterNode {
    let text = format!("{{\"id\":1,\"subscribe\":{{\"channel\":\"c\",\"tf\":{tf}}}}}");
    let command = json(&text).expect(tf);
    let Some(Request::Subscribe(request)) = command.request else { panic!("a subscribe") };
    request.tf.expect("a filter")
}

fn passes(tf: &str) -> bool {
    let tags = [("kind", "order"), ("n", "10.50"), ("empty", ""), ("word", "grün")];
    filter(tf).matches(&|key| tags.iter().find(|(own, _)| *own == key).map(|(_, value)| *value))
}

#[test]
fn every_comparison_holds_where_centrifugo_says() {
    let check = |key: &str, cmp: &str, value: &str, expected: bool| {
        let value = match value.strip_prefix('[') {
            Some(_) => format!(",\"vals\":{value}"),
            None if value.is_empty() => String::new(),
            None => format!(",\"val\":\"{value}\""),
        };
        let tf = format!("{{\"key\":\"{key}\",\"cmp\":\"{cmp}\"{value}}}");
        assert_eq!(passes(&tf), expected, "{tf}");
    };
    check("kind", "eq", "order", true);
    check("kind", "eq", "orders", false);
    check("none", "eq", "order", false);
    check("kind", "neq", "order", false);
    check("kind", "neq", "x", true);
    check("none", "neq", "x", true);
    check("kind", "in", r#"["x","order"]"#, true);
    check("kind", "in", r#"["x"]"#, false);
    check("none", "in", r#"["x"]"#, false);
    check("none", "in", r#"[""]"#, true);
    check("kind", "nin", r#"["x","order"]"#, false);
    check("none", "nin", r#"["x"]"#, true);
    check("none", "nin", r#"[""]"#, false);
    check("empty", "ex", "", true);
    check("none", "ex", "", false);
    check("empty", "nex", "", false);
    check("none", "nex", "", true);
    check("kind", "sw", "ord", true);
    check("kind", "sw", "der", false);
    check("none", "sw", "ord", false);
    check("word", "ew", "ün", true);
    check("word", "ct", "r\\u00fc", true);
    check("word", "ct", "x", false);
    check("n", "gt", "10.5", false);
    check("n", "gt", "9", true);
    check("n", "gte", "10.5", true);
    check("n", "gte", "+010.500", true);
    check("n", "lt", "10.51", true);
    check("n", "lt", "-11", false);
    check("n", "lte", "10.5", true);
    // As text they would.
    check("n", "gt", "1e1", false);
    check("n", "lt", "1e9", false);
    check("kind", "gt", "1", false);
    check("kind", "lte", "1", false);
    check("none", "lt", "1", false);
}

#[test]
fn nodes_join_their_parts() {
    let (yes, no) = (r#"{"key":"kind","cmp":"ex"}"#, r#"{"key":"kind","cmp":"nex"}"#);
    let check = |op: &str, nodes: &[&str], expected: bool| {
        let tf = format!("{{\"op\":\"{op}\",\"nodes\":[{}]}}", nodes.join(","));
        assert_eq!(passes(&tf), expected, "{tf}");
    };
    check("and", &[yes], true);
    check("and", &[yes, no], false);
    check("or", &[no, yes], true);
    check("or", &[no, no], false);
    check("not", &[no], true);
    check("not", &[yes], false);
    let inner = format!("{{\"op\":\"not\",\"nodes\":[{no}]}}");
    check("and", &[yes, &inner], true);
}

#[test]
fn equal_filters_are_one_and_their_size_is_known() {
    let (a, b) = (r#"{"key":"k","cmp":"in","vals":["a","bb"]}"#, r#"{"key":"k","cmp":"ex"}"#);
    assert_eq!(filter(a), filter(a));
    assert_ne!(filter(a), filter(b));
    let node = size_of::<FilterNode>();
    assert_eq!(filter(b).size_bytes(), node + 1);
    assert_eq!(filter(a).size_bytes(), node + 1 + 2 * size_of::<Box<str>>() + 3);
    let both = format!("{{\"op\":\"and\",\"nodes\":[{a},{b}]}}");
    assert_eq!(filter(&both).size_bytes(), node + filter(a).size_bytes() + filter(b).size_bytes());
}
