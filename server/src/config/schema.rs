//! What the embedded `default.toml` says: every key, its default and its documentation.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use toml::{Table, Value};

/// The embedded defaults, comments and all.
pub const DEFAULT_TOML: &str = include_str!("default.toml");

/// One leaf of the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// Dotted path, such as `limits.headers_max`.
    pub path: String,
    /// The default; its type is the field's type.
    pub default: Value,
    /// The comment above it.
    pub doc: String,
}

/// Every field in the order of the file.
pub static FIELDS: LazyLock<Vec<Field>> = LazyLock::new(|| {
    let (order, docs) = read_comments();
    let mut defaults = BTreeMap::new();
    flatten(&self::defaults(), "", &mut defaults);
    order
        .into_iter()
        .filter_map(|path| {
            let default = defaults.remove(&path)?;
            let doc = docs.get(&path).cloned().unwrap_or_default();
            Some(Field { path, default, doc })
        })
        .collect()
});

/// The embedded defaults as a table.
pub fn defaults() -> Table {
    DEFAULT_TOML.parse().expect("the embedded default.toml is TOML; a test parses it")
}

/// The field at `path`. Every namespace has the fields of `namespaces.default`.
pub fn field(path: &str) -> Option<&'static Field> {
    let template = match namespace_field(path) {
        Some((_, key)) => format!("{DEFAULT_NAMESPACE}.{key}"),
        None => path.to_owned(),
    };
    FIELDS.iter().find(|field| field.path == template)
}

/// True if `path` is a table of the configuration and not a value.
pub fn is_section(path: &str) -> bool {
    let namespace = path.strip_prefix("namespaces.").is_some_and(|name| !name.contains('.'));
    let prefix = format!("{path}.");
    namespace || FIELDS.iter().any(|field| field.path.starts_with(&prefix))
}

/// Splits `namespaces.NAME.key`.
pub fn namespace_field(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix("namespaces.")?.split_once('.')
}

/// True for a value that is never shown.
pub fn is_secret(path: &str) -> bool {
    matches!(path, "admin_token" | "auth.hmac_secret")
}

/// The path of the namespace that every other one takes its defaults from.
pub const DEFAULT_NAMESPACE: &str = "namespaces.default";

/// The valid key that `path` was probably meant to be.
pub fn nearest(path: &str) -> Option<String> {
    let last = path.rsplit('.').next().unwrap_or(path);
    // In another namespace the candidates are that namespace's keys.
    let namespace = namespace_field(path).map(|(name, _)| format!("namespaces.{name}"));
    let candidates = FIELDS.iter().map(|field| match &namespace {
        Some(own) => field.path.replace(DEFAULT_NAMESPACE, own),
        None => field.path.clone(),
    });
    let ranked = candidates.map(|candidate| {
        let candidate_last = candidate.rsplit('.').next().unwrap_or(&candidate);
        let distance = edit_distance(path, &candidate).min(1 + edit_distance(last, candidate_last));
        (distance, candidate)
    });
    let (distance, candidate) = ranked.min()?;
    (distance <= 2 + last.len() / 4).then_some(candidate)
}

/// Leaves of a table by dotted path. An array is a leaf.
pub fn flatten(table: &Table, prefix: &str, out: &mut BTreeMap<String, Value>) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(table) => flatten(table, &path, out),
            value => {
                out.insert(path, value.clone());
            }
        }
    }
}

/// Reads the file as lines: the keys in order, and the comment block right above each. Our own
/// file, so this need not understand all of TOML; a test compares it with the real parser.
fn read_comments() -> (Vec<String>, BTreeMap<String, String>) {
    let (mut order, mut docs) = (Vec::new(), BTreeMap::new());
    let (mut section, mut comment) = (String::new(), String::new());
    for line in DEFAULT_TOML.lines() {
        if let Some(text) = line.strip_prefix('#') {
            if !comment.is_empty() {
                comment.push(' ');
            }
            comment.push_str(text.trim());
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
            docs.insert(section.clone(), std::mem::take(&mut comment));
        } else if let Some((key, _)) = line.split_once('=') {
            let key = key.trim();
            let path = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
            docs.insert(path.clone(), std::mem::take(&mut comment));
            order.push(path);
        }
        comment.clear();
    }
    (order, docs)
}

/// Levenshtein distance over bytes; keys are ASCII.
fn edit_distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, b) in other.bytes().enumerate() {
            let substituted = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}
