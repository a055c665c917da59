//! Short hashes for names: FNV over canonical JSON, spelt with letters that make no words.

use serde::Serialize;

use crate::reconcile::Failure;

const OFFSET: u32 = 0x811c_9dc5;
const PRIME: u32 = 0x0100_0193;
/// No vowels, and nothing that looks like another.
const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// The hash of an object and of how often it has collided with another.
pub(crate) fn hash(object: &impl Serialize, collisions: Option<i32>) -> Result<String, Failure> {
    let mut bytes =
        serde_json::to_vec(object).map_err(|e| Failure::Waiting(format!("an object that is no JSON: {e}")))?;
    if let Some(collisions) = collisions {
        bytes.extend(collisions.to_le_bytes());
    }
    let hash = bytes.iter().fold(OFFSET, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(PRIME));
    Ok(hash.to_string().bytes().map(|digit| char::from(LETTERS[usize::from(digit) % LETTERS.len()])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_of_the_object_and_its_collisions_and_makes_a_name() {
        let first = hash(&"template", None).unwrap();
        assert_eq!(first, hash(&"template", None).unwrap());
        assert_ne!(first, hash(&"template", Some(1)).unwrap());
        assert_ne!(first, hash(&"other", None).unwrap());
        assert!(first.len() <= 10 && first.bytes().all(|letter| LETTERS.contains(&letter)), "{first}");
    }
}
