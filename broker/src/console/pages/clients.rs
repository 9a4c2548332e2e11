//! Who is connected.

use maud::{Markup, html};

use super::super::parts::{Column, pager, table_or};
use super::super::shell::{Place, Sheet};
use super::super::show::{age, count, group, or_none};
use super::super::visit::Visit;
use super::super::{Desk, Outcome};
use crate::engine::ClientView;

pub(in super::super) async fn list(desk: Desk, visit: Visit) -> Outcome {
    let words = visit.words();
    let page = desk.service.clients(visit.page()).await?;
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
        (table_or(words.clients_empty, words.clients, &columns, &rows))
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
