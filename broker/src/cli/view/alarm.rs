//! Alarms, their rules and their sinks.

use escrow_protocol::v1;

use crate::cli::output::{Count, Time, view};

view! {
    /// An alarm.
    AlarmView {
        /// Its number.
        alarm_id: u64 = "ALARM",
        /// When it was raised.
        raised_at: Time = "RAISED AT",
        /// Its rule.
        rule: String = "RULE",
        /// Of what.
        subject: String = "OF",
        /// What is wrong.
        text: String = "WHAT",
        /// The id that is needed first.
        id: String = "ID",
        /// The value as it is, in the unit of the rule.
        value: u64 = _,
        /// The limit by then.
        limit: u64 = _,
        /// The worst value since.
        worst: u64 = _,
        /// How often it was told again.
        repeats: u32 = _,
        /// Who looks after it.
        acknowledged_by: String = "LOOKED AFTER BY",
        /// Since when.
        acknowledged_at: Time = _,
        /// What is done about it.
        acknowledged_reason: String = _,
        /// When it was over.
        resolved_at: Time = "OVER AT",
        /// The page of the console that mends it.
        page: String = _,
    }
}

impl From<v1::Alarm> for AlarmView {
    fn from(alarm: v1::Alarm) -> Self {
        Self {
            alarm_id: alarm.alarm_id,
            raised_at: Time(alarm.raised_at_ms),
            rule: alarm.rule,
            subject: alarm.subject,
            text: alarm.text,
            id: alarm.id,
            value: alarm.value,
            limit: alarm.limit,
            worst: alarm.worst,
            repeats: alarm.repeats,
            acknowledged_by: alarm.acknowledged_by,
            acknowledged_at: Time(alarm.acknowledged_at_ms),
            acknowledged_reason: alarm.acknowledged_reason,
            resolved_at: Time(alarm.resolved_at_ms),
            page: alarm.page,
        }
    }
}

view! {
    /// What raises an alarm.
    AlarmRuleView {
        /// Its name, as in the configuration.
        name: String = "RULE",
        /// When.
        limit: String = "LIMIT",
        /// How many are open.
        open: Count = "OPEN",
        /// What it is about.
        title: String = "WHAT",
    }
}

impl From<v1::AlarmRule> for AlarmRuleView {
    fn from(rule: v1::AlarmRule) -> Self {
        Self { name: rule.name, limit: rule.limit, open: Count(rule.open), title: rule.title }
    }
}

view! {
    /// Who is told.
    AlarmSinkView {
        /// Its name, as in the configuration.
        name: String = "SINK",
        /// How it is spoken to.
        kind: String = "KIND",
        /// Where it is.
        url: String = "URL",
        /// Notices that wait for it.
        waiting: Count = "WAITING",
        /// What went wrong with the oldest of them.
        fault: String = "FAULT",
    }
}

impl From<v1::AlarmSink> for AlarmSinkView {
    fn from(sink: v1::AlarmSink) -> Self {
        Self {
            name: sink.name,
            kind: sink.kind,
            url: sink.url,
            waiting: Count(sink.waiting),
            fault: sink.fault,
        }
    }
}
