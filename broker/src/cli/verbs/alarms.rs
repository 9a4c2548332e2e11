//! `escrow alarms`: what a person should look at, and who is told.

use escrow_protocol::v1;

use crate::cli::context::Global;
use crate::cli::error::CliError;
use crate::cli::paging::Paging;
use crate::cli::view::{AlarmRuleView, AlarmSinkView, AlarmView};

/// What can be done with alarms.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum AlarmsVerb {
    /// List alarms that are open, newest first.
    #[command(after_help = "Examples:
  escrow alarms ls
  escrow alarms ls --over --limit 20 -o json")]
    Ls {
        /// Those that are over, too.
        #[arg(long)]
        over: bool,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show an alarm.
    #[command(after_help = "Examples:
  escrow alarms show 7
  escrow alarms show 7 -o json | jq -r .id")]
    Show {
        /// Its number.
        #[arg(value_name = "ALARM")]
        alarm: u64,
    },
    /// Look after an alarm: others are told so, and nobody is reminded any more. Whoever was first stays the one.
    #[command(after_help = "Examples:
  escrow alarms ack 7 --reason 'restarting the mail consumer'
  escrow alarms ack 7 --reason 'known, see ticket 12' --as ann")]
    Ack {
        /// Its number.
        #[arg(value_name = "ALARM")]
        alarm: u64,
        /// What you do about it: the others read it.
        #[arg(long)]
        reason: String,
    },
    /// Send a test to a sink, and say how it went.
    #[command(after_help = "Examples:
  escrow alarms test oncall
  escrow alarms test oncall --as ann")]
    Test {
        /// Its name in the configuration.
        sink: String,
    },
    /// List the rules: what raises an alarm, and when.
    #[command(after_help = "Examples:
  escrow alarms rules
  escrow alarms rules -o jsonl | jq 'select(.open > 0)'")]
    Rules,
    /// List the sinks: who is told, and what still waits for them.
    #[command(after_help = "Examples:
  escrow alarms sinks
  escrow alarms sinks -o jsonl | jq 'select(.waiting > 0)'")]
    Sinks,
}

/// Does it.
pub(crate) async fn run(verb: AlarmsVerb, global: &Global) -> Result<(), CliError> {
    let mut admin = global.admin().await?;
    match verb {
        AlarmsVerb::Ls { over, paging } => {
            let empty = if over { "no alarm was ever raised" } else { "no alarm is open" };
            let fetch = async |page| {
                let request = v1::ListAlarmsRequest { page: Some(page), all: over };
                let answer = admin.list_alarms(request).await?.into_inner();
                Ok((answer.alarms.into_iter().map(AlarmView::from).collect(), answer.next_cursor))
            };
            paging.print(&mut global.printer(), empty, fetch).await
        }
        AlarmsVerb::Show { alarm } => {
            let alarm = admin.get_alarm(v1::GetAlarmRequest { alarm_id: alarm }).await?.into_inner();
            Ok(global.printer().one(&AlarmView::from(alarm))?)
        }
        AlarmsVerb::Ack { alarm, reason } => {
            let operator = global.operator(Some(&reason));
            let request = v1::AcknowledgeAlarmRequest { alarm_id: alarm, operator };
            let alarm = admin.acknowledge_alarm(request).await?.into_inner();
            Ok(global.printer().one(&AlarmView::from(alarm))?)
        }
        AlarmsVerb::Test { sink } => {
            let request = v1::TestAlarmSinkRequest { name: sink.clone(), operator: global.operator(None) };
            let answer = admin.test_alarm_sink(request).await?.into_inner();
            if !answer.taken {
                return Err(CliError::failed(format!("sink {sink} did not take the test: {}", answer.fault)));
            }
            eprintln!("sink {sink} has taken the test: look whether it arrived");
            Ok(())
        }
        AlarmsVerb::Rules => {
            let answer = admin.list_alarm_rules(v1::ListAlarmRulesRequest {}).await?.into_inner();
            let views: Vec<_> = answer.rules.into_iter().map(AlarmRuleView::from).collect();
            Ok(global.printer().list(&views, "there are no rules")?)
        }
        AlarmsVerb::Sinks => {
            let answer = admin.list_alarm_rules(v1::ListAlarmRulesRequest {}).await?.into_inner();
            let views: Vec<_> = answer.sinks.into_iter().map(AlarmSinkView::from).collect();
            let empty = "nobody is told: configure alarms.sinks, see `escrow server print-defaults`";
            Ok(global.printer().list(&views, empty)?)
        }
    }
}
