//! The body is the data, as it is: what a publish to one channel with any other type means.

use super::content::is_text;
use super::{Context, Rejection, finish, resolve_channel, utf8};
use crate::event::{DataKind, Draft, Unplaced};

/// Makes the one event of the request. Valid UTF-8 under `text/*` is text, everything else is
/// binary; an empty body is an empty event.
pub fn decode_raw(
    context: &mut Context<'_>,
    content_type: Option<&str>,
    body: &[u8],
) -> Result<Unplaced, Rejection> {
    let content_type = content_type.unwrap_or_default().trim_matches([' ', '\t']);
    let is_text = is_text(content_type) && utf8(body).is_some();
    let draft = Draft {
        channel: resolve_channel(context.channel, "")?,
        content_type,
        data_kind: if is_text { DataKind::Text } else { DataKind::Binary },
        data: body,
        ..Draft::default()
    };
    finish(context, draft)
}
