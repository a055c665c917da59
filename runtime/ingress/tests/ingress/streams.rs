//! Bodies and connections that go on for longer: nothing is gathered on the way, in either direction.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::support::{LONG, Reply, World, api, echo, ingress, pod, rule, service};

/// A world with one pod for all paths.
async fn world(address: SocketAddr, app_protocol: Option<&str>) -> World {
    let api = api();
    service(&api, "web", &[address], app_protocol);
    ingress(&api, "x", json!(null), json!({"rules": [rule("x.com", &[("Prefix", "/", "web")])]}));
    World::start(api).await
}

type Channel = StreamBody<futures_util::stream::BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

/// A body that is sent as a test says.
fn channel() -> (mpsc::UnboundedSender<Frame<Bytes>>, Channel) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let frames = futures_util::stream::unfold(receiver, |mut receiver: mpsc::UnboundedReceiver<Frame<Bytes>>| async {
        receiver.recv().await.map(|frame| (Ok(frame), receiver))
    });
    (sender, StreamBody::new(Box::pin(frames)))
}

/// A pod that sends back what it gets as it gets it, with a trailer at the end.
async fn mirror() -> SocketAddr {
    pod(|stream| async move {
        let service = service_fn(|request: Request<Incoming>| async move {
            let is_grpc = request.headers().get("te").is_some_and(|te| te == "trailers");
            let mut body = request.into_body();
            let (sender, answer) = channel();
            tokio::spawn(async move {
                while let Some(Ok(frame)) = body.frame().await {
                    _ = sender.send(frame);
                }
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", "0".parse().unwrap());
                _ = sender.send(Frame::trailers(trailers));
            });
            let response =
                Response::builder().header("content-type", "application/grpc").header("x-te", is_grpc.to_string());
            Ok::<_, Infallible>(response.body(answer).unwrap())
        });
        let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
        _ = builder.serve_connection(TokioIo::new(stream), service).await;
    })
    .await
}

/// Waits for these data of a body, however they are cut.
async fn expect(body: &mut Incoming, expected: &str) {
    let mut data = String::new();
    while data.len() < expected.len() {
        let frame = tokio::time::timeout(LONG, body.frame()).await.unwrap().unwrap().unwrap();
        data.push_str(&String::from_utf8_lossy(&frame.into_data().unwrap()));
    }
    assert_eq!(data, expected);
}

#[tokio::test]
async fn bodies_stream_both_ways_over_http1() {
    let world = world(mirror().await, None).await;
    let stream = TcpStream::connect(world.http).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (frames, body) = channel();
    frames.send(Frame::data("first".into())).unwrap();
    let request = Request::post("/").header("host", "x.com").body(body).unwrap();
    let mut answer = sender.send_request(request).await.unwrap().into_body();
    expect(&mut answer, "first").await;
    frames.send(Frame::data("second".into())).unwrap();
    expect(&mut answer, "second").await;
    drop(frames);
    assert!(answer.frame().await.is_none());
}

#[tokio::test]
async fn grpc_streams_both_ways_with_its_trailers() {
    let world = world(mirror().await, Some("kubernetes.io/h2c")).await;
    let stream = TcpStream::connect(world.http).await.unwrap();
    let io = TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let (frames, body) = channel();
    let request = Request::post("http://x.com/pkg.Service/Method").header("content-type", "application/grpc");
    let request = request.header("te", "trailers").body(body).unwrap();
    let answering = tokio::spawn(sender.send_request(request));
    frames.send(Frame::data("first".into())).unwrap();
    let answer = answering.await.unwrap().unwrap();
    assert_eq!((answer.status(), &answer.headers()["x-te"]), (StatusCode::OK, &"true".parse().unwrap()));
    let mut body = answer.into_body();
    expect(&mut body, "first").await;
    frames.send(Frame::data("second".into())).unwrap();
    expect(&mut body, "second").await;
    drop(frames);
    let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
}

#[tokio::test]
async fn http2_in_front_reaches_pods_that_speak_http1() {
    let world = world(echo("web").await, None).await;
    let stream = TcpStream::connect(world.http).await.unwrap();
    let io = TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let request = |number: usize| {
        let request = Request::post(format!("http://x.com/{number}")).header("cookie", "a=1").header("cookie", "b=2");
        request.body(Full::<Bytes>::from(format!("body {number}"))).unwrap()
    };
    let mut answers = Vec::new();
    for number in 0..20 {
        answers.push(sender.send_request(request(number)));
    }
    for (number, answer) in answers.into_iter().enumerate() {
        let reply = Reply::read(answer.await.unwrap()).await;
        assert_eq!((reply.status, reply.echo()["target"].clone()), (StatusCode::OK, json!(format!("/{number}"))));
        assert_eq!((reply.saw("host"), reply.saw("cookie")), ("x.com".to_owned(), "a=1; b=2".to_owned()));
        assert_eq!(reply.echo()["body"], json!(format!("body {number}")));
    }
}

#[tokio::test]
async fn a_websocket_passes_bytes_both_ways_from_the_first_one_on() {
    let address = pod(|mut stream| async move {
        let mut request = vec![0; 4096];
        let read = stream.read(&mut request).await.unwrap();
        let request = String::from_utf8_lossy(&request[..read]).to_ascii_lowercase();
        assert!(request.contains("connection: upgrade\r\n") && request.contains("upgrade: websocket\r\n"), "{request}");
        assert!(request.contains("sec-websocket-key: abc\r\n"));
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello";
        stream.write_all(answer).await.unwrap();
        let (mut reader, mut writer) = stream.split();
        _ = tokio::io::copy(&mut reader, &mut writer).await;
    });
    let world = world(address.await, None).await;
    let mut stream = TcpStream::connect(world.http).await.unwrap();
    let request = "GET /ws HTTP/1.1\r\nHost: x.com\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Key: abc\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nhello") {
        let mut space = [0; 1024];
        let read = tokio::time::timeout(LONG, stream.read(&mut space)).await.unwrap().unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&space[..read]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "));
    let large: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let (mut reader, mut writer) = stream.split();
    let sending = async {
        writer.write_all(&large).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut back = Vec::new();
    let (_, read) = tokio::join!(sending, reader.read_to_end(&mut back));
    read.unwrap();
    assert!(back == large, "{} of {} bytes came back", back.len(), large.len());
}

#[tokio::test]
async fn an_answer_without_a_body_ends_at_its_head() {
    let (ask, mut asked) = mpsc::unbounded_channel();
    let address = pod(move |mut stream| {
        let ask = ask.clone();
        async move {
            let mut request = [0; 4096];
            while let Ok(read @ 1..) = stream.read(&mut request).await {
                let text = String::from_utf8_lossy(&request[..read]).into_owned();
                let answer: &[u8] = match text.split(' ').nth(1) {
                    Some("/204") => b"HTTP/1.1 204 No Content\r\n\r\n",
                    Some("/304") => b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\netag: x\r\n\r\n",
                    _ => b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
                };
                ask.send(text.split(' ').next().unwrap().to_owned()).unwrap();
                stream.write_all(answer).await.unwrap();
            }
        }
    });
    let world = world(address.await, None).await;
    for (method, path, status) in [(Method::HEAD, "/", 200), (Method::GET, "/204", 204), (Method::GET, "/304", 304)] {
        let request = Request::builder().method(method.clone()).uri(path).header("host", "x.com");
        let reply = world.send(request.body(Full::default()).unwrap()).await;
        assert_eq!((reply.status.as_u16(), reply.text.as_str()), (status, ""), "{method} {path}");
        assert_eq!(asked.recv().await.unwrap(), method.as_str());
    }
}

#[tokio::test]
async fn a_pod_that_answers_before_it_has_read_all_is_heard() {
    let address = pod(|mut stream| async move {
        _ = stream.read(&mut [0; 1024]).await;
        let answer = b"HTTP/1.1 413 Payload Too Large\r\nconnection: close\r\ncontent-length: 3\r\n\r\nno\n";
        _ = stream.write_all(answer).await;
        // It takes no more of it.
        _ = stream.read(&mut [0; 1]).await;
        tokio::task::yield_now().await;
    });
    let world = world(address.await, None).await;
    let stream = TcpStream::connect(world.http).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (frames, body) = channel();
    frames.send(Frame::data("beginning".into())).unwrap();
    let request = Request::post("/").header("host", "x.com").body(body).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_large_body_goes_through_both_ways() {
    let world = world(mirror().await, None).await;
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let stream = TcpStream::connect(world.http).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::put("/").header("host", "x.com").body(Full::<Bytes>::from(body.clone())).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let back = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(back == body, "{} of {} bytes came back", back.len(), body.len());
}

#[tokio::test]
async fn a_head_that_does_not_come_to_an_end_ends_its_connection() {
    let world = world(echo("web").await, None).await;
    tokio::time::pause();
    for beginning in ["", "GET / HT", "GET / HTTP/1.1\r\nhost: x.com\r\n"] {
        let began = Instant::now();
        let mut stream = TcpStream::connect(world.http).await.unwrap();
        let writing = async {
            stream.write_all(beginning.as_bytes()).await.unwrap();
            // One more byte now and then does not help.
            while !beginning.is_empty() && stream.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if stream.try_read(&mut [0; 256]).is_ok() {
                    break;
                }
            }
        };
        writing.await;
        _ = stream.read_to_end(&mut Vec::new()).await;
        let took = began.elapsed();
        assert!(took < Duration::from_secs(70), "{beginning:?} {took:?}");
    }
    tokio::time::resume();
    assert_eq!(world.get("x.com", "/").await.served_by(), "web");
}

#[tokio::test]
async fn a_connection_that_was_put_aside_serves_its_next_request() {
    let world = world(echo("web").await, None).await;
    let stream = TcpStream::connect(world.http).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for idle in [0, 60, 170] {
        tokio::time::pause();
        tokio::time::sleep(Duration::from_secs(idle)).await;
        tokio::time::resume();
        sender.ready().await.unwrap();
        let request = Request::get("/").header("host", "x.com").body(Empty::<Bytes>::new()).unwrap();
        assert_eq!(Reply::read(sender.send_request(request).await.unwrap()).await.served_by(), "web");
    }
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert!(sender.ready().await.is_err(), "and one that is not used for long ends");
}
