//! Tags: what a publication says about itself beside its data.
//!
//! An event keeps them as its attributes, a JSON object, and a publication shows them as text by
//! text. Attributes of CloudEvents may be numbers and booleans: they are shown as they are written.
//! What has no text (lists, objects, `null`) is no tag.

use crate::decode::scan::{Raw, Scanner};
use std::borrow::Cow;

/// Tags by name, in the order of the attributes; none if they are no object.
pub fn tags(attributes: &str) -> Vec<(Cow<'_, str>, Cow<'_, str>)> {
    let mut tags = Vec::new();
    if attributes.is_empty() {
        return tags;
    }
    let whole = Scanner::new(attributes.as_bytes(), 0).object(|_, name, value| {
        if let (Some(name), Some(value)) = (text(attributes, name), text(attributes, value)) {
            tags.push((name, value));
        }
    });
    if whole.is_ok() { tags } else { Vec::new() }
}

fn text(attributes: &str, raw: Raw) -> Option<Cow<'_, str>> {
    let written = attributes.get(raw.start..raw.end)?;
    match written.as_bytes().first()? {
        b'"' if raw.escaped => serde_json::from_str(written).ok().map(Cow::Owned),
        b'"' => attributes.get(raw.start + 1..raw.end - 1).map(Cow::Borrowed),
        b'{' | b'[' | b'n' => None,
        _ => Some(Cow::Borrowed(written)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_tags_where_they_have_a_text() {
        let check = |attributes: &str, expected: &[(&str, &str)]| {
            let tags = tags(attributes);
            let got: Vec<(&str, &str)> = tags.iter().map(|(k, v)| (&**k, &**v)).collect();
            assert_eq!(got, expected, "{attributes}");
        };
        check("", &[]);
        check("{}", &[]);
        check(r#"{"a":"1","b":"x\ny"}"#, &[("a", "1"), ("b", "x\ny")]);
        check(
            r#"{ "a" : 1.5 , "b":true,"é\u00e9":"" }"#,
            &[("a", "1.5"), ("b", "true"), ("éé", "")],
        );
        check(r#"{"a":null,"b":[1],"c":{"d":"e"},"f":"g"}"#, &[("f", "g")]);
        check(r#"{"a":"\ud800","b":"c"}"#, &[("b", "c")]);
        check(r#"["a"]"#, &[]);
        check(r#"{"a":"b""#, &[]);
    }
}
