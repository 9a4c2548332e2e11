//! All words of the console: one table for each language. A key that one of them lacks does not compile.

mod en;
mod said;
mod zh;

pub(crate) use said::{refused, said};

/// A language of the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    /// English.
    English,
    /// 简体中文.
    Chinese,
}

impl Language {
    /// All of them.
    pub(crate) const ALL: [Self; 2] = [Self::English, Self::Chinese];

    /// Its tag, as in `?lang=` and in HTML.
    pub(crate) fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Chinese => "zh-CN",
        }
    }

    /// Its name in itself.
    pub(crate) fn own_name(self) -> &'static str {
        match self {
            Self::English => "English",
            Self::Chinese => "简体中文",
        }
    }

    /// Its words.
    pub(crate) fn words(self) -> &'static Words {
        match self {
            Self::English => &en::WORDS,
            Self::Chinese => &zh::WORDS,
        }
    }

    /// The language with this tag.
    pub(crate) fn of_tag(tag: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|language| language.tag().eq_ignore_ascii_case(tag.trim()))
    }

    /// The first of a browser's languages that there is; English if there is none.
    pub(crate) fn of_header(accept_language: &str) -> Self {
        let wanted = accept_language.split(',').filter_map(|part| part.split(';').next());
        let known = wanted.filter_map(|tag| match tag.trim().to_ascii_lowercase() {
            tag if tag == "zh" || tag.starts_with("zh-") => Some(Self::Chinese),
            tag if tag == "en" || tag.starts_with("en-") => Some(Self::English),
            _ => None,
        });
        known.into_iter().next().unwrap_or(Self::English)
    }
}

/// Words with their gaps filled: `{name}` by the value of that name.
pub(crate) fn fill(words: &str, values: &[(&str, &dyn std::fmt::Display)]) -> String {
    values.iter().fold(words.to_owned(), |text, (name, value)| {
        let value = value.to_string();
        let filled = text.replace(&format!("{{{name}}}"), &value);
        numbered(filled, name, value == "1")
    })
}

/// `{n|one|many}`: a word or another, by whether `n` is one.
fn numbered(text: String, name: &str, is_one: bool) -> String {
    let mark = format!("{{{name}|");
    let Some((before, rest)) = text.split_once(&mark) else { return text };
    let Some((choice, after)) = rest.split_once('}') else { return text };
    let (one, many) = choice.split_once('|').unwrap_or((choice, choice));
    let after = numbered(after.to_owned(), name, is_one);
    format!("{before}{}{after}", if is_one { one } else { many })
}

macro_rules! words {
    ($($key:ident)*) => {
        /// The words of one language.
        #[derive(Debug)]
        pub(crate) struct Words { $(pub(crate) $key: &'static str,)* }

        #[cfg(test)]
        impl Words {
            fn entries(&self) -> Vec<(&'static str, &'static str)> {
                vec![$((stringify!($key), self.$key),)*]
            }
        }
    };
}

words! {
    // The frame around every page.
    skip_to_content main_navigation language overview transactions dead_letters retries scheduled messages groups topics
    clients store footer pause_refresh resume_refresh api_document metrics

    // Ages, durations, numbers.
    ms s min h d ago in_future per_second

    // Lists.
    next_page first_page apply clear any filter all_groups

    // Nouns of tables.
    group topic key message message_id offset age state reason error attempts attempt next_attempt due last_error
    kind producer client transaction lag oldest members positions policy floor finished_above tags leased retrying dead
    created size body headers header value origin redrives died connected address credit role kinds checks next_check
    role_producer role_check role_person role_policy ready
    decided decided_by at bytes_kept head next_offset retention subscribers belongs_to actions stored

    // Overview.
    overview_title oldest_undecided undecided waiting_for_checker parked with_consumers producers_consumers disk_free
    accepting not_accepting rates_title rate_in rate_out rate_decided latency latency_publish latency_decision latency_delivery rates_help rates_wait now_word peak
    started attention all_quiet chart_axis chart_of

    // Transactions.
    tx_help tx_empty_undecided tx_empty_waiting tx_empty_parked tx_empty_decided tx_show tx_none_of_kind tx_unknown tx_timed_out tx_no_checker
    checks_delivered checks_unknown checks_timed_out checks_without_checker checkers_connected in_doubt
    in_doubt_park in_doubt_commit in_doubt_rollback state_prepared state_parked state_committed state_rolled_back
    conflicts timeline tx_key max_checks why_waiting why_parked why_undecided why_due half_message
    event_made event_checks event_next_check event_in_doubt event_decided
    do_check do_commit do_rollback do_resume
    check_title check_happens check_nobody commit_title commit_happens commit_final rollback_title rollback_happens
    rollback_final resume_title resume_happens rollback_gone

    // Doing things by hand.
    your_name your_name_help reason_label reason_help reason_missing name_missing cancel what_happens done_note
    problem token_stale not_done form_too_large form_unreadable

    // Groups.
    groups_help groups_empty group_running group_paused do_pause do_seek pause_title pause_happens
    resume_group_title resume_group_happens do_resume_group seek_title seek_help seek_to seek_oldest seek_newest
    seek_offset seek_time seek_value seek_value_help dry_run seek_result seek_replays seek_skips seek_nothing
    seek_confirm lease ordering ordering_block ordering_skip ordering_dead_letter blocked_keys acked nacked
    expired_leases max_attempts delays broadcast no_members no_positions
    policy_title policy_happens do_policy policy_delays_help policy_immediate policy_jitter policy_lease_help

    // Topics.
    topics_help topics_empty with_dead_letter_topics prefix keeps_finished keeps_at_most keeps_nothing topic_groups no_groups_listen
    messages_kept awaited messages_in

    // Topics and groups made, changed as a whole, deleted.
    name_label force do_delete do_retention retention_title retention_happens retention_unfinished retention_keep
    retention_keep_help retention_bytes retention_bytes_help topic_delete_title topic_delete_happens
    topic_delete_groups topic_delete_awaited do_new_topic new_topic_title new_topic_happens do_new_group
    new_group_title new_group_happens do_subscribe subscribe_title subscribe_happens subscribe_start
    subscribe_tags_help do_unsubscribe unsubscribe_title unsubscribe_happens unsubscribe_final group_delete_title
    group_delete_happens group_returns subscription_returns group_delete_used

    // Retries.
    attempt_min
    retries_help retries_empty retries_choose
    do_run do_give_up run_title run_happens give_up_title give_up_happens retries_scope retries_selected_run
    retries_selected_give_up retries_none retries_partly select_message

    // Dead letters.
    dead_help dead_empty dead_empty_filtered dead_from dead_until dead_error_contains select_hint nothing_selected
    redrive_selected discard_selected redrive_all discard_all export_jsonl export_csv select_one select_all do_redrive do_discard
    redrive_title redrive_happens redrive_to_group redrive_paused redrive_nobody redrive_to_topic redrive_rate redrive_rate_help discard_title
    discard_happens dead_scope_selected dead_scope_one dead_scope_all dead_scope_every dead_scope_filter dead_first_matches dead_dry_run dead_dry_run_help
    attempts_of no_attempts jobs jobs_help jobs_empty job job_running job_paused job_done
    job_stopped job_failed job_total job_ok job_refused job_results job_pause job_go_on job_stop job_left job_progress job_no_failures
    job_result job_results_all job_results_help job_no_results job_was_sent job_would_send job_was_discarded job_would_discard
    job_dry job_redrive job_discard job_rate job_unlimited job_of_all reason_attempts_exhausted reason_rejected
    reason_expired reason_ordering_key_failed reason_damaged
    reason_given_up by_whom

    // Dead letters sent again as something else.
    do_edit edit_title edit_happens edit_for_all edit_headers_help edit_no_text

    // Messages.
    find_title find_label find_help find_button find_none find_ask life_story where_it_is is_undecided is_scheduled
    is_queued as_json as_text as_hex body_cut body_empty download ordering_key tag time_to_live deliver_at no_headers
    event_stored event_checked event_waiting event_scheduled event_queued event_leased event_retrying event_dead
    event_finished event_failed
    event_check_ordered event_parked event_resumed event_moved event_delivered event_acked event_run_now
    event_redriven event_copied event_discarded event_removed attempt_nth answer_unknown answer_timed_out
    answer_no_checker answer_commit answer_rollback is_gone ending_finished ending_rolled_back ending_cancelled ending_dropped
    removed_at body_gone standing_now life_help

    // Scheduled.
    scheduled_help scheduled_empty scheduled_title scheduled_happens do_cancel too_late not_known
    do_move move_title move_happens move_to move_to_help move_to_missing

    // Clients.
    clients_help clients_empty consumer

    // Store.
    store_help last_sequence spilled_sequence journal overlay table syncs last_sync sync_shares appended last_spill corrupt_records data_dir format
    do_verify verify_help verify_sound verify_faults verify_records do_backup backup_help files

    // Alarms.
    alarms alarms_help alarms_empty alarms_empty_all alarms_open alarms_all alarm alarm_what alarm_id alarm_since alarm_worst
    alarm_looked_after alarm_over do_ack ack_title ack_happens sinks sinks_help sinks_empty sink sink_kind sink_waiting
    do_test test_of test_taken test_failed alarm_rules alarm_rules_help alarm_rule alarm_limit alarm_off

    // Audit.
    audit audit_help audit_empty audit_what audit_on audit_before audit_after audit_from audit_until

    // Lists with filters.
    empty_filtered

    // Who is not known yet.
    name_for_audit

    // Faults.
    not_found not_found_help refused_title not_ready
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of the gaps; a choice by number, which not every language needs, belongs to the gap of its number.
    fn gaps(text: &str) -> Vec<&str> {
        let all = text.split('{').skip(1).filter_map(|rest| rest.split('}').next());
        let (choices, mut gaps): (Vec<_>, Vec<_>) = all.partition(|gap| gap.contains('|'));
        for choice in choices {
            let number = choice.split('|').next().unwrap_or_default();
            assert!(gaps.contains(&number), "{text} chooses by a number that it does not say");
        }
        gaps.sort_unstable();
        gaps
    }

    #[test]
    fn a_word_is_chosen_by_its_number() {
        let text = "{n} {n|message is|messages are} moved, and {n|it|they} {n|waits|wait}";
        assert_eq!(fill(text, &[("n", &1)]), "1 message is moved, and it waits");
        assert_eq!(fill(text, &[("n", &21)]), "21 messages are moved, and they wait");
    }

    #[test]
    fn both_languages_have_the_same_keys_with_the_same_gaps() {
        let (english, chinese) = (en::WORDS.entries(), zh::WORDS.entries());
        assert_eq!(english.len(), chinese.len());
        for ((key, english), (other, chinese)) in english.into_iter().zip(chinese) {
            assert_eq!(key, other);
            assert!(!english.is_empty() && !chinese.is_empty(), "{key} says nothing");
            assert_eq!(gaps(english), gaps(chinese), "{key} has other gaps");
        }
    }

    #[test]
    fn the_chinese_terms_are_the_agreed_ones() {
        let words = zh::WORDS;
        for (text, term) in [
            (words.half_message, "半消息"),
            (words.checks, "事务回查"),
            (words.dead_letters, "死信"),
            (words.retries, "重试"),
            (words.groups, "消费组"),
            (words.lag, "堆积"),
            (words.do_redrive, "重新投递"),
        ] {
            assert!(text.contains(term), "{text} is not {term}");
        }
    }

    #[test]
    fn a_browser_gets_the_first_of_its_languages() {
        for (header, language) in [
            ("", Language::English),
            ("de-DE,zh-TW;q=0.9,en;q=0.8", Language::Chinese),
            ("en-GB, zh;q=0.5", Language::English),
            ("fr", Language::English),
        ] {
            assert_eq!(Language::of_header(header), language, "{header}");
        }
    }

    #[test]
    fn gaps_are_filled_by_name() {
        assert_eq!(fill("{n} of {m}", &[("n", &1), ("m", &"two")]), "1 of two");
    }
}
