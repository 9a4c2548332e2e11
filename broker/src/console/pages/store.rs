//! The store in numbers; verifying it, taking a backup.

use axum::response::IntoResponse as _;
use escrow_protocol::v1;
use maud::{Markup, html};

use super::super::confirm::Confirm;
use super::super::parts::{facts, section};
use super::super::shell::{Place, Sheet};
use super::super::show::{count, size};
use super::super::visit::Visit;
use super::super::words::fill;
use super::super::{Answer, Desk, Outcome};
use crate::http::api::call_file;
use crate::service::{StoreNumbers, Verification};

pub(in super::super) async fn page(desk: Desk, visit: Visit) -> Outcome {
    let numbers = desk.service.store_numbers().await?;
    let content = content(&visit, &numbers, None);
    Ok(Sheet::new(Place::Store, visit.words().store, content).live().into())
}

/// Changes nothing, so it asks for no reason; it costs a reading of the disk, so it is a form all the same.
pub(in super::super) async fn verify(desk: Desk, visit: Visit) -> Outcome {
    let button = visit.words().do_verify;
    let Some(operator) = visit.known() else {
        let back = "/store".to_owned();
        return Ok(Confirm::who(Place::Store, button.to_owned(), button, back, &visit).into());
    };
    let found = desk.service.verify_store(operator).await?;
    let numbers = desk.service.store_numbers().await?;
    let content = content(&visit, &numbers, Some(&found));
    Ok(Sheet::new(Place::Store, visit.words().store, content).into())
}

/// The file, when it is known who takes it; else the page that asks.
pub(in super::super) async fn backup(desk: Desk, visit: Visit) -> Outcome {
    let button = visit.words().do_backup;
    let Some(operator) = visit.known() else {
        let back = "/store".to_owned();
        return Ok(Confirm::who(Place::Store, button.to_owned(), button, back, &visit).into());
    };
    let request = v1::BackupStoreRequest { operator: Some(operator.into()) };
    let call = "/escrow.v1.AdminService/BackupStore";
    Ok(Answer::Raw(match call_file(&desk.calls, call, &request, desk.from).await {
        Ok(file) => file,
        Err(fault) => fault.into_response(),
    }))
}

fn content(visit: &Visit, numbers: &StoreNumbers, found: Option<&Verification>) -> Markup {
    let words = visit.words();
    let milliseconds = |us: u64| fill(words.ms, &[("n", &format!("{:.1}", us as f64 / 1000.0))]);
    let about = [
        (words.data_dir, html! { span.mono { (numbers.data_dir) } }),
        (words.disk_free, html! { (size(numbers.disk_free_bytes)) }),
        (words.last_sequence, html! { (count(numbers.last_sequence)) }),
        (words.spilled_sequence, html! { (count(numbers.spilled_sequence)) }),
        (
            words.journal,
            html! { (size(numbers.journal_bytes)) " · " (fill(words.files, &[("n", &numbers.journal_files)])) },
        ),
        (words.appended, html! { (size(numbers.appended_bytes)) }),
        (words.overlay, html! { (size(numbers.overlay_bytes)) }),
        (words.table, html! { (size(numbers.table_bytes)) }),
        (words.syncs, html! { (count(numbers.syncs)) }),
        (words.last_sync, html! { (milliseconds(numbers.last_sync_us)) }),
        (
            words.sync_shares,
            html! { (milliseconds(numbers.sync_p50_us)) " · " (milliseconds(numbers.sync_p99_us)) },
        ),
        (
            words.last_spill,
            html! { @if numbers.last_spill_us > 0 { (milliseconds(numbers.last_spill_us)) } @else { span.faint { "–" } } },
        ),
        (words.corrupt_records, html! { (count(numbers.corrupt_records)) }),
        (words.format, html! { (numbers.format) }),
    ];
    html! {
        p.lead { (words.store_help) }
        @if let Some(found) = found { (verified(visit, found)) }
        (facts(&about))
        (section(words.do_verify, &html! {
            p { (words.verify_help) }
            form method="post" action="/store/verify" {
                input type="hidden" name="token" value=(visit.token());
                button.quiet type="submit" { (words.do_verify) }
            }
        }))
        (section(words.do_backup, &html! {
            p { (words.backup_help) }
            a.button.quiet href="/store/backup" download=[visit.known().map(|_| "escrow.backup")] { (words.do_backup) }
        }))
    }
}

fn verified(visit: &Visit, found: &Verification) -> Markup {
    let words = visit.words();
    html! {
        @if found.faults.is_empty() {
            p.note.good role="status" { (fill(words.verify_sound, &[("n", &count(found.records))])) }
        } @else {
            div.note.bad role="alert" {
                p { strong { (fill(words.verify_faults, &[("n", &found.faults.len())])) } " " (fill(words.verify_records, &[("n", &count(found.records))])) }
                ul { @for fault in &found.faults { li { (visit.told(fault)) } } }
            }
        }
    }
}
