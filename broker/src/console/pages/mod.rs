//! The pages, one file for each noun.

mod alarms;
mod audit;
mod clients;
mod dead_letter_edit;
mod dead_letter_jobs;
mod dead_letters;
mod group_orders;
mod groups;
mod life;
mod messages;
mod overview;
mod policy;
mod retries;
mod scheduled;
mod seek;
mod store;
mod topic_orders;
mod topics;
mod transaction;
mod transactions;

use axum::Router;
use axum::extract::DefaultBodyLimit;

use super::{Console, act, show};

/// The address of every page. `with_a_body`: how large a form may be that has the body of a message, bytes.
pub(super) fn routes(with_a_body: usize) -> Router<Console> {
    Router::new()
        .route("/", show(overview::page))
        .route("/topics", show(topics::list))
        .route("/topics/{name}", show(topics::one))
        .route(
            "/topics/{name}/retention",
            show(topic_orders::ask_retention).merge(act(topic_orders::retention)),
        )
        .route("/topics/{name}/delete", show(topic_orders::ask_delete).merge(act(topic_orders::delete)))
        // Not below /topics and /groups, where it would be a name.
        .route("/new/topic", show(topic_orders::ask_create).merge(act(topic_orders::create)))
        .route("/new/group", show(group_orders::ask_create).merge(act(group_orders::create)))
        .route("/groups", show(groups::list))
        .route("/groups/{name}", show(groups::one))
        .route("/groups/{name}/pause", show(groups::ask_pause).merge(act(groups::pause)))
        .route("/groups/{name}/resume", show(groups::ask_resume).merge(act(groups::resume)))
        .route("/groups/{name}/policy", show(policy::ask).merge(act(policy::carry_out)))
        .route(
            "/groups/{name}/subscribe",
            show(group_orders::ask_subscribe).merge(act(group_orders::subscribe)),
        )
        .route(
            "/groups/{name}/unsubscribe",
            show(group_orders::ask_unsubscribe).merge(act(group_orders::unsubscribe)),
        )
        .route("/groups/{name}/delete", show(group_orders::ask_delete).merge(act(group_orders::delete)))
        .route("/groups/{name}/seek", show(seek::ask).merge(act(seek::seek)))
        .route("/transactions", show(transactions::list))
        .route("/transactions/{id}", show(transaction::one))
        .route("/transactions/{id}/{verb}", show(transaction::ask).merge(act(transaction::carry_out)))
        .route("/retries", show(retries::list))
        .route("/retries/of/{group}/{verb}", show(retries::ask).merge(act(retries::carry_out)))
        .route("/dead-letters", show(dead_letters::list))
        .route("/dead-letters/export", show(dead_letters::export).merge(act(dead_letters::export)))
        .route("/dead-letters/jobs", show(dead_letter_jobs::list))
        .route("/dead-letters/jobs/{id}", show(dead_letter_jobs::one).merge(act(dead_letter_jobs::order)))
        .route(
            "/dead-letters/of/{group}/redrive",
            show(dead_letter_jobs::ask_redrive).merge(act(dead_letter_jobs::redrive)),
        )
        .route(
            "/dead-letters/of/{group}/discard",
            show(dead_letter_jobs::ask_discard).merge(act(dead_letter_jobs::discard)),
        )
        .route("/dead-letters/of/{group}/{offset}", show(dead_letters::one))
        .route(
            "/dead-letters/of/{group}/{offset}/edit",
            show(dead_letter_edit::ask)
                .merge(act(dead_letter_edit::carry_out))
                .layer(DefaultBodyLimit::max(with_a_body)),
        )
        .route("/messages", show(messages::find))
        .route("/messages/{id}", show(messages::one))
        .route("/messages/{id}/body", show(messages::body))
        .route("/scheduled", show(scheduled::list))
        .route("/scheduled/{id}/cancel", show(scheduled::ask).merge(act(scheduled::cancel)))
        .route("/scheduled/{id}/move", show(scheduled::ask_move).merge(act(scheduled::shift)))
        .route("/clients", show(clients::list))
        .route("/alarms", show(alarms::list))
        .route("/alarms/{id}/ack", show(alarms::ask_ack).merge(act(alarms::ack)))
        .route("/alarms/sinks/{name}/test", act(alarms::test))
        .route("/audit", show(audit::list))
        .route("/audit/export", show(audit::export).merge(act(audit::export)))
        .route("/store", show(store::page))
        .route("/store/verify", act(store::verify))
        .route("/store/backup", show(store::backup).merge(act(store::backup)))
}
