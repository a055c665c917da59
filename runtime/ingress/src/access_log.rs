//! One line for each request, in the form that nginx and Apache call combined, with the time in seconds and the Service behind it.

use std::net::IpAddr;
use std::time::Duration;

use http::header::{self, HeaderName};
use http::{HeaderMap, Request, Response};

use crate::upstream::Backend;

/// Where lines go: the log, under this target.
const TARGET: &str = "kiln_ingress::access";

/// What is known of a request before it is answered.
pub(crate) struct Line {
    client: IpAddr,
    time: jiff::Timestamp,
    request: String,
    host: String,
    referer: String,
    agent: String,
}

fn text(headers: &HeaderMap, name: &HeaderName) -> String {
    let value = headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    // What could be taken for the end of a field is escaped.
    value.map_or_else(|| "-".to_owned(), |value| value.escape_default().to_string())
}

impl Line {
    /// The line of a request.
    pub(crate) fn new<B>(client: IpAddr, request: &Request<B>) -> Self {
        let host = match request.uri().host() {
            Some(host) => host.to_owned(),
            None => text(request.headers(), &header::HOST),
        };
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        Self {
            client,
            time: jiff::Timestamp::now(),
            request: format!("{} {} {:?}", request.method(), target.escape_default(), request.version()),
            host,
            referer: text(request.headers(), &header::REFERER),
            agent: text(request.headers(), &header::USER_AGENT),
        }
    }

    /// Writes it.
    pub(crate) fn write<B>(self, response: &Response<B>, took: Duration, backend: Option<&Backend>) {
        tracing::info!(target: TARGET, "{}", self.text(response, took, backend));
    }

    fn text<B>(&self, response: &Response<B>, took: Duration, backend: Option<&Backend>) -> String {
        let Self { client, time, request, host, referer, agent } = self;
        let time = time.strftime("%d/%b/%Y:%H:%M:%S +0000");
        let status = response.status().as_u16();
        let length = text(response.headers(), &header::CONTENT_LENGTH);
        let service = backend.map_or_else(|| "-".to_owned(), |b| format!("{}/{}", b.namespace(), b.service()));
        let took = took.as_secs_f64();
        format!(
            "{client} - - [{time}] \"{request}\" {status} {length} \"{referer}\" \"{agent}\" {took:.3} {host} {service}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_who_asked_for_what_and_got_what() {
        let request = Request::get("/a?b=1").header("host", "x.com").header("user-agent", "a\"b").body(()).unwrap();
        let line = Line { time: jiff::Timestamp::UNIX_EPOCH, ..Line::new([192, 0, 2, 1].into(), &request) };
        let response = Response::builder().status(404).header("content-length", "5").body(()).unwrap();
        assert_eq!(
            line.text(&response, Duration::from_millis(12), None),
            "192.0.2.1 - - [01/Jan/1970:00:00:00 +0000] \"GET /a?b=1 HTTP/1.1\" 404 5 \"-\" \"a\\\"b\" 0.012 x.com -"
        );
    }
}
