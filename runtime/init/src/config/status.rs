//! `join-status.txt`: how far this node came, for someone who has only the card and a laptop.

use std::fmt::Write;

/// What the file says. Equality decides whether flash is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// The node's name, once known.
    pub(crate) node: Option<String>,
    /// `server` or `agent`, once known.
    pub(crate) role: Option<String>,
    /// Board and version of the image.
    pub(crate) image: Option<String>,
    /// The step in progress or last reached.
    pub(crate) step: String,
    /// What failed and why.
    pub(crate) error: Option<String>,
    /// What a person can do.
    pub(crate) help: Option<String>,
    /// Whether the node is part of its cluster.
    pub(crate) joined: bool,
    /// Interfaces with their addresses or what they lack.
    pub(crate) network: Vec<String>,
}

/// Text is wrapped here, so that it can be read on a phone too.
const WIDTH: usize = 76;
const INDENT: usize = 13;

impl Status {
    /// The file's text with CRLF line ends. `time` is the present time as text, if it is known.
    pub(crate) fn render(&self, time: Option<&str>) -> String {
        let mut lines = vec!["Kiln node status".to_owned(), String::new()];
        let summary = match (&self.error, self.joined) {
            (Some(_), true) => "JOINED, but something is wrong",
            (Some(_), false) => "NOT JOINED: something is wrong",
            (None, true) => "JOINED: this node is part of its cluster",
            (None, false) => "starting; not joined yet",
        };
        field(&mut lines, "State", summary);
        field(&mut lines, "Step", &self.step);
        if let Some(error) = &self.error {
            field(&mut lines, "Problem", error);
        }
        if let Some(help) = &self.help {
            field(&mut lines, "What to do", help);
        }
        lines.push(String::new());
        field(&mut lines, "Node", self.node.as_deref().unwrap_or("(no name yet)"));
        if let Some(role) = &self.role {
            field(&mut lines, "Role", role);
        }
        if let Some(image) = &self.image {
            field(&mut lines, "Image", image);
        }
        for interface in &self.network {
            field(&mut lines, "Network", interface);
        }
        field(&mut lines, "Written at", time.unwrap_or("(the clock is not set)"));
        lines.push(String::new());
        lines.push("The board writes this file itself, whenever something changes.".into());
        lines.iter().fold(String::new(), |mut text, line| {
            let _ = write!(text, "{line}\r\n");
            text
        })
    }
}

/// Adds `Label:      text`, wrapped, with continuation lines indented.
fn field(lines: &mut Vec<String>, label: &str, text: &str) {
    let mut line = format!("{:<INDENT$}", format!("{label}:"));
    let mut empty = true;
    for word in text.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(line);
            line = " ".repeat(INDENT);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    lines.push(line.trim_end().to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_laptop_shows_step_problem_and_remedy_on_lines_of_their_own() {
        let status = Status {
            node: Some("pi-1".into()),
            step: "ca".into(),
            error: Some("the CA of https://10.0.2.2:6443 is not the one in the token; somebody else may answer at this address, so nothing secret was sent".into()),
            help: Some("Make a new token.".into()),
            network: vec!["eth0 192.168.1.7/24".into()],
            ..Status::default()
        };
        let text = status.render(Some("2026-11-24 17:00:00 UTC"));
        assert!(text.contains("State:       NOT JOINED: something is wrong\r\n"));
        assert!(text.contains("Step:        ca\r\n"));
        assert!(text.contains("What to do:  Make a new token.\r\n"));
        assert!(text.contains("Network:     eth0 192.168.1.7/24\r\n"));
        assert!(text.lines().all(|line| line.len() <= WIDTH));
        assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
    }
}
