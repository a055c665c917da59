//! `/containerLogs`: a container's log as the runtime writes it, from where and as long as is asked.
//!
//! Options and the container's state say which file and from where (`serve`); `tail` finds the first line, `line` reads the
//! CRI's format, `reader` sends what is wanted, and `news` waits for more: by inotify, through rotations, until the container
//! has ended. A log that is followed costs nothing while nothing is written.

mod line;
mod news;
mod reader;
mod tail;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use http::{Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};
use kiln_client::Body;
use tokio::sync::mpsc;

use self::reader::Reader;
use super::answer::{Refusal, channel, text};
use super::routes::Asked;
use super::{PodView, Server};
use crate::cri::{ContainerState, ContainerStatusRequest, CriError, Runtime};

/// Pieces of a log that wait to be sent.
const WAITING: usize = 4;

/// Which streams of the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Streams {
    All,
    Stdout,
    Stderr,
}

/// What of a log is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) follow: bool,
    pub(super) timestamps: bool,
    pub(super) since: Option<Timestamp>,
    pub(super) tail: Option<u64>,
    pub(super) limit: Option<u64>,
    pub(super) streams: Streams,
}

impl Options {
    fn read(asked: &Asked, now: Timestamp) -> Result<Self, Refusal> {
        let undecoded = || Refusal::bad_request(r#"{"message": "Unable to decode query."}"#);
        let invalid = || Refusal(StatusCode::UNPROCESSABLE_ENTITY, r#"{"message": "Invalid request."}"#.into());
        let number = |key: &str| asked.get(key).map(str::parse::<i64>).transpose().map_err(|_| undecoded());
        let tail = match asked.get("tail") {
            Some("all") => None,
            Some(text) => Some(text.parse().map_err(|_| undecoded())?),
            None => number("tailLines")?,
        };
        let (limit, seconds) = (number("limitBytes")?, number("sinceSeconds")?);
        let time = asked.get("sinceTime").map(str::parse::<Timestamp>).transpose().map_err(|_| undecoded())?;
        let streams = match asked.get("stream") {
            None | Some("All") => Streams::All,
            Some("Stdout") => Streams::Stdout,
            Some("Stderr") => Streams::Stderr,
            Some(_) => return Err(invalid()),
        };
        let below = |n: Option<i64>, least| n.is_some_and(|n| n < least);
        let both = time.is_some() && seconds.is_some();
        let split_tail = streams != Streams::All && tail.is_some();
        if below(tail, 0) || below(limit, 1) || below(seconds, 1) || both || split_tail {
            return Err(invalid());
        }
        let ago = |s: i64| now.checked_sub(SignedDuration::from_secs(s)).unwrap_or(Timestamp::MIN);
        Ok(Self {
            follow: asked.flag("follow"),
            timestamps: asked.flag("timestamps"),
            since: time.or(seconds.map(ago)),
            tail: tail.and_then(|n| u64::try_from(n).ok()),
            limit: limit.and_then(|n| u64::try_from(n).ok()),
            streams,
        })
    }
}

/// Answers a request for a log.
pub(super) async fn serve(
    server: &Server,
    namespace: &str,
    pod: &str,
    container: &str,
    asked: &Asked,
) -> Result<Response<Body>, Refusal> {
    let options = Options::read(asked, server.0.clock.now())?;
    let Some(view) = server.0.host.pod(namespace, pod) else {
        return Err(Refusal::not_found(format!("pod {pod:?} does not exist")));
    };
    if !view.has_container(container) {
        return Err(Refusal::not_found(format!("container {container:?} not found in pod {pod:?}")));
    }
    let id = container_id(&view, container, asked.flag("previous")).map_err(Refusal::bad_request)?;
    let path = path(server, &view, &id).await?;
    let reader = Reader::open(&path, options.clone())
        .map_err(|e| Refusal::bad_request(format!("failed to open log file {:?}: {e}", path.display().to_string())))?;
    let (sender, frames) = mpsc::channel(WAITING);
    let (runtime, shutdown) = (server.0.runtime.clone(), server.0.shutdown.clone());
    tokio::spawn(async move {
        let reading = async {
            match options.follow {
                true => reader.follow(&sender, || is_running(runtime.clone(), id.clone())).await,
                false => reader.read(&sender).await,
            }
        };
        tokio::select! {
            ended = reading => if let Err(error) = ended {
                tracing::warn!(path = %path.display(), %error, "a log could not be read to its end");
            },
            () = shutdown.cancelled() => {}
            () = sender.closed() => {}
        }
    });
    let mut response = text(StatusCode::OK, "text/plain", "");
    *response.body_mut() = channel(frames);
    Ok(response)
}

/// Whether the container still runs. A runtime that is not there can't say; its containers go on.
async fn is_running(runtime: Runtime, container_id: String) -> Result<bool, CriError> {
    let request = ContainerStatusRequest { container_id, verbose: false };
    match runtime.container_status(&request).await {
        Ok(answer) => Ok(answer.status.is_some_and(|s| s.state == ContainerState::Running as i32)),
        Err(error) if error.is_unavailable() => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// The file of a container's log.
async fn path(server: &Server, view: &PodView, id: &str) -> Result<PathBuf, Refusal> {
    if let Some(known) = view.containers.iter().find(|c| c.id == id && !c.log.as_os_str().is_empty()) {
        return Ok(known.log.clone());
    }
    let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
    let unavailable = |why: String| Refusal::bad_request(format!("unable to retrieve container logs for {why}"));
    let answer = server.0.runtime.container_status(&request).await;
    let status = answer.map_err(|_| unavailable(format!("containerd://{id}")))?.status;
    status.map(|s| PathBuf::from(s.log_path)).ok_or_else(|| unavailable(format!("containerd://{id}")))
}

/// Which container of the runtime is meant, by what the pod's status says of it; else why it has no log.
fn container_id(view: &PodView, name: &str, previous: bool) -> Result<String, String> {
    let pod = view.name();
    let found = view.status().and_then(|s| find(s, name));
    let Some(status) = found else { return Err(format!("container {name:?} in pod {pod:?} is not available")) };
    let id = |uri: &Option<String>| uri.as_deref().and_then(|u| u.split_once("://")).map(|(_, id)| id.to_owned());
    let last = status.last_state.as_ref().and_then(|s| s.terminated.as_ref()).map(|t| id(&t.container_id));
    if previous {
        let none = || format!("previous terminated container {name:?} in pod {pod:?} not found");
        return last.flatten().ok_or_else(none);
    }
    let terminated = || format!("container {name:?} in pod {pod:?} is terminated");
    let no_logs = || format!("container {name:?} in pod {pod:?} is waiting to start - no logs yet");
    let Some(state) = &status.state else { return last.map_or_else(|| Err(no_logs()), |id| id.ok_or_else(terminated)) };
    if state.running.is_some() {
        return id(&status.container_id).ok_or_else(no_logs);
    }
    if let Some(now) = &state.terminated {
        // The next one may not have started.
        return id(&now.container_id).or(last.flatten()).ok_or_else(terminated);
    }
    if let Some(last) = last {
        return last.ok_or_else(terminated);
    }
    let Some(waiting) = &state.waiting else { return Err(no_logs()) };
    let why = match waiting.reason.as_deref().unwrap_or_default() {
        "ErrImagePull" => "image can't be pulled",
        "ImagePullBackOff" => "trying and failing to pull image",
        other => other,
    };
    Err(format!("container {name:?} in pod {pod:?} is waiting to start: {why}"))
}

fn find<'a>(status: &'a PodStatus, name: &str) -> Option<&'a ContainerStatus> {
    let lists = [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    lists.into_iter().flatten().flatten().find(|c| c.name == name)
}

#[cfg(test)]
mod state_tests {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;

    fn options(query: &str) -> Result<Options, u16> {
        let uri: http::Uri = format!("/containerLogs/d/p/c?{query}").parse().unwrap();
        let now = "2026-01-02T00:00:10Z".parse().unwrap();
        Options::read(&Asked::new(&uri), now).map_err(|refusal| refusal.0.as_u16())
    }

    #[test]
    fn options_are_read_as_the_reference_reads_them() {
        let all = options("follow=true&timestamps=1&tailLines=5&limitBytes=10&sinceSeconds=10").unwrap();
        let since = Some("2026-01-02T00:00:00Z".parse().unwrap());
        let expected =
            Options { follow: true, timestamps: true, since, tail: Some(5), limit: Some(10), streams: Streams::All };
        assert_eq!(all, expected);
        assert_eq!(options("tail=all&tailLines=3").unwrap().tail, None);
        assert_eq!(options("sinceTime=2026-01-02T00%3A00%3A00Z").unwrap().since, since);
        assert_eq!(options("stream=Stderr").unwrap().streams, Streams::Stderr);
        for (query, code) in [
            ("tailLines=x", 400),
            ("sinceTime=yesterday", 400),
            ("tailLines=-1", 422),
            ("limitBytes=0", 422),
            ("sinceSeconds=0", 422),
            ("sinceSeconds=1&sinceTime=2026-01-02T00%3A00%3A00Z", 422),
            ("stream=Both", 422),
            ("stream=Stdout&tailLines=1", 422),
        ] {
            assert_eq!(options(query), Err(code), "{query}");
        }
    }

    #[test]
    fn the_state_of_a_container_says_which_log_there_is_or_why_none() {
        let running = json!({"running": {}});
        let ended = json!({"terminated": {"exitCode": 0, "containerID": "containerd://new"}});
        let ended_without = json!({"terminated": {"exitCode": 0}});
        let last = json!({"terminated": {"exitCode": 1, "containerID": "containerd://old"}});
        let waiting = |reason: &str| json!({"waiting": {"reason": reason}});
        let rows = [
            (running.clone(), json!({}), false, Ok("new")),
            (running.clone(), last.clone(), true, Ok("old")),
            (running, json!({}), true, Err("previous terminated container \"c\" in pod \"p\" not found")),
            (ended, json!({}), false, Ok("new")),
            (ended_without.clone(), last.clone(), false, Ok("old")),
            (ended_without, json!({}), false, Err("container \"c\" in pod \"p\" is terminated")),
            (waiting("CrashLoopBackOff"), last, false, Ok("old")),
            (
                waiting("ContainerCreating"),
                json!({}),
                false,
                Err("container \"c\" in pod \"p\" is waiting to start: ContainerCreating"),
            ),
            (
                waiting("ErrImagePull"),
                json!({}),
                false,
                Err("container \"c\" in pod \"p\" is waiting to start: image can't be pulled"),
            ),
            (json!({}), json!({}), false, Err("container \"c\" in pod \"p\" is waiting to start - no logs yet")),
        ];
        for (state, last, previous, expected) in rows {
            let status = json!({"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "containerID": "containerd://new", "state": state, "lastState": last});
            let pod = json!({"metadata": {"name": "p"}, "status": {"containerStatuses": [status]}});
            let pod: Pod = serde_json::from_value(pod).unwrap();
            let view = PodView { pod: Arc::new(pod), status: None, sandbox: None, containers: Vec::new() };
            let got = container_id(&view, "c", previous);
            assert_eq!(got.as_deref().map_err(String::as_str), expected, "{state}");
        }
    }
}
