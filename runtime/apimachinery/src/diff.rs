//! Where two values differ, for people: a unified diff of their JSON, as refusals of changes to what can't be changed show it.

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};

/// Equal lines around each change.
const CONTEXT: usize = 3;
/// The largest product of line counts between which equal lines are looked for.
const MOST: usize = 1 << 20;

/// The difference between two values as a unified diff of their JSON, which is indented by one blank. Empty if there is none.
pub fn diff(old: &Value, new: &Value) -> String {
    let (old, new) = (pretty(old), pretty(new));
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let mut out = String::new();
    for hunk in hunks(&edits(&old, &new)) {
        let (first, last) = (&hunk[0], &hunk[hunk.len() - 1]);
        let (from, to) = (range(first.old.0, last.old.1), range(first.new.0, last.new.1));
        out.push_str(&format!("@@ -{from} +{to} @@\n"));
        for edit in &hunk {
            let removed = if edit.equal { ' ' } else { '-' };
            push(&mut out, removed, &old[edit.old.0..edit.old.1]);
            if !edit.equal {
                push(&mut out, '+', &new[edit.new.0..edit.new.1]);
            }
        }
    }
    out
}

fn push(out: &mut String, sign: char, lines: &[&str]) {
    for line in lines {
        out.push(sign);
        out.push_str(line);
        out.push('\n');
    }
}

fn pretty(value: &Value) -> String {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, PrettyFormatter::with_indent(b" "));
    match value.serialize(&mut serializer) {
        Ok(()) => String::from_utf8_lossy(&bytes).into_owned(),
        // A Value has text keys only, so it can be written.
        Err(_) => value.to_string(),
    }
}

/// A run of lines that both have, or that take each other's place.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Edit {
    equal: bool,
    old: (usize, usize),
    new: (usize, usize),
}

/// The first line of a range and how many there are.
fn range(start: usize, end: usize) -> String {
    match end - start {
        1 => format!("{}", start + 1),
        // Before which there are none.
        0 => format!("{start},0"),
        count => format!("{},{count}", start + 1),
    }
}

/// Turns one into the other, by the longest run of lines that both have in the same order.
fn edits(old: &[&str], new: &[&str]) -> Vec<Edit> {
    let same = |(a, b): &(&&str, &&str)| a == b;
    let head = old.iter().zip(new).take_while(same).count();
    let tail = old[head..].iter().rev().zip(new[head..].iter().rev()).take_while(same).count();
    let (a, b) = (&old[head..old.len() - tail], &new[head..new.len() - tail]);
    let mut out = Vec::new();
    let mut add = |equal: bool, old: (usize, usize), new: (usize, usize)| {
        if old.0 < old.1 || new.0 < new.1 {
            out.push(Edit { equal, old, new });
        }
    };
    add(true, (0, head), (0, head));
    let (mut i, mut j) = (0, 0);
    for (x, y, count) in common(a, b) {
        add(false, (head + i, head + x), (head + j, head + y));
        add(true, (head + x, head + x + count), (head + y, head + y + count));
        (i, j) = (x + count, y + count);
    }
    add(false, (head + i, head + a.len()), (head + j, head + b.len()));
    add(true, (old.len() - tail, old.len()), (new.len() - tail, new.len()));
    out
}

/// Runs of common lines: where each begins in the one and in the other, and its length.
fn common(a: &[&str], b: &[&str]) -> Vec<(usize, usize, usize)> {
    if a.is_empty() || b.is_empty() || a.len() * b.len() > MOST {
        return Vec::new();
    }
    // How many lines the rests from i and j on have in common.
    let width = b.len() + 1;
    let mut rest = vec![0_u32; (a.len() + 1) * width];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            rest[i * width + j] = match a[i] == b[j] {
                true => rest[(i + 1) * width + j + 1] + 1,
                false => rest[(i + 1) * width + j].max(rest[i * width + j + 1]),
            };
        }
    }
    let mut runs: Vec<(usize, usize, usize)> = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        if a[i] == b[j] {
            match runs.last_mut().filter(|(x, y, count)| (x + *count, y + *count) == (i, j)) {
                Some((_, _, count)) => *count += 1,
                None => runs.push((i, j, 1)),
            }
            (i, j) = (i + 1, j + 1);
        } else if rest[(i + 1) * width + j] >= rest[i * width + j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    runs
}

/// The edits in groups, with the equal lines around them cut short.
fn hunks(edits: &[Edit]) -> Vec<Vec<Edit>> {
    let mut out = Vec::new();
    let mut hunk: Vec<Edit> = Vec::new();
    for (at, edit) in edits.iter().enumerate() {
        if !edit.equal {
            hunk.push(edit.clone());
            continue;
        }
        let count = edit.old.1 - edit.old.0;
        let (before, after) = (at > 0, at + 1 < edits.len());
        if before && after && count <= 2 * CONTEXT {
            hunk.push(edit.clone());
            continue;
        }
        if before {
            let kept = count.min(CONTEXT);
            hunk.push(Edit {
                old: (edit.old.0, edit.old.0 + kept),
                new: (edit.new.0, edit.new.0 + kept),
                ..edit.clone()
            });
            out.push(std::mem::take(&mut hunk));
        }
        if after {
            let kept = count.min(CONTEXT);
            hunk.push(Edit {
                old: (edit.old.1 - kept, edit.old.1),
                new: (edit.new.1 - kept, edit.new.1),
                ..edit.clone()
            });
        }
    }
    if hunk.iter().any(|edit| !edit.equal) {
        out.push(hunk);
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changed_lines_are_shown_with_three_around_them() {
        let object = |size: &str| {
            json!({
                "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}},
                "storageClassName": "fast", "volumeMode": "Filesystem", "volumeName": "v",
            })
        };
        let expected = "@@ -4,7 +4,7 @@\n  ],\n  \"resources\": {\n   \"requests\": {\n-   \"storage\": \"1Gi\"\n+   \"storage\": \
                        \"2Gi\"\n   }\n  },\n  \"storageClassName\": \"fast\",\n";
        assert_eq!(diff(&object("1Gi"), &object("2Gi")), expected);
        assert_eq!(diff(&object("1Gi"), &object("1Gi")), "");
    }

    #[test]
    fn changes_far_from_each_other_are_hunks_of_their_own() {
        let old: Vec<u32> = (0..30).collect();
        let mut new = old.clone();
        new.remove(25);
        new.insert(2, 100);
        new[7] = 200;
        let told = diff(&json!(old), &json!(new));
        assert_eq!(told.matches("@@ -").count(), 2, "{told}");
        let changed: Vec<&str> = told.lines().filter(|line| line.starts_with(['+', '-'])).collect();
        assert_eq!(changed, ["+ 100,", "- 6,", "+ 200,", "- 25,"]);
        assert!(told.starts_with("@@ -1,11 +1,12 @@\n [\n  0,\n  1,\n+ 100,\n"), "{told}");
    }
}
