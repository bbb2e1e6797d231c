//! Defaults, then the core profile if there is one, then a file, then the environment, then
//! `--set`, then flags: the later wins.
//!
//! Every value keeps its [`Origin`]. What is not known is refused with the place it was read from
//! and the nearest valid key, and a value is tried against the typed [`Config`] by itself, so that
//! an error always names the one setting that caused it. All problems are reported together.
//!
//! Environment: `SHARDCAST_` and the key in capitals, `__` for the dot: `SHARDCAST_LISTEN`,
//! `SHARDCAST_LIMITS__HEADERS_MAX`, `SHARDCAST_NAMESPACES__ORDERS__STORE` (a namespace with capital
//! letters can only be configured in a file or with `--set`). Lists are separated by commas.

use super::schema::{self, DEFAULT_NAMESPACE, field, is_section, namespace_field};
use super::{Config, validate, whole};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};
use tuning::profile::Profile;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The embedded `default.toml`.
    Default,
    /// The core profile that `profile` names.
    Profile(String),
    /// A line of the file given by `--config`.
    File { path: PathBuf, line: usize },
    /// An environment variable.
    Environment(String),
    /// `--set key=value`.
    Set,
    /// A flag of its own, such as `--listen`.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Profile(name) => write!(f, "profile {name}"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Set => f.write_str("--set"),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// What the layers are read from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `--config FILE`.
    pub file: Option<PathBuf>,
    /// Environment variables; those that do not start with `SHARDCAST_` are ignored.
    pub environment: Vec<(String, String)>,
    /// `--set key.path=value`, in order.
    pub sets: Vec<String>,
    /// Flags that stand for a key.
    pub flags: Vec<FlagValue>,
}

/// A flag that stands for a key.
#[derive(Debug, Clone)]
pub struct FlagValue {
    /// As typed, such as `--admin-listen`.
    pub flag: &'static str,
    /// The key it sets.
    pub path: &'static str,
    /// The value; already of the key's type.
    pub value: Value,
}

impl Sources {
    /// The process's environment. Bytes that are not UTF-8 become a replacement character, which no
    /// key accepts, so that they are refused and not overlooked.
    pub fn process_environment() -> Vec<(String, String)> {
        std::env::vars_os()
            .map(|(name, value)| {
                (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
            })
            .collect()
    }
}

/// A configuration and where each of its values came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Every value as (path, value, origin), in the order of the reference.
    pub values: Vec<(String, Value, Origin)>,
}

/// Why there is no configuration: each problem with its remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// One sentence or two each.
    pub problems: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

/// Puts the layers together and validates the result.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    // Which profile it is, the layers above it say.
    let mut layers = stack(sources, None);
    let named = layers.table.get("profile").and_then(Value::as_str).unwrap_or_default().to_owned();
    if !named.is_empty() {
        match Profile::load(&named) {
            Ok(profile) => layers = stack(sources, Some(&profile)),
            Err(error) => layers.problems.push(format!("profile: {error}")),
        }
    }
    layers.finish()
}

fn stack(sources: &Sources, profile: Option<&Profile>) -> Layers {
    let mut layers =
        Layers { table: schema::defaults(), origins: BTreeMap::new(), problems: Vec::new() };
    for (path, value) in profile.map(|profile| &profile.config).into_iter().flatten() {
        let name = profile.map_or_else(String::new, |profile| profile.name.clone());
        layers.put(path, value.clone(), Origin::Profile(name));
    }
    if let Some(path) = &sources.file {
        layers.add_file(path);
    }
    for (name, value) in &sources.environment {
        layers.add_variable(name, value);
    }
    for set in &sources.sets {
        layers.add_set(set);
    }
    for flag in &sources.flags {
        layers.put(flag.path, flag.value.clone(), Origin::Flag(flag.flag));
    }
    layers
}

struct Layers {
    table: Table,
    origins: BTreeMap<String, Origin>,
    problems: Vec<String>,
}

impl Layers {
    fn add_file(&mut self, path: &Path) {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                return self.problems.push(format!(
                    "cannot read the configuration file {}: {error}; check the path given by \
                     --config or SHARDCAST_CONFIG",
                    whole(path)
                ));
            }
        };
        let (table, spans) = match (text.parse::<Table>(), DeTable::parse(&text)) {
            (Ok(table), Ok(spans)) => (table, spans),
            (Err(error), _) | (_, Err(error)) => {
                let at = error.span().map_or(1, |span| line_of(&text, span.start));
                let message = error.message();
                return self.problems.push(format!("{}:{at}: {message}", path.display()));
            }
        };
        let mut lines = BTreeMap::new();
        collect_lines(&text, spans.get_ref(), "", &mut lines);
        self.add_table(path, &table, "", &lines);
    }

    fn add_table(
        &mut self,
        file: &Path,
        table: &Table,
        prefix: &str,
        lines: &BTreeMap<String, usize>,
    ) {
        for (key, value) in table {
            let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            let line = lines.get(&path).copied().unwrap_or(1);
            let origin = Origin::File { path: file.to_path_buf(), line };
            match value {
                Value::Table(inner) if is_section(&path) => {
                    if prefix == "namespaces" {
                        self.add_namespace(&path);
                    }
                    self.add_table(file, inner, &path, lines);
                }
                value => self.put(&path, value.clone(), origin),
            }
        }
    }

    fn add_variable(&mut self, name: &str, text: &str) {
        let Some(path) = path_of(name) else { return };
        self.put_text(&path, text, Origin::Environment(name.to_owned()));
    }

    fn add_set(&mut self, set: &str) {
        match set.split_once('=') {
            Some((path, text)) => self.put_text(path.trim(), text.trim(), Origin::Set),
            None => self.problems.push(format!(
                "--set {set}: there is no `=`; write `--set key.path=value`, for example \
                 `--set limits.headers_max=50`"
            )),
        }
    }

    /// A value given as plain text: its type is that of the key.
    fn put_text(&mut self, path: &str, text: &str, origin: Origin) {
        let Some(field) = field(path) else {
            return self.refuse_unknown(path, &origin);
        };
        match value_from_text(&field.default, text) {
            Some(value) => self.put(path, value, origin),
            None => {
                let expected = type_name(&field.default);
                self.refuse(path, &format!("{text:?}"), &origin, &format!("expected {expected}"));
            }
        }
    }

    fn put(&mut self, path: &str, value: Value, origin: Origin) {
        let Some(field) = field(path) else {
            return self.refuse_unknown(path, &origin);
        };
        // `2` is as good a price as `2.0`.
        let value = match (&value, &field.default) {
            (Value::Integer(whole), Value::Float(_)) => Value::Float(*whole as f64),
            _ => value,
        };
        if !value.same_type(&field.default) {
            let expected = type_name(&field.default);
            return self.refuse(path, &value.to_string(), &origin, &format!("expected {expected}"));
        }
        // Tried by itself on top of the defaults, so that the error is this value's.
        let mut probe = schema::defaults();
        insert(&mut probe, path, value.clone());
        if let Err(error) = probe.try_into::<Config>() {
            let reason = error.message().to_owned();
            return self.refuse(path, &value.to_string(), &origin, &reason);
        }
        insert(&mut self.table, path, value);
        self.origins.insert(path.to_owned(), origin);
    }

    /// `[namespaces.x]` without any key still declares it.
    fn add_namespace(&mut self, path: &str) {
        if let Some(name) = path.strip_prefix("namespaces.") {
            namespace_table(&mut self.table, name);
        }
    }

    fn refuse(&mut self, path: &str, value: &str, origin: &Origin, reason: &str) {
        // What stands before an @ may be a password.
        let hidden = value.contains('@') || schema::is_secret(path) || path == "api_keys";
        let value = if hidden { "(not shown)" } else { value };
        self.problems.push(format!("{path} = {value} ({origin}): {reason}"));
    }

    fn refuse_unknown(&mut self, path: &str, origin: &Origin) {
        let hint = if is_section(path) {
            format!("`{path}` is a section; set one of its keys")
        } else {
            match schema::nearest(path) {
                Some(key) => format!("did you mean `{key}`?"),
                None => "`shardcast config` lists every key".to_owned(),
            }
        };
        self.problems.push(format!("unknown key `{path}` ({origin}): {hint}"));
    }

    fn finish(mut self) -> Result<Loaded, ConfigError> {
        let config: Option<Config> = match self.table.clone().try_into() {
            Ok(config) => Some(config),
            Err(error) => {
                self.problems.push(error.message().to_owned());
                None
            }
        };
        let values = ordered_values(&self.table, &self.origins);
        if let Some(config) = &config {
            for problem in validate::problems(config) {
                let row = values.iter().find(|(path, ..)| *path == problem.path);
                let (value, origin) = match row {
                    Some((_, value, origin)) => (value.to_string(), origin),
                    None => (String::new(), &Origin::Default),
                };
                self.refuse(&problem.path, &value, origin, &problem.message);
            }
        }
        match config {
            Some(config) if self.problems.is_empty() => Ok(Loaded { config, values }),
            _ => Err(ConfigError { problems: self.problems }),
        }
    }
}

/// Every leaf in the order of the reference; namespaces besides `default` follow by name.
fn ordered_values(
    table: &Table,
    origins: &BTreeMap<String, Origin>,
) -> Vec<(String, Value, Origin)> {
    let mut leaves = BTreeMap::new();
    schema::flatten(table, "", &mut leaves);
    let mut rows: Vec<_> = leaves
        .into_iter()
        .map(|(path, value)| {
            let set = value.as_str().is_none_or(|text| !text.is_empty());
            let hidden = schema::is_secret(&path) && set;
            let value = if hidden { Value::String(HIDDEN.to_owned()) } else { value };
            let origin = origins.get(&path).cloned().unwrap_or(Origin::Default);
            (path, value, origin)
        })
        .collect();
    let rank = |path: &str| {
        let namespace = namespace_field(path).map_or("", |(name, _)| name);
        let template = field(path).map_or("", |field| field.path.as_str());
        let index = schema::FIELDS.iter().position(|field| field.path == template);
        (namespace != "default" && !namespace.is_empty(), namespace.to_owned(), index)
    };
    rows.sort_by_cached_key(|(path, ..)| rank(path));
    rows
}

fn insert(table: &mut Table, path: &str, value: Value) {
    if let Some((name, key)) = namespace_field(path) {
        namespace_table(table, name).insert(key.to_owned(), value);
        return;
    }
    match path.split_once('.') {
        None => {
            table.insert(path.to_owned(), value);
        }
        Some((section, key)) => {
            if let Some(Value::Table(inner)) = table.get_mut(section) {
                insert(inner, key, value);
            }
        }
    }
}

/// The table of a namespace; a new one starts as the embedded `default` one.
fn namespace_table<'a>(table: &'a mut Table, name: &str) -> &'a mut Table {
    let namespaces = table
        .get_mut("namespaces")
        .and_then(Value::as_table_mut)
        .expect("the embedded defaults have the section `namespaces`");
    namespaces
        .entry(name)
        .or_insert_with(|| Value::Table(namespace_defaults()))
        .as_table_mut()
        .expect("only tables are put under `namespaces`")
}

fn namespace_defaults() -> Table {
    schema::FIELDS
        .iter()
        .filter_map(|field| {
            let key = field.path.strip_prefix(DEFAULT_NAMESPACE)?.strip_prefix('.')?;
            Some((key.to_owned(), field.default.clone()))
        })
        .collect()
}

/// The key that a variable of the environment sets, if it sets one.
pub fn path_of(variable: &str) -> Option<String> {
    let rest = variable.strip_prefix("SHARDCAST_")?;
    let ours = !RESERVED.contains(&variable) && !is_service_link(rest);
    ours.then(|| rest.to_ascii_lowercase().replace("__", "."))
}

/// A value as a variable or `--set` gives it; `None` for what only a file can give.
pub fn text_of(value: &Value) -> Option<String> {
    let plain = match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
            items?.join(",")
        }
        Value::Table(_) => return None,
        other => other.to_string(),
    };
    let same = |text: &String| value_from_text(value, text).as_ref() == Some(value);
    Some(plain).filter(same).or_else(|| Some(value.to_string()).filter(same))
}

fn value_from_text(like: &Value, text: &str) -> Option<Value> {
    match like {
        Value::String(_) => Some(Value::String(text.to_owned())),
        Value::Integer(_) => text.replace('_', "").parse().ok().map(Value::Integer),
        Value::Boolean(_) => text.parse().ok().map(Value::Boolean),
        Value::Array(_) => {
            // A TOML array as it is; otherwise commas, since `[::1]:8000` opens with a bracket too.
            if let Ok(mut table) = format!("x = {text}").parse::<Table>() {
                return table.remove("x");
            }
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Some(Value::Array(items.map(|item| Value::String(item.to_owned())).collect()))
        }
        Value::Float(_) => text.parse().ok().map(Value::Float),
        Value::Datetime(_) | Value::Table(_) => None,
    }
}

fn type_name(like: &Value) -> &'static str {
    match like {
        Value::String(_) => "text",
        Value::Integer(_) => "a whole number",
        Value::Boolean(_) => "true or false",
        Value::Array(_) => "a list of texts",
        Value::Float(_) => "a number",
        Value::Datetime(_) | Value::Table(_) => "another type",
    }
}

fn collect_lines(
    text: &str,
    table: &DeTable<'_>,
    prefix: &str,
    lines: &mut BTreeMap<String, usize>,
) {
    for (key, value) in table {
        let name = key.get_ref();
        let path = if prefix.is_empty() { name.to_string() } else { format!("{prefix}.{name}") };
        lines.insert(path.clone(), line_of(text, key.span().start));
        if let DeValue::Table(inner) = value.get_ref() {
            collect_lines(text, inner, &path, lines);
        }
    }
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|&byte| byte == b'\n').count()
}

/// Kubernetes sets `SHARDCAST_SERVICE_HOST`, `SHARDCAST_PORT_8000_TCP` and the like in every pod of
/// a namespace that has a Service called `shardcast`. They are not ours to refuse.
fn is_service_link(rest: &str) -> bool {
    rest == "PORT" || rest.starts_with("PORT_") || rest.starts_with("SERVICE_")
}

/// What [`Loaded::values`] has in place of a secret.
pub const HIDDEN: &str = "(not shown)";

/// Variables that mean something to the command line and not to the configuration.
const RESERVED: [&str; 3] = ["SHARDCAST_CONFIG", "SHARDCAST_URL", "SHARDCAST_TOKEN"];
