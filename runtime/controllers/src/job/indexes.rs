//! Completion indexes: sets of them as intervals, written as `1,3-5,7`, and what Pods say of theirs.

use std::fmt;

use k8s_openapi::api::core::v1::Pod;

/// The annotation and label with a Pod's completion index.
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// The annotation with the failures of an index before this Pod that count.
pub(super) const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// The annotation with those that do not.
pub(super) const IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// A set of indexes: intervals in order that neither overlap nor touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Indexes(Vec<(i32, i32)>);

impl Indexes {
    /// Reads a set, without what is no number and what lies beyond `completions`.
    pub(super) fn parse(text: &str, completions: i32) -> Self {
        let mut read = Vec::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) else { continue };
            if first >= completions {
                break;
            }
            read.push((first, last.min(completions - 1)));
        }
        Self::of(read)
    }

    /// A set of intervals in any order.
    fn of(mut intervals: Vec<(i32, i32)>) -> Self {
        intervals.sort_unstable();
        let mut merged: Vec<(i32, i32)> = Vec::with_capacity(intervals.len());
        for (first, last) in intervals {
            match merged.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }

    /// This set and more indexes.
    pub(super) fn with(&self, more: impl IntoIterator<Item = i32>) -> Self {
        Self::of(self.0.iter().copied().chain(more.into_iter().map(|index| (index, index))).collect())
    }

    /// This set and another.
    pub(super) fn and(&self, other: &Self) -> Self {
        Self::of(self.0.iter().chain(&other.0).copied().collect())
    }

    /// How many indexes there are.
    pub(super) fn count(&self) -> i32 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an index is in the set.
    pub(super) fn has(&self, index: i32) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < index);
        self.0.get(at).is_some_and(|(first, _)| *first <= index)
    }

    /// How many indexes are in both sets.
    pub(super) fn shared(&self, other: &Self) -> i32 {
        let (mut a, mut b, mut count) = (0, 0, 0);
        while let (Some(one), Some(two)) = (self.0.get(a), other.0.get(b)) {
            count += (one.1.min(two.1) - one.0.max(two.0) + 1).max(0);
            if one.1 <= two.1 {
                a += 1;
            }
            if two.1 <= one.1 {
                b += 1;
            }
        }
        count
    }

    /// The first `count` indexes below `completions` that are not in the set.
    pub(super) fn first_missing(&self, count: usize, completions: i32) -> Vec<i32> {
        let mut missing = Vec::with_capacity(count);
        let mut candidate = 0;
        for (first, last) in self.0.iter().copied().chain([(completions, completions)]) {
            let room = count - missing.len();
            missing.extend((candidate..first.min(completions)).take(room));
            candidate = last.saturating_add(1);
        }
        missing
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                1 => write!(f, "{comma}{first},{last}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// The completion index of a Pod.
pub(super) fn index_of(pod: &Pod) -> Option<i32> {
    annotation(pod, INDEX)?.parse().ok().filter(|index| *index >= 0)
}

fn count(pod: &Pod, key: &str) -> i32 {
    annotation(pod, key).and_then(|count| count.parse().ok()).filter(|count| *count >= 0).unwrap_or(0)
}

/// The failures of an index before this Pod that count.
pub(super) fn failures(pod: &Pod) -> i32 {
    count(pod, FAILURES)
}

/// The failures of an index before this Pod that do not count.
pub(super) fn ignored_failures(pod: &Pod) -> i32 {
    count(pod, IGNORED_FAILURES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_read_and_written_in_their_short_form() {
        let rows = [
            ("", 5, "", 0),
            ("0", 5, "0", 1),
            ("0,1", 5, "0,1", 2),
            ("0-2", 5, "0-2", 3),
            ("0,1,2,4", 5, "0-2,4", 4),
            ("1,3-5,7", 10, "1,3-5,7", 5),
            ("1,3-5,7", 5, "1,3,4", 3),
            ("7-9", 5, "", 0),
            ("a,1,b-2,3-c,4", 5, "1,4", 2),
        ];
        for (text, completions, written, count) in rows {
            let set = Indexes::parse(text, completions);
            assert_eq!((set.to_string().as_str(), set.count()), (written, count), "{text}");
        }
    }

    #[test]
    fn new_indexes_go_into_the_gaps() {
        let rows: [(&str, &[i32], &str); 5] = [
            ("", &[3, 1, 2], "1-3"),
            ("0-2", &[4], "0-2,4"),
            ("0-2,4", &[3], "0-4"),
            ("5-6", &[0, 9], "0,5,6,9"),
            ("1-3", &[2], "1-3"),
        ];
        for (text, more, written) in rows {
            assert_eq!(Indexes::parse(text, 20).with(more.iter().copied()).to_string(), written, "{text} and {more:?}");
        }
    }

    #[test]
    fn the_first_missing_indexes_are_found() {
        let rows: [(&str, usize, i32, &[i32]); 5] = [
            ("", 3, 5, &[0, 1, 2]),
            ("0-2", 3, 5, &[3, 4]),
            ("1,3", 3, 5, &[0, 2, 4]),
            ("0-4", 3, 5, &[]),
            ("2-9", 1, 5, &[0]),
        ];
        for (text, count, completions, missing) in rows {
            assert_eq!(Indexes::parse(text, 20).first_missing(count, completions), missing, "{text}");
        }
    }

    #[test]
    fn membership_and_overlap() {
        let set = Indexes::parse("1,3-5,9", 20);
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 6, 9, 10].map(|index| set.has(index)),
            [false, true, false, true, true, true, false, true, false]
        );
        for (other, shared) in [("0-20", 5), ("2", 0), ("4-9", 3), ("0-1,3", 2)] {
            assert_eq!(set.shared(&Indexes::parse(other, 20)), shared, "{other}");
        }
    }
}
