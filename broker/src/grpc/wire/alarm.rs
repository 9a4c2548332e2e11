//! Alarms, their rules and sinks, as the wire has them.

use escrow_protocol::v1;

use super::fields::ms;
use crate::alarms::{Limit, Standing, page, rule_title, sentence};
use crate::records::AlarmRule;
use crate::service::{AlarmView, SinkView};

/// An alarm.
pub(crate) fn alarm_to_wire(view: AlarmView) -> v1::Alarm {
    let AlarmView { number, alarm } = view;
    let (text, page) = (sentence(&alarm, false), page(&alarm));
    let (acknowledged_by, acknowledged_at_ms, acknowledged_reason) =
        alarm.ack.map_or_else(Default::default, |ack| (ack.name, ms(ack.at_ms), ack.reason));
    v1::Alarm {
        alarm_id: number,
        rule: alarm.rule.as_str().to_owned(),
        subject: alarm.subject,
        id: alarm.id,
        text,
        page,
        raised_at_ms: ms(alarm.raised_at_ms),
        value: alarm.value,
        limit: alarm.limit,
        worst: alarm.worst,
        repeats: alarm.repeats,
        acknowledged_by,
        acknowledged_at_ms,
        acknowledged_reason,
        resolved_at_ms: ms(alarm.resolved_at_ms.unwrap_or(0)),
    }
}

/// The rules, and who is told.
pub(crate) fn rules_to_wire(
    rules: Vec<(AlarmRule, Option<Limit>)>,
    standing: &Standing,
    sinks: Vec<SinkView>,
) -> v1::ListAlarmRulesResponse {
    let rule = |(rule, limit): (AlarmRule, Option<Limit>)| v1::AlarmRule {
        name: rule.as_str().to_owned(),
        title: rule_title(rule, false).to_owned(),
        limit: limit.map_or("off".to_owned(), |limit| limit.text(rule)),
        open: standing.open.get(&rule).copied().unwrap_or(0),
    };
    let sink = |view: SinkView| v1::AlarmSink {
        name: view.name,
        kind: view.sink.kind.as_str().to_owned(),
        url: view.sink.url.to_string(),
        waiting: view.waiting,
        fault: view.fault,
    };
    v1::ListAlarmRulesResponse {
        rules: rules.into_iter().map(rule).collect(),
        sinks: sinks.into_iter().map(sink).collect(),
    }
}
