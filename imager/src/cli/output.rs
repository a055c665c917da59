//! What goes to stdout: text for people, or one JSON document.

use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;

/// The form of what is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Prints results.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output(Format);

impl Output {
    pub(super) fn new(format: Format) -> Self {
        Self(format)
    }

    /// Prints `value` as JSON, or what `text` makes of it.
    pub(super) fn print<T: Serialize>(self, value: &T, text: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
        let mut out = match self.0 {
            Format::Text => text(value),
            Format::Json => serde_json::to_string_pretty(value)?,
        };
        if !out.ends_with('\n') {
            out.push('\n');
        }
        match io::stdout().lock().write_all(out.as_bytes()) {
            // `imager boards | head -1` is no failure.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => Ok(other?),
        }
    }
}

/// Rows under headings, each column as wide as its widest cell.
pub(super) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = headings.iter().map(|heading| heading.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}", width = *width)).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let mut out = line(headings.to_vec());
    for row in rows {
        out.push_str(&line(row.iter().map(String::as_str).collect()));
    }
    out
}

/// Bytes in the largest unit that keeps a digit before the point.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_have_no_trailing_blanks() {
        let text =
            table(&["NAME", "ARCH"], &[vec!["rpi4".into(), "aarch64".into()], vec!["virt-armv7".into(), "".into()]]);
        assert_eq!(text, "NAME        ARCH\nrpi4        aarch64\nvirt-armv7\n");
    }

    #[test]
    fn sizes_have_one_digit_after_the_point() {
        assert_eq!(size(512), "512 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(268_435_456), "256.0 MiB");
        assert_eq!(size(4 << 30), "4.0 GiB");
    }
}
