//! An extender that listens on loopback, and the scheduler's settings that name it.

#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part of it, and a failed step fails the test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use kiln_scheduler::Config;
use serde_json::Value;

/// The settings with these extenders, each as YAML on one line.
pub(crate) fn config(extenders: &[&str]) -> Config {
    let mut text =
        "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nextenders:\n".to_owned();
    for extender in extenders {
        text += &format!("- {extender}\n");
    }
    Config::parse(&text).unwrap()
}

/// Answers each request by its path and body; answers where it listens.
pub(crate) fn serve(answer: impl Fn(&str, Value) -> Value + Send + 'static) -> String {
    format!("http://{}/scheduler/", listen(Some, answer))
}

/// The same over streams as they are once `opened`.
pub(crate) fn listen<S: Read + Write>(
    opened: impl Fn(TcpStream) -> Option<S> + Send + 'static,
    answer: impl Fn(&str, Value) -> Value + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            if let Some(stream) = opened(stream.unwrap()) {
                answer_one(BufReader::new(stream), &answer);
            }
        }
    });
    address
}

fn answer_one<S: Read + Write>(mut stream: BufReader<S>, answer: &impl Fn(&str, Value) -> Value) {
    let (mut line, mut path, mut length) = (String::new(), String::new(), 0);
    while stream.read_line(&mut line).unwrap() > 2 {
        if path.is_empty() {
            path = line.split(' ').nth(1).unwrap().to_owned();
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    let answer = answer(&path, serde_json::from_slice(&body).unwrap()).to_string();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length:";
    write!(stream.get_mut(), "{head} {}\r\n\r\n{answer}", answer.len()).unwrap();
    stream.get_mut().flush().unwrap();
}
