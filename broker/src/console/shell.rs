//! The frame around every page: head, menu, content, foot. Nothing in it is inline that the content policy would refuse.

use axum::http::StatusCode;
use maud::{DOCTYPE, Markup, html};

use super::assets;
use super::visit::Visit;
use super::words::{Language, Words, fill};

/// Where in the menu a page belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Overview,
    Transactions,
    DeadLetters,
    Retries,
    Scheduled,
    Messages,
    Groups,
    Topics,
    Clients,
    Store,
    Alarms,
    Audit,
    Nowhere,
}

impl Place {
    const MENU: [Self; 12] = [
        Self::Overview,
        Self::Alarms,
        Self::Transactions,
        Self::DeadLetters,
        Self::Retries,
        Self::Scheduled,
        Self::Messages,
        Self::Groups,
        Self::Topics,
        Self::Clients,
        Self::Store,
        Self::Audit,
    ];

    fn address(self) -> &'static str {
        match self {
            Self::Overview | Self::Nowhere => "/",
            Self::Transactions => "/transactions",
            Self::DeadLetters => "/dead-letters",
            Self::Retries => "/retries",
            Self::Scheduled => "/scheduled",
            Self::Messages => "/messages",
            Self::Groups => "/groups",
            Self::Topics => "/topics",
            Self::Clients => "/clients",
            Self::Store => "/store",
            Self::Alarms => "/alarms",
            Self::Audit => "/audit",
        }
    }

    fn label(self, words: &'static Words) -> &'static str {
        match self {
            Self::Overview | Self::Nowhere => words.overview,
            Self::Transactions => words.transactions,
            Self::DeadLetters => words.dead_letters,
            Self::Retries => words.retries,
            Self::Scheduled => words.scheduled,
            Self::Messages => words.messages,
            Self::Groups => words.groups,
            Self::Topics => words.topics,
            Self::Clients => words.clients,
            Self::Store => words.store,
            Self::Alarms => words.alarms,
            Self::Audit => words.audit,
        }
    }
}

/// What a page says.
#[derive(Debug, Clone)]
pub(super) struct Sheet {
    pub(super) place: Place,
    pub(super) title: String,
    pub(super) content: Markup,
    /// Refreshed by itself while it is looked at.
    pub(super) live: bool,
    pub(super) status: StatusCode,
}

impl Sheet {
    /// A page.
    pub(super) fn new(place: Place, title: impl Into<String>, content: Markup) -> Self {
        Self { place, title: title.into(), content, live: false, status: StatusCode::OK }
    }

    /// The same, refreshed by itself.
    pub(super) fn live(self) -> Self {
        Self { live: true, ..self }
    }

    /// The same, for something that went wrong.
    pub(super) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }
}

/// The whole page.
pub(super) fn page(visit: &Visit, sheet: &Sheet) -> Markup {
    let words = visit.words();
    html! {
        (DOCTYPE)
        html lang=(visit.language().tag()) {
            head {
                meta charset="utf-8";
                title { (sheet.title) " · Escrow" }
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                link rel="stylesheet" href=(assets::STYLE.address());
                link rel="icon" href=(assets::ICON.address()) type="image/svg+xml";
                script src=(assets::SCRIPT.address()) defer {}
            }
            body {
                a.skip href="#content" { (words.skip_to_content) }
                header.top {
                    a.brand href="/" { span aria-hidden="true" { "◧" } " Escrow" }
                    (languages(visit))
                }
                div.frame {
                    (menu(words, sheet.place))
                    main #content tabindex="-1" data-live[sheet.live] data-pause=[sheet.live.then_some(words.pause_refresh)]
                        data-resume=[sheet.live.then_some(words.resume_refresh)] {
                        @if visit.filter("done").is_some() { p.note.good role="status" { (words.done_note) } }
                        h1 { (sheet.title) }
                        (sheet.content)
                    }
                }
                footer {
                    span { (fill(words.footer, &[("version", &env!("CARGO_PKG_VERSION")), ("shard", &0)])) }
                    a href="/api/v1/openapi.json" { (words.api_document) }
                    a href="/metrics" { (words.metrics) }
                }
            }
        }
    }
}

fn menu(words: &'static Words, place: Place) -> Markup {
    html! {
        nav.menu aria-label=(words.main_navigation) {
            ul {
                @for entry in Place::MENU {
                    li { a href=(entry.address()) aria-current=[(entry == place).then_some("page")] { (entry.label(words)) } }
                }
            }
        }
    }
}

fn languages(visit: &Visit) -> Markup {
    html! {
        nav.languages aria-label=(visit.words().language) {
            @for language in Language::ALL {
                a href=(visit.address_with(&[("lang", Some(language.tag()))])) lang=(language.tag()) hreflang=(language.tag())
                    aria-current=[(language == visit.language()).then_some("true")] { (language.own_name()) }
            }
        }
    }
}
