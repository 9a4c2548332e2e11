//! What must hold between keys. Each broken rule names the key that should change, and where its value came from.

use std::net::SocketAddr;

use super::alarms::SINKS_MAX;
use super::fault::{Fault, Source};
use super::section::{Config, RetryStrategy};
use super::units::{DurationText, SizeText};
use crate::alarms::Url;

/// What is wrong with `config` as a whole; `source_of` says where the value of a key came from.
pub(super) fn check(config: &Config, source_of: &dyn Fn(&str) -> Source) -> Vec<Fault> {
    [
        loopback("grpc.listen", config.grpc.listen, config.insecure),
        loopback("http.listen", config.http.listen, config.insecure),
        two_ports(config),
        check_before_the_end(config),
        delays_grow(config),
        overlay_has_room(config),
        journal_has_files(config),
        window_holds_a_page(config),
        not_too_many_sinks(config),
        console_is_an_address(config),
        traces_have_an_address(config),
        memory_holds_the_queue(config),
    ]
    .into_iter()
    .flatten()
    .map(|broken| Fault {
        source: source_of(broken.key),
        key: broken.key.to_owned(),
        fault: broken.fault,
        remedy: broken.remedy,
    })
    .collect()
}

/// What is allowed and probably not meant, each with its remedy.
pub(super) fn hints(config: &Config) -> Vec<String> {
    let ip = config.http.listen.ip();
    let leads_nowhere = ip.is_loopback() || ip.is_unspecified();
    let mut hints = Vec::new();
    if leads_nowhere && config.alarms.console_url.is_empty() && !config.alarms.sinks.is_empty() {
        hints.push(format!(
            "alarms.console: it is empty, so the links in alarms lead to http://{}, which opens on this machine at most; write what \
             people's browsers call the console, such as \"https://escrow.example.com\"",
            config.http.listen
        ));
    }
    hints
}

struct Broken {
    key: &'static str,
    fault: String,
    remedy: String,
}

fn unless(holds: bool, key: &'static str, fault: String, remedy: &str) -> Option<Broken> {
    (!holds).then(|| Broken { key, fault, remedy: remedy.to_owned() })
}

fn loopback(key: &'static str, listen: SocketAddr, insecure: bool) -> Option<Broken> {
    unless(
        insecure || listen.ip().is_loopback(),
        key,
        format!("{listen} is reachable from other machines, and there is no authentication"),
        "listen on 127.0.0.1 or [::1], or say --insecure if the network itself keeps strangers out",
    )
}

fn not_too_many_sinks(config: &Config) -> Option<Broken> {
    let sinks = config.alarms.sinks.len();
    unless(
        sinks <= SINKS_MAX,
        "alarms.sinks",
        format!("there are {sinks} sinks, at most {SINKS_MAX} are told"),
        "let one of them tell the others",
    )
}

fn console_is_an_address(config: &Config) -> Option<Broken> {
    let url = &config.alarms.console_url;
    let wrong = if url.is_empty() { None } else { Url::read(url, &["http", "https"]).err() };
    unless(
        wrong.is_none(),
        "alarms.console",
        format!("{url:?} is not an address for browsers: {}", wrong.clone().unwrap_or_default()),
        "write one such as \"https://escrow.example.com\", or nothing",
    )
}

fn traces_have_an_address(config: &Config) -> Option<Broken> {
    let endpoint = &config.telemetry.otlp_endpoint;
    let is_address = endpoint.strip_prefix("http://").is_some_and(|host| !host.is_empty());
    unless(
        endpoint.is_empty() || is_address,
        "telemetry.otlp_endpoint",
        format!("{endpoint:?} is no address of a collector"),
        "write it as http://host:4317, or leave it empty for no traces",
    )
}

fn two_ports(config: &Config) -> Option<Broken> {
    let (grpc, http) = (config.grpc.listen, config.http.listen);
    let same_address = grpc.ip() == http.ip() || grpc.ip().is_unspecified() || http.ip().is_unspecified();
    unless(
        grpc.port() == 0 || grpc.port() != http.port() || !same_address,
        "http.listen",
        format!("{http} collides with grpc.listen = {grpc}"),
        "choose another port",
    )
}

fn check_before_the_end(config: &Config) -> Option<Broken> {
    let transactions = &config.transactions;
    let (first, last) = (transactions.first_check_after_ms, transactions.max_undecided_age_ms);
    unless(
        first < last,
        "transactions.first_check_after",
        format!(
            "the first check, after {}, would come no earlier than max_undecided_age = {}",
            DurationText(first),
            DurationText(last)
        ),
        "shorten first_check_after or lengthen max_undecided_age",
    )
}

fn delays_grow(config: &Config) -> Option<Broken> {
    let retry = &config.retry;
    let grows = retry.strategy != RetryStrategy::Exponential || retry.initial_delay_ms <= retry.max_delay_ms;
    unless(
        grows,
        "retry.initial_delay",
        format!(
            "{} is longer than max_delay = {}",
            DurationText(retry.initial_delay_ms),
            DurationText(retry.max_delay_ms)
        ),
        "shorten initial_delay or lengthen max_delay",
    )
}

fn overlay_has_room(config: &Config) -> Option<Broken> {
    let (soft, hard) = (config.store.overlay_bytes_max, config.store.overlay_bytes_hard);
    unless(
        hard == 0 || hard >= soft.saturating_mul(2),
        "store.overlay_hard",
        format!("{} is less than twice overlay = {}", SizeText(hard), SizeText(soft)),
        "write 0 (four times overlay) or at least twice overlay",
    )
}

fn journal_has_files(config: &Config) -> Option<Broken> {
    let (file, all) = (config.store.journal_file_bytes_max, config.store.journal_bytes_max);
    unless(
        file <= all,
        "store.journal_file",
        format!("{} is larger than journal = {}", SizeText(file), SizeText(all)),
        "make journal_file smaller or journal larger",
    )
}

fn memory_holds_the_queue(config: &Config) -> Option<Broken> {
    let (all, queue) = (config.limits.memory_bytes_max, config.limits.queue_bytes_max);
    unless(
        queue <= all / 4,
        "limits.queue_size",
        format!("{} is more than a quarter of memory = {}", SizeText(queue), SizeText(all)),
        "make queue_size smaller or memory larger",
    )
}

fn window_holds_a_page(config: &Config) -> Option<Broken> {
    let limits = &config.limits.engine;
    unless(
        limits.page as u64 <= limits.window_max,
        "limits.page",
        format!("{} is more than window = {}", limits.page, limits.window_max),
        "make page smaller or window larger",
    )
}
