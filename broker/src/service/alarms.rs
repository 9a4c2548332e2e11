//! Alarms: listed, acknowledged, tried; and what they are made from.

use std::collections::BTreeMap;

use escrow_protocol::{GroupName, MessageId};
use escrow_storage::{Read, ReadError};

use super::{Operator, Page, Paged, Service, mismatch, unless_damaged};
use crate::alarms::{Alarms, Clue, Found, Limit, Sample, Sink};
use crate::dispatch::{decode, record};
use crate::engine::{Inspect, Refusal, Seen};
use crate::records::{Alarm, AlarmRule, AuditVerb, DeadLetter, GroupNumber, QueueEntry, Retry, keys};

/// An alarm with its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlarmView {
    /// Its number: they rise by one.
    pub number: u64,
    /// How it stands.
    pub alarm: Alarm,
}

/// A sink, and how it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkView {
    /// Its name.
    pub name: String,
    /// What is configured.
    pub sink: Sink,
    /// Notices that wait for it.
    pub waiting: u64,
    /// What went wrong with the oldest of them; empty: nothing.
    pub fault: String,
}

impl Service {
    /// Alarms at work.
    pub fn alarms(&self) -> &Alarms {
        &self.parts.alarms
    }

    /// A page of the alarms, newest first: the open ones, or all that are kept.
    ///
    /// # Errors
    /// `InvalidField` for a cursor of another list.
    pub async fn list_alarms(&self, open: bool, page: Page) -> Result<Paged<AlarmView>, Refusal> {
        let before = page.after(|cursor| cursor.parse::<u64>().ok())?;
        let found = self.parts.alarms.page(before, open, page.limit).await;
        let views = self.named(found).await?;
        Ok(Paged::of(views, page.limit, |view: &AlarmView| view.number.to_string()))
    }

    /// An alarm.
    ///
    /// # Errors
    /// `UnknownAlarm`.
    pub async fn alarm(&self, number: u64) -> Result<AlarmView, Refusal> {
        let found = self.parts.alarms.get(number).await?;
        let Some(view) = self.named(vec![found]).await?.pop() else { return Err(mismatch()) };
        Ok(view)
    }

    /// Alarms with the ids of what they are about by now: what they were raised for may be settled.
    async fn named(&self, found: Vec<Found>) -> Result<Vec<AlarmView>, Refusal> {
        self.read(move |view| {
            let mut views = Vec::with_capacity(found.len());
            for Found { number, mut alarm, clue } in found {
                // A damaged record hides no alarm.
                let id = clue.map(|clue| unless_damaged(id_of(view, clue))).transpose()?.flatten();
                alarm.id = id.unwrap_or(alarm.id);
                views.push(AlarmView { number, alarm });
            }
            Ok(views)
        })
        .await
    }

    /// A person takes an alarm upon themselves.
    ///
    /// # Errors
    /// `UnknownAlarm`, `AlarmResolved`.
    pub async fn acknowledge_alarm(&self, number: u64, operator: Operator) -> Result<AlarmView, Refusal> {
        tracing::info!(
            alarm = number,
            operator = operator.logged_name(),
            reason = operator.logged_reason(),
            "alarm acknowledged by hand"
        );
        // As a task: a caller that goes away must not leave the alarm acknowledged here and not there.
        let alarms = self.parts.alarms.clone();
        let acknowledging = tokio::spawn(async move { alarms.acknowledge(number, operator).await });
        match acknowledging.await {
            Ok(alarm) => Ok(AlarmView { number, alarm: alarm? }),
            Err(error) => {
                let text = format!("acknowledging ended early: {error}");
                Err(Refusal::new(escrow_protocol::Reason::Internal, text))
            }
        }
    }

    /// Sends a test to a sink, once, and says how it went: `None`, or what went wrong.
    ///
    /// # Errors
    /// `UnknownSink`.
    pub async fn test_alarm_sink(&self, name: &str, operator: Operator) -> Result<Option<String>, Refusal> {
        let sink = self.parts.alarms.sink(name)?;
        let fault = self.parts.alarms.test(sink, &operator.name).await.err();
        let outcome = fault.clone().unwrap_or_else(|| "taken".to_owned());
        self.attest(operator, AuditVerb::AlarmTest, name.to_owned(), outcome).await?;
        Ok(fault)
    }

    /// The rules, and their limits; `None`: off.
    pub fn alarm_rules(&self) -> Vec<(AlarmRule, Option<Limit>)> {
        let rules = &self.parts.alarms.settings().rules;
        AlarmRule::ALL.iter().map(|rule| (*rule, rules.get(*rule))).collect()
    }

    /// The sinks, by name.
    pub async fn alarm_sinks(&self) -> Vec<SinkView> {
        let mut views = Vec::new();
        for (name, sink) in &self.parts.alarms.settings().sinks {
            let (waiting, fault) = self.parts.alarms.sink_standing(name).await;
            views.push(SinkView {
                name: name.clone(),
                sink: sink.clone(),
                waiting: waiting as u64,
                fault: fault.unwrap_or_default(),
            });
        }
        views
    }

    /// What alarms are made from: the broker, and the groups of the page behind `after`. With the ages of what they have yet
    /// to finish, each a look at one record.
    ///
    /// # Errors
    /// If the broker is stopping.
    pub(crate) async fn alarm_sample(
        &self,
        after: Option<GroupName>,
        with_ages: bool,
    ) -> Result<Sample, Refusal> {
        let question = Inspect::Vitals { after: after.clone() };
        let Seen::Vitals(vitals) = self.see(question).await? else { return Err(mismatch()) };
        let store = self.store_beside(vitals.damaged).await?;
        let lagging = vitals.groups.iter().filter(|group| with_ages && !group.heads.is_empty());
        let lagging: Vec<_> = lagging.map(|group| (group.number, group.heads.clone())).collect();
        let oldest = match lagging.is_empty() {
            true => BTreeMap::new(),
            false => self.oldest_of(lagging).await?,
        };
        Ok(Sample { after: after.map(|after| after.to_string()), vitals, store, oldest })
    }

    async fn oldest_of(
        &self,
        lagging: Vec<(GroupNumber, Vec<(crate::records::TopicNumber, escrow_protocol::Offset)>)>,
    ) -> Result<BTreeMap<GroupNumber, (u64, MessageId)>, Refusal> {
        self.read(move |view| {
            let mut oldest = BTreeMap::new();
            for (group, heads) in lagging {
                for (topic, offset) in heads {
                    // A damaged entry has no age.
                    let entry = unless_damaged(record::<QueueEntry>(view, &keys::queue(topic, offset)))?;
                    let Some(entry) = entry else { continue };
                    let found = oldest.entry(group).or_insert((entry.at_ms, entry.id));
                    *found = (*found).min((entry.at_ms, entry.id));
                }
            }
            Ok(oldest)
        })
        .await
    }

    /// The id that a clue leads to; empty if what it is about has gone meanwhile.
    ///
    /// # Errors
    /// `Damaged`; if the disk fails.
    pub(crate) async fn alarm_id(&self, clue: Clue) -> Result<String, Refusal> {
        self.read(move |view| Ok(id_of(view, clue)?.unwrap_or_default())).await
    }
}

/// The id that a clue leads to; `None` if what it is about has gone meanwhile.
fn id_of(view: &dyn Read, clue: Clue) -> Result<Option<String>, ReadError> {
    let id = match clue {
        Clue::Id(id) => return Ok(Some(id)),
        Clue::DeadLetter(topic, before) => {
            let all = keys::dead_letter_range(topic, escrow_protocol::Offset(0), before);
            let newest = view.scan_back(&all, 1)?.into_iter().next();
            newest
                .map(|(key, value)| decode::<DeadLetter>(&key, value))
                .transpose()?
                .map(|letter| letter.entry.id)
        }
        Clue::Retry(topic, offset, group) => {
            record::<Retry>(view, &keys::retry(topic, offset, group))?.map(|retry| retry.entry.id)
        }
    };
    Ok(id.map(|id| id.to_string()))
}
