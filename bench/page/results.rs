//! The results of one run of `bench/table.sh`: a file for each row and round, `<row>.<round>.json`, as `escrow bench -o
//! json` printed it, and `machine.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// By row, in order of rounds.
    rows: BTreeMap<String, Vec<Value>>,
    machine: Value,
}

impl Results {
    pub(crate) fn read(directory: &Path) -> Result<Self, String> {
        let fault = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let mut files: Vec<_> = fs::read_dir(directory)
            .map_err(|error| fault(directory, &error))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .collect();
        files.sort();
        let mut results = Self::default();
        for path in files {
            let text = fs::read_to_string(&path).map_err(|error| fault(&path, &error))?;
            let value: Value = serde_json::from_str(&text).map_err(|error| fault(&path, &error))?;
            let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
            match name.rsplit_once('.') {
                Some((row, _round)) => results.rows.entry(row.to_owned()).or_default().push(value),
                None => results.machine = value,
            }
        }
        Ok(results)
    }

    #[cfg(test)]
    pub(crate) fn of(rows: &[(&str, Value)]) -> Self {
        let mut results = Self::default();
        for (row, value) in rows {
            results.rows.entry((*row).to_owned()).or_default().push(value.clone());
        }
        results
    }

    /// Machine, commit and load, in a sentence.
    pub(crate) fn about(&self) -> String {
        let text = |name: &str| self.machine[name].as_str().unwrap_or("unknown").to_owned();
        format!(
            "Machine: {}. Commit: {}. Load average before: {}. Each figure is the median of the rounds there are.",
            text("machine"),
            text("commit"),
            text("load_before")
        )
    }

    /// The median over rounds of the number there.
    pub(crate) fn median(&self, row: &str, pointer: &str) -> Option<f64> {
        let mut values: Vec<f64> =
            self.rows.get(row)?.iter().filter_map(|value| value.pointer(pointer)?.as_f64()).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }

    /// How many rounds there were.
    pub(crate) fn rounds(&self, row: &str) -> usize {
        self.rows.get(row).map_or(0, Vec::len)
    }

    /// What is there in the last round.
    pub(crate) fn last(&self, row: &str, pointer: &str) -> Option<&Value> {
        self.rows.get(row)?.last()?.pointer(pointer)
    }

    /// The list of numbers there, in the last round.
    pub(crate) fn list(&self, row: &str, pointer: &str) -> Vec<f64> {
        let list = self.last(row, pointer).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_f64).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_median_of_the_rounds_is_taken() {
        let rounds = [5, 1, 3].map(|speed| ("publish-64", json!({ "per_second": speed })));
        let results = Results::of(&rounds);
        assert_eq!(results.median("publish-64", "/per_second"), Some(3.0));
        assert_eq!(results.rounds("publish-64"), 3);
        assert_eq!(results.median("publish-64", "/nothing"), None);
        assert_eq!(results.median("tx-64", "/per_second"), None);
    }
}
