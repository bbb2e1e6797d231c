//! Filters by tags: which publications a subscription wants.
//!
//! A leaf compares the tag of its key, an inner node joins others: `{"key","cmp","val"|"vals"}` or
//! `{"op":"and"|"or"|"not","nodes"}`. `eq`, `sw` (starts with), `ew` (ends with), `ct` (contains)
//! hold only if there is such a tag, `neq` also if there is none; `in` and `nin` look for the tag's
//! value in `vals` and take a tag that is not there for the empty string; `ex` and `nex` ask if
//! it is there. `gt`, `gte`, `lt`, `lte` compare decimal numbers exactly, and do not hold if
//! either side is none (see [`Decimal`]). All of this is what Centrifugo does
//! (centrifugal/centrifuge `internal/filter`), and so is what is refused: a leaf without key (but
//! for `ex` and `nex`), a comparison without its value or with one that it has no use for, an `and`
//! or `or` of nothing, a `not` of anything but one.
//!
//! A [`FilterNode`] that was read is valid, and bounded in depth and nodes by
//! [`super::Limits`]: matching recurses no deeper than that. Equal filters are equal and hash
//! alike, so that one can serve many subscribers.
//!
//! Deliberately absent: which fields of an event are its tags; the caller looks them up.

use super::decimal::Decimal;
use super::fault::Fault;
use super::value::{Budget, Field, Sink, Source, Value};
use std::borrow::Cow;
use std::cmp::Ordering;

/// A valid filter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FilterNode {
    /// All of them hold.
    And(Box<[Self]>),
    /// One of them holds.
    Or(Box<[Self]>),
    /// It does not hold.
    Not(Box<Self>),
    /// One tag.
    Leaf {
        /// The tag's name.
        key: Box<str>,
        /// What is asked of it.
        test: FilterTest,
    },
}

/// What a leaf asks of a tag.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FilterTest {
    /// `ex`: it is there.
    Exists,
    /// `nex`: it is not there.
    NotExists,
    /// `in`: its value is one of these.
    In(Box<[Box<str>]>),
    /// `nin`: its value is none of these.
    NotIn(Box<[Box<str>]>),
    /// The comparisons with one value.
    Is(Compare, Box<str>),
}

/// A comparison with one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compare {
    /// `eq`.
    Equal,
    /// `neq`.
    NotEqual,
    /// `sw`.
    StartsWith,
    /// `ew`.
    EndsWith,
    /// `ct`.
    Contains,
    /// `gt`.
    Greater,
    /// `gte`.
    GreaterOrEqual,
    /// `lt`.
    Less,
    /// `lte`.
    LessOrEqual,
}

/// Why a filter is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// An `op` that is not `and`, `or`, `not` or empty.
    #[error("tags filter with an unknown op")]
    Op,
    /// A leaf with a `cmp` that does not exist, or without one.
    #[error("tags filter with an unknown cmp")]
    Compare,
    /// A leaf that compares a tag without a name.
    #[error("tags filter without key")]
    Key,
    /// `val` or `vals` is missing, or is there and has no meaning for the `cmp`.
    #[error("tags filter whose val or vals does not fit its cmp")]
    Values,
    /// An `and` or `or` of nothing, or a `not` of not exactly one.
    #[error("tags filter with a wrong number of nodes")]
    Nodes,
    /// More nodes than the limit.
    #[error("tags filter with too many nodes")]
    TooManyNodes,
    /// Deeper than the limit.
    #[error("tags filter nested too deep")]
    TooDeep,
    /// A subscription has two filters.
    #[error("two tags filters")]
    Twice,
}

impl FilterError {
    /// Every reason.
    pub const ALL: &'static [Self] = &[
        Self::Op,
        Self::Compare,
        Self::Key,
        Self::Values,
        Self::Nodes,
        Self::TooManyNodes,
        Self::TooDeep,
        Self::Twice,
    ];
}

impl FilterNode {
    /// Does an event with these tags pass? `tag` gives the value of a tag by its name.
    pub fn matches<'t>(&self, tag: &impl Fn(&str) -> Option<&'t str>) -> bool {
        match self {
            Self::And(nodes) => nodes.iter().all(|node| node.matches(tag)),
            Self::Or(nodes) => nodes.iter().any(|node| node.matches(tag)),
            Self::Not(node) => !node.matches(tag),
            Self::Leaf { key, test } => test.holds(tag(key)),
        }
    }

    /// What the filter takes in memory, for the budget of whoever keeps it.
    pub fn size_bytes(&self) -> usize {
        let inside = match self {
            Self::And(nodes) | Self::Or(nodes) => nodes.iter().map(Self::size_bytes).sum(),
            Self::Not(node) => node.size_bytes(),
            Self::Leaf { key, test } => {
                let test = match test {
                    FilterTest::In(values) | FilterTest::NotIn(values) => {
                        values.iter().map(|value| size_of::<Box<str>>() + value.len()).sum()
                    }
                    FilterTest::Is(_, value) => value.len(),
                    FilterTest::Exists | FilterTest::NotExists => 0,
                };
                key.len() + test
            }
        };
        size_of::<Self>() + inside
    }
}

impl FilterTest {
    fn holds(&self, tag: Option<&str>) -> bool {
        let among = |values: &[Box<str>]| values.iter().any(|v| **v == *tag.unwrap_or_default());
        match self {
            Self::Exists => tag.is_some(),
            Self::NotExists => tag.is_none(),
            Self::In(values) => among(values),
            Self::NotIn(values) => !among(values),
            Self::Is(Compare::NotEqual, value) => tag != Some(value),
            Self::Is(compare, value) => tag.is_some_and(|tag| compare.holds(tag, value)),
        }
    }
}

impl Compare {
    const ALL: [(&'static str, Self); 9] = [
        ("eq", Self::Equal),
        ("neq", Self::NotEqual),
        ("sw", Self::StartsWith),
        ("ew", Self::EndsWith),
        ("ct", Self::Contains),
        ("gt", Self::Greater),
        ("gte", Self::GreaterOrEqual),
        ("lt", Self::Less),
        ("lte", Self::LessOrEqual),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, own)| *own == self).map_or("", |(name, _)| name)
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(own, _)| *own == name).map(|(_, compare)| *compare)
    }

    fn holds(self, tag: &str, value: &str) -> bool {
        let order = || Some(Decimal::parse(tag)?.cmp(&Decimal::parse(value)?));
        match self {
            Self::Equal => tag == value,
            Self::NotEqual => tag != value,
            Self::StartsWith => tag.starts_with(value),
            Self::EndsWith => tag.ends_with(value),
            Self::Contains => tag.contains(value),
            Self::Greater => order().is_some_and(Ordering::is_gt),
            Self::GreaterOrEqual => order().is_some_and(Ordering::is_ge),
            Self::Less => order().is_some_and(Ordering::is_lt),
            Self::LessOrEqual => order().is_some_and(Ordering::is_le),
        }
    }
}

/// A node as it came.
#[derive(Default)]
struct Parts<'a> {
    op: Cow<'a, str>,
    key: Cow<'a, str>,
    cmp: Cow<'a, str>,
    val: Cow<'a, str>,
    vals: Vec<Box<str>>,
    nodes: Vec<FilterNode>,
}

impl Parts<'_> {
    fn check(self) -> Result<FilterNode, FilterError> {
        let nodes = match &*self.op {
            "" => return self.leaf(),
            "and" | "or" if self.nodes.is_empty() => return Err(FilterError::Nodes),
            "and" => return Ok(FilterNode::And(self.nodes.into())),
            "or" => return Ok(FilterNode::Or(self.nodes.into())),
            "not" => self.nodes,
            _ => return Err(FilterError::Op),
        };
        let [node] = <[FilterNode; 1]>::try_from(nodes).map_err(|_| FilterError::Nodes)?;
        Ok(FilterNode::Not(Box::new(node)))
    }

    fn leaf(self) -> Result<FilterNode, FilterError> {
        let (one, many) = (!self.val.is_empty(), !self.vals.is_empty());
        let (expected, test) = match &*self.cmp {
            "ex" => ((false, false), FilterTest::Exists),
            "nex" => ((false, false), FilterTest::NotExists),
            "in" => ((false, true), FilterTest::In(self.vals.into())),
            "nin" => ((false, true), FilterTest::NotIn(self.vals.into())),
            name => {
                let compare = Compare::parse(name).ok_or(FilterError::Compare)?;
                ((true, false), FilterTest::Is(compare, self.val.as_ref().into()))
            }
        };
        if (one, many) != expected {
            return Err(FilterError::Values);
        }
        if self.key.is_empty() && !matches!(test, FilterTest::Exists | FilterTest::NotExists) {
            return Err(FilterError::Key);
        }
        Ok(FilterNode::Leaf { key: self.key.as_ref().into(), test })
    }
}

fn read<'a>(
    source: impl Source<'a>,
    depth: usize,
    budget: &mut Budget,
) -> Result<FilterNode, Fault> {
    if depth == budget.filter_depth_max {
        return Err(FilterError::TooDeep.into());
    }
    let left = budget.filter_nodes_left.checked_sub(1);
    budget.filter_nodes_left = left.ok_or(FilterError::TooManyNodes)?;
    let mut parts = Parts::default();
    source.fields(number_of, |number, value| {
        if value.is_null() {
            return Ok(());
        }
        let bytes_max = budget.text_bytes_max;
        let text = || match value.text() {
            Ok(text) if text.len() > bytes_max => Err(Fault::TooLong("tf")),
            other => other,
        };
        match number {
            1 => parts.op = text()?,
            2 => parts.key = text()?,
            3 => parts.cmp = text()?,
            4 => parts.val = text()?,
            5 => value.items(|item| {
                budget.take_entry()?;
                let item = item.text()?;
                if item.len() > bytes_max {
                    return Err(Fault::TooLong("tf"));
                }
                parts.vals.push(item.as_ref().into());
                Ok(())
            })?,
            6 => value.items(|item| {
                parts.nodes.push(read(item, depth + 1, budget)?);
                Ok(())
            })?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(parts.check()?)
}

fn number_of(name: &str) -> Option<u32> {
    let names = ["op", "key", "cmp", "val", "vals", "nodes"];
    names.iter().zip(1..).find(|(own, _)| **own == name).map(|(_, number)| number)
}

impl FilterNode {
    fn write_fields(&self, sink: &mut impl Sink) {
        let field = |number, name| Field { number, name };
        let (op, nodes) = match self {
            Self::And(nodes) => ("and", &**nodes),
            Self::Or(nodes) => ("or", &**nodes),
            Self::Not(node) => ("not", std::slice::from_ref(&**node)),
            Self::Leaf { key, test } => {
                if !key.is_empty() {
                    sink.text(field(2, "key"), key);
                }
                return test.write_fields(sink);
            }
        };
        sink.text(field(1, "op"), op);
        sink.list(field(6, "nodes"), nodes, |sink, field, node| {
            sink.message(field, 0, |sink| node.write_fields(sink));
        });
    }
}

impl FilterTest {
    fn write_fields(&self, sink: &mut impl Sink) {
        let field = |number, name| Field { number, name };
        let (cmp, values) = match self {
            Self::Exists => ("ex", None),
            Self::NotExists => ("nex", None),
            Self::In(values) => ("in", Some(values)),
            Self::NotIn(values) => ("nin", Some(values)),
            Self::Is(compare, value) => {
                sink.text(field(3, "cmp"), compare.name());
                return sink.text(field(4, "val"), value);
            }
        };
        sink.text(field(3, "cmp"), cmp);
        if let Some(values) = values {
            sink.list(field(5, "vals"), values, |sink, field, value| sink.text(field, value));
        }
    }
}

impl<'a> Value<'a> for Option<FilterNode> {
    fn merge(&mut self, source: impl Source<'a>, budget: &mut Budget) -> Result<(), Fault> {
        if self.is_some() {
            return Err(FilterError::Twice.into());
        }
        *self = Some(read(source, 0, budget)?);
        Ok(())
    }
    fn write(&self, sink: &mut impl Sink, field: Field<'_>) {
        if let Some(node) = self {
            sink.message(field, 0, |sink| node.write_fields(sink));
        }
    }
}
