//! The few files that pages refer to: a style sheet, a small script, an icon. Compiled in; their addresses change with their
//! content, so that a browser may keep them for good.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

/// A file.
#[derive(Debug)]
pub(super) struct Asset {
    pub(super) address: &'static str,
    kind: &'static str,
    content: &'static str,
}

/// How long browsers may keep a file whose address changes with the release.
const KEPT: &str = "public, max-age=86400";

pub(super) const STYLE: Asset = Asset {
    address: concat!("/assets/", env!("CARGO_PKG_VERSION"), "/console.css"),
    kind: "text/css; charset=utf-8",
    content: include_str!("assets/console.css"),
};

pub(super) const SCRIPT: Asset = Asset {
    address: concat!("/assets/", env!("CARGO_PKG_VERSION"), "/console.js"),
    kind: "text/javascript; charset=utf-8",
    content: include_str!("assets/console.js"),
};

pub(super) const ICON: Asset = Asset {
    address: concat!("/assets/", env!("CARGO_PKG_VERSION"), "/icon.svg"),
    kind: "image/svg+xml",
    content: include_str!("assets/icon.svg"),
};

pub(super) const ALL: [&Asset; 3] = [&STYLE, &SCRIPT, &ICON];

impl IntoResponse for &'static Asset {
    fn into_response(self) -> Response {
        let mut response = self.content.into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(KEPT));
        response
    }
}
