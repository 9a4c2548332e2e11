//! One request to the console: who asks in which language for what, and what the form said.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use axum::http::{HeaderMap, Uri, header};
use escrow_protocol::limits::{KEY_BYTES_MAX, PAGE_MAX, REASON_BYTES_MAX};

use super::words::{Language, Words, refused, said};
use crate::engine::Refusal;
use crate::service::{Operator, Page};

/// Where the language is remembered.
pub(super) const LANGUAGE_COOKIE: &str = "escrow_lang";
/// Where the name of the person is remembered, so that it need not be typed each time.
pub(super) const OPERATOR_COOKIE: &str = "escrow_operator";
/// Items on a page unless asked otherwise: a screen or two.
const ITEMS: usize = 50;

/// See the module. A clone is cheap.
#[derive(Debug, Clone)]
pub(super) struct Visit {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    language: Language,
    /// The language was asked for in the address: it is remembered.
    language_chosen: bool,
    path: String,
    query: Vec<(String, String)>,
    parts: HashMap<String, String>,
    form: Vec<(String, String)>,
    operator: String,
    token: Arc<str>,
    now_ms: u64,
}

/// What a visit is made from.
pub(super) struct Request<'a> {
    pub(super) uri: &'a Uri,
    pub(super) headers: &'a HeaderMap,
    pub(super) parts: Vec<(String, String)>,
    pub(super) query: Vec<(String, String)>,
    pub(super) form: Vec<(String, String)>,
}

impl Visit {
    /// The visit of this request.
    pub(super) fn new(request: Request<'_>, token: Arc<str>, now_ms: u64) -> Self {
        let Request { uri, headers, parts, query, form } = request;
        let chosen = find(&query, "lang").and_then(Language::of_tag);
        let remembered = || cookie(headers, LANGUAGE_COOKIE).and_then(|tag| Language::of_tag(&tag));
        let accepted = || {
            let header = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
            Language::of_header(header.unwrap_or_default())
        };
        let operator = cookie(headers, OPERATOR_COOKIE).map(|name| decoded(&name)).unwrap_or_default();
        let inner = Inner {
            language: chosen.or_else(remembered).unwrap_or_else(accepted),
            language_chosen: chosen.is_some(),
            path: uri.path().to_owned(),
            query,
            parts: parts.into_iter().collect(),
            form,
            operator,
            token,
            now_ms,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Its language.
    pub(super) fn language(&self) -> Language {
        self.inner.language
    }

    /// Whether the language is to be remembered.
    pub(super) fn language_chosen(&self) -> bool {
        self.inner.language_chosen
    }

    /// The words of its language.
    pub(super) fn words(&self) -> &'static Words {
        self.inner.language.words()
    }

    /// A refusal in its language.
    pub(super) fn worded(&self, refusal: &Refusal) -> String {
        refused(self.inner.language, refusal)
    }

    /// A sentence of the service layer in its language.
    pub(super) fn told<'a>(&self, sentence: &'a str) -> Cow<'a, str> {
        said(self.inner.language, sentence)
    }

    /// When it came, Unix milliseconds.
    pub(super) fn now_ms(&self) -> u64 {
        self.inner.now_ms
    }

    /// What a form must send back, so that it is known to be ours.
    pub(super) fn token(&self) -> &str {
        &self.inner.token
    }

    /// The path.
    pub(super) fn path(&self) -> &str {
        &self.inner.path
    }

    /// The name of the person, as far as it is known.
    pub(super) fn operator_name(&self) -> &str {
        self.field("operator").unwrap_or(&self.inner.operator)
    }

    /// A filter of the page; `None` when absent or blank.
    pub(super) fn filter(&self, name: &str) -> Option<&str> {
        find(&self.inner.query, name)
    }

    /// What a form said; `None` when absent or blank.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        find(&self.inner.form, name)
    }

    /// What a form said.
    ///
    /// # Errors
    /// `InvalidField` when absent or blank.
    pub(super) fn required(&self, name: &'static str) -> Result<&str, Refusal> {
        self.field(name).ok_or_else(|| Refusal::invalid(name, "it is missing; fill it in"))
    }

    /// What a form said to the letter, blanks and all; `None` when it has no such field.
    pub(super) fn typed(&self, name: &str) -> Option<&str> {
        let found = self.inner.form.iter().find(|(found, _)| found == name);
        found.map(|(_, text)| text.as_str())
    }

    /// What the form said, or, before there was one, the address.
    pub(super) fn said(&self, name: &str) -> Option<&str> {
        self.field(name).or_else(|| self.filter(name))
    }

    /// All that form and address say under this name.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        let both = self.inner.form.iter().chain(&self.inner.query);
        let texts = both.filter(|(found, _)| found == name).map(|(_, text)| text.trim());
        texts.filter(|text| !text.is_empty()).collect()
    }

    /// A part of the path: a name or an id.
    ///
    /// # Errors
    /// `InvalidField` if it is none.
    pub(super) fn part<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        name: &'static str,
    ) -> Result<T, Refusal> {
        let text = self.inner.parts.get(name).map_or("", String::as_str);
        text.parse().map_err(|error: T::Err| Refusal::invalid(name, error.to_string()))
    }

    /// What form or address say under this name, if anything.
    ///
    /// # Errors
    /// `InvalidField` if it is something else.
    pub(super) fn optional<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        name: &'static str,
    ) -> Result<Option<T>, Refusal> {
        let parsed = self.said(name).map(|text| text.parse());
        parsed.transpose().map_err(|error: T::Err| Refusal::invalid(name, error.to_string()))
    }

    /// Which page of its list.
    pub(super) fn page(&self) -> Page {
        let limit = self.filter("limit").and_then(|limit| limit.parse().ok()).unwrap_or(ITEMS);
        Page { limit: limit.clamp(1, PAGE_MAX), cursor: self.filter("cursor").map(str::to_owned) }
    }

    /// The address of this page with some of its filters changed; `None` removes one.
    pub(super) fn address_with(&self, changes: &[(&str, Option<&str>)]) -> String {
        let kept =
            self.inner.query.iter().filter(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
        let kept = kept.map(|(name, text)| (name.as_str(), text.as_str()));
        let changed = changes.iter().filter_map(|(name, text)| text.map(|text| (*name, text)));
        address(&self.inner.path, kept.chain(changed))
    }

    /// The filters of this page but `left_out`, for another page or a form.
    pub(super) fn filters_without<'a>(
        &'a self,
        left_out: &'a [&str],
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        let filters = self.inner.query.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        filters.filter(move |(name, text)| {
            *name != "lang" && !text.trim().is_empty() && !left_out.contains(name)
        })
    }

    /// Who does something that changes nothing, or that can be done over, as the form says or is remembered: the audit wants a
    /// name, and no reason.
    pub(super) fn known(&self) -> Option<Operator> {
        let name = Some(self.operator_name()).filter(|name| !name.trim().is_empty())?;
        let reason = self.field("reason").unwrap_or_default();
        Some(Operator { name: cut(name, KEY_BYTES_MAX), reason: cut(reason, REASON_BYTES_MAX) })
    }

    /// Who does something by hand and why, as the form says.
    ///
    /// # Errors
    /// The words for what is missing.
    pub(super) fn operator(&self) -> Result<Operator, &'static str> {
        let words = self.words();
        let name = self.field("operator").ok_or(words.name_missing)?;
        let reason = self.field("reason").ok_or(words.reason_missing)?;
        Ok(Operator { name: cut(name, KEY_BYTES_MAX), reason: cut(reason, REASON_BYTES_MAX) })
    }
}

/// An address with these filters.
pub(super) fn address<'a>(path: &str, filters: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let filters: Vec<_> = filters
        .filter(|(_, text)| !text.trim().is_empty())
        .map(|(name, text)| format!("{}={}", encoded(name), encoded(text)))
        .collect();
    if filters.is_empty() { path.to_owned() } else { format!("{path}?{}", filters.join("&")) }
}

/// Percent-encoded, for addresses and cookies.
pub(super) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// What [`encoded`] wrote; what is not that stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits =
            if *first == b'%' { behind.get(..2).and_then(|two| std::str::from_utf8(two).ok()) } else { None };
        match digits.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = pairs.iter().find(|(found, _)| found == name);
    found.map(|(_, text)| text.trim()).filter(|text| !text.is_empty())
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
    let mut pairs =
        cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value.to_owned())
}

/// At most so many bytes, cut between characters.
fn cut(text: &str, bytes_max: usize) -> String {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        for text in ["", "Ada Lovelace", "王小明 100% = ok; a&b", "%zz%4"] {
            assert_eq!(decoded(&encoded(text)), text);
        }
        assert_eq!(decoded("%4"), "%4");
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        assert_eq!(cut("äää", 3), "ä");
        assert_eq!(cut("abc", 10), "abc");
    }

    #[test]
    fn addresses_keep_their_other_filters() {
        let pairs = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
        };
        let request = Request {
            uri: &Uri::from_static("/dead-letters"),
            headers: &HeaderMap::new(),
            parts: Vec::new(),
            query: pairs(&[("group", "billing"), ("cursor", "1.2"), ("key", "a b")]),
            form: Vec::new(),
        };
        let visit = Visit::new(request, "t".into(), 0);
        assert_eq!(visit.address_with(&[("cursor", None)]), "/dead-letters?group=billing&key=a%20b");
        assert_eq!(visit.address_with(&[("key", Some("c"))]), "/dead-letters?group=billing&cursor=1.2&key=c");
    }
}
