//! What somebody probably meant: the known word nearest to a mistyped one.

/// Further away than a third of its letters, a word is another word, not a slip.
const LETTERS_PER_SLIP: usize = 3;

/// The one of `known` that `text` is a slip of, if any.
pub fn nearest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let slips_max = (text.chars().count() / LETTERS_PER_SLIP).max(1);
    known
        .into_iter()
        .map(|word| (distance(text, word), word))
        .filter(|(slips, _)| *slips <= slips_max)
        .min()
        .map(|(_, word)| word)
}

/// How many letters have to be put in, taken out or changed (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (done, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = done + 1;
        for (column, other) in to.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let known = ["delivery.lease", "grpc.listen", "retry.max_attempts"];
        assert_eq!(nearest("delivery.leese", known), Some("delivery.lease"));
        assert_eq!(nearest("delivry.lease", known), Some("delivery.lease"));
        assert_eq!(nearest("grpc.listne", known), Some("grpc.listen"));
        assert_eq!(nearest("retry.maxattempts", known), Some("retry.max_attempts"));
        assert_eq!(nearest("something.else.entirely", known), None);
        assert_eq!(nearest("", known), None);
    }

    #[test]
    fn distance_counts_single_letters() {
        for (from, to, slips) in [("", "", 0), ("a", "", 1), ("", "ab", 2), ("kitten", "sitting", 3)] {
            assert_eq!(distance(from, to), slips, "{from} {to}");
        }
    }
}
