//! Fuzzers of everything that reads what comes over the network. One program holds all of them; `KILN_FUZZ` names the one
//! to run, and `./run` builds and runs them.
//!
//! A target is a function over bytes. It may refuse what it is given, but not panic, and what it takes must hold what the
//! function says: text that was read is written as text that reads the same, a patch of a good object gives a good one.
#![no_main]

mod targets;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<targets::Target> = OnceLock::new();

fuzz_target!(
    init: {
        let name = std::env::var("KILN_FUZZ").unwrap_or_default();
        let found = targets::ALL.iter().find(|(known, _)| *known == name);
        let Some((_, target)) = found else {
            let names: Vec<&str> = targets::ALL.iter().map(|(name, _)| *name).collect();
            eprintln!("KILN_FUZZ must be one of: {}", names.join(" "));
            std::process::exit(2);
        };
        TARGET.get_or_init(|| *target);
    },
    |data: &[u8]| {
        if let Some(target) = TARGET.get() {
            target(data);
        }
    }
);
