//! The configuration: a file, a flag and a variable, each ended by a zero byte.

use std::path::PathBuf;

use escrow_broker::config::{
    DurationText, PermilleText, SizeText, Sources, parse_duration_ms, parse_permille, parse_size,
};

/// Reads `bytes` as a configuration: it is taken, or every fault says what to do instead; and nothing else.
pub(super) fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut parts = text.split('\0');
    let file = parts.next().unwrap_or_default().to_owned();
    let flags: Vec<String> = parts.next().map(str::to_owned).into_iter().collect();
    let variable = parts.next().and_then(|text| text.split_once('='));
    let environment = variable.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
    units(&file);
    flags.iter().for_each(|flag| units(flag));

    let sources = Sources { file: Some(PathBuf::from("escrow.toml")), environment, flags, insecure: false };
    match sources.load_with(|_| Ok(file.clone())) {
        Ok(config) => {
            let _ = config.settings();
        }
        Err(faults) => {
            assert!(!faults.0.is_empty(), "refused without a fault");
            for fault in &faults.0 {
                assert!(!fault.fault.is_empty() && !fault.remedy.is_empty(), "no help in {fault:?}");
                assert!(!fault.to_string().contains('\u{1b}'), "a fault steers the terminal: {fault:?}");
            }
        }
    }
}

/// What is read as a number with a unit is printed as one that reads the same.
fn units(text: &str) {
    if let Ok(ms) = parse_duration_ms(text) {
        assert_eq!(parse_duration_ms(&DurationText(ms).to_string()), Ok(ms));
    }
    if let Ok(bytes) = parse_size(text) {
        assert_eq!(parse_size(&SizeText(bytes).to_string()), Ok(bytes));
    }
    if let Ok(permille) = parse_permille(text) {
        assert_eq!(parse_permille(&PermilleText(permille).to_string()), Ok(permille));
    }
}
