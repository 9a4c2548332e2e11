//! Who is connected.

use maud::{Markup, html};

use super::super::parts::{Column, choice, filters, pager, table_or, text_filter};
use super::super::shell::{Place, Sheet};
use super::super::show::{age, count, group, or_none};
use super::super::visit::Visit;
use super::super::{Desk, Outcome};
use crate::engine::{ClientFilter, ClientView};

pub(in super::super) async fn list(desk: Desk, visit: Visit) -> Outcome {
    let words = visit.words();
    let consumer = match visit.filter("role") {
        Some("consumer") => Some(true),
        Some("producer") => Some(false),
        _ => None,
    };
    let filter = ClientFilter {
        consumer,
        group: visit.optional("group")?,
        name: visit.filter("name").map(str::to_owned),
    };
    let empty = if filter == ClientFilter::default() { words.clients_empty } else { words.empty_filtered };
    let page = desk.service.clients(filter, visit.page()).await?;
    let roles = [("", words.any), ("producer", words.producer), ("consumer", words.consumer)];
    let columns = [
        Column::Text(words.client),
        Column::Text(words.role),
        Column::Text(words.group),
        Column::Text(words.kinds),
        Column::Number(words.leased),
        Column::Number(words.credit),
        Column::Number(words.connected),
        Column::Text(words.address),
    ];
    let rows: Vec<_> = page.items.iter().map(|client| row(&visit, client)).collect();
    let content = html! {
        p.lead { (words.clients_help) }
        (filters(&visit, &html! {
            (choice("role", words.role, visit.filter("role").unwrap_or_default(), &roles))
            (text_filter(&visit, "group", words.group))
            (text_filter(&visit, "name", words.client))
        }))
        (table_or(empty, words.clients, &columns, &rows))
        (pager(&visit, page.next.as_deref()))
    };
    Ok(Sheet::new(Place::Clients, words.clients, content).live().into())
}

fn row(visit: &Visit, client: &ClientView) -> Vec<Markup> {
    let words = visit.words();
    let kinds: Vec<_> = client.kinds.iter().map(ToString::to_string).collect();
    // A producer's group is no group of consumers: there is no page for it.
    let of = if client.consumer {
        group(client.group.as_str())
    } else {
        html! { (client.group) }
    };
    let number = |number: u64| html! { @if client.consumer { (count(number)) } @else { span.faint { "–" } } };
    vec![
        html! { (client.client) },
        html! { @if client.consumer { (words.consumer) } @else { (words.producer) } },
        of,
        or_none(&kinds.join(", ")),
        number(client.leased),
        number(client.credit_messages),
        age(visit, client.connected_at_ms),
        html! { span.mono { (client.address) } },
    ]
}
