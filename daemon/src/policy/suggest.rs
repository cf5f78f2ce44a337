// SPDX-License-Identifier: MIT OR Apache-2.0
//! "Did you mean": the closest of a few known words to one that was mistyped.

/// The candidate closest to `typed`, if one is close enough to be worth suggesting.
///
/// Close enough means: no more than a third of the longer word's characters have to be changed, inserted, removed or
/// swapped with their neighbour, letter case not counted. Of equally close ones, the first wins.
pub fn closest<'a>(typed: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typed: Vec<char> = typed.to_lowercase().chars().collect();
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let word: Vec<char> = candidate.to_lowercase().chars().collect();
            let longer = typed.len().max(word.len());
            // The length alone is a lower bound of the distance. It also keeps a megabyte of rubbish cheap.
            if longer - typed.len().min(word.len()) > longer / 3 {
                return None;
            }
            let distance = distance(&typed, &word);
            (distance <= longer / 3).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edits (change, insert, remove, swap of neighbours) that turn `a` into `b`, no character being edited twice.
fn distance(a: &[char], b: &[char]) -> usize {
    // Three rows of the usual table are enough: a swap looks back two rows.
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i + 1);
        for (j, &y) in b.iter().enumerate() {
            let change = previous[j] + usize::from(x != y);
            let mut best = change.min(previous[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && x == b[j - 1] && a[i - 1] == y {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut previous, row);
    }
    previous[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 3] = ["kernel", "bpf:biggest-leaf", "bpf:oldest-leaf"];

    #[test]
    fn a_missing_letter_is_found() {
        assert_eq!(closest("bpf:bigest-leaf", KNOWN), Some("bpf:biggest-leaf"));
    }

    #[test]
    fn swapped_letters_are_one_edit() {
        assert_eq!(distance(&['a', 'b', 'c'], &['b', 'a', 'c']), 1);
        assert_eq!(closest("kerenl", KNOWN), Some("kernel"));
    }

    #[test]
    fn letter_case_does_not_count() {
        assert_eq!(closest("BPF:Biggest-Leaf", KNOWN), Some("bpf:biggest-leaf"));
    }

    #[test]
    fn something_else_altogether_gets_no_suggestion() {
        assert_eq!(closest("xfs", KNOWN), None);
        assert_eq!(closest("", KNOWN), None);
        assert_eq!(closest(&"x".repeat(1 << 20), KNOWN), None);
    }

    #[test]
    fn the_distance_is_symmetric_and_zero_only_for_equals() {
        let words = ["", "a", "leaf", "flea", "biggest", "bigest", "größte"];
        for a in words {
            for b in words {
                let (x, y): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
                assert_eq!(distance(&x, &y), distance(&y, &x), "{a} {b}");
                assert_eq!(distance(&x, &y) == 0, a == b, "{a} {b}");
            }
        }
    }
}
