//! Looks at the broker once a second, and has the book judge what was seen. One look costs a page of groups; where there are
//! more, they are looked at in turns.

use std::collections::BTreeSet;
use std::time::Duration;

use escrow_protocol::{GroupName, Reason};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::book::Scope;
use super::desk::Alarms;
use super::rate::Growths;
use super::sample::Look;
use crate::engine::Now;
use crate::records::{AlarmEvent, AlarmRule};
use crate::service::Service;

/// What one look leaves for the next.
#[derive(Debug, Default)]
struct Round {
    after: Option<GroupName>,
    growths: Growths,
    /// The groups of this round, so far.
    groups: BTreeSet<String>,
}

impl Alarms {
    /// Watches and tells, until told to stop.
    pub fn start(&self, service: Service, stop: &CancellationToken) {
        for sink in self.settings().sinks.keys() {
            tokio::spawn(self.clone().carry(sink.clone(), stop.clone()));
        }
        tokio::spawn(self.clone().watch(service, stop.clone()));
    }

    async fn watch(self, service: Service, stop: CancellationToken) {
        // Cancel-safe: what is decided and not written down is decided again after the next start.
        stop.run_until_cancelled(self.watch_on(&service)).await;
    }

    async fn watch_on(&self, service: &Service) {
        if !self.settings().rules.any() {
            let now = self.parts().clock.now();
            let mut desk = self.desk().await;
            let over = desk.book.evaluate(now, &Scope::default(), &[]);
            desk.greet(now.unix_ms, &over);
            over.into_iter().for_each(|happening| desk.tell(now.unix_ms, happening));
            return self.publish(&mut desk).await;
        }
        let mut ticks = tokio::time::interval(Duration::from_millis(self.settings().look_every_ms.max(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut round = Round::default();
        let mut is_blind = false;
        loop {
            ticks.tick().await;
            match self.look(service, &mut round).await {
                Ok(()) => is_blind = false,
                Err(refusal) if refusal.reason == Reason::ShuttingDown => return,
                Err(refusal) => {
                    if !std::mem::replace(&mut is_blind, true) {
                        tracing::error!(%refusal, "alarms cannot look at the broker");
                    }
                }
            }
        }
    }

    async fn look(&self, service: &Service, round: &mut Round) -> Result<(), crate::engine::Refusal> {
        let rules = &self.settings().rules;
        let with_ages = rules.get(AlarmRule::LagAge).is_some() || rules.get(AlarmRule::Lag).is_some();
        let sample = service.alarm_sample(round.after.clone(), with_ages).await?;
        let now: Now = self.parts().clock.now();
        let look = Look::of(&sample, rules, &mut round.growths, now);
        round.go_on(&sample.vitals);

        let mut desk = self.desk().await;
        let happenings = desk.book.evaluate(now, &look.scope, &look.readings);
        desk.follow(&look);
        desk.greet(now.unix_ms, &happenings);
        for happening in happenings {
            // Told again, it names what a person needs first by now.
            if matches!(happening.event, AlarmEvent::Raised | AlarmEvent::Repeated)
                && let Some(alarm) = desk.book.get_mut(happening.alarm)
                && let Some(clue) = look.clue(alarm.rule, &alarm.subject)
            {
                let id = service.alarm_id(clue.clone()).await.unwrap_or_default();
                if !id.is_empty() {
                    alarm.id = id;
                }
            }
            desk.tell(now.unix_ms, happening);
        }
        desk.forget();
        self.publish(&mut desk).await;
        Ok(())
    }
}

impl Round {
    fn go_on(&mut self, vitals: &crate::engine::Vitals) {
        self.groups.extend(vitals.groups.iter().map(|group| group.name.to_string()));
        self.after = vitals.groups.last().filter(|_| vitals.more_groups).map(|group| group.name.clone());
        if self.after.is_none() {
            let groups = std::mem::take(&mut self.groups);
            self.growths.keep(|group| groups.contains(group));
        }
    }
}
