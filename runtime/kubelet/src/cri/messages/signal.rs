//! The CRI's numbers of stop signals, which are no kernel's.

/// Numbers 1 to 35; from there on the real-time signals count up from `SIGRTMIN` and down to `SIGRTMAX`.
const NAMES: &str = "\
    ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV \
    STKFLT STOP SYS TERM TRAP TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ RTMIN";
const RTMIN: i32 = 35;
const RTMAX: i32 = 65;
/// The last of those that are named after `SIGRTMIN`.
const RTMIN_LAST: i32 = 50;

/// The CRI's number of a signal by its name, as a Pod's `lifecycle.stopSignal` has it (`SIGTERM`, `SIGRTMIN+3` as
/// `SIGRTMINPLUS3`).
pub fn signal(name: &str) -> Option<i32> {
    (1..=RTMAX).find(|number| signal_name(*number).as_deref() == Some(name))
}

/// The name of the signal with this number; none for 0, the runtime's default.
pub fn signal_name(number: i32) -> Option<String> {
    match number {
        RTMAX => Some("SIGRTMAX".to_owned()),
        1..=RTMIN => {
            let index = usize::try_from(number).ok()?.checked_sub(1)?;
            NAMES.split(' ').nth(index).map(|name| format!("SIG{name}"))
        }
        n if n > RTMIN && n <= RTMIN_LAST => Some(format!("SIGRTMINPLUS{}", n - RTMIN)),
        n if n > RTMIN_LAST && n < RTMAX => Some(format!("SIGRTMAXMINUS{}", RTMAX - n)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_the_numbers_of_the_cri() {
        let rows = [("SIGABRT", 1), ("SIGKILL", 13), ("SIGTERM", 23), ("SIGXFSZ", 34), ("SIGRTMIN", 35)];
        let real_time = [("SIGRTMINPLUS15", 50), ("SIGRTMAXMINUS14", 51), ("SIGRTMAXMINUS1", 64), ("SIGRTMAX", 65)];
        for (name, number) in rows.into_iter().chain(real_time) {
            assert_eq!(signal(name), Some(number), "{name}");
            assert_eq!(signal_name(number).as_deref(), Some(name));
        }
        assert_eq!((signal("SIGRUNTIME_DEFAULT"), signal_name(0), signal_name(66)), (None, None, None));
    }
}
