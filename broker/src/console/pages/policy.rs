//! How a group works: how failures are tried again, how its ordering keys go on, how long a lease lasts; changed in one
//! form, with a name and a reason.

use escrow_protocol::{GroupName, v1};
use maud::html;

use super::super::confirm::Confirm;
use super::super::parts::{choice, field, text};
use super::super::shell::Place;
use super::super::show::group_page;
use super::super::visit::Visit;
use super::super::words::fill;
use super::super::{Desk, Outcome};
use crate::config::{DurationText, parse_duration_ms};
use crate::engine::{GroupView, Refusal};
use crate::records::OrderingPolicy;
use crate::retry_spec::{retry_delays, retry_spec};

/// The call that changes it: its checks are those of every other way in.
const CALL: &str = "/escrow.v1.AdminService/UpdateGroup";

pub(in super::super) async fn ask(desk: Desk, visit: Visit) -> Outcome {
    let view = desk.service.group(visit.part("name")?).await?;
    Ok(editing(&visit, &view).ask(&visit).into())
}

pub(in super::super) async fn carry_out(desk: Desk, visit: Visit) -> Outcome {
    let view = desk.service.group(visit.part("name")?).await?;
    let request = |operator| {
        let (name, settings) = (view.name.to_string(), Some(settings_of(&visit)?));
        Ok(v1::UpdateGroupRequest { name, settings, operator, ..Default::default() })
    };
    desk.order(&visit, editing(&visit, &view), CALL, request, None).await
}

fn editing(visit: &Visit, view: &GroupView) -> Confirm {
    let words = visit.words();
    let (settings, retry) = (&view.settings, &view.settings.retry);
    let ordering = match settings.ordering {
        OrderingPolicy::Block => "block",
        OrderingPolicy::Skip => "skip",
        OrderingPolicy::DeadLetter => "dead_letter",
    };
    let orderings = [
        ("block", words.ordering_block),
        ("skip", words.ordering_skip),
        ("dead_letter", words.ordering_dead_letter),
    ];
    let number = |name: &'static str, before: u32, max: u32| {
        let value = visit.field(name).map_or(before.to_string(), str::to_owned);
        html! { input id=(name) name=(name) type="number" required min="0" max=(max) inputmode="numeric" value=(value); }
    };
    let choices = html! {
        (text(visit, "delays", (words.delays, words.policy_delays_help), &retry_spec(&retry.delays), true))
        (field("max_attempts", words.max_attempts, "", &number("max_attempts", retry.max_attempts, 1_000)))
        (field("immediate", words.policy_immediate, "", &number("immediate", retry.immediate_attempts, 1_000)))
        (field("jitter", words.policy_jitter, "", &number("jitter", retry.jitter_percent, 50)))
        (text(visit, "lease", (words.lease, words.policy_lease_help), &DurationText(settings.lease_ms).to_string(), true))
        (choice("ordering", words.ordering, visit.field("ordering").unwrap_or(ordering), &orderings))
    };
    let title = fill(words.policy_title, &[("name", &view.name)]);
    let happens = vec![words.policy_happens.to_owned()];
    let back = group_page(view.name.as_str());
    Confirm { happens, choices, ..Confirm::new(Place::Groups, title, words.do_policy, back) }
}

/// What the form says.
fn settings_of(visit: &Visit) -> Result<v1::GroupSettings, Refusal> {
    let number = |name: &'static str| {
        visit.required(name)?.parse::<u32>().map_err(|error| Refusal::invalid(name, error.to_string()))
    };
    let lease_ms = parse_duration_ms(visit.required("lease")?)
        .map_err(|error| Refusal::invalid("lease", error.to_string()))?;
    let ordering = match visit.required("ordering")? {
        "block" => v1::OrderingPolicy::Block,
        "skip" => v1::OrderingPolicy::Skip,
        "dead_letter" => v1::OrderingPolicy::DeadLetter,
        _ => return Err(Refusal::invalid("ordering", "it is not block, skip or dead_letter; choose one")),
    };
    Ok(v1::GroupSettings {
        retry: Some(v1::RetryPolicy {
            delays: Some(
                retry_delays(visit.required("delays")?).map_err(|fault| Refusal::invalid("delays", fault))?,
            ),
            immediate_attempts: number("immediate")?,
            jitter_percent: number("jitter")?,
            max_attempts: number("max_attempts")?,
        }),
        ordering: ordering.into(),
        lease_ms: i64::try_from(lease_ms).unwrap_or(i64::MAX),
    })
}

/// The address of the form.
pub(super) fn address_of(name: &GroupName) -> String {
    group_page(name.as_str()) + "/policy"
}
