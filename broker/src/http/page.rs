//! The page at `/`: the numbers of the status, and where else to look. Plain on purpose: no script, no style sheet.

use std::fmt::Write as _;

use crate::service::Status;

/// The page.
pub(super) fn front(status: &Status) -> String {
    let mut rows = String::new();
    let engine = &status.engine;
    for (name, value) in [
        ("Undecided transactions", engine.undecided),
        ("… waiting for a checker", engine.waiting_for_checker),
        ("Parked transactions", engine.parked),
        ("Lag, messages over all groups", engine.lag),
        ("With consumers", engine.leased),
        ("Retrying", engine.retrying),
        ("Scheduled", engine.scheduled),
        ("Dead letters", engine.dead_letters),
        ("Topics", engine.topics),
        ("Groups", engine.groups),
        ("Producers", engine.producers),
        ("Consumers", engine.consumers),
        ("Last durable batch", status.store.last_sequence),
    ] {
        // Writing to a string does not fail.
        let _ = writeln!(rows, "<tr><th scope=\"row\">{name}</th><td>{value}</td></tr>");
    }
    let room = if engine.accepting { "accepts messages" } else { "refuses new messages: space is short" };
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>Escrow</title></head>\n<body>\n\
         <h1>Escrow {version}</h1>\n<p>Shard {shard}, epoch {epoch}; {room}.</p>\n<table>\n{rows}</table>\n\
         <p><a href=\"/metrics\">metrics</a> · <a href=\"/readyz\">readiness</a> · <a href=\"/livez\">liveness</a></p>\n\
         </body>\n</html>\n",
        version = status.version,
        shard = status.shard.0,
        epoch = status.epoch.0,
    )
}
