//! A whole server in memory: a line with method, path, content type and `Accept`, and below it a body. What is stored by it
//! can be read back, whatever came in.

use std::cell::RefCell;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use kiln_apiserver::{ApiServer, Config, UserInfo};
use serde_json::Value;
use tokio::runtime::Runtime;

/// Inputs after which a new server takes over, so that what fails can be had again from few of them.
const LIFE: usize = 2_000;

struct World {
    runtime: Runtime,
    server: ApiServer,
    left: usize,
}

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// The target.
pub(super) fn server(data: &[u8]) {
    let end = data.iter().position(|b| *b == b'\n').unwrap_or(data.len());
    let Ok(line) = std::str::from_utf8(&data[..end]) else { return };
    let body = Bytes::copy_from_slice(data.get(end + 1..).unwrap_or_default());
    let mut words = line.split(' ');
    let mut word = || words.next().unwrap_or_default();
    let (method, url, kind, accept) = (word(), word(), word(), word());
    let request = Request::builder().method(method).uri(url).header("content-type", kind).header("accept", accept);
    let Ok(request) = request.body(body) else { return };
    WORLD.with_borrow_mut(|world| {
        if world.as_ref().is_none_or(|w| w.left == 0) {
            *world = Some(new());
        }
        if let Some(world) = world {
            world.left -= 1;
            world.runtime.block_on(serve(&world.server, request));
        }
    });
}

fn new() -> World {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let storage = kiln_storage::memory::open();
    let server = runtime.block_on(ApiServer::build(Config::default(), storage)).expect("a server");
    World { runtime, server, left: LIFE }
}

async fn serve(server: &ApiServer, request: Request<Bytes>) {
    let wrote = !matches!(request.method().as_str(), "GET" | "HEAD");
    let path = request.uri().path().to_owned();
    let response = server.call(UserInfo::system("fuzzer"), request).await;
    let json = response.headers().get("content-type").is_some_and(|t| t == "application/json");
    let watch = response.headers().get("transfer-encoding").is_some();
    let code = response.status();
    let bytes = now(response).await;
    if json && !watch && code != StatusCode::NO_CONTENT {
        for line in bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            let read = serde_json::from_slice::<Value>(line);
            assert!(read.is_ok() || !read.is_err_and(|e| e.to_string().contains("recursion")), "an answer too deep");
        }
    }
    if wrote && code.is_success() {
        // The list that it is in now, in every form.
        let parent = path.trim_end_matches('/').rsplit_once('/').map_or("", |(parent, _)| parent);
        for list in [path.as_str(), parent] {
            for accept in [
                "application/json",
                "application/vnd.kubernetes.protobuf",
                "application/json;as=Table;g=meta.k8s.io;v=v1",
            ] {
                let Ok(request) = Request::get(list).header("accept", accept).body(Bytes::new()) else { continue };
                let answer = server.call(UserInfo::system("fuzzer"), request).await;
                let code = answer.status();
                let bytes = now(answer).await;
                assert_ne!(code, StatusCode::INTERNAL_SERVER_ERROR, "{list}: {}", String::from_utf8_lossy(&bytes));
            }
        }
    }
}

/// As much of a body as is there already; a watch's has no end.
async fn now(response: http::Response<kiln_apiserver::Body>) -> Vec<u8> {
    let mut body = response.into_body();
    let mut out = Vec::new();
    while let Some(Some(Ok(frame))) = body.frame().now_or_never() {
        if let Ok(data) = frame.into_data() {
            out.extend_from_slice(&data);
        }
    }
    out
}
