//! Tables for spreadsheets: cells in quotes, lines as RFC 4180 has them, and nothing in them that is taken for a formula.

/// The first line of a table: names that need no quotes.
pub(crate) fn heading(names: impl IntoIterator<Item = &'static str>) -> String {
    names.into_iter().collect::<Vec<_>>().join(",") + "\r\n"
}

/// A line of a table.
pub(crate) fn row<T: AsRef<str>>(cells: impl IntoIterator<Item = T>) -> String {
    let cells: Vec<_> = cells.into_iter().map(|cell| quoted(cell.as_ref())).collect();
    cells.join(",") + "\r\n"
}

/// A cell. What a spreadsheet would take for a formula becomes text.
fn quoted(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    let safe = if is_formula { format!("'{text}") } else { text.to_owned() };
    format!("\"{}\"", safe.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_no_formulas() {
        assert_eq!(row(["a \"b\", c", "=cmd()", ""]), "\"a \"\"b\"\", c\",\"'=cmd()\",\"\"\r\n");
        for begins in ["=", "+", "-", "@", "\t", "\r", "\n"] {
            assert!(row([format!("{begins}1")]).starts_with("\"'"), "{begins:?} begins a formula");
        }
    }
}
