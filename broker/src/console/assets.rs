//! The few files that pages refer to: a style sheet, a small script, an icon. Compiled in; their addresses change with their
//! content, so that a browser may keep them for good.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

/// A file.
#[derive(Debug)]
pub(super) struct Asset {
    name: &'static str,
    kind: &'static str,
    content: &'static str,
}

/// Browsers may keep a file for good whose address changes with it.
const KEPT: &str = "public, max-age=31536000, immutable";

pub(super) const STYLE: Asset = Asset {
    name: "console.css",
    kind: "text/css; charset=utf-8",
    content: include_str!("assets/console.css"),
};

pub(super) const SCRIPT: Asset = Asset {
    name: "console.js",
    kind: "text/javascript; charset=utf-8",
    content: include_str!("assets/console.js"),
};

pub(super) const ICON: Asset =
    Asset { name: "icon.svg", kind: "image/svg+xml", content: include_str!("assets/icon.svg") };

pub(super) const ALL: [&Asset; 3] = [&STYLE, &SCRIPT, &ICON];

impl Asset {
    /// Where it is, which says what is in it.
    pub(super) fn address(&self) -> String {
        format!("/assets/{:08x}/{}", crc32fast::hash(self.content.as_bytes()), self.name)
    }
}

impl IntoResponse for &'static Asset {
    fn into_response(self) -> Response {
        let mut response = self.content.into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(KEPT));
        response
    }
}
