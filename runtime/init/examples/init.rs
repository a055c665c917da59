//! A stand-in for the `kiln` binary: PID 1 as shipped, and a service that says what a joining agent says. It boots real
//! kernels in tests of this crate without the rest of the runtime.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

fn main() {
    if kiln_init::is_init() {
        kiln_init::main();
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    eprintln!("service started: {}", arguments.join(" "));
    eprintln!("board id {}", std::env::var("KILN_BOARD_ID").unwrap_or_default());
    let memory = std::fs::read_to_string("/proc/1/status").unwrap_or_default();
    for line in memory.lines().filter(|l| l.starts_with("VmRSS") || l.starts_with("RssAnon")) {
        eprintln!("PID 1 {line}");
    }
    let Ok(path) = std::env::var("NOTIFY_SOCKET") else {
        return;
    };
    let Ok(socket) = UnixDatagram::unbound() else {
        return;
    };
    let say = |text: &str| {
        if let Err(error) = socket.send_to(text.as_bytes(), &path) {
            eprintln!("notify: {error}");
        }
    };
    say("X_KILN_STEP=ca\nSTATUS=asking for the CA");
    say("X_KILN_TIME=1900000000");
    // A file on STATE tells the second start from the first: the first one crashes before it has joined.
    let marker = "/var/lib/kiln/crashed-once";
    if !std::path::Path::new(marker).exists() {
        if let Err(error) = std::fs::write(marker, "") {
            eprintln!("{marker}: {error}");
        }
        say("X_KILN_ERROR=the first start fails\nX_KILN_HELP=wait");
        std::process::exit(3);
    }
    say("X_KILN_STEP=ready\nREADY=1\nX_KILN_SCRUB_TOKEN=1\nX_KILN_IMPORTED_CA=1");
    loop {
        std::thread::sleep(Duration::from_secs(60));
    }
}
