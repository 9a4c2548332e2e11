//! What waits for its time: withdrawing it, and giving it another.

use escrow_protocol::{MessageId, Reason};
use maud::{Markup, html};

use super::super::confirm::Confirm;
use super::super::parts::{Column, field, filters, pager, table_or, text_filter};
use super::super::shell::{Place, Sheet};
use super::super::show::{exact, key, message, moment, topic};
use super::super::visit::Visit;
use super::super::words::fill;
use super::super::{Desk, Outcome};
use super::dead_letters::time;
use crate::engine::{Cancelled, Moved, Refusal};
use crate::service::{ScheduledMatching, ScheduledView};

pub(in super::super) async fn list(desk: Desk, visit: Visit) -> Outcome {
    let words = visit.words();
    let matching =
        ScheduledMatching { topic: visit.optional("topic")?, key: visit.filter("key").map(str::to_owned) };
    let is_filtered = matching != ScheduledMatching::default();
    let empty = if is_filtered { words.empty_filtered } else { words.scheduled_empty };
    let page = desk.service.scheduled(matching, visit.page()).await?;
    let columns = [
        Column::Text(words.message_id),
        Column::Text(words.topic),
        Column::Text(words.key),
        Column::Number(words.due),
        Column::Text(words.deliver_at),
        Column::Silent(words.actions),
    ];
    let rows: Vec<_> = page.items.iter().map(|waiting| row(&visit, waiting)).collect();
    let content = html! {
        p.lead { (words.scheduled_help) }
        (filters(&visit, &html! {
            (text_filter(&visit, "key", words.key))
            (text_filter(&visit, "topic", words.topic))
        }))
        (table_or(empty, words.scheduled, &columns, &rows))
        (pager(&visit, page.next.as_deref()))
    };
    Ok(Sheet::new(Place::Scheduled, words.scheduled, content).live().into())
}

fn row(visit: &Visit, waiting: &ScheduledView) -> Vec<Markup> {
    vec![
        message(waiting.id),
        topic(waiting.topic.as_ref().map(|topic| topic.as_str())),
        key(waiting.key.as_deref()),
        moment(visit, waiting.due_ms),
        exact(waiting.due_ms),
        html! {
            a href={ "/scheduled/" (waiting.id) "/move" } { (visit.words().do_move) } " "
            a href={ "/scheduled/" (waiting.id) "/cancel" } { (visit.words().do_cancel) }
        },
    ]
}

fn cancelling(visit: &Visit, id: MessageId) -> Confirm {
    let words = visit.words();
    let title = fill(words.scheduled_title, &[("id", &id)]);
    let happens = vec![words.scheduled_happens.to_owned()];
    let confirm = Confirm::new(Place::Scheduled, title, words.do_cancel, "/scheduled".to_owned());
    Confirm { happens, grave: true, ..confirm }
}

pub(in super::super) async fn ask(_: Desk, visit: Visit) -> Outcome {
    let id: MessageId = visit.part("id")?;
    Ok(cancelling(&visit, id).ask(&visit).into())
}

pub(in super::super) async fn cancel(desk: Desk, visit: Visit) -> Outcome {
    let words = visit.words();
    let id: MessageId = visit.part("id")?;
    let act = async |operator| match desk.service.cancel_scheduled(id, operator).await? {
        Cancelled::Cancelled => Ok::<Option<String>, Refusal>(None),
        Cancelled::TooLate => Err(Refusal::new(Reason::InUse, words.too_late)),
        Cancelled::NotKnown => Err(Refusal::new(Reason::UnknownMessage, words.not_known)),
    };
    cancelling(&visit, id).carry_out(&visit, act).await
}

fn moving(visit: &Visit, id: MessageId) -> Confirm {
    let words = visit.words();
    let title = fill(words.move_title, &[("id", &id)]);
    let happens = vec![words.move_happens.to_owned()];
    let to = html! {
        input #to name="to" type="text" required autocomplete="off" maxlength="64" aria-describedby="to-help"
            value=(visit.said("to").unwrap_or_default());
    };
    let choices = field("to", words.move_to, words.move_to_help, &to);
    let confirm = Confirm::new(Place::Scheduled, title, words.do_move, "/scheduled".to_owned());
    Confirm { happens, choices, ..confirm }
}

pub(in super::super) async fn ask_move(_: Desk, visit: Visit) -> Outcome {
    let id: MessageId = visit.part("id")?;
    Ok(moving(&visit, id).ask(&visit).into())
}

pub(in super::super) async fn shift(desk: Desk, visit: Visit) -> Outcome {
    let words = visit.words();
    let id: MessageId = visit.part("id")?;
    let act = async |operator| {
        let at_ms = time(&visit, "to")?;
        if at_ms == 0 {
            return Err(Refusal::invalid("to", words.move_to_missing));
        }
        match desk.service.move_scheduled(id, at_ms, operator).await? {
            Moved::Moved => Ok::<Option<String>, Refusal>(None),
            Moved::TooLate => Err(Refusal::new(Reason::InUse, words.too_late)),
            Moved::NotKnown => Err(Refusal::new(Reason::UnknownMessage, words.not_known)),
        }
    };
    moving(&visit, id).carry_out(&visit, act).await
}
