//! The commands that recover lost windows.

use windrow_common::{EventTime, Length, encode_name, format_duration, shell_word};
use windrow_producer::checkpoint::{Account, column_options};
use windrow_producer::source::EVENT_HUBS;

use super::waiting::Missing;

/// Returns a command, or a sentence, for each source with missing windows. `store` is the store's URL.
pub(super) fn ways_back(missing: &Missing, accounts: &[Account], store: &str) -> Vec<String> {
    let spans = missing.spans();
    spans
        .map(|(source, window, from, to)| {
            let account = accounts
                .iter()
                .find(|account| account.source == encode_name(source) && account.window == window);
            match account {
                Some(account) => way_back(account, source, from, to, store),
                None => format!(
                    "windrow replay SOURCE --store {} --window {} --interval INTERVAL --from {from} --to {to}",
                    shell_word(store),
                    format_duration(window.as_duration())
                ),
            }
        })
        .collect()
}

/// Returns the command that reads what `source` has from `from` to `to` again. If no checkpoint says what was read, the
/// command leaves that to be filled in.
pub(crate) fn replay(
    accounts: &[Account],
    source: &str,
    (from, to): (EventTime, EventTime),
    store: &str,
) -> String {
    let encoded = encode_name(source);
    match accounts.iter().find(|account| account.source == encoded) {
        Some(account) => way_back(account, source, from, to, store),
        None => format!(
            "windrow replay SOURCE --store {} --from {from} --to {to}",
            shell_word(store)
        ),
    }
}

fn way_back(account: &Account, source: &str, from: EventTime, to: EventTime, store: &str) -> String {
    let origin = &account.origin.source;
    if origin.starts_with(EVENT_HUBS) {
        return format!(
            "windrow replay cannot read {origin}; run a producer with another --source-name to read the hub from its \
             oldest event ({from} to {to})"
        );
    }
    // A simulated fleet is known by its partitions alone; older versions did not note what was read.
    let named = match origin.as_str() {
        "" | "sim:" => "SOURCE".to_owned(),
        path => shell_word(path),
    };
    let length = |length: Length| format_duration(length.as_duration());
    let mut command = format!(
        "windrow replay {named} --store {} --source-name {} --window {} --interval {} --from {from} --to {to}",
        shell_word(store),
        shell_word(source),
        length(account.window),
        length(account.interval),
    );
    for (option, name) in column_options(&account.origin.columns) {
        command += &format!(" {option} {}", shell_word(&name));
    }
    command
}
