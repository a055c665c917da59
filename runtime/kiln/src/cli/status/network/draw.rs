//! The picture as a tree of lines.

use std::fmt::Write as _;

use super::{Outcome, Picture, Reached};

/// One branch: a heading and what is below it.
struct Branch {
    text: String,
    below: Vec<String>,
}

/// Draws it.
pub(in crate::cli::status) fn draw(picture: &Picture) -> String {
    let mut branches = vec![Branch { text: line(&picture.api), below: Vec::new() }];
    for node in &picture.nodes {
        branches.push(Branch { text: format!("node {}", node.name), below: vec![line(&node.node), line(&node.pods)] });
    }
    for (heading, all) in [("DNS", &picture.dns), ("Services", &picture.services)] {
        if !all.is_empty() {
            branches.push(Branch { text: heading.to_owned(), below: all.iter().map(line).collect() });
        }
    }
    let mut out = format!("{} reaches\n", picture.from);
    let last = branches.len() - 1;
    for (index, branch) in branches.into_iter().enumerate() {
        let (fork, stem) = if index == last { ("└─", "  ") } else { ("├─", "│ ") };
        // Writing to a String can't fail.
        _ = writeln!(out, "{fork} {}", branch.text);
        let ends = branch.below.len();
        for (index, text) in branch.below.into_iter().enumerate() {
            let fork = if index + 1 == ends { "└─" } else { "├─" };
            _ = writeln!(out, "{stem} {fork} {text}");
        }
    }
    out
}

fn line(reached: &Reached) -> String {
    let Reached { what, at, outcome } = reached;
    let mut out = what.clone();
    if let Some(at) = at {
        _ = write!(out, " at {at}");
    }
    match outcome {
        Outcome::Reached { milliseconds, answer } => {
            let answer = answer.as_ref().map(|answer| format!(" ({answer})")).unwrap_or_default();
            _ = write!(out, ": yes, {milliseconds} ms{answer}");
        }
        Outcome::Failed { reason } => _ = write!(out, ": NO, {reason}"),
        Outcome::Untried { reason } => _ = write!(out, ": not tried, {reason}"),
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::OtherNode;
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_picture_is_a_tree_with_reasons() {
        let reached = |what: &str, at: &str, outcome: Outcome| Reached {
            what: what.to_owned(),
            at: Some(at.to_owned()),
            outcome,
        };
        let yes = || Outcome::reached(Duration::from_micros(1230), None);
        let picture = Picture {
            from: "hub".to_owned(),
            api: reached("API", "https://10.0.0.1:6443", yes()),
            nodes: vec![OtherNode {
                name: "pi".to_owned(),
                node: reached("node", "10.0.0.2", yes()),
                pods: Reached {
                    what: "pods".to_owned(),
                    at: None,
                    outcome: Outcome::Untried { reason: "none".to_owned() },
                },
            }],
            dns: vec![reached("names outside", "10.43.0.10", Outcome::failed("no answer within 2s"))],
            services: Vec::new(),
        };
        let wanted = "\
hub reaches
├─ API at https://10.0.0.1:6443: yes, 1.2 ms
├─ node pi
│  ├─ node at 10.0.0.2: yes, 1.2 ms
│  └─ pods: not tried, none
└─ DNS
   └─ names outside at 10.43.0.10: NO, no answer within 2s
";
        assert_eq!(draw(&picture), wanted);
        let json = serde_json::to_value(&picture).unwrap();
        assert_eq!(json["dns"][0]["result"], "failed");
        assert_eq!(json["nodes"][0]["node"]["milliseconds"], 1.2);
    }
}
