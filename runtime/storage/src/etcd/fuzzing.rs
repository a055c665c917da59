//! A door for fuzzers, which is no part of what the crate offers: what etcd, or what stands where etcd should, answers.

use bytes::BytesMut;
use kiln_grpc::{frame, take};
use prost::Message;

use super::proto::{RangeResponse, StatusResponse, TxnResponse, WatchResponse};
use super::{Keys, load, value};
use crate::types::NewValue;

/// Reads an answer as each message there is, and the records in it; and the bytes as a value and as one that was put.
pub fn answers(data: &[u8]) {
    let keys = Keys { prefix: "/kiln".to_owned() };
    for answer in all::<RangeResponse>(data) {
        answer.kvs.iter().for_each(|kv| _ = load::record(&keys, kv));
    }
    for answer in all::<WatchResponse>(data) {
        answer.events.iter().filter_map(|e| e.kv.as_ref()).for_each(|kv| _ = load::record(&keys, kv));
    }
    _ = (all::<TxnResponse>(data), all::<StatusResponse>(data));
    _ = value::decode(data, 7);
    if let Some((at, bytes)) = data.split_first() {
        let value = NewValue { bytes: bytes.to_vec(), revision_at: Some(usize::from(*at)) };
        assert_eq!(value::decode(&value::encode(&value), 7), Some(value.finish(7)));
    }
}

/// Every message of a stream, up to the first that is none. Each is written as what reads the same.
fn all<M: Message + Default + PartialEq>(data: &[u8]) -> Vec<M> {
    let mut buffer = BytesMut::from(data);
    let mut out = Vec::new();
    while let Ok(Some(message)) = take::<M>(&mut buffer) {
        let mut again = BytesMut::from(&*frame(&message));
        assert!(take::<M>(&mut again).is_ok_and(|read| read.as_ref() == Some(&message)));
        out.push(message);
    }
    out
}
