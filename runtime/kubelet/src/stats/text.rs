//! Prometheus' text.

use std::fmt::Write as _;

/// The content type.
pub(crate) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Families of samples, written one after the other.
#[derive(Default)]
pub(super) struct Text(pub(super) String);

impl Text {
    pub(super) fn family(&mut self, name: &str, help: &str, kind: &str) {
        // Writing to a string can't fail.
        _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// A sample, with its time in milliseconds unless that is 0.
    pub(super) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64, time: i64) {
        self.0.push_str(name);
        for (i, (key, text)) in labels.iter().enumerate() {
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            _ = write!(self.0, "{}{key}=\"{escaped}\"", if i == 0 { '{' } else { ',' });
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        _ = write!(self.0, " {value}");
        if time > 0 {
            _ = write!(self.0, " {time}");
        }
        self.0.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_written_as_prometheus_reads_them() {
        let mut text = Text(String::new());
        text.family("a_total", "Of a.", "counter");
        text.sample("a_total", &[("x", "q\"uote"), ("y", "")], 1.5, 7);
        text.sample("a_total", &[], 2.0, 0);
        assert_eq!(
            text.0,
            "# HELP a_total Of a.\n# TYPE a_total counter\na_total{x=\"q\\\"uote\",y=\"\"} 1.5 7\na_total 2\n"
        );
    }
}
