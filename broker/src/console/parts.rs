//! The parts that pages are built of: tables, empty states, pages of lists, lists of facts, forms of filters.

use maud::{Markup, html};

use super::visit::Visit;

/// A column of a table: its heading, and whether it holds numbers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Column {
    /// Words.
    Text(&'static str),
    /// Numbers, to the right.
    Number(&'static str),
    /// Marks or buttons: the heading is only heard.
    Silent(&'static str),
}

/// A table with a caption that is heard, columns with headings, and a frame that scrolls where it is too wide.
pub(super) fn table(caption: &str, columns: &[Column], rows: &[Vec<Markup>]) -> Markup {
    html! {
        div.scroll role="region" aria-label=(caption) tabindex="0" {
            table {
                caption.heard { (caption) }
                thead { tr {
                    @for column in columns {
                        @match column {
                            Column::Text(text) => { th scope="col" { (text) } },
                            Column::Number(text) => { th.number scope="col" { (text) } },
                            Column::Silent(text) => { th scope="col" { span.heard { (text) } } },
                        }
                    }
                } }
                tbody {
                    @for row in rows {
                        tr {
                            @for (cell, column) in row.iter().zip(columns) {
                                @match column {
                                    Column::Number(_) => { td.number { (cell) } },
                                    _ => { td { (cell) } },
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A table, or what would be in it.
pub(super) fn table_or(empty: &str, caption: &str, columns: &[Column], rows: &[Vec<Markup>]) -> Markup {
    if rows.is_empty() { nothing(empty) } else { table(caption, columns, rows) }
}

/// What stands where there is nothing: what would be here, and what makes one.
pub(super) fn nothing(what: &str) -> Markup {
    html! { p.empty { (what) } }
}

/// The way to the next page and back to the first.
pub(super) fn pager(visit: &Visit, next: Option<&str>) -> Markup {
    let words = visit.words();
    let paged = visit.filter("cursor").is_some();
    html! {
        @if paged || next.is_some() {
            nav.pager aria-label=(words.next_page) {
                @if paged { a.button.quiet href=(visit.address_with(&[("cursor", None), ("done", None)])) { (words.first_page) } }
                @if let Some(next) = next {
                    a.button.quiet rel="next" href=(visit.address_with(&[("cursor", Some(next)), ("done", None)])) { (words.next_page) }
                }
            }
        }
    }
}

/// Facts: each a name and a value.
pub(super) fn facts(facts: &[(&str, Markup)]) -> Markup {
    html! {
        dl.facts {
            @for (name, value) in facts {
                div { dt { (name) } dd { (value) } }
            }
        }
    }
}

/// A section with a heading.
pub(super) fn section(title: &str, content: &Markup) -> Markup {
    html! { section { h2 { (title) } (content) } }
}

/// A field of a form with its label.
pub(super) fn field(id: &str, label: &str, help: &str, input: &Markup) -> Markup {
    html! {
        div.field {
            label for=(id) { (label) }
            (input)
            @if !help.is_empty() { p.help id={ (id) "-help" } { (help) } }
        }
    }
}

/// A field of text in a form of filters.
pub(super) fn text_filter(visit: &Visit, name: &str, label: &str) -> Markup {
    let value = visit.filter(name).unwrap_or_default();
    field(
        name,
        label,
        "",
        &html! { input id=(name) name=(name) type="text" value=(value) autocomplete="off" maxlength="256"; },
    )
}

/// A choice in a form.
pub(super) fn choice(name: &str, label: &str, chosen: &str, options: &[(&str, &str)]) -> Markup {
    let input = html! {
        select id=(name) name=(name) {
            @for (value, text) in options {
                option value=(value) selected[*value == chosen] { (text) }
            }
        }
    };
    field(name, label, "", &input)
}

/// A field of text of an order: its label and its help; `before`: what stands there until something is typed.
pub(super) fn text(
    visit: &Visit,
    name: &str,
    (label, help): (&str, &str),
    before: &str,
    required: bool,
) -> Markup {
    let value = visit.field(name).unwrap_or(before);
    let described_by = (!help.is_empty()).then(|| format!("{name}-help"));
    let input = html! {
        input id=(name) name=(name) type="text" required[required] autocomplete="off" maxlength="512"
            aria-describedby=[described_by] value=(value);
    };
    field(name, label, help, &input)
}

/// The box for what is done although something is in use.
pub(super) fn force(visit: &Visit) -> Markup {
    html! {
        div.field.check {
            input #force name="force" type="checkbox" value="1" checked[forced(visit)];
            label for="force" { (visit.words().force) }
        }
    }
}

pub(super) fn forced(visit: &Visit) -> bool {
    visit.field("force").is_some()
}

/// A form of filters: its page again, with what is in it as its address.
pub(super) fn filters(visit: &Visit, fields: &Markup) -> Markup {
    let words = visit.words();
    html! {
        form.filters method="get" action=(visit.path()) role="search" aria-label=(words.filter) {
            (fields)
            div.buttons {
                button type="submit" { (words.apply) }
                a.button.quiet href=(visit.path()) { (words.clear) }
            }
        }
    }
}

/// Tabs: links to lists that exclude one another. Each is a label, an address, a count, and whether it is shown.
pub(super) fn tabs(label: &str, tabs: &[(&str, String, Option<String>, bool)]) -> Markup {
    html! {
        nav.tabs aria-label=(label) {
            @for (text, address, count, current) in tabs {
                a href=(address) aria-current=[current.then_some("page")] {
                    (text)
                    @if let Some(count) = count { span.badge { (count) } }
                }
            }
        }
    }
}

/// Links that lead to something to be done.
pub(super) fn actions(label: &str, actions: &[(&str, String, bool)]) -> Markup {
    html! {
        div.buttons role="group" aria-label=(label) {
            @for (text, address, grave) in actions {
                a.button .grave[*grave] href=(address) { (text) }
            }
        }
    }
}
