//! The clock of a board that may have no battery.
//!
//! At start it is moved forward to the latest of: the kernel's own time (an RTC), the image's build, the time saved on
//! STATE, and the CA's notBefore. Then SNTP sets it; without SNTP the pinned server's date moves it forward.

mod der;
pub(crate) mod ntp;
mod sntp;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};

use crate::console::say;
use crate::error::{Error, Result};

/// Where the time is kept over a power cut, seconds since 1970 in decimal.
const SAVED: &str = "/state/clock";
/// A first time later than this after the build comes from a broken RTC.
const SANE: i64 = 30 * 365 * 86_400;

/// How good the clock is, in rising order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Quality {
    /// As the kernel had it.
    Unset = 0,
    /// Not earlier than something known; minutes to months behind.
    LowerBound = 1,
    /// From the pinned server.
    Server = 2,
    /// From SNTP.
    Synchronised = 3,
}

static QUALITY: AtomicU8 = AtomicU8::new(0);

/// The clock's present quality.
pub(crate) fn quality() -> Quality {
    match QUALITY.load(Ordering::Relaxed) {
        0 => Quality::Unset,
        1 => Quality::LowerBound,
        2 => Quality::Server,
        _ => Quality::Synchronised,
    }
}

fn raise(quality: Quality) {
    QUALITY.fetch_max(quality as u8, Ordering::Relaxed);
}

/// Seconds since 1970 by the system clock.
pub(crate) fn now() -> i64 {
    clock_gettime(ClockId::CLOCK_REALTIME).map_or(0, |t| Duration::from(t).as_secs() as i64)
}

/// The present time as `2026-11-24 17:00:00 UTC`.
pub(crate) fn text() -> String {
    Timestamp::from_second(now()).map(|t| t.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()).unwrap_or_default()
}

/// The present time as text, with a word on how far to trust it; `None` while the clock was not set at all.
pub(crate) fn known_text() -> Option<String> {
    match quality() {
        Quality::Unset => None,
        Quality::LowerBound => Some(format!("{} or later (no time server yet)", text())),
        Quality::Server | Quality::Synchronised => Some(text()),
    }
}

/// Sources of a lower bound, in seconds since 1970.
#[derive(Clone, Copy, Debug, Default)]
struct Bounds {
    kernel: i64,
    build: i64,
    saved: Option<i64>,
    ca: Option<i64>,
}

impl Bounds {
    /// The best first time and where it comes from.
    fn latest(self) -> (i64, &'static str) {
        let limit = self.build.saturating_add(SANE);
        let sane = |t: &i64| *t <= limit;
        let candidates = [
            (Some(self.kernel), "RTC"),
            (Some(self.build), "image build"),
            (self.saved, "saved time"),
            (self.ca, "CA certificate"),
        ];
        let mut best = (self.build, "image build");
        for (time, source) in candidates {
            if let Some(time) = time.filter(sane)
                && time > best.0
            {
                best = (time, source);
            }
        }
        best
    }
}

/// Sets the first time from what is known without a network.
pub(crate) fn set_lower_bound(build: i64, ca_certificate: &Path) -> Result<()> {
    let bounds = Bounds {
        kernel: now(),
        build,
        saved: fs::read_to_string(SAVED).ok().and_then(|t| t.trim().parse().ok()),
        ca: fs::read_to_string(ca_certificate).ok().and_then(|pem| der::not_before(&pem)),
    };
    let (time, source) = bounds.latest();
    if time != bounds.kernel {
        set(TimeSpec::new(time as _, 0))?;
    }
    raise(Quality::LowerBound);
    say!("clock: {} by {source}", text());
    Ok(())
}

/// The pinned server's date: moves an unsynchronised clock forward, never back.
pub(crate) fn offer_server_time(time: i64) {
    if quality() >= Quality::Synchronised {
        return;
    }
    let ahead = time.saturating_sub(now());
    if ahead > 0 && ahead < SANE {
        match set(TimeSpec::new(time as _, 0)) {
            Ok(()) => {
                say!("clock: {} by the server ({ahead} s forward)", text());
                raise(Quality::Server);
                if let Err(error) = save() {
                    say!("clock not saved: {error}");
                }
            }
            Err(error) => say!("clock not set: {error}"),
        }
    }
    raise(Quality::Server);
}

/// Moves the clock by `offset` seconds, as SNTP measured; the last source, since it is the best.
fn synchronise(offset: f64, server: &str) -> Result<()> {
    let first = quality() < Quality::Synchronised;
    if offset.abs() > 0.1 {
        let present = clock_gettime(ClockId::CLOCK_REALTIME).map_err(|e| Error::sys("read", "the clock", e))?;
        let target = Duration::from(present).as_secs_f64() + offset;
        set(TimeSpec::from_duration(Duration::try_from_secs_f64(target).unwrap_or_default()))?;
        say!("clock: {} by {server} ({offset:+.1} s)", text());
    } else if first {
        say!("clock: {} by {server}", text());
    }
    raise(Quality::Synchronised);
    Ok(())
}

fn set(time: TimeSpec) -> Result<()> {
    clock_settime(ClockId::CLOCK_REALTIME, time).map_err(|e| Error::sys("set", "the clock", e))
}

/// Saves the time for the next boot; only a time that is more than a lower bound moves the saved one.
pub(crate) fn save() -> Result<()> {
    if quality() == Quality::Unset || !crate::sys::mount::is_mounted("/state") {
        return Ok(());
    }
    crate::files::replace(Path::new(SAVED), format!("{}\n", now()).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_sane_source_sets_the_first_time() {
        let bounds = Bounds { kernel: 100, build: 1_000_000, saved: Some(1_000_500), ca: Some(1_000_200) };
        assert_eq!(bounds.latest(), (1_000_500, "saved time"));
        assert_eq!(Bounds { saved: None, ..bounds }.latest(), (1_000_200, "CA certificate"));
        assert_eq!(Bounds { saved: None, ca: None, ..bounds }.latest(), (1_000_000, "image build"));
        assert_eq!(Bounds { kernel: 2_000_000, ..bounds }.latest(), (2_000_000, "RTC"));
    }

    #[test]
    fn a_broken_rtc_far_in_the_future_is_not_believed() {
        let bounds = Bounds { kernel: i64::from(u32::MAX), build: 1_000_000, saved: None, ca: None };
        assert_eq!(bounds.latest(), (1_000_000, "image build"));
    }
}
