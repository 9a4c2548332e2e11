//! The store in numbers; verifying it, taking a backup.

use maud::{Markup, html};

use super::super::parts::{facts, section};
use super::super::shell::{Place, Sheet};
use super::super::show::{count, size};
use super::super::visit::Visit;
use super::super::words::fill;
use super::super::{Desk, Outcome};
use crate::service::{StoreNumbers, Verification};

pub(in super::super) async fn page(desk: Desk, visit: Visit) -> Outcome {
    let numbers = desk.service.store_numbers().await?;
    let content = content(&visit, &numbers, None);
    Ok(Sheet::new(Place::Store, visit.words().store, content).live().into())
}

/// Changes nothing, so it asks for no reason; it costs a reading of the disk, so it is a form all the same.
pub(in super::super) async fn verify(desk: Desk, visit: Visit) -> Outcome {
    tracing::info!("store verified by hand");
    let found = desk.service.verify_store().await?;
    let numbers = desk.service.store_numbers().await?;
    let content = content(&visit, &numbers, Some(&found));
    Ok(Sheet::new(Place::Store, visit.words().store, content).into())
}

fn content(visit: &Visit, numbers: &StoreNumbers, found: Option<&Verification>) -> Markup {
    let words = visit.words();
    let about = [
        (words.data_dir, html! { span.mono { (numbers.data_dir) } }),
        (words.disk_free, html! { (size(numbers.disk_free_bytes)) }),
        (words.last_sequence, html! { (count(numbers.last_sequence)) }),
        (words.spilled_sequence, html! { (count(numbers.spilled_sequence)) }),
        (
            words.journal,
            html! { (size(numbers.journal_bytes)) " · " (fill(words.files, &[("n", &numbers.journal_files)])) },
        ),
        (words.overlay, html! { (size(numbers.overlay_bytes)) }),
        (words.table, html! { (size(numbers.table_bytes)) }),
        (words.syncs, html! { (count(numbers.syncs)) }),
        (
            words.last_sync,
            html! { (fill(words.ms, &[("n", &format!("{:.1}", numbers.last_sync_us as f64 / 1000.0))])) },
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
            a.button.quiet href="/api/v1/store/backup" download="escrow.backup" { (words.do_backup) }
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
                ul { @for fault in &found.faults { li { (fault) } } }
            }
        }
    }
}
