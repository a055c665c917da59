//! The few words of QEMU's machine protocol (QMP) that end a run.

use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde_json::Value;

/// QEMU answers at once or not at all.
const PATIENCE: Duration = Duration::from_secs(3);

/// Connects to a monitor and gives it one command without arguments.
///
/// # Errors
/// The monitor is gone, silent, or refuses; in each case the command was not carried out.
pub(super) fn execute(socket: &Path, command: &str) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(stream.try_clone()?);
    read(&mut lines)?; // the greeting
    for command in ["qmp_capabilities", command] {
        stream.write_all(format!("{{\"execute\":\"{command}\"}}\n").as_bytes())?;
        loop {
            let reply = read(&mut lines)?;
            if reply.get("return").is_some() {
                break;
            }
            if let Some(error) = reply.get("error") {
                return Err(io::Error::other(error.to_string()));
            }
        }
    }
    Ok(())
}

fn read(lines: &mut impl BufRead) -> io::Result<Value> {
    let mut line = String::new();
    if lines.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_str(&line)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{os::unix::net::UnixListener, thread};

    #[test]
    fn events_between_command_and_reply_are_passed_over() {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("qmp");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let monitor = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut lines = BufReader::new(stream.try_clone().expect("a second handle"));
            stream.write_all(b"{\"QMP\":{}}\n").expect("greeted");
            let first = read(&mut lines).expect("a command");
            stream.write_all(b"{\"return\":{}}\n").expect("answered");
            let second = read(&mut lines).expect("a command");
            stream.write_all(b"{\"event\":\"POWERDOWN\"}\n{\"return\":{}}\n").expect("answered");
            (first["execute"].clone(), second["execute"].clone())
        });
        execute(&socket, "system_powerdown").expect("carried out");
        assert_eq!(monitor.join().expect("no panic"), ("qmp_capabilities".into(), "system_powerdown".into()));
    }
}
