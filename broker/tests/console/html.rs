//! Reads a page as a strict reader would: every element closed in order, every attribute quoted and once, every id once,
//! every label leading to its field, nothing inline that the content policy refuses.

use std::collections::{BTreeMap, BTreeSet};

/// Elements without an end.
const VOID: [&str; 7] = ["meta", "link", "input", "br", "hr", "img", "wbr"];

/// A page, taken apart.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Every element with its attributes, in order.
    pub(crate) elements: Vec<(String, BTreeMap<String, String>)>,
    /// All text, references resolved.
    pub(crate) text: String,
}

impl Page {
    /// Reads a page.
    ///
    /// # Panics
    /// If it is not well formed, and says where.
    #[track_caller]
    pub(crate) fn read(source: &str) -> Self {
        let mut rest = source.strip_prefix("<!DOCTYPE html>").expect("a page begins with its type");
        let (mut page, mut open) = (Self::default(), Vec::new());
        while let Some(start) = rest.find('<') {
            page.text.push_str(&resolved(&rest[..start]));
            page.text.push(' ');
            let end = end_of_tag(&rest[start..]) + start;
            let tag = &rest[start + 1..end];
            rest = &rest[end + 1..];
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(
                    open.pop().as_deref(),
                    Some(name),
                    "an element ends that is not open; open are {open:?}"
                );
                continue;
            }
            let (name, attributes) = element(tag);
            if !VOID.contains(&name.as_str()) {
                open.push(name.clone());
            }
            page.elements.push((name, attributes));
        }
        assert!(open.is_empty(), "these are never closed: {open:?}");
        page.check();
        page
    }

    fn check(&self) {
        let mut ids = BTreeSet::new();
        for (name, attributes) in &self.elements {
            if let Some(id) = attributes.get("id") {
                assert!(ids.insert(id.clone()), "two elements have the id {id}");
            }
            let inline = attributes.keys().find(|key| *key == "style" || key.starts_with("on"));
            assert_eq!(inline, None, "<{name}> has something inline");
            assert!(name != "style", "a style sheet stands in the page");
            assert!(name != "script" || attributes.contains_key("src"), "a script stands in the page");
        }
        for (name, attributes) in &self.elements {
            for key in ["for", "aria-describedby"] {
                if let Some(target) = attributes.get(key) {
                    assert!(ids.contains(target), "<{name} {key}=\"{target}\"> leads nowhere");
                }
            }
            let is_field = matches!(name.as_str(), "input" | "select" | "textarea");
            let is_hidden = attributes.get("type").is_some_and(|kind| kind == "hidden");
            if is_field && !is_hidden {
                let id = attributes.get("id");
                let labelled = self.all("label").any(|label| label.get("for") == id && id.is_some());
                assert!(
                    labelled || attributes.contains_key("aria-label"),
                    "a field has no label: {attributes:?}"
                );
            }
        }
        for element in ["main", "h1", "title", "footer"] {
            assert_eq!(self.all(element).count(), 1, "<{element}> stands once on each page");
        }
        assert!(self.all("html").all(|html| html.contains_key("lang")));
    }

    /// The elements with this name.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a BTreeMap<String, String>> {
        self.elements.iter().filter(move |(found, _)| found == name).map(|(_, attributes)| attributes)
    }

    /// The value of the form field with this name.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let fields =
            self.elements.iter().filter(|(_, attributes)| attributes.get("name").is_some_and(|n| n == name));
        fields.map(|(_, attributes)| attributes.get("value").cloned().unwrap_or_default()).next()
    }

    /// Where its links lead, within the console.
    pub(crate) fn links(&self) -> BTreeSet<String> {
        let links = self.all("a").filter_map(|link| link.get("href"));
        links.filter(|href| href.starts_with('/')).cloned().collect()
    }
}

/// Where a tag ends: a `>` within quotes does not count.
fn end_of_tag(source: &str) -> usize {
    let mut quoted = false;
    for (at, letter) in source.char_indices() {
        match letter {
            '"' => quoted = !quoted,
            '>' if !quoted => return at,
            '<' if at > 0 && !quoted => {
                panic!("a tag begins within a tag: {}", &source[..source.len().min(80)])
            }
            _ => {}
        }
    }
    panic!("a tag never ends: {}", &source[..source.len().min(80)]);
}

fn element(tag: &str) -> (String, BTreeMap<String, String>) {
    let (name, mut rest) = tag.split_once(' ').unwrap_or((tag, ""));
    assert!(
        name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()),
        "{name:?} is no name"
    );
    let mut attributes = BTreeMap::new();
    while !rest.trim().is_empty() {
        rest = rest.trim_start();
        let end = rest.find(['=', ' ']).unwrap_or(rest.len());
        let (key, behind) = rest.split_at(end);
        let value = match behind.strip_prefix("=\"") {
            Some(quoted) => {
                let (value, behind) = quoted.split_once('"').expect("a value ends");
                rest = behind;
                resolved(value)
            }
            None => {
                assert!(!behind.starts_with('='), "{key} is not quoted");
                rest = behind;
                String::new()
            }
        };
        assert!(attributes.insert(key.to_owned(), value).is_none(), "{key} comes twice in <{tag}>");
    }
    (name.to_owned(), attributes)
}

fn resolved(text: &str) -> String {
    let mut resolved = String::new();
    let mut parts = text.split('&');
    resolved.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let (reference, behind) = part.split_once(';').unwrap_or_else(|| panic!("a bare & before {part:?}"));
        resolved.push(match reference {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            other => panic!("&{other}; is not known"),
        });
        resolved.push_str(behind);
    }
    resolved
}
