//! Series of numbers with labels, written as Prometheus reads them. A series comes into being with its first number; after that a number costs one look-up and
//! one addition, and whoever keeps a series' handle saves the look-up.

pub mod process;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Adds to it, or takes from it.
    pub fn add(&self, by: i64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    /// Makes it this.
    pub fn set(&self, to: usize) {
        self.0.store(i64::try_from(to).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// What it is.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One more of something for as long as this lives.
#[derive(Debug)]
pub struct Held(Arc<Gauge>);

impl Held {
    /// Counts one more.
    pub fn new(gauge: Arc<Gauge>) -> Self {
        gauge.add(1);
        Self(gauge)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

/// How often values fell below each of some bounds.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One per bound, not cumulated, and one for what is above all of them.
    counts: Vec<AtomicU64>,
    /// In millionths.
    sum: AtomicU64,
}

impl Histogram {
    /// A histogram with these upper bounds, in rising order.
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }

    /// Counts a value.
    pub fn observe(&self, value: f64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        // Negative or absurd values count as nothing; a cast of a float saturates.
        self.sum.fetch_add((value * 1e6) as u64, Ordering::Relaxed);
    }

    /// Counts a time, in seconds.
    pub fn observe_time(&self, time: Duration) {
        self.observe(time.as_secs_f64());
    }
}

/// What a family consists of.
pub trait Metric {
    /// What Prometheus calls it.
    const TYPE: &'static str;
    /// Writes the lines of one series; `labels` has no braces.
    fn write(&self, out: &mut String, name: &str, labels: &str);
}

/// Writing to a String can't fail.
fn line(out: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let _infallible = match labels {
        "" => writeln!(out, "{name} {value}"),
        labels => writeln!(out, "{name}{{{labels}}} {value}"),
    };
}

impl Metric for Counter {
    const TYPE: &'static str = "counter";

    fn write(&self, out: &mut String, name: &str, labels: &str) {
        line(out, name, labels, self.0.load(Ordering::Relaxed));
    }
}

impl Metric for Gauge {
    const TYPE: &'static str = "gauge";

    fn write(&self, out: &mut String, name: &str, labels: &str) {
        line(out, name, labels, self.get());
    }
}

impl Metric for Histogram {
    const TYPE: &'static str = "histogram";

    fn write(&self, out: &mut String, name: &str, labels: &str) {
        let comma = if labels.is_empty() { "" } else { "," };
        let bucket = format!("{name}_bucket");
        let mut sum = 0;
        for (i, count) in self.counts.iter().enumerate() {
            sum += count.load(Ordering::Relaxed);
            let le = self.bounds.get(i).map_or("+Inf".to_owned(), |b| format_bound(*b));
            line(out, &bucket, &format!("{labels}{comma}le=\"{le}\""), sum);
        }
        line(out, &format!("{name}_sum"), labels, self.sum.load(Ordering::Relaxed) as f64 / 1e6);
        line(out, &format!("{name}_count"), labels, sum);
    }
}

/// As Prometheus' Go client writes it: large bounds with an exponent.
fn format_bound(bound: f64) -> String {
    if bound < 1e6 {
        return bound.to_string();
    }
    let text = format!("{bound:e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => format!("{mantissa}e+{exponent:0>2}"),
        None => text,
    }
}

/// The labels of one series, as text.
#[derive(Debug, Default)]
pub struct Labels(String);

impl Labels {
    /// Adds a label; its value is escaped.
    pub fn add(&mut self, name: &str, value: &str) -> &mut Self {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.0.push_str(name);
        self.0.push_str("=\"");
        if value.contains(['\\', '"', '\n']) {
            self.0.push_str(&value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"));
        } else {
            self.0.push_str(value);
        }
        self.0.push('"');
        self
    }

    /// As a series is written, without braces.
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// All series of one name.
#[derive(Debug)]
pub struct Family<T> {
    name: &'static str,
    help: &'static str,
    make: fn() -> T,
    series: RwLock<HashMap<Box<str>, Arc<T>>>,
}

impl<T: Metric> Family<T> {
    /// A family without series. `make` makes those that come.
    pub fn new(name: &'static str, help: &'static str, make: fn() -> T) -> Self {
        Self { name, help, make, series: RwLock::default() }
    }

    /// The series with these labels.
    pub fn with(&self, label: impl FnOnce(&mut Labels)) -> Arc<T> {
        let mut labels = Labels(String::with_capacity(160));
        label(&mut labels);
        let known = self.series.read().unwrap_or_else(PoisonError::into_inner).get(labels.0.as_str()).cloned();
        known.unwrap_or_else(|| {
            let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
            series.entry(labels.0.into()).or_insert_with(|| Arc::new((self.make)())).clone()
        })
    }

    /// Writes all series, sorted by their labels.
    pub fn write(&self, out: &mut String) {
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        if series.is_empty() {
            return;
        }
        head(out, self.name, self.help, T::TYPE);
        let mut sorted: Vec<_> = series.iter().collect();
        sorted.sort_by_key(|(labels, _)| *labels);
        for (labels, metric) in sorted {
            metric.write(out, self.name, labels);
        }
    }
}

fn head(out: &mut String, name: &str, help: &str, kind: &str) {
    let _infallible = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// A family whose numbers are known only when asked for.
pub fn write_once(out: &mut String, name: &str, help: &str, kind: &str, values: &[(String, f64)]) {
    if !values.is_empty() {
        head(out, name, help, kind);
        values.iter().for_each(|(labels, value)| line(out, name, labels, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_written_as_prometheus_reads_them() {
        let requests = Family::<Counter>::new("requests_total", "Requests.", Counter::default);
        for (code, count) in [("500", 1), ("200", 2)] {
            requests
                .with(|l| {
                    l.add("code", code).add("path", "a\"b");
                })
                .add(count);
        }
        let mut out = String::new();
        requests.write(&mut out);
        let expected = "# HELP requests_total Requests.\n# TYPE requests_total counter\n\
                        requests_total{code=\"200\",path=\"a\\\"b\"} 2\nrequests_total{code=\"500\",path=\"a\\\"b\"} 1\n";
        assert_eq!(out, expected);

        let times = Family::new("seconds", "Times.", || Histogram::new(&[0.5, 1e7]));
        for value in [0.25, 0.5, 2.0, 1e8] {
            times.with(|_| {}).observe(value);
        }
        out.clear();
        times.write(&mut out);
        let lines: Vec<&str> = out.lines().skip(2).collect();
        let expected = [
            "seconds_bucket{le=\"0.5\"} 2",
            "seconds_bucket{le=\"1e+07\"} 3",
            "seconds_bucket{le=\"+Inf\"} 4",
            "seconds_sum 100000002.75",
            "seconds_count 4",
        ];
        assert_eq!(lines, expected);
    }
}
